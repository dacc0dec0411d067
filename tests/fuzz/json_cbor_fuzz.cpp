// Bytes taken for CBOR and for JSON: what one converter accepts is what the other makes, and nothing grows
// past its limit.
#include "fuzz/fuzz_input.h"
#include "gateway/coap_proxy/json_cbor.h"

using namespace ravine;
using namespace ravine::gateway::coap_proxy;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Keys keys = (data[0] & 1) != 0 ? Keys::matrix : Keys::text;
  const ByteView bytes{data + 1, size - 1};
  const ConvertLimits limits{.bytes = 4096, .depth = 16};
  if (const auto json = json_of_cbor(bytes, keys, limits)) {
    expect(json->size() <= limits.bytes);
    const auto cbor = cbor_of_json(*json, keys, limits);
    // Only what JSON writes longer than CBOR, or with more digits than 64 bits, may not go back.
    expect(cbor.ok() || cbor.error().kind != ErrorKind::invalid_argument);
    if (cbor) expect(*json_of_cbor(*cbor, keys, {.bytes = 8192, .depth = 16}) == *json);
  }
  if (const auto cbor = cbor_of_json(bytes, keys, limits)) {
    expect(cbor->size() <= limits.bytes);
    const auto json = json_of_cbor(*cbor, keys, {.bytes = std::size_t{1} << 20, .depth = 16});
    // A key that comes twice is the one thing that JSON lets pass and the reader of CBOR does not.
    if (!json) {
      expect(keys == Keys::matrix && json.error().kind == ErrorKind::invalid_argument);
      return 0;
    }
    expect(*cbor_of_json(*json, keys, limits) == *cbor);
  }
  return 0;
}
