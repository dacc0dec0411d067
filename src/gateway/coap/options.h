// CoAP option numbers, their formats and limits (RFC 7252 §5.10 and the RFCs named beside each number). Pure
// tables.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace ravine::gateway::coap {

// Option numbers (IANA CoRE Parameters).
enum OptionNumber : std::uint16_t {
  kIfMatch = 1,
  kUriHost = 3,
  kEtag = 4,
  kIfNoneMatch = 5,
  kObserve = 6,  // RFC 7641
  kUriPort = 7,
  kLocationPath = 8,
  kOscore = 9,  // RFC 8613
  kUriPath = 11,
  kContentFormat = 12,
  kMaxAge = 14,
  kUriQuery = 15,
  kHopLimit = 16,  // RFC 8768
  kAccept = 17,
  kLocationQuery = 20,
  kBlock2 = 23,  // RFC 7959
  kBlock1 = 27,  // RFC 7959
  kSize2 = 28,   // RFC 7959
  kProxyUri = 35,
  kProxyScheme = 39,
  kSize1 = 60,
  kEcho = 252,           // RFC 9175
  kAuthorization = 256,  // MSC3079: a Matrix access token
  kNoResponse = 258,     // RFC 7967
  kRequestTag = 292,     // RFC 9175
  // Ours, in the range for experiments (65000–65535): elective, safe to forward, no cache key, so that
  // whoever does not know it ignores it. One to two bytes: the exact HTTP status of a response
  // (docs/protocol-gateway-coap.md).
  kHttpStatus = 65308,
};

enum class OptionFormat : std::uint8_t { empty, opaque, uint, text };

struct OptionInfo {
  OptionFormat format = OptionFormat::opaque;
  std::uint16_t min_length = 0;  // bytes
  std::uint16_t max_length = 0;  // bytes
  bool repeatable = false;
};

// What is registered for `number`; nullopt for numbers that this implementation does not know.
std::optional<OptionInfo> option_info(std::uint16_t number);

// RFC 7252 §5.4.1, §5.4.6: properties that every implementation reads off the number.
constexpr bool is_critical(std::uint16_t number) {
  return (number & 1) != 0;
}
constexpr bool is_unsafe_to_forward(std::uint16_t number) {
  return (number & 2) != 0;
}
// Requires a safe-to-forward number.
constexpr bool is_no_cache_key(std::uint16_t number) {
  return (number & 0x1e) == 0x1c;
}

// RFC 7252 §3.2: no leading zero bytes; zero is the empty string.
Bytes encode_uint(std::uint64_t value);
// Accepts leading zeros, as recipients must; nullopt above 8 bytes.
std::optional<std::uint64_t> decode_uint(ByteView value);

}  // namespace ravine::gateway::coap
