#include "gateway/coap/rto.h"

#include <algorithm>
#include <cmath>

namespace ravine::gateway::coap {
namespace {

constexpr double kSmoothing = 1.0 / 8;  // RFC 6298 §2
constexpr double kDeviationGain = 1.0 / 4;
constexpr double kSlowFactor = 1.5;  // FASOR's
constexpr double kFade = 0.9;        // each sample weighs this much of the next
constexpr unsigned kMaxDoublings = 6;
constexpr double kMinRate = 1;  // bit/s: a learned rate below is noise

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}
Duration from_seconds(double value) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::clamp(value, 0.0, 1e8)));
}

}  // namespace

Duration serialisation_time(std::size_t bytes, double bits_per_second) {
  if (bits_per_second <= 0) return Duration{0};
  return from_seconds(static_cast<double>(bytes) * 8 / bits_per_second);
}

RtoEstimator::RtoEstimator(const RtoOptions& options) : options_(options) {}

double RtoEstimator::rate_bps() const {
  if (options_.rate_bps > 0) return options_.rate_bps;
  const double spread = weight_ * sum_xx_ - sum_x_ * sum_x_;
  // A line needs sizes that differ: a standard deviation of 16 bytes at least.
  if (weight_ < 2 || spread < weight_ * weight_ * 256) return 0;
  const double seconds_per_byte = (weight_ * sum_xy_ - sum_x_ * sum_y_) / spread;
  if (seconds_per_byte <= 0) return 0;
  const double rate = 8 / seconds_per_byte;
  return rate < kMinRate ? 0 : rate;
}

void RtoEstimator::learn_rate(Duration elapsed, std::size_t bytes) {
  const auto x = static_cast<double>(bytes);
  const double y = seconds(elapsed);
  weight_ = weight_ * kFade + 1;
  sum_x_ = sum_x_ * kFade + x;
  sum_y_ = sum_y_ * kFade + y;
  sum_xx_ = sum_xx_ * kFade + x * x;
  sum_xy_ = sum_xy_ * kFade + x * y;
}

void RtoEstimator::handle_sample(Duration elapsed, std::size_t sent_bytes, std::size_t received_bytes) {
  const std::size_t bytes = sent_bytes + received_bytes + std::size_t{2} * options_.overhead_bytes;
  learn_rate(elapsed, bytes);
  const double part = std::max(0.0, seconds(elapsed - serialisation_time(bytes, rate_bps())));
  if (!sampled_) {
    smoothed_s_ = part;
    deviation_s_ = part / 2;
    sampled_ = true;
  } else {
    deviation_s_ += kDeviationGain * (std::abs(part - smoothed_s_) - deviation_s_);
    smoothed_s_ += kSmoothing * (part - smoothed_s_);
  }
  slow_s_ = 0;
  backoff_ = Backoff::fast;
}

void RtoEstimator::handle_ambiguous(Duration elapsed, std::size_t sent_bytes, std::size_t received_bytes) {
  const std::size_t bytes = sent_bytes + received_bytes + std::size_t{2} * options_.overhead_bytes;
  slow_s_ = std::max(0.0, seconds(elapsed - serialisation_time(bytes, rate_bps())));
  backoff_ = backoff_ == Backoff::fast ? Backoff::fast_slow_fast : Backoff::slow_fast;
}

Duration RtoEstimator::bounded(Duration part) const {
  return std::clamp(part, options_.minimum, options_.maximum);
}

Duration RtoEstimator::fixed_part() const {
  return sampled_ ? bounded(from_seconds(smoothed_s_ + 4 * deviation_s_)) : bounded(options_.initial);
}

Duration RtoEstimator::timeout(std::size_t sent_bytes, std::size_t expected_bytes, unsigned copy) const {
  const std::size_t bytes = sent_bytes + expected_bytes + std::size_t{2} * options_.overhead_bytes;
  const Duration serialisation = serialisation_time(bytes, rate_bps());
  const Duration fast = fixed_part();
  const Duration slow = bounded(from_seconds(kSlowFactor * slow_s_));
  const auto doubled = [&](unsigned times) {
    return bounded(fast * (1LL << std::min(times, kMaxDoublings)));
  };
  Duration part = fast;
  switch (backoff_) {
    case Backoff::fast:
      part = doubled(copy);
      break;
    case Backoff::fast_slow_fast:
      part = copy == 0 ? fast : copy == 1 ? std::max(slow, doubled(1)) : doubled(copy - 1);
      break;
    case Backoff::slow_fast:
      part = copy == 0 ? std::max(slow, fast) : doubled(copy - 1);
      break;
  }
  return part + serialisation;
}

std::optional<Duration> RtoEstimator::smoothed() const {
  return sampled_ ? std::optional(from_seconds(smoothed_s_)) : std::nullopt;
}

std::size_t RtoEstimator::bandwidth_delay_bytes(std::size_t bytes) const {
  const double rate = rate_bps();
  if (rate <= 0 || !sampled_) return 0;
  const double filled = rate / 8 * smoothed_s_ + static_cast<double>(bytes + options_.overhead_bytes);
  return static_cast<std::size_t>(std::min(filled, 1e9));
}

}  // namespace ravine::gateway::coap
