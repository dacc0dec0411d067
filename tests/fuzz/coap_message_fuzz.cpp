// CoAP messages: what decodes encodes to no more bytes and decodes to the same; targets made of options hold
// nothing that HTTP takes for structure, and come back to the same options.
#include "fuzz/fuzz_input.h"
#include "gateway/coap/block.h"
#include "gateway/coap/uri.h"

using namespace ravine;
using namespace ravine::gateway::coap;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Decoded decoded = decode_message({data, size});
  if (!decoded.ok()) return 0;
  const Bytes again = encode_message(decoded.message);
  expect(again.size() <= size && again.size() == encoded_size(decoded.message));
  const Decoded twice = decode_message(again);
  expect(twice.ok() && twice.message == decoded.message);

  (void)classify_options(decoded.message);
  for (const Option& option : decoded.message.options) {
    const std::optional<Block> block = decode_block(option.value);
    if (block) expect(decode_block(block->encode()) == block);
  }
  (void)proxy_target_of(decoded.message).ok();
  const Result<std::string> target = target_of(decoded.message);
  if (!target) return 0;
  for (const char c : *target) expect(c > 0x20 && c < 0x7f);
  Message rebuilt;
  if (add_target(rebuilt, *target)) expect(*target_of(rebuilt) == *target);
  return 0;
}
