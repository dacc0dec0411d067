#include "gateway/model/logistic.h"

#include <array>
#include <vector>

namespace ravine::gateway {
namespace {

struct Tables {
  std::array<std::uint16_t, 2 * kStretchLimit + 1> squash{};
  std::vector<std::int16_t> stretch;

  Tables() : stretch(65536) {
    // e^(-i/256) in Q32, each from the last by one rounded multiplication.
    constexpr std::uint64_t kStep = 0xFF007FD5;  // round(2^32 · e^(-1/256))
    std::uint64_t power = std::uint64_t{1} << 32;
    for (int i = 0; i <= kStretchLimit; ++i) {
      auto p = static_cast<int>((std::uint64_t{1} << 48) / ((std::uint64_t{1} << 32) + power));
      if (p > 65535) p = 65535;
      squash[static_cast<std::size_t>(kStretchLimit + i)] = static_cast<std::uint16_t>(p);
      const int mirrored = 65536 - p;
      squash[static_cast<std::size_t>(kStretchLimit - i)] =
          static_cast<std::uint16_t>(mirrored > 65535 ? 65535 : mirrored < 1 ? 1 : mirrored);
      power = (power * kStep + (std::uint64_t{1} << 31)) >> 32;
    }
    int x = 0;
    for (int p = 0; p < 65536; ++p) {
      while (x < 2 * kStretchLimit && squash[static_cast<std::size_t>(x)] < p) ++x;
      stretch[static_cast<std::size_t>(p)] = static_cast<std::int16_t>(x - kStretchLimit);
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

const Tables& kTables = tables();

}  // namespace

int squash(int stretched) {
  if (stretched > kStretchLimit) stretched = kStretchLimit;
  if (stretched < -kStretchLimit) stretched = -kStretchLimit;
  return kTables.squash[static_cast<std::size_t>(stretched + kStretchLimit)];
}

int stretch(int probability) { return kTables.stretch[static_cast<std::size_t>(probability & 0xffff)]; }

}  // namespace ravine::gateway
