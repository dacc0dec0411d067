// Integer names of JSON keys in CBOR maps: version 1 of MSC3079, appendix A. A pure table.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace ravine::gateway::cbor {

// The number of a key that has one: 1 to kMatrixKeys.
std::optional<unsigned> matrix_key_number(std::string_view key);
// "" for numbers outside the table.
std::string_view matrix_key(std::uint64_t number);
inline constexpr unsigned kMatrixKeys = 104;

}  // namespace ravine::gateway::cbor
