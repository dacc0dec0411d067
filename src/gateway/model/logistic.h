// The logistic pair of the model in integers: the same bits on every CPU and compiler.
// Probabilities are 16 bits (1 … 65535: chance that the next bit is 1); the stretched domain is ln(p/(1-p)) × 256,
// clipped to ±kStretchLimit.
#pragma once

#include <cstdint>

namespace ravine::gateway {

inline constexpr int kStretchLimit = 2815;  // ln(65535/1) × 256, less the last step

// Stretched → probability.
int squash(int stretched);
// Probability → stretched: the smallest x with squash(x) ≥ p.
int stretch(int probability);

}  // namespace ravine::gateway
