#include "host/clock.h"

#include <fmt/format.h>
#include <sys/timex.h>
#include <time.h>

#include <algorithm>
#include <charconv>

#include "host/file.h"

namespace ravine::host {
namespace {

std::uint64_t read_clock(clockid_t id) {
  timespec now{};
  ::clock_gettime(id, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

Instant monotonic_now() {
  return {read_clock(CLOCK_BOOTTIME)};
}

Duration time_suspended() {
  const std::uint64_t awake = read_clock(CLOCK_MONOTONIC);
  const std::uint64_t all = read_clock(CLOCK_BOOTTIME);
  return Duration{static_cast<std::int64_t>(all - awake)};
}

UnixTime system_time() {
  return {static_cast<std::int64_t>(::time(nullptr))};
}

bool is_time_synchronised() {
  timex state{};
  const int outcome = ::adjtimex(&state);
  return outcome >= 0 && outcome != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
}

UnixTime build_time() {
  return {RAVINE_BUILD_TIME};
}

Result<std::unique_ptr<FlooredClock>> FlooredClock::open(std::string path, Source source) {
  std::unique_ptr<FlooredClock> clock(new FlooredClock(std::move(path), source));
  clock->floor_ = build_time();
  clock->read_at_ = source.monotonic();
  auto text = read_file(clock->path_, 64);
  if (!text) {
    if (text.error().kind == ErrorKind::not_found) return clock;
    return text.error();
  }
  const std::string_view digits = as_text(*text);
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
  if (error != std::errc{} || digits.substr(static_cast<std::size_t>(end - digits.data())) != "\n")
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{}: not a clock floor (one line with Unix seconds); delete it", clock->path_)};
  clock->floor_ = std::max(clock->floor_, UnixTime{seconds});
  return clock;
}

UnixTime FlooredClock::floor_now() const {
  return floor_ + std::chrono::duration_cast<std::chrono::seconds>(source_.monotonic() - read_at_);
}

UnixTime FlooredClock::unix_time() const {
  return std::max(source_.wall(), floor_now());
}

bool FlooredClock::is_behind_floor() const {
  return source_.wall() < floor_now();
}

Result<> FlooredClock::record() const {
  const UnixTime known = source_.synchronised() ? unix_time() : floor_now();
  return write_file(path_, as_bytes(fmt::format("{}\n", known.seconds)), FileMode::owner_only);
}

}  // namespace ravine::host
