// CBOR of JSON: no bytes make more than the limit, what is read can be written again, and an exact text comes
// back the same. The first byte chooses the keys.
#include "fuzz/fuzz_input.h"
#include "gateway/cbor/json_cbor.h"

using namespace ravine;
using namespace ravine::gateway::cbor;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input({data, size});
  const Keys keys = input.below(2) == 0 ? Keys::text : Keys::matrix;
  const ByteView bytes = input.rest();
  constexpr ConvertLimits kLimits{.bytes = 4096, .depth = 32};
  if (const auto text = json_of_cbor(bytes, keys, kLimits)) {
    expect(text->size() <= kLimits.bytes);
    const auto again = cbor_of_json(*text, keys, kLimits);
    expect(again || again.error().kind != ErrorKind::invalid_argument);
  }
  if (const auto item = cbor_of_json(bytes, keys, kLimits)) expect(item->size() <= kLimits.bytes);
  if (const auto item = exact_cbor_of_json(bytes)) {
    expect(item->size() <= bytes.size());
    const auto text = json_of_cbor(*item, Keys::text, {.bytes = bytes.size()});
    expect(text && std::equal(text->begin(), text->end(), bytes.begin(), bytes.end()));
  }
  return 0;
}
