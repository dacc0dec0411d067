#include "gateway/coap/peer_table.h"

namespace ravine::gateway::coap {
namespace {

constexpr unsigned kBlockShift = 12;  // 16 runs of 4096 message IDs

}  // namespace

Peer* PeerTable::find(const SocketAddress& address) {
  const auto at = peers_.find(address);
  return at == peers_.end() ? nullptr : &at->second;
}

Peer* PeerTable::open(Instant now, const SocketAddress& address) {
  if (Peer* known = find(address)) {
    known->last_used = now;
    return known;
  }
  if (peers_.size() >= options_.peers) {
    auto idlest = peers_.end();
    for (auto at = peers_.begin(); at != peers_.end(); ++at) {
      if (at->second.exchanges != 0) continue;
      if (idlest == peers_.end() || at->second.last_used < idlest->second.last_used) idlest = at;
    }
    if (idlest == peers_.end()) return nullptr;
    peers_.erase(idlest);
  }
  Peer& peer = peers_.emplace(address, Peer(options_.rto)).first->second;
  peer.next_message_id = static_cast<std::uint16_t>(random_.next_u64());
  peer.last_used = now;
  return &peer;
}

std::optional<std::uint16_t> PeerTable::draw_message_id(Instant now, Peer& peer) {
  const std::uint16_t id = peer.next_message_id;
  const std::size_t block = id >> kBlockShift;
  const bool entering = (id & ((1u << kBlockShift) - 1)) == 0;
  if (entering && peer.block_touched[block] && now < peer.block_used[block] + options_.exchange_lifetime) {
    return std::nullopt;
  }
  peer.block_touched[block] = true;
  peer.block_used[block] = now;
  ++peer.next_message_id;
  return id;
}

void PeerTable::handle_received(Instant now, Peer& peer, std::size_t bytes) {
  peer.last_used = now;
  peer.received_bytes += bytes;
  peer.unanswered_bytes = 0;
}

void PeerTable::handle_sent(Instant now, Peer& peer, std::size_t bytes) {
  if (peer.unanswered_bytes == 0) peer.silent_since = now;
  peer.unanswered_bytes += bytes;
}

bool PeerTable::is_verified(Instant now, const Peer& peer) const {
  return now < peer.verified_until;
}

void PeerTable::mark_verified(Instant now, Peer& peer) {
  peer.verified_until = now + options_.verified_for;
  peer.received_bytes = 0;
  peer.sent_bytes = 0;
}

std::size_t PeerTable::allowance(Instant now, const Peer& peer) const {
  if (options_.amplification == 0 || is_verified(now, peer)) return SIZE_MAX;
  const std::uint64_t whole = peer.received_bytes * options_.amplification;
  return whole > peer.sent_bytes ? static_cast<std::size_t>(whole - peer.sent_bytes) : 0;
}

ByteView PeerTable::echo_of(Peer& peer) {
  if (!peer.echo) {
    peer.echo.emplace();
    random_.fill(*peer.echo);
  }
  return *peer.echo;
}

bool PeerTable::accept_echo(Instant now, Peer& peer, ByteView value) {
  if (!peer.echo || !equal_constant_time(*peer.echo, value)) return false;
  mark_verified(now, peer);
  return true;
}

Instant PeerTable::probe_at(const Peer& peer) const {
  if (peer.unanswered_bytes <= options_.probing_burst || options_.probing_bytes_per_s <= 0) return Instant{};
  const double over = static_cast<double>(peer.unanswered_bytes - options_.probing_burst);
  return peer.silent_since +
         serialisation_time(static_cast<std::size_t>(over), options_.probing_bytes_per_s * 8);
}

}  // namespace ravine::gateway::coap
