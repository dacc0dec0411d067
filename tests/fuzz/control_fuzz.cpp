// The control stream's framing: the same messages come out however the stream is cut in pieces, malformed is
// final, and a message that was parsed can be encoded and parsed again.
#include <string>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "wire/control.h"

using namespace ravine;
using fuzz::expect;
using wire::ControlDecoder;
using wire::ControlMessage;

namespace {

struct Decoded {
  std::vector<std::string> messages;
  bool malformed = false;
};

Decoded decode(ByteView stream, std::size_t piece) {
  Decoded out;
  ControlDecoder decoder;
  while (!stream.empty() && !out.malformed) {
    const std::size_t size = std::min(piece, stream.size());
    decoder.feed(stream.first(size));
    stream = stream.subspan(size);
    for (;;) {
      ControlMessage message;
      const auto outcome = decoder.poll(message);
      if (outcome == ControlDecoder::Outcome::need_more) break;
      if (outcome == ControlDecoder::Outcome::malformed) {
        out.malformed = true;
        expect(decoder.poll(message) == ControlDecoder::Outcome::malformed);
        break;
      }
      out.messages.push_back(message.SerializeAsString());
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView stream(data, size);
  const Decoded whole = decode(stream, size == 0 ? 1 : size);
  const Decoded pieces = decode(stream, 1 + size % 7);
  expect(whole.messages == pieces.messages && whole.malformed == pieces.malformed);
  for (const std::string& text : whole.messages) {
    ControlMessage message;
    expect(message.ParseFromString(text));
    const Bytes frame = wire::encode_control(message);
    if (frame.size() > wire::kMaxControlMessage) continue;
    ControlDecoder decoder;
    decoder.feed(frame);
    ControlMessage again;
    expect(decoder.poll(again) == ControlDecoder::Outcome::message);
    expect(again.SerializeAsString() == text);
  }
  return 0;
}
