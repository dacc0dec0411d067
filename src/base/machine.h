// The contract of every protocol machine in the pure folders.
//
// In:   handle_datagram(now, …), handle_timeout(now), and commands of the application, which take `now` too.
// Out:  poll_transmit(now, …), poll_event(), next_deadline().
//
// The driver does one input, then drains poll_transmit, then drains poll_event, then arms next_deadline. A
// machine never calls out, reads no clock, holds no thread and makes no randomness: `now` is an argument,
// seeds and clocks are constructor arguments. `now` never goes backwards (ngtcp2 aborts the process if it
// does). One thread drives a machine.
#pragma once

#include "base/bytes.h"
#include "base/time.h"

namespace ravine {

// When a machine wants handle_timeout, and a static text why (for traces and for the simulator's digest).
struct Deadline {
  Instant at = Instant::never();
  const char* reason = "idle";

  void earlier(Instant other, const char* why) {
    if (other < at) *this = {other, why};
  }
};

// Host port: fills bytes that nobody can predict. The simulator passes a seeded generator.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual void fill(MutableBytes out) = 0;

  std::uint64_t next_u64() {
    std::uint64_t value = 0;
    fill({reinterpret_cast<std::uint8_t*>(&value), sizeof value});
    return value;
  }
  // Uniform in [0, bound). Requires bound > 0. Unbiased.
  std::uint64_t below(std::uint64_t bound);
};

// Host port: the wall clock, for certificates alone.
class WallClock {
 public:
  virtual ~WallClock() = default;
  virtual UnixTime unix_time() const = 0;
};

// Deterministic RandomSource (xoshiro256**): for simulations and tests, and for jitter that needs no secrecy.
class SeededRandom final : public RandomSource {
 public:
  explicit SeededRandom(std::uint64_t seed);
  void fill(MutableBytes out) override;
  double unit();  // uniform in [0, 1)

 private:
  std::uint64_t next();
  std::uint64_t state_[4];
};

}  // namespace ravine
