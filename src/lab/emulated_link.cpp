#include "lab/emulated_link.h"

#include <algorithm>
#include <cmath>

namespace ravine::lab {

std::string_view to_text(Fate fate) {
  switch (fate) {
    case Fate::carried:
      return "carried";
    case Fate::lost:
      return "lost";
    case Fate::queue_full:
      return "queue_full";
    case Fate::outage:
      return "outage";
  }
  return "carried";
}

EmulatedLink::EmulatedLink(LinkProfile profile, std::uint64_t seed, Instant start)
    : profile_(profile), random_(seed), start_(start), busy_until_(start), last_arrival_(start) {}

// Gilbert's two states: inside a burst everything is lost. The chances give `loss` over all and `burst` as
// the mean length of a run.
bool EmulatedLink::loses() {
  if (profile_.burst <= 1) return chance(profile_.loss);
  if (profile_.loss >= 1) return true;
  const double leave = 1 / profile_.burst;
  const double enter = std::min(1.0, leave * profile_.loss / (1 - profile_.loss));
  in_burst_ = in_burst_ ? !chance(leave) : chance(enter);
  return in_burst_;
}

bool EmulatedLink::dark(Instant at) const {
  if (profile_.outage <= Duration{0} || profile_.outage_period <= Duration{0}) return false;
  const Duration phase = (at - start_) % profile_.outage_period;
  return phase >= profile_.outage_period - profile_.outage;
}

Fate EmulatedLink::put(Instant at, Parcel parcel) {
  if (under_way_.size() >= kMaxUnderWay) {
    ++tally_.queue_full;
    return Fate::queue_full;
  }
  under_way_.emplace(at, std::move(parcel));
  return Fate::carried;
}

Fate EmulatedLink::send(Instant now, Parcel parcel) {
  const std::size_t size = parcel.bytes.size() + profile_.overhead_bytes;
  ++tally_.datagrams;
  tally_.bytes += size;
  const Instant begin = std::max(now, busy_until_);
  Instant sent = begin;
  if (profile_.rate_bps > 0) {
    const double waiting = static_cast<double>((begin - now).count()) * profile_.rate_bps / 8e9;
    if (waiting > 0 && waiting + static_cast<double>(size) > static_cast<double>(profile_.queue_bytes)) {
      ++tally_.queue_full;
      return Fate::queue_full;
    }
    const double nanoseconds = std::ceil(static_cast<double>(size) * 8e9 / profile_.rate_bps);
    const Duration air{static_cast<std::int64_t>(std::min(nanoseconds, 1e18))};
    sent = begin + air;
    busy_until_ = sent;
    tally_.busy += air;
  }
  // What is lost has been on the air: it costs its time.
  if (down || dark(begin) || dark(sent)) {
    ++tally_.outage;
    return Fate::outage;
  }
  if (loses()) {
    ++tally_.lost;
    return Fate::lost;
  }
  if (chance(profile_.corrupt) && !parcel.bytes.empty()) {
    ++tally_.corrupted;
    parcel.bytes[random_.below(parcel.bytes.size())] ^= static_cast<std::uint8_t>(1u << random_.below(8));
  }
  Instant arrival = sent + profile_.delay;
  if (profile_.jitter > Duration{0})
    arrival = arrival + Duration{static_cast<std::int64_t>(
                            random_.below(static_cast<std::uint64_t>(profile_.jitter.count()) + 1))};
  if (chance(profile_.reorder)) {
    // Late by what lets the next few pass.
    ++tally_.reordered;
    arrival = arrival + std::max<Duration>((sent - begin) * 3, std::max<Duration>(profile_.delay, 10ms));
  } else {
    last_arrival_ = arrival = std::max(arrival, last_arrival_);
  }
  if (chance(profile_.duplicate)) {
    ++tally_.duplicated;
    put(arrival, parcel);
  }
  return put(arrival, std::move(parcel));
}

std::optional<EmulatedLink::Parcel> EmulatedLink::receive(Instant now) {
  if (under_way_.empty() || under_way_.begin()->first > now) return std::nullopt;
  Parcel parcel = std::move(under_way_.begin()->second);
  under_way_.erase(under_way_.begin());
  ++tally_.delivered;
  tally_.delivered_bytes += parcel.bytes.size() + profile_.overhead_bytes;
  return parcel;
}

Deadline EmulatedLink::next_deadline() const {
  Deadline deadline;
  if (!under_way_.empty()) deadline.earlier(under_way_.begin()->first, "arrival");
  return deadline;
}

}  // namespace ravine::lab
