// OpenedPackets: how many packets of a connection proved to come from the peer, and were new. Everything that
// counts as a sign of life goes by it: whoever knows labels and addresses can send packets that look right,
// or repeat old ones. Internal to this folder.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bytes.h"

namespace ravine::session {

class OpenedPackets {
 public:
  // A packet was opened; `header` is its associated data: the whole header without header protection. A
  // packet older than the newest one is no sign of life: it may be a copy.
  void note(ByteView header) {
    ++opened_;
    if ((header[0] & 0x80) != 0) {  // handshake
      ++fresh_;
      return;
    }
    const std::size_t size = (header[0] & 3u) + 1;  // RFC 9000 §17.3.1
    std::uint64_t truncated = 0;
    for (const std::uint8_t byte : header.last(size)) truncated = truncated << 8 | byte;
    const std::uint64_t number = expand(truncated, static_cast<unsigned>(size * 8));
    if (any_ && number <= newest_) return;
    any_ = true;
    newest_ = number;
    ++fresh_;
  }
  std::uint64_t opened() const { return opened_; }
  std::uint64_t fresh() const { return fresh_; }

 private:
  // RFC 9000 appendix A.3.
  std::uint64_t expand(std::uint64_t truncated, unsigned bits) const {
    const std::uint64_t expected = any_ ? newest_ + 1 : 0, window = std::uint64_t{1} << bits;
    const std::uint64_t candidate = (expected & ~(window - 1)) | truncated;
    if (candidate + window / 2 <= expected) return candidate + window;
    if (candidate > expected + window / 2 && candidate >= window) return candidate - window;
    return candidate;
  }
  std::uint64_t newest_ = 0, opened_ = 0, fresh_ = 0;
  bool any_ = false;
};

}  // namespace ravine::session
