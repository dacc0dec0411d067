#include "gateway/model/logistic.h"

namespace ravine::gateway {

LogisticTables::LogisticTables() {
  // e^(-i/256) in Q32, each from the last by one rounded multiplication.
  constexpr std::uint64_t kStep = 0xFF007FD5;  // round(2^32 · e^(-1/256))
  std::uint64_t power = std::uint64_t{1} << 32;
  for (int i = 0; i <= kStretchLimit; ++i) {
    const std::uint64_t p = (std::uint64_t{1} << 48) / ((std::uint64_t{1} << 32) + power);
    const std::uint64_t high = std::min<std::uint64_t>(p, 65535);
    const std::uint64_t low = std::clamp<std::uint64_t>(65536 - high, 1, 65535);
    squash[static_cast<std::size_t>(kStretchLimit + i)] = static_cast<std::uint16_t>(high);
    squash[static_cast<std::size_t>(kStretchLimit - i)] = static_cast<std::uint16_t>(low);
    power = (power * kStep + (std::uint64_t{1} << 31)) >> 32;
  }
  int x = 0;
  for (int p = 0; p < 65536; ++p) {
    while (x < 2 * kStretchLimit && squash[static_cast<std::size_t>(x)] < p) ++x;
    stretch[static_cast<std::size_t>(p)] = static_cast<std::int16_t>(x - kStretchLimit);
  }
}

const LogisticTables kLogistic;

}  // namespace ravine::gateway
