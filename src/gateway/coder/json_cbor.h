// JSON text to CBOR (RFC 8949) and back, so that the text comes back byte for byte. Compact JSON with integers
// or shortest decimals qualifies; a text that would come back otherwise is refused. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace ravine::gateway::coder {

inline constexpr unsigned kMaxCborDepth = 64;

// nullopt: not JSON, nested deeper than kMaxCborDepth, or not as json_of_cbor would write it.
std::optional<Bytes> cbor_of_json(std::string_view json);
// nullopt: not one item of the kinds that cbor_of_json makes, or more than `limit` bytes of text.
std::optional<std::string> json_of_cbor(ByteView cbor, std::size_t limit);

}  // namespace ravine::gateway::coder
