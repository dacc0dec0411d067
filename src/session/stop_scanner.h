// StopScanner: finds STOP_SENDING frames in decrypted 1-RTT packets. ngtcp2 answers them with RESET_STREAM
// without telling its application, which must know, or a sender that waits for flow control waits forever.
// RFC 9000 §19. Thread rule: its connection's thread.
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"

namespace ravine::session {

class StopScanner {
 public:
  struct Stop {
    std::int64_t stream = 0;
    std::uint64_t code = 0;
  };
  // `payload` is authentic but may be a duplicate and may be malformed: ngtcp2 judges it, the scan just ends
  // there.
  void scan(ByteView payload);
  std::vector<Stop>& found() { return found_; }

 private:
  std::vector<Stop> found_;
};

}  // namespace ravine::session
