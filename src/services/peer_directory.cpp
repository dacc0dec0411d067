#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "identity/fuse_name.h"
#include "services/peers.h"
#include "services/target.h"

namespace ravine::services {
namespace {

constexpr std::size_t kPrefixBytes = 6;  // the /48 of a network

Error unknown(std::string_view host, std::string_view why) {
  return {ErrorKind::not_found, fmt::format("no peer '{}': {}", host, why)};
}

std::string short_id_of(const IpAddress& overlay) {
  return encode_base32({overlay.data() + kPrefixBytes, identity::kShortPeerIdSize});
}

}  // namespace

void PeerDirectory::add_network(session::NetworkId network, std::string label, IpAddress prefix) {
  remove_network(network);
  networks_.push_back({network, to_lower(label), prefix});
}

void PeerDirectory::remove_network(session::NetworkId network) {
  std::erase_if(networks_, [&](const Network& entry) { return entry.id == network; });
  std::erase_if(peers_, [&](const PeerHandle& peer) { return peer->network == network; });
}

std::string_view PeerDirectory::network_label(session::NetworkId network) const {
  for (const Network& entry : networks_) {
    if (entry.id == network) return entry.label;
  }
  return {};
}

std::optional<session::NetworkId> PeerDirectory::find_network(std::string_view label) const {
  for (const Network& entry : networks_) {
    if (entry.label == label) return entry.id;
  }
  return std::nullopt;
}

PeerHandle PeerDirectory::match(session::NetworkId network, std::string_view name,
                                std::string_view short_id) const {
  for (const PeerHandle& peer : peers_) {
    if (peer->network == network && !short_id.empty() && peer->short_id == short_id) return peer;
  }
  for (const PeerHandle& peer : peers_) {
    if (peer->network != network || name.empty() || peer->name != name) continue;
    if (short_id.empty() || peer->short_id.empty()) return peer;
  }
  return nullptr;
}

PeerHandle PeerDirectory::find_id(session::NetworkId network, const identity::PeerId& id) const {
  return match(network, {}, id.to_text());
}

PeerHandle PeerDirectory::add(session::NetworkId network) {
  auto record = std::make_shared<PeerRecord>();
  record->network = network;
  peers_.push_back(record);
  return record;
}

Result<> PeerDirectory::set_static(std::vector<StaticPeer> peers) {
  for (const PeerHandle& peer : peers_) {
    peer->is_static = peer->keep = false;
    peer->addresses.clear();
  }
  for (StaticPeer& peer : peers) {
    const auto added = add_static(std::move(peer));
    if (!added) return added;
  }
  // What was static only and never seen is gone.
  std::erase_if(
      peers_, [](const PeerHandle& peer) { return !peer->is_static && peer->learned.empty() && !peer->id; });
  return {};
}

Result<> PeerDirectory::add_static(StaticPeer peer) {
  if (peer.id) peer.short_id = peer.id->to_text();
  peer.name = to_lower(peer.name);
  peer.short_id = to_lower(peer.short_id);
  if (peer.name.empty() && peer.short_id.empty()) {
    return Error{ErrorKind::invalid_argument, "a peer needs a name or an id"};
  }
  const auto raw = decode_base32(peer.short_id);
  if (!peer.short_id.empty() && (!raw || raw->size() != identity::kShortPeerIdSize)) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("peer id '{}' is not 16 characters of a-z and 2-7", peer.short_id)};
  }
  PeerHandle record = match(peer.network, peer.name, peer.short_id);
  if (record && record->is_static) {
    return Error{ErrorKind::already_exists,
                 fmt::format("peer '{}' is given twice", peer.name.empty() ? peer.short_id : peer.name)};
  }
  if (!record) record = add(peer.network);
  if (!peer.name.empty()) record->name = peer.name;
  if (!peer.short_id.empty()) record->short_id = peer.short_id;
  if (peer.id) record->id = peer.id;
  record->addresses = std::move(peer.addresses);
  record->is_static = true;
  record->keep = peer.keep;
  return {};
}

PeerHandle PeerDirectory::learn(Instant now, session::NetworkId network, const identity::VerifiedPeer& peer,
                                std::optional<SocketAddress> from) {
  const std::string short_id = peer.id.to_text();
  PeerHandle record = match(network, peer.name, short_id);
  if (!record) record = add(network);
  if (!peer.name.empty()) {
    // A name belongs to the key that the newest session proved it for.
    for (const PeerHandle& other : peers_) {
      if (other != record && other->network == network && other->name == peer.name) {
        if (record->addresses.empty()) record->addresses = other->addresses;
        if (!other->is_static || other->short_id.empty()) other->name.clear();
      }
    }
    record->name = peer.name;
  }
  record->short_id = short_id;
  record->id = peer.id;
  record->overlay = peer.overlay;
  record->groups = peer.groups;
  record->last_seen = now;
  if (from) {
    std::erase(record->learned, *from);
    record->learned.insert(record->learned.begin(), *from);
    if (record->learned.size() > kMaxLearnedAddresses) record->learned.resize(kMaxLearnedAddresses);
  }
  forget_excess();
  return record;
}

void PeerDirectory::forget_excess() {
  if (peers_.size() <= kMaxLearnedPeers) return;
  auto oldest = peers_.end();
  for (auto it = peers_.begin(); it != peers_.end(); ++it) {
    if (!(*it)->is_static && (oldest == peers_.end() || (*it)->last_seen < (*oldest)->last_seen)) oldest = it;
  }
  if (oldest != peers_.end()) peers_.erase(oldest);
}

Result<PeerHandle> PeerDirectory::find_overlay(const IpAddress& address) const {
  for (const Network& network : networks_) {
    if (!std::equal(address.data(), address.data() + kPrefixBytes, network.prefix.data())) continue;
    const std::string short_id = short_id_of(address);
    if (PeerHandle found = match(network.id, {}, short_id)) return found;
    auto record = std::make_shared<PeerRecord>();
    record->network = network.id;
    record->short_id = short_id;
    record->overlay = address;
    return record;
  }
  return unknown(address.to_text(), "the address is in no network of this node");
}

Result<PeerHandle> PeerDirectory::find(std::string_view host) const {
  if (const auto address = IpAddress::parse(host)) return find_overlay(*address);
  auto name = identity::FuseName::parse(host);
  if (!name) name = identity::FuseName::parse(std::string(host) + ".fuse");
  if (!name) return unknown(host, "a name is NAME.fuse, NAME.NETWORK.fuse, or a 16-character id with .fuse");
  const bool is_id = name->kind == identity::FuseName::Kind::peer_id;
  PeerHandle found;
  std::vector<const Network*> searched;
  for (const Network& network : networks_) {
    if (!name->network.empty() && network.label != name->network) continue;
    searched.push_back(&network);
    PeerHandle here = match(network.id, is_id ? "" : name->peer, is_id ? name->peer : "");
    if (here && found) {
      return Error{ErrorKind::invalid_argument,
                   fmt::format("'{}' is in several networks: write {}.NETWORK.fuse", host, name->peer)};
    }
    if (here) found = std::move(here);
  }
  if (found) return found;
  if (searched.empty() && !name->network.empty()) {
    return unknown(host, fmt::format("this node is in no network '{}'", name->network));
  }
  if (searched.empty()) return unknown(host, "this node is in no network");
  if (!is_id || searched.size() > 1) {
    return unknown(host, "it is neither in the configuration nor was it ever seen here");
  }
  auto record = std::make_shared<PeerRecord>();
  record->network = searched.front()->id;
  record->short_id = name->peer;
  return record;
}

}  // namespace ravine::services
