#include "gateway/model/range_coder.h"

namespace ravine::gateway {
namespace {

std::uint32_t split(std::uint32_t low, std::uint32_t high, std::uint32_t one) {
  return low + static_cast<std::uint32_t>((static_cast<std::uint64_t>(high - low) * one) >> 16);
}

}  // namespace

void RangeEncoder::encode(bool bit, std::uint32_t one) {
  const std::uint32_t middle = split(low_, high_, one);
  if (bit) {
    high_ = middle;
  } else {
    low_ = middle + 1;
  }
  while (((low_ ^ high_) >> 24) == 0) shift();
}

void RangeEncoder::shift() {
  out_.push_back(static_cast<std::uint8_t>(high_ >> 24));
  low_ <<= 8;
  high_ = (high_ << 8) | 0xff;
}

Bytes RangeEncoder::finish() {
  // The shortest string that, followed by zeros, lies in [low, high].
  for (unsigned size = 0; size <= 4; ++size) {
    const std::uint32_t mask = size == 0 ? 0 : size == 4 ? UINT32_MAX : ~(UINT32_MAX >> (8 * size));
    std::uint64_t candidate = low_ & mask;
    if (candidate < low_) candidate += std::uint64_t{~mask} + 1;
    if (candidate <= high_) {
      for (unsigned i = 0; i < size; ++i)
        out_.push_back(static_cast<std::uint8_t>(candidate >> (24 - 8 * i)));
      break;
    }
  }
  while (!out_.empty() && out_.back() == 0) out_.pop_back();  // the decoder reads zeros there anyway
  return std::move(out_);
}

RangeDecoder::RangeDecoder(ByteView bytes) : rest_(bytes) {
  for (int i = 0; i < 4; ++i) value_ = (value_ << 8) | next();
}

std::uint8_t RangeDecoder::next() {
  if (rest_.empty()) {
    ++overrun_;
    return 0;
  }
  const std::uint8_t byte = rest_.front();
  rest_ = rest_.subspan(1);
  return byte;
}

bool RangeDecoder::decode(std::uint32_t one) {
  const std::uint32_t middle = split(low_, high_, one);
  const bool bit = value_ <= middle;
  if (bit) {
    high_ = middle;
  } else {
    low_ = middle + 1;
  }
  while (((low_ ^ high_) >> 24) == 0) {
    low_ <<= 8;
    high_ = (high_ << 8) | 0xff;
    value_ = (value_ << 8) | next();
  }
  return bit;
}

}  // namespace ravine::gateway
