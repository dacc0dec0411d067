// Binary arithmetic coder with 16-bit probabilities. The encoder ends with the fewest bytes that name the
// interval; the decoder reads zeros past the end.
#pragma once

#include "base/bytes.h"

namespace ravine::gateway {

class RangeEncoder {
 public:
  // `one`: chance in 1/65536 that `bit` is 1; 1 … 65535.
  void encode(bool bit, std::uint32_t one);
  Bytes finish();
  std::size_t size() const { return out_.size(); }  // bytes that are final

 private:
  void shift();
  Bytes out_;
  std::uint32_t low_ = 0, high_ = UINT32_MAX;
};

class RangeDecoder {
 public:
  explicit RangeDecoder(ByteView bytes);
  bool decode(std::uint32_t one);
  // Bytes read past the end; more than 4 means that the input was cut or is not ours.
  std::size_t overrun() const { return overrun_; }

 private:
  std::uint8_t next();
  ByteView rest_;
  std::size_t overrun_ = 0;
  std::uint32_t low_ = 0, high_ = UINT32_MAX, value_ = 0;
};

}  // namespace ravine::gateway
