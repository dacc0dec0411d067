// What an endpoint does with first flights before it spends memory on them: Retry tokens bound to (real
// source address, label), half-open counts and reply budgets per address prefix. RFC 9000 §8.1, §21. Internal
// to this folder.
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "base/machine.h"
#include "session/types.h"
#include "wire/quic_packet.h"

namespace ravine::session {

// The /24 of an IPv4 address, the /56 of an IPv6 address, as one number; families never collide.
std::uint64_t address_prefix(const IpAddress& address);

// A Retry packet for an Initial, empty when it cannot be made. The Retry's connection ID starts with the
// Initial's label, so that forwarders know the way of the answer.
Bytes make_retry(Instant now, ByteView secret, const SocketAddress& source, const wire::LongHeader& initial,
                 RandomSource& random);

// The original destination connection ID, when `token` is ours, fresh (10 s), and was given to this source
// and label.
std::optional<Bytes> verify_retry(Instant now, ByteView secret, const SocketAddress& source,
                                  const wire::LongHeader& initial, ByteView token);

Bytes make_version_negotiation(const wire::LongHeader& packet, RandomSource& random);

// A stateless reset (RFC 9000 §10.3) for a short-header packet of an unknown label: its label stays, so that
// the answer finds its way, and it is smaller than what it answers. Empty when the packet is too small to
// answer.
Bytes make_stateless_reset(ByteView secret, ByteView packet, RandomSource& random);

// Counts per prefix, bounded by what is counted; and token buckets in a fixed table, keyed by a seeded hash,
// so that a flood from many prefixes costs no memory (prefixes of one bucket share it).
class PrefixLimits {
 public:
  PrefixLimits(std::uint64_t seed, std::uint32_t replies_per_second);
  bool take_reply(Instant now, std::uint64_t prefix);
  std::size_t half_open(std::uint64_t prefix) const;
  void add_half_open(std::uint64_t prefix) { ++counts_[prefix]; }
  void remove_half_open(std::uint64_t prefix);

 private:
  struct Bucket {
    double tokens = 0;
    Instant filled_at;
  };
  std::uint64_t seed_;
  double rate_;
  std::vector<Bucket> buckets_;
  std::unordered_map<std::uint64_t, std::size_t> counts_;
};

}  // namespace ravine::session
