// The version-independent face of QUIC packets (RFC 8999): what forwarding and demultiplexing may look at.
#pragma once

#include <optional>

#include "base/bytes.h"
#include "base/label.h"

namespace ravine::wire {

inline constexpr std::uint8_t kLongHeaderBit = 0x80;
inline constexpr std::size_t kLongHeaderDcidOffset = 6;  // flags 1, version 4, DCID length 1
inline constexpr std::size_t kShortHeaderDcidOffset = 1;

inline bool is_long_header(ByteView packet) {
  return !packet.empty() && (packet[0] & kLongHeaderBit) != 0;
}

// Offset of the 8 label bytes; 0 when the packet is too short or its DCID is shorter than a label.
inline std::size_t label_offset(ByteView packet) {
  if (packet.empty()) return 0;
  if ((packet[0] & kLongHeaderBit) == 0) {
    return packet.size() >= kShortHeaderDcidOffset + kLabelSize ? kShortHeaderDcidOffset : 0;
  }
  if (packet.size() < kLongHeaderDcidOffset + kLabelSize + 1 || packet[5] < kLabelSize) return 0;
  return kLongHeaderDcidOffset;
}

// The long header's fixed part. Views into the packet.
struct LongHeader {
  std::uint8_t flags = 0;
  std::uint32_t version = 0;
  ByteView dcid, scid;
};
// nullopt when truncated, when a connection ID is longer than 20 bytes, or for a short header.
std::optional<LongHeader> decode_long_header(ByteView packet);

}  // namespace ravine::wire
