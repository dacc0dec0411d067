// Size-aware retransmission timer: RTO = a + bytes / rate + 4 · deviation, with a second, slow estimate from
// exchanges that needed a retransmission (the idea of FASOR, draft-ietf-core-fasor: an answer after a
// retransmission is ambiguous, so wait 1.5 times as long next time). One estimator per path. Used by CoAP and
// by the thin link. Pure, no clock.
#pragma once

#include <cstdint>
#include <optional>

#include "base/time.h"

namespace ravine::gateway::coap {

// Time that `bytes` take at `bits_per_second`; zero when the rate is unknown (0).
Duration serialisation_time(std::size_t bytes, double bits_per_second);

struct RtoOptions {
  Duration initial = 30s;   // before any sample, beside serialisation; 2 s for ordinary peers (RFC 7252 §4.8)
  Duration minimum = 1s;    // of the part beside serialisation
  Duration maximum = 120s;  // of the part beside serialisation; never caps serialisation itself
  double rate_bps = 0;      // the configured rate of the link; 0: learned from the sizes and times of samples
  std::uint32_t overhead_bytes = 28;  // per datagram, e.g. IPv4 and UDP headers
};

class RtoEstimator {
 public:
  explicit RtoEstimator(const RtoOptions& options = {});

  // An exchange that was sent once: `elapsed` from the departure of `sent_bytes` to the arrival of
  // `received_bytes`.
  void handle_sample(Duration elapsed, std::size_t sent_bytes, std::size_t received_bytes);
  // An exchange that was answered after `copies` > 1 departures; `elapsed` counts from the first.
  void handle_ambiguous(Duration elapsed, std::size_t sent_bytes, std::size_t received_bytes);
  void set_rate(double bits_per_second) { options_.rate_bps = bits_per_second; }

  // How long to wait for the answer after the departure of copy number `copy` (0: the first) of a datagram of
  // `sent_bytes`, when an answer of `expected_bytes` is likely. Without jitter. Never below the serialisation
  // time.
  Duration timeout(std::size_t sent_bytes, std::size_t expected_bytes, unsigned copy) const;

  // The rate in use, bit/s: configured, else learned; 0 when unknown.
  double rate_bps() const;
  // Smoothed time of an exchange beside serialisation; nullopt before the first sample.
  std::optional<Duration> smoothed() const;
  // Bytes that fill the path: rate × (smoothed time + serialisation of one datagram of `bytes`); 0 when
  // unknown.
  std::size_t bandwidth_delay_bytes(std::size_t bytes) const;

 private:
  enum class Backoff : std::uint8_t { fast, fast_slow_fast, slow_fast };
  void learn_rate(Duration elapsed, std::size_t bytes);
  Duration fixed_part() const;
  Duration bounded(Duration part) const;

  RtoOptions options_;
  Backoff backoff_ = Backoff::fast;
  bool sampled_ = false;
  double smoothed_s_ = 0;   // seconds beside serialisation
  double deviation_s_ = 0;  // seconds
  double slow_s_ = 0;       // last ambiguous time beside serialisation; 0: none
  // Sums for the line through (bytes, seconds), decayed so that old samples fade.
  double weight_ = 0, sum_x_ = 0, sum_y_ = 0, sum_xx_ = 0, sum_xy_ = 0;
};

}  // namespace ravine::gateway::coap
