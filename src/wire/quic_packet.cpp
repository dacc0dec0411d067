#include "wire/quic_packet.h"

namespace ravine::wire {

std::optional<LongHeader> decode_long_header(ByteView packet) {
  ByteReader reader(packet);
  LongHeader header;
  header.flags = reader.read_u8();
  if ((header.flags & kLongHeaderBit) == 0) return std::nullopt;
  header.version = reader.read_u32();
  const std::size_t dcid_size = reader.read_u8();
  if (dcid_size > 20) return std::nullopt;  // RFC 9000 §17.2; longer ones exist in no version that we speak
  header.dcid = reader.read_view(dcid_size);
  const std::size_t scid_size = reader.read_u8();
  if (scid_size > 20) return std::nullopt;
  header.scid = reader.read_view(scid_size);
  if (!reader.ok()) return std::nullopt;
  return header;
}

}  // namespace ravine::wire
