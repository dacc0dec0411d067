// Frames on a line of bytes: COBS (Cheshire, Baker 1999) of datagram ‖ CRC-16/CCITT, ended by a zero byte. A
// reader that begins in the middle, or meets garbage, is in step again after the next zero. Pure.
#pragma once

#include <functional>

#include "base/bytes.h"

namespace ravine::services {

inline constexpr std::size_t kLineOverhead = 4;  // bytes for datagrams up to 252: code, CRC, zero

Bytes encode_line_frame(ByteView datagram);

class LineReader {
 public:
  // Datagrams above `max_frame` bytes are garbage.
  explicit LineReader(std::size_t max_frame) : max_frame_(max_frame) {}
  // Calls back for every intact frame; what is in none is counted.
  void feed(ByteView bytes, const std::function<void(ByteView datagram)>& on_datagram);
  std::uint64_t garbage() const { return garbage_; }  // bytes
  void reset() { frame_.clear(); }

 private:
  void end_frame(const std::function<void(ByteView)>& on_datagram);
  std::size_t max_frame_;
  Bytes frame_;
  bool overflow_ = false;
  std::uint64_t garbage_ = 0;
};

}  // namespace ravine::services
