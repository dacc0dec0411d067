// JSON text to CBOR (RFC 8949) and back, for clients that speak CBOR to servers that speak JSON. Keeps the
// order of keys and the value of every item, or refuses; takes nothing on trust. Pure functions.
#pragma once

#include <optional>

#include "base/bytes.h"
#include "base/result.h"

namespace ravine::gateway::cbor {

struct ConvertLimits {
  std::size_t bytes = std::size_t{1} << 20;  // of the result
  std::size_t depth = 64;                    // arrays and maps in each other
};

enum class Keys : std::uint8_t {
  text,    // as they are
  matrix,  // the integers of key_table.h where there is one
};

// Errors: invalid_argument for what is no JSON; unsupported for integers beyond 64 bits and numbers beyond a
// double's range; limit_reached.
Result<Bytes> cbor_of_json(ByteView json, Keys keys, const ConvertLimits& limits = {});

// By RFC 8949 §6.1: byte strings become base64url, undefined and numbers that JSON has not become null. An
// integer key whose text stands in the same map is left out (MSC3079). Errors: invalid_argument for malformed
// CBOR, bad UTF-8 and bytes after the item; unsupported for keys that are neither text nor known integers,
// big numbers and unknown simple values; limit_reached.
Result<Bytes> json_of_cbor(ByteView cbor, Keys keys, const ConvertLimits& limits = {});

// CBOR that json_of_cbor turns back into `json` byte for byte: of compact JSON with usual spellings of
// numbers and characters. nullopt for other texts, and where the CBOR would be longer.
std::optional<Bytes> exact_cbor_of_json(ByteView json);

}  // namespace ravine::gateway::cbor
