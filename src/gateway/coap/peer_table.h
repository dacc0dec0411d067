// What a CoAP endpoint knows of each address that it talks to: message IDs in use, timing, how much an
// address that has not proved itself may be sent, and how much a silent one may be probed. Bounded; pure.
#pragma once

#include <array>
#include <map>
#include <optional>

#include "base/address.h"
#include "base/bytes.h"
#include "base/machine.h"
#include "gateway/coap/rto.h"

namespace ravine::gateway::coap {

inline constexpr std::size_t kEchoSize =
    8;  // bytes of our Echo values (RFC 9175 §2.3 asks for 64 bits at least)

struct PeerOptions {
  RtoOptions rto;
  Duration exchange_lifetime = 247s;  // a message ID is not used again within it
  Duration verified_for = 300s;       // an address stays verified this long after it last proved itself
  unsigned amplification = 3;         // bytes to an unverified address per byte from it; 0: no limit
  double probing_bytes_per_s = 1;     // PROBING_RATE, RFC 7252 §4.7
  std::size_t probing_burst = 1280;   // bytes that may go to a silent peer before the rate counts
  std::size_t peers = 4096;
};

struct Peer {
  explicit Peer(const RtoOptions& options) : rto(options) {}

  RtoEstimator rto;
  std::size_t outstanding = 0;  // confirmable messages and requests that left and are not acknowledged
  std::size_t exchanges = 0;    // of ours that are not over; such a peer is never forgotten
  Instant verified_until;
  std::uint64_t received_bytes = 0;  // from an unverified address, since it was last verified
  std::uint64_t sent_bytes = 0;      // in answer to those; our own requests are not counted
  std::optional<std::array<std::uint8_t, kEchoSize>> echo;
  std::uint64_t unanswered_bytes = 0;  // since the last datagram from it
  Instant silent_since;
  Instant last_used;

  std::uint16_t next_message_id = 0;
  std::array<Instant, 16> block_used{};  // when each run of 4096 message IDs was last drawn from
  std::array<bool, 16> block_touched{};
};

class PeerTable {
 public:
  PeerTable(const PeerOptions& options, RandomSource& random) : options_(options), random_(random) {}

  // Makes room by forgetting the one that was idle longest; null when all are busy.
  Peer* open(Instant now, const SocketAddress& address);
  Peer* find(const SocketAddress& address);

  // A message ID that this peer was not sent within exchange_lifetime; nullopt when all were.
  std::optional<std::uint16_t> draw_message_id(Instant now, Peer& peer);

  void handle_received(Instant now, Peer& peer, std::size_t bytes);
  void handle_sent(Instant now, Peer& peer, std::size_t bytes);
  // Takes `bytes` of an answer out of the allowance.
  void spend(Peer& peer, std::size_t bytes) { peer.sent_bytes += bytes; }
  bool is_verified(Instant now, const Peer& peer) const;
  void mark_verified(Instant now, Peer& peer);
  // Bytes that may still go there; SIZE_MAX for verified ones.
  std::size_t allowance(Instant now, const Peer& peer) const;
  ByteView echo_of(Peer& peer);  // made on first use
  bool accept_echo(Instant now, Peer& peer, ByteView value);
  // When a message that asks nothing of the message layer may leave for a peer that stays silent.
  Instant probe_at(const Peer& peer) const;
  std::size_t size() const { return peers_.size(); }

 private:
  PeerOptions options_;
  RandomSource& random_;
  std::map<SocketAddress, Peer> peers_;
};

}  // namespace ravine::gateway::coap
