// The few CBOR items (RFC 8949) that OSCORE's AAD and key derivation are made of, in their shortest form.
// Internal: not a codec.
#pragma once

#include <string_view>

#include "base/bytes.h"

namespace ravine::gateway::security {

class CborWriter {
 public:
  void array(std::uint64_t items) { head(4, items); }
  void integer(std::uint64_t value) { head(0, value); }
  void bytes(ByteView value) {
    head(2, value.size());
    out_.write(value);
  }
  void text(std::string_view value) {
    head(3, value.size());
    out_.write(as_bytes(value));
  }
  void null() { out_.write_u8(0xf6); }
  Bytes take() { return out_.take(); }

 private:
  void head(unsigned major, std::uint64_t value) {
    const auto type = static_cast<std::uint8_t>(major << 5);
    if (value < 24) {
      out_.write_u8(static_cast<std::uint8_t>(type | value));
    } else if (value < 256) {
      out_.write_u8(type | 24);
      out_.write_u8(static_cast<std::uint8_t>(value));
    } else if (value < 65536) {
      out_.write_u8(type | 25);
      out_.write_u16(static_cast<std::uint16_t>(value));
    } else {
      out_.write_u8(type | 27);
      out_.write_u64(value);
    }
  }
  ByteWriter out_;
};

}  // namespace ravine::gateway::security
