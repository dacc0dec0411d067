#include "gateway/security/uframe.h"

#include <algorithm>

namespace ravine::gateway::security {
namespace {

constexpr std::uint8_t kLowBits = 0x3f;

bool is_escape(std::uint8_t byte, Escape escape) {
  return byte == static_cast<std::uint8_t>(escape);
}

}  // namespace

FrameKind frame_kind(std::uint8_t byte0) {
  return static_cast<FrameKind>(byte0 >> 6);
}

std::optional<FrameView> parse_frame(ByteView datagram) {
  FrameView frame;
  ByteView rest = datagram;
  if (!rest.empty() && is_escape(rest[0], Escape::connection_id)) {
    if (rest.size() < 1 + kConnectionIdBytes) return std::nullopt;
    frame.connection.emplace();
    std::copy_n(rest.begin() + 1, kConnectionIdBytes, frame.connection->begin());
    rest = rest.subspan(1 + kConnectionIdBytes);
  }
  const ByteView header = rest;
  if (!rest.empty() && is_escape(rest[0], Escape::handshake)) {
    if (rest.size() < 2) return std::nullopt;
    frame.handshake = true;
    frame.body = rest.subspan(1);
    return frame;
  }
  // The flags come in one order, so that one frame has one spelling.
  if (!rest.empty() && is_escape(rest[0], Escape::rekey)) {
    frame.rekey = true;
    rest = rest.subspan(1);
  }
  if (!rest.empty() && is_escape(rest[0], Escape::fragment)) {
    frame.fragment = true;
    rest = rest.subspan(1);
  }
  if (rest.empty()) return std::nullopt;
  ByteReader reader(rest);
  const std::uint8_t first = reader.read_u8();
  frame.kind = frame_kind(first);
  if (is_escape(first, Escape::long_message) || is_escape(first, Escape::long_answer)) {
    frame.kind = is_escape(first, Escape::long_message) ? FrameKind::message : FrameKind::answer;
    frame.number = reader.read_varint();
  } else {
    frame.low_bits = first & kLowBits;
  }
  const bool known = frame.kind == FrameKind::message || frame.kind == FrameKind::answer;
  if (!reader.ok() || !known || (frame.fragment && frame.kind == FrameKind::answer)) return std::nullopt;
  frame.body = reader.rest();
  frame.aad = header.first(header.size() - frame.body.size());
  return frame;
}

Bytes with_connection_id(const ConnectionId& id, ByteView frame) {
  ByteWriter out;
  out.write_u8(static_cast<std::uint8_t>(Escape::connection_id));
  out.write(id);
  out.write(frame);
  return out.take();
}

std::optional<FragmentHeader> decode_fragment(ByteView plaintext, ByteView& rest) {
  ByteReader reader(plaintext);
  const std::uint64_t value = reader.read_varint();
  if (!reader.ok() || value / 2 >= kFragmentIndexLimit) return std::nullopt;
  rest = reader.rest();
  return FragmentHeader{static_cast<std::uint32_t>(value / 2), (value & 1) != 0};
}

Bytes encode_fragment(FragmentHeader header, ByteView part) {
  ByteWriter out;
  out.write_varint(std::uint64_t{header.index} * 2 + (header.last ? 1 : 0));
  out.write(part);
  return out.take();
}

std::vector<std::uint64_t> number_candidates(std::uint8_t low_bits, std::uint64_t expected) {
  const std::uint64_t base = (expected & ~std::uint64_t{kLowBits}) | (low_bits & kLowBits);
  std::uint64_t nearest = base;
  if (base > expected && base - expected > 32 && base >= 64) nearest = base - 64;
  if (base < expected && expected - base > 32) nearest = base + 64;
  std::vector<std::uint64_t> candidates{nearest};
  if (nearest >= 64) candidates.push_back(nearest - 64);
  candidates.push_back(nearest + 64);
  return candidates;
}

std::string_view UframeProtection::to_text() const {
  if (!encrypted_)
    return "none: anyone on the link can read and forge (allowed for this point-to-point link)";
  if (tag_size_ < kTagSize) return "AES-CCM with a 4-byte tag (allowed for this point-to-point link)";
  return "AES-CCM with an 8-byte tag";
}

}  // namespace ravine::gateway::security
