// What only the trainer needs of a predictor: full-precision weights that learn. Internal to this folder.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "gateway/model/prior.h"

namespace ravine::gateway {

struct TrainingState {
  explicit TrainingState(Prior& target);
  void publish();  // rounds the weights into the prior

  Prior& prior;
  bool learn_slots = false;                                   // the prior's own counters
  bool learn_mixing = false;                                  // weights and maps
  int rate = 12;                                              // of the weights; larger learns faster
  std::array<std::vector<std::int32_t>, kSelectors> weights;  // 1 << 20 is 1.0
};

}  // namespace ravine::gateway
