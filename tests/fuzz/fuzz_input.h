// What the fuzz targets share: the check that ends a run, and an input read as a list of small decisions.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <source_location>

#include "base/bytes.h"

namespace ravine::fuzz {

// A property of the code under test; a broken one is a finding.
inline void expect(bool condition, std::source_location where = std::source_location::current()) {
  if (condition) return;
  std::fprintf(stderr, "property broken at %s:%u\n", where.file_name(), where.line());
  std::abort();
}

// Reads decisions front to back; after the end every decision is zero.
class Input {
 public:
  explicit Input(ByteView bytes) : reader_(bytes) {}

  bool empty() const { return reader_.remaining() == 0; }
  std::uint8_t u8() { return reader_.remaining() >= 1 ? reader_.read_u8() : 0; }
  std::uint16_t u16() { return reader_.remaining() >= 2 ? reader_.read_u16() : u8(); }
  std::uint32_t u32() { return reader_.remaining() >= 4 ? reader_.read_u32() : u16(); }
  std::uint64_t u64() { return reader_.remaining() >= 8 ? reader_.read_u64() : u32(); }
  // Uniform enough in [0, bound). Requires 0 < bound ≤ 65536.
  std::size_t below(std::size_t bound) { return (bound <= 256 ? u8() : u16()) % bound; }
  // At most `wanted` bytes, fewer at the end.
  ByteView bytes(std::size_t wanted) {
    return reader_.read_view(wanted < reader_.remaining() ? wanted : reader_.remaining());
  }
  ByteView rest() { return reader_.read_view(reader_.remaining()); }

 private:
  ByteReader reader_;
};

}  // namespace ravine::fuzz

// The entry that libFuzzer, or the replay program, calls.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
