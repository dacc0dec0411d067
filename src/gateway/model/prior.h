// Prior: what both gateways know before the first message: trained counters, mixing weights, calibration maps
// and a dictionary of typical text. Immutable after training or loading; shared by all clients. About 9 MiB
// in memory.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "gateway/model/context.h"

namespace ravine::gateway {

// A bit counter under a hashed context: chance of a one in 1/65536, how often it was seen (saturating), and a
// check byte.
struct Slot {
  std::uint16_t one = 32768;
  std::uint8_t seen = 0;
  std::uint8_t check = 0;  // 0: free
};
static_assert(sizeof(Slot) == 4);

inline constexpr std::size_t kOverlayContexts = 8;
inline constexpr std::size_t kMatches = 3;
// Two inputs per context of the prior, one per context of the overlay and match, and a constant one.
inline constexpr std::size_t kOverlayInput = 2 * kContexts;
inline constexpr std::size_t kMatchInput = kOverlayInput + kOverlayContexts;
inline constexpr std::size_t kConstantInput = kMatchInput + kMatches;
inline constexpr std::size_t kInputs = 64;
static_assert(kConstantInput < kInputs);

inline constexpr std::size_t kSelectors = 6;
inline constexpr std::array<std::size_t, kSelectors> kSelectorSets{8 * 8 * 4, 256 * 4,     256 * 3,
                                                                   8 * 8 * 8, 16 * 32 * 2, 512};
// Where the sets of each selector begin among all.
inline constexpr std::array<std::size_t, kSelectors + 1> kSetStarts = [] {
  std::array<std::size_t, kSelectors + 1> starts{};
  for (std::size_t s = 0; s < kSelectors; ++s) starts[s + 1] = starts[s] + kSelectorSets[s];
  return starts;
}();
inline constexpr std::size_t kSets = kSetStarts[kSelectors];
inline constexpr int kWeightOneBits = 13;  // 1 << 13 is a weight of 1.0

inline constexpr std::size_t kApmBins = 33;      // interpolation points over the stretched domain
inline constexpr std::size_t kMapBins = 64;      // bins of a slot's probability, even in the stretched domain
inline constexpr std::size_t kSeenClasses = 16;  // of Slot::seen
inline constexpr std::size_t kMatchClasses = 32;  // of match length
inline constexpr std::uint32_t kApmSets = 1024;
inline constexpr std::size_t kFinalSets = 8 * 8 * 4;

// The trained state. A plain structure so that trainer, loader and predictor share it.
struct Prior {
  unsigned slot_bits = 21;
  std::vector<Slot> slots;                 // 1 << slot_bits
  std::vector<std::int16_t> weights;       // kSets × kInputs
  std::vector<std::uint16_t> slot_map;     // (context, seen class, bin) → probability
  std::vector<std::uint16_t> overlay_map;  // likewise for overlay contexts
  std::vector<std::uint16_t>
      match_map;  // (match, length class, expected bit's place) → chance that it is right
  std::vector<std::int32_t> final_weights;        // kFinalSets × kSelectors; 65536 is 1.0
  std::array<std::vector<std::uint16_t>, 2> apm;  // set × kApmBins
  Bytes dictionary;                               // text that matches may point into
  // Derived from the maps by bake(): what the mixer takes in for a cell.
  struct MixInput {
    std::int16_t stretched = 0, linear = 0;
  };
  std::vector<MixInput> slot_inputs, overlay_inputs;
  void bake();
  std::vector<std::uint32_t> dictionary_index;  // derived: hash of 6 bytes → position after them

  // Untrained: every counter even, weights that average.
  explicit Prior(unsigned bits = 21);
  void set_dictionary(ByteView text);

  std::size_t memory_bytes() const;

  // Model file: docs/protocol-gateway-model.md. Its SHA-256 names the model.
  Bytes encode() const;
  static Result<Prior> decode(ByteView file);
};

inline constexpr std::array<std::uint8_t, 256> kSeenClass = [] {
  std::array<std::uint8_t, 256> classes{};
  for (unsigned n = 0; n < 256; ++n) {
    classes[n] = static_cast<std::uint8_t>(n < 8     ? n
                                           : n < 12  ? 8
                                           : n < 20  ? 9
                                           : n < 30  ? 10
                                           : n < 60  ? 11
                                           : n < 120 ? 12
                                           : n < 200 ? 13
                                           : n < 255 ? 14
                                                     : 15);
  }
  return classes;
}();
std::size_t match_class(std::uint32_t length);
// Bin of a probability, 0 … kMapBins-1.
const std::array<std::uint8_t, 4096>& map_bins();
// Cell of a map for a slot.
inline std::size_t map_cell(std::size_t context, const Slot& slot, const std::uint8_t* bins) {
  return (context * kSeenClasses + kSeenClass[slot.seen]) * kMapBins + bins[slot.one >> 4];
}
Prior::MixInput mix_input(std::uint16_t probability);

}  // namespace ravine::gateway
