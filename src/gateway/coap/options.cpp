#include "gateway/coap/options.h"

#include <array>

namespace ravine::gateway::coap {
namespace {

struct Row {
  std::uint16_t number;
  OptionInfo info;
};

// Lengths of RFC 7252 table 4, RFC 7641 table 1, RFC 7959 table 1, RFC 8613 §2, RFC 8768 §2, RFC 9175, RFC
// 7967; MSC3079.
constexpr std::array<Row, 26> kRegistry{{
    {kIfMatch, {OptionFormat::opaque, 0, 8, true}},
    {kUriHost, {OptionFormat::text, 1, 255, false}},
    {kEtag, {OptionFormat::opaque, 1, 8, true}},
    {kIfNoneMatch, {OptionFormat::empty, 0, 0, false}},
    {kObserve, {OptionFormat::uint, 0, 3, false}},
    {kUriPort, {OptionFormat::uint, 0, 2, false}},
    {kLocationPath, {OptionFormat::text, 0, 255, true}},
    {kOscore, {OptionFormat::opaque, 0, 255, false}},
    {kUriPath, {OptionFormat::text, 0, 255, true}},
    {kContentFormat, {OptionFormat::uint, 0, 2, false}},
    {kMaxAge, {OptionFormat::uint, 0, 4, false}},
    {kUriQuery, {OptionFormat::text, 0, 255, true}},
    {kHopLimit, {OptionFormat::uint, 1, 1, false}},
    {kAccept, {OptionFormat::uint, 0, 2, false}},
    {kLocationQuery, {OptionFormat::text, 0, 255, true}},
    {kBlock2, {OptionFormat::uint, 0, 3, false}},
    {kBlock1, {OptionFormat::uint, 0, 3, false}},
    {kSize2, {OptionFormat::uint, 0, 4, false}},
    {kProxyUri, {OptionFormat::text, 1, 1034, false}},
    {kProxyScheme, {OptionFormat::text, 1, 255, false}},
    {kSize1, {OptionFormat::uint, 0, 4, false}},
    {kEcho, {OptionFormat::opaque, 1, 40, false}},
    {kNoResponse, {OptionFormat::uint, 0, 1, false}},
    {kRequestTag, {OptionFormat::opaque, 0, 8, true}},
    {kAuthorization, {OptionFormat::text, 0, 255, false}},
    {kHttpStatus, {OptionFormat::opaque, 1, 2, false}},
}};

}  // namespace

std::optional<OptionInfo> option_info(std::uint16_t number) {
  for (const Row& row : kRegistry) {
    if (row.number == number) return row.info;
  }
  return std::nullopt;
}

Bytes encode_uint(std::uint64_t value) {
  Bytes bytes;
  for (int shift = 56; shift >= 0; shift -= 8) {
    const auto byte = static_cast<std::uint8_t>(value >> shift);
    if (byte != 0 || !bytes.empty()) bytes.push_back(byte);
  }
  return bytes;
}

std::optional<std::uint64_t> decode_uint(ByteView value) {
  if (value.size() > 8) return std::nullopt;
  std::uint64_t number = 0;
  for (std::uint8_t byte : value) number = (number << 8) | byte;
  return number;
}

}  // namespace ravine::gateway::coap
