// ByteReader stays inside its view and fails for good after the first short read; varints and text forms
// round-trip.
#include "fuzz/fuzz_input.h"

using namespace ravine;
using fuzz::expect;

namespace {

void read_anything(ByteView data) {
  fuzz::Input plan(data);
  ByteReader reader(data);
  bool was_ok = true;
  while (!plan.empty()) {
    const std::size_t before = reader.remaining();
    switch (plan.below(7)) {
      case 0:
        reader.read_u8();
        break;
      case 1:
        reader.read_u16();
        break;
      case 2:
        reader.read_u32();
        break;
      case 3:
        reader.read_u64();
        break;
      case 4:
        expect(reader.read_varint() <= kMaxVarint);
        break;
      case 5: {
        const std::size_t wanted = plan.u16();
        const ByteView view = reader.read_view(wanted);
        expect(view.size() == wanted || (view.empty() && !reader.ok()));
        break;
      }
      default: {
        std::array<std::uint8_t, 16> out;
        reader.read_into(MutableBytes(out).first(plan.below(17)));
      }
    }
    expect(reader.remaining() <= before);
    expect(was_ok || !reader.ok());
    was_ok = reader.ok();
  }
}

void round_trip_varint(ByteView data) {
  ByteReader reader(data);
  const std::uint64_t value = reader.read_varint();
  if (!reader.ok()) return;
  ByteWriter writer;
  writer.write_varint(value);
  expect(writer.size() == varint_size(value));
  ByteReader again(writer.view());
  expect(again.read_varint() == value && again.ok() && again.remaining() == 0);
}

void round_trip_texts(ByteView data) {
  const std::string_view text = as_text(data);
  const auto hex = decode_hex(text);
  if (hex) expect(decode_hex(encode_hex(*hex)) == hex);
  const auto base32 = decode_base32(text);
  if (base32) expect(decode_base32(encode_base32(*base32)) == base32);
  const auto base64 = decode_base64url(text);
  if (base64) expect(encode_base64url(*base64) == text);
  const Bytes bytes = to_bytes(data);
  expect(decode_hex(encode_hex(data)) == bytes);
  expect(decode_base32(encode_base32(data)) == bytes);
  expect(decode_base64url(encode_base64url(data)) == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  read_anything({data, size});
  round_trip_varint({data, size});
  round_trip_texts({data, size});
  return 0;
}
