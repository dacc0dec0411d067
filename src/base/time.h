// Time as values. Nothing here can read a clock: `Instant` has no now(), so protocol code cannot know the
// time unless its caller says it. Durations are std::chrono.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>

namespace ravine {

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

// A point on a monotonic clock that also counts time asleep (CLOCK_BOOTTIME): nanoseconds since an arbitrary
// origin. Never goes backwards within one process.
struct Instant {
  std::uint64_t nanoseconds = 0;

  static constexpr Instant never() { return {UINT64_MAX}; }
  constexpr bool is_never() const { return nanoseconds == UINT64_MAX; }

  friend constexpr auto operator<=>(const Instant&, const Instant&) = default;
  // Saturates at never(), and at the origin.
  friend constexpr Instant operator+(Instant at, Duration by) {
    if (by.count() < 0) {
      const auto back = static_cast<std::uint64_t>(-by.count());
      return {at.nanoseconds > back ? at.nanoseconds - back : 0};
    }
    const std::uint64_t sum = at.nanoseconds + static_cast<std::uint64_t>(by.count());
    return sum < at.nanoseconds ? never() : Instant{sum};
  }
  friend constexpr Instant operator-(Instant at, Duration by) { return at + -by; }
  friend constexpr Duration operator-(Instant a, Instant b) {
    return Duration{static_cast<std::int64_t>(a.nanoseconds - b.nanoseconds)};
  }
};

// Seconds since 1970-01-01T00:00:00Z. Used for certificates alone; timers use Instant.
struct UnixTime {
  std::int64_t seconds = 0;
  friend constexpr auto operator<=>(const UnixTime&, const UnixTime&) = default;
  friend constexpr UnixTime operator+(UnixTime at, std::chrono::seconds by) {
    return {at.seconds + by.count()};
  }
  friend constexpr UnixTime operator-(UnixTime at, std::chrono::seconds by) {
    return {at.seconds - by.count()};
  }
  friend constexpr std::chrono::seconds operator-(UnixTime a, UnixTime b) {
    return std::chrono::seconds{a.seconds - b.seconds};
  }
};

}  // namespace ravine
