// The wall clock's floor: a clock that was reset to the past must not bring expired or revoked certificates
// back. Raised by signed times alone (certificates, revocation lists), never by the local clock, so that a
// clock that ran years ahead locks nobody out once it is right again.
#pragma once

#include <algorithm>

#include "base/time.h"

namespace ravine::identity {

inline constexpr UnixTime kBuildClockFloor{
    1793491200};  // 2026-11-01T00:00:00Z: no build of this source is older

inline UnixTime floored(UnixTime now, UnixTime floor) {
  return std::max({now, floor, kBuildClockFloor});
}

// The highest signed time seen. The owner stores `value()` and passes it back at the next start.
class ClockFloor {
 public:
  ClockFloor() = default;
  explicit ClockFloor(UnixTime stored) : value_(std::max(stored, kBuildClockFloor)) {}
  // `signed_at`: not_before of an accepted certificate or issue time of an accepted list.
  void raise(UnixTime signed_at) { value_ = std::max(value_, signed_at); }
  UnixTime value() const { return value_; }
  UnixTime apply(UnixTime now) const { return floored(now, value_); }

 private:
  UnixTime value_ = kBuildClockFloor;
};

}  // namespace ravine::identity
