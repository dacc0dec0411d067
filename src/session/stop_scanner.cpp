#include "session/stop_scanner.h"

#include <cstring>

namespace ravine::session {
namespace {

// A cursor that is fast on the common one- and two-byte integers; after the end every read yields false.
class Cursor {
 public:
  explicit Cursor(ByteView bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  bool done() const { return at_ == end_; }
  std::uint8_t peek() const { return *at_; }

  bool read(std::uint64_t& value) {
    if (at_ == end_) return false;
    const std::size_t size = std::size_t{1} << (*at_ >> 6);
    if (static_cast<std::size_t>(end_ - at_) < size) return false;
    value = *at_ & 0x3f;
    for (std::size_t i = 1; i < size; ++i) value = value << 8 | at_[i];
    at_ += size;
    return true;
  }
  // A run of PADDING, eight bytes at a time: probes and first packets are mostly that.
  void skip_zeros() {
    std::uint64_t word = 0;
    while (end_ - at_ >= 8 && (std::memcpy(&word, at_, 8), word == 0)) at_ += 8;
    while (at_ != end_ && *at_ == 0) ++at_;
  }
  bool skip_integers(std::uint64_t count) {
    std::uint64_t ignored;
    for (; count > 0; --count) {
      if (!read(ignored)) return false;
    }
    return true;
  }
  bool skip(std::uint64_t size) {
    if (static_cast<std::uint64_t>(end_ - at_) < size) return false;
    at_ += size;
    return true;
  }
  bool skip_sized() {
    std::uint64_t size;
    return read(size) && skip(size);
  }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

bool skip_ack(Cursor& cursor, bool with_ecn) {
  std::uint64_t ranges;
  return cursor.skip_integers(2) && cursor.read(ranges) && cursor.skip_integers(1) &&
         ranges <= kMaxVarint / 2 && cursor.skip_integers(2 * ranges + (with_ecn ? 3 : 0));
}

// STREAM: bit 2 an offset, bit 1 a length; without a length it fills the packet.
bool skip_stream(Cursor& cursor, std::uint64_t type) {
  if ((type & 2) == 0) return false;
  return cursor.skip_integers((type & 4) != 0 ? 2 : 1) && cursor.skip_sized();
}

bool skip_new_connection_id(Cursor& cursor) {
  return cursor.skip_integers(2) && !cursor.done() && cursor.skip(1u + cursor.peek() + 16);
}

// Skips the body of any frame but STOP_SENDING. False: malformed, unknown, or nothing can follow.
bool skip_frame(Cursor& cursor, std::uint64_t type) {
  if (type >= 0x08 && type <= 0x0f) return skip_stream(cursor, type);
  switch (type) {
    case 0x00:  // PADDING
      cursor.skip_zeros();
      return true;
    case 0x01:  // PING
    case 0x1e:  // HANDSHAKE_DONE
      return true;
    case 0x02:
    case 0x03:
      return skip_ack(cursor, type == 0x03);
    case 0x04:  // RESET_STREAM
      return cursor.skip_integers(3);
    case 0x06:  // CRYPTO
      return cursor.skip_integers(1) && cursor.skip_sized();
    case 0x07:  // NEW_TOKEN
    case 0x31:  // DATAGRAM with a length
      return cursor.skip_sized();
    case 0x11:  // MAX_STREAM_DATA
    case 0x15:  // STREAM_DATA_BLOCKED
      return cursor.skip_integers(2);
    case 0x10:  // MAX_DATA
    case 0x12:  // MAX_STREAMS
    case 0x13:
    case 0x14:  // DATA_BLOCKED
    case 0x16:  // STREAMS_BLOCKED
    case 0x17:
    case 0x19:  // RETIRE_CONNECTION_ID
      return cursor.skip_integers(1);
    case 0x18:
      return skip_new_connection_id(cursor);
    case 0x1a:  // PATH_CHALLENGE
    case 0x1b:  // PATH_RESPONSE
      return cursor.skip(8);
    default:  // CONNECTION_CLOSE ends everything; DATAGRAM without a length fills the packet
      return false;
  }
}

}  // namespace

void StopScanner::scan(ByteView payload) {
  constexpr std::uint64_t kStopSending = 0x05;
  Cursor cursor(payload);
  std::uint64_t type;
  while (cursor.read(type)) {
    if (type == kStopSending) {
      std::uint64_t stream, code;
      if (!cursor.read(stream) || !cursor.read(code)) return;
      found_.push_back({static_cast<std::int64_t>(stream), code});
    } else if (!skip_frame(cursor, type)) {
      return;
    }
  }
}

}  // namespace ravine::session
