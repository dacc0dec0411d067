// The logistic pair of the model in integers: the same bits on every CPU and compiler.
// Probabilities are 16 bits (1 … 65535: chance that the next bit is 1); the stretched domain is
// ln(p/(1-p)) × 256, clipped to ±kStretchLimit.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace ravine::gateway {

inline constexpr int kStretchLimit = 2815;  // ln(65535/1) × 256, less the last step

struct LogisticTables {
  LogisticTables();
  std::array<std::uint16_t, 2 * kStretchLimit + 1> squash{};
  std::array<std::int16_t, 65536> stretch{};
};
extern const LogisticTables kLogistic;

// Stretched → probability.
inline int squash(int stretched) {
  const int at = std::clamp(stretched, -kStretchLimit, kStretchLimit) + kStretchLimit;
  return kLogistic.squash[static_cast<std::size_t>(at)];
}
// Probability → stretched: the smallest x with squash(x) ≥ p.
inline int stretch(int probability) {
  return kLogistic.stretch[static_cast<std::size_t>(probability & 0xffff)];
}

}  // namespace ravine::gateway
