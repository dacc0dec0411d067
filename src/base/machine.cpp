#include "base/machine.h"

#include <bit>

#include "base/ensure.h"

namespace ravine {

std::uint64_t RandomSource::below(std::uint64_t bound) {
  ensure(bound > 0);
  const std::uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  std::uint64_t value = next_u64();
  while (value >= limit) value = next_u64();
  return value % bound;
}

// Seeds the state by splitmix64, as the authors of xoshiro advise (Blackman, Vigna 2018).
SeededRandom::SeededRandom(std::uint64_t seed) {
  for (std::uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15u;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = z ^ (z >> 31);
  }
}

std::uint64_t SeededRandom::next() {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

void SeededRandom::fill(MutableBytes out) {
  while (!out.empty()) {
    const std::uint64_t word = next();
    const std::size_t size = out.size() < 8 ? out.size() : 8;
    std::memcpy(out.data(), &word, size);
    out = out.subspan(size);
  }
}

double SeededRandom::unit() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

}  // namespace ravine
