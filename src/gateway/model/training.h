// What only the trainer needs of a predictor: full-precision weights that learn. Internal to this folder.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "gateway/model/prior.h"

namespace ravine::gateway {

inline constexpr int kTrainedOneBits = 20;

struct TrainingState {
  explicit TrainingState(Prior& target);
  void publish();  // rounds the weights into the prior
  // Whether the counter was not met in this unit before.
  bool first_in_unit(std::size_t slot) {
    if (last_unit[slot] == unit) return false;
    last_unit[slot] = unit;
    return true;
  }

  Prior& prior;
  bool learn_slots = false;  // the prior's own counters
  // A counter's `seen` says in how many units (conversations, or families of bodies) it was met: what one of
  // them repeats is worth nothing to another.
  std::uint32_t unit = 0;
  std::vector<std::uint32_t> last_unit;
  bool learn_mixing = false;          // weights and maps
  int rate = 12;                      // of the weights; larger learns faster
  std::vector<std::int32_t> weights;  // 1 << kTrainedOneBits is 1.0
};

}  // namespace ravine::gateway
