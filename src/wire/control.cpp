#include "wire/control.h"

#include <google/protobuf/stubs/logging.h>

namespace ravine::wire {

namespace {

// protobuf writes a line to stderr for each string that is not UTF-8: a peer could fill a log with them.
// Outcomes say all that we need to know.
[[maybe_unused]] google::protobuf::LogHandler* const kFormerHandler =
    google::protobuf::SetLogHandler(nullptr);

}  // namespace

Bytes encode_control(const ControlMessage& message) {
  ByteWriter writer;
  writer.write_varint(message.ByteSizeLong());
  Bytes bytes = writer.take();
  const std::size_t head = bytes.size();
  bytes.resize(head + message.ByteSizeLong());
  message.SerializeToArray(bytes.data() + head, static_cast<int>(bytes.size() - head));
  return bytes;
}

void ControlDecoder::feed(ByteView bytes) {
  if (failed_) return;
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

ControlDecoder::Outcome ControlDecoder::poll(ControlMessage& out) {
  if (failed_) return Outcome::malformed;
  ByteReader reader(ByteView(buffer_).subspan(start_));
  const std::uint64_t size = reader.read_varint();
  if (!reader.ok()) return Outcome::need_more;
  if (size > kMaxControlMessage) {
    failed_ = true;
    return Outcome::malformed;
  }
  if (reader.remaining() < size) return Outcome::need_more;
  const ByteView body = reader.read_view(size);
  out.Clear();
  if (!out.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    failed_ = true;
    return Outcome::malformed;
  }
  start_ = buffer_.size() - reader.remaining();
  if (start_ == buffer_.size()) {
    buffer_ = Bytes();  // not clear(): an idle session holds no buffer
    start_ = 0;
  } else if (start_ > kMaxControlMessage) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(start_));
    start_ = 0;
  }
  return Outcome::message;
}

}  // namespace ravine::wire
