// EmulatedLink: one direction of a slow, bad link, in virtual time: a serialiser with a tail-drop queue, then
// loss, corruption, duplication, delay and reordering. What it does is a pure function of seed and input.
// Sans-I/O (base/machine.h); one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>

#include "base/machine.h"

namespace ravine::lab {

struct LinkProfile {
  double rate_bps = 0;  // 0: unlimited
  Duration delay{0};    // of propagation
  Duration jitter{0};   // uniform extra delay, 0 … jitter; keeps the order
  // Chances per datagram, 0 … 1.
  double loss = 0, duplicate = 0, reorder = 0, corrupt = 0;
  double burst = 1;  // mean length of a run of losses, in datagrams; 1: each for itself
  // Dead for `outage` at the end of each `outage_period`. Zero: never.
  Duration outage{0}, outage_period{0};
  std::size_t queue_bytes = std::size_t{64} << 10;  // that wait for the serialiser, overhead included
  std::uint32_t overhead_bytes = 28;                // per datagram: 28 UDP/IPv4, 48 UDP/IPv6, 1 on a pipe
};

struct LinkTally {
  std::uint64_t datagrams = 0, bytes = 0;  // offered; bytes with overhead
  std::uint64_t delivered = 0, delivered_bytes = 0;
  std::uint64_t lost = 0, queue_full = 0, outage = 0;  // drops
  std::uint64_t duplicated = 0, reordered = 0, corrupted = 0;
  Duration busy{0};  // time that the serialiser was at work
};

enum class Fate : std::uint8_t { carried, lost, queue_full, outage };
std::string_view to_text(Fate fate);

class EmulatedLink {
 public:
  static constexpr std::size_t kMaxUnderWay = 65536;

  // Outages count from `start`.
  EmulatedLink(LinkProfile profile, std::uint64_t seed, Instant start);

  struct Parcel {
    std::uint64_t tag = 0;  // the caller's: where it goes
    Bytes bytes;
  };
  Fate send(Instant now, Parcel parcel);
  // What has arrived by now, in the order of arrival.
  std::optional<Parcel> receive(Instant now);
  Deadline next_deadline() const;

  bool down = false;  // by hand: everything is lost
  const LinkTally& tally() const { return tally_; }
  const LinkProfile& profile() const { return profile_; }

 private:
  bool chance(double share) { return share > 0 && random_.unit() < share; }
  bool loses();
  bool dark(Instant at) const;
  Fate put(Instant at, Parcel parcel);

  LinkProfile profile_;
  SeededRandom random_;
  Instant start_, busy_until_, last_arrival_;
  bool in_burst_ = false;
  std::multimap<Instant, Parcel> under_way_;
  LinkTally tally_;
};

}  // namespace ravine::lab
