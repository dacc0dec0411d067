// The counters of a prior in few bytes. Only what prediction reads is kept: the class of `seen` and the bin
// of `one`. Internal to this folder; the form is described in docs/protocol-gateway-model.md.
#pragma once

#include <vector>

#include "gateway/model/prior.h"

namespace ravine::gateway {

// Requires a multiple of 32 slots.
Bytes encode_slots(const std::vector<Slot>& slots);
// Fills `slots`, whose size both sides know. False: not what encode_slots makes.
bool decode_slots(ByteView coded, std::vector<Slot>& slots);

// Where the counters of one nibble under a hashed context stand: 16 to a line; a line pair is searched.
inline std::uint8_t check_of(std::uint32_t hash, unsigned node) {
  const auto check = static_cast<std::uint8_t>((hash >> 24) ^ (node * 37));
  return check == 0 ? 1 : check;
}
inline std::size_t slot_index(std::uint32_t hash, unsigned node, std::size_t line_mask) {
  return ((hash & line_mask) << 4) | (node ^ ((hash >> 20) & 15));
}

}  // namespace ravine::gateway
