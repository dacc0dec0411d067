// Every coder: any bytes decode to no more than the limit or not at all; any text comes back, in at most two
// bytes more. The first byte chooses the coder.
#include "fuzz/fuzz_input.h"
#include "gateway/coder/choice.h"

using namespace ravine;
using namespace ravine::gateway::coder;
using fuzz::expect;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto coders = [] {
    std::vector<std::unique_ptr<Coder>> made;
    made.reserve(kCoderNames.size());
    for (const std::string_view name : kCoderNames) made.push_back(make_coder(name, shipped_model()).value());
    return made;
  }();
  fuzz::Input input({data, size});
  Coder& coder = *coders[input.below(kCoderNames.size())];
  const ByteView bytes = input.rest();
  constexpr std::size_t kLimit = 1024;
  const auto decoded = coder.decode(bytes, {}, kLimit);
  expect(!decoded || decoded->size() <= kLimit);
  const Bytes coded = coder.encode(bytes, {});
  expect(coded.size() <= bytes.size() + 2);
  const auto again = coder.decode(coded, {}, bytes.size());
  expect(again && std::equal(again->begin(), again->end(), bytes.begin(), bytes.end()));
  return 0;
}
