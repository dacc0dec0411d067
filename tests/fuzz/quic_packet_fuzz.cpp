// The version-independent face of packets, against ngtcp2's decoder: where it finds a DCID of at least a
// label's size, label_offset points at its first byte.
#include <ngtcp2/ngtcp2.h>

#include "base/label.h"
#include "fuzz/fuzz_input.h"
#include "wire/quic_packet.h"

using namespace ravine;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView packet(data, size);
  const std::size_t offset = wire::label_offset(packet);
  if (offset != 0) expect(offset + kLabelSize <= size);

  if (size == 0) {
    expect(!wire::decode_long_header(packet));
    return 0;  // ngtcp2 asserts that there is a byte
  }
  ngtcp2_version_cid decoded{};
  const int code = ngtcp2_pkt_decode_version_cid(&decoded, data, size, kConnectionIdSize);
  const bool parsed = code == 0 || code == NGTCP2_ERR_VERSION_NEGOTIATION;
  if (parsed && decoded.dcidlen >= kLabelSize) expect(offset != 0 && decoded.dcid == data + offset);

  const auto header = wire::decode_long_header(packet);
  if (!header) return 0;
  expect(wire::is_long_header(packet));
  expect(header->dcid.size() <= 20 && header->scid.size() <= 20);
  if (parsed && decoded.version != 0) {
    expect(header->version == decoded.version);
    expect(header->dcid.data() == decoded.dcid && header->dcid.size() == decoded.dcidlen);
    expect(header->scid.data() == decoded.scid && header->scid.size() == decoded.scidlen);
  }
  return 0;
}
