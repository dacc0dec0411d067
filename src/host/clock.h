// The clocks. Instants count time asleep; the wall clock never shows a time before what it has been seen to
// be.
#pragma once

#include <memory>
#include <string>

#include "base/machine.h"
#include "base/result.h"
#include "base/time.h"

namespace ravine::host {

// CLOCK_BOOTTIME: monotonic, with the time of suspend.
Instant monotonic_now();

// How long the machine has slept since it started: grows by more than jitter only across a suspend.
Duration time_suspended();

// Bare CLOCK_REALTIME, right or wrong.
UnixTime system_time();

// Whether the kernel's clock is disciplined by a time source (NTP). Unknown counts as no.
bool is_time_synchronised();

// When this binary was made: no certificate check may believe an earlier date.
UnixTime build_time();

// The wall clock for certificates, with a floor: never earlier than the build, nor than the latest time
// recorded in the floor's file plus the time that has run since it was read. So a device that boots in 1970
// checks certificates against the last date that it knew. A clock that is wrong towards the future is
// recorded only when it is synchronised, so that one bad start cannot expire a network.
class FlooredClock final : public WallClock {
 public:
  struct Source {  // where time comes from; tests pass their own
    UnixTime (*wall)() = system_time;
    Instant (*monotonic)() = monotonic_now;
    bool (*synchronised)() = is_time_synchronised;
  };
  // A missing file is fine; one that cannot be read or parsed is an error.
  static Result<std::unique_ptr<FlooredClock>> open(std::string path, Source source);
  static Result<std::unique_ptr<FlooredClock>> open(std::string path) {
    return open(std::move(path), Source{});
  }

  UnixTime unix_time() const override;
  bool is_behind_floor() const;  // the system's clock shows an impossible time
  // Writes the floor durably. Call at start, hourly and at shutdown.
  Result<> record() const;

 private:
  FlooredClock(std::string path, Source source) : path_(std::move(path)), source_(source) {}
  UnixTime floor_now() const;

  std::string path_;
  Source source_;
  UnixTime floor_;  // at `read_at_`
  Instant read_at_;
};

}  // namespace ravine::host
