// Control messages (proto/control.proto) and their framing: varint length ‖ protobuf, size bounded before
// parsing.
#pragma once

#include <optional>

#include "base/bytes.h"
#include "control.pb.h"

namespace ravine::wire {

using control::ControlMessage;

inline constexpr std::size_t kMaxControlMessage = 64 * 1024;  // bytes; larger closes the session

Bytes encode_control(const ControlMessage& message);

// Takes a byte stream in pieces and yields whole messages. Holds at most kMaxControlMessage + 8 bytes.
class ControlDecoder {
 public:
  enum class Outcome : std::uint8_t { message, need_more, malformed };
  void feed(ByteView bytes);
  // `out` is set on `message`. After `malformed` the stream is useless.
  Outcome poll(ControlMessage& out);

 private:
  Bytes buffer_;
  std::size_t start_ = 0;
  bool failed_ = false;
};

}  // namespace ravine::wire
