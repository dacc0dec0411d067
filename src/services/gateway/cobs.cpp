#include "services/gateway/cobs.h"

#include <boost/crc.hpp>
#include <optional>

namespace ravine::services {
namespace {

constexpr std::size_t kCrc = 2;
constexpr std::uint8_t kFullBlock = 0xff;

std::uint16_t crc_of(ByteView bytes) {
  boost::crc_ccitt_type crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return static_cast<std::uint16_t>(crc.checksum());
}

std::optional<Bytes> decode_cobs(ByteView frame) {
  Bytes out;
  std::size_t at = 0;
  while (at < frame.size()) {
    const std::uint8_t code = frame[at++];
    if (code == 0 || frame.size() - at < code - 1u) return std::nullopt;
    out.insert(out.end(), frame.begin() + static_cast<std::ptrdiff_t>(at),
               frame.begin() + static_cast<std::ptrdiff_t>(at + code - 1u));
    at += code - 1u;
    if (code != kFullBlock && at < frame.size()) out.push_back(0);
  }
  return out;
}

}  // namespace

Bytes encode_line_frame(ByteView datagram) {
  Bytes plain = to_bytes(datagram);
  const std::uint16_t crc = crc_of(datagram);
  plain.push_back(static_cast<std::uint8_t>(crc >> 8));
  plain.push_back(static_cast<std::uint8_t>(crc & 0xff));
  Bytes out{0};
  std::size_t code_at = 0;
  std::uint8_t code = 1;
  const auto close_block = [&] {
    out[code_at] = code;
    code_at = out.size();
    out.push_back(0);
    code = 1;
  };
  for (std::size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] == 0) {
      close_block();
      continue;
    }
    out.push_back(plain[i]);
    if (++code == kFullBlock && i + 1 < plain.size()) close_block();
  }
  out[code_at] = code;
  out.push_back(0);
  return out;
}

void LineReader::end_frame(const std::function<void(ByteView)>& on_datagram) {
  const Bytes frame = std::move(frame_);
  frame_.clear();
  if (frame.empty()) return;
  const auto plain = decode_cobs(frame);
  if (!plain || plain->size() <= kCrc || plain->size() > max_frame_ + kCrc) {
    garbage_ += frame.size();
    return;
  }
  const ByteView datagram = ByteView(*plain).first(plain->size() - kCrc);
  if (load_big_endian<std::uint16_t>(plain->data() + datagram.size()) != crc_of(datagram)) {
    garbage_ += frame.size();
    return;
  }
  on_datagram(datagram);
}

void LineReader::feed(ByteView bytes, const std::function<void(ByteView)>& on_datagram) {
  const std::size_t limit = max_frame_ + max_frame_ / 254 + 1 + kCrc;
  for (const std::uint8_t byte : bytes) {
    if (byte == 0) {
      if (overflow_) garbage_ += frame_.size();
      if (overflow_) frame_.clear();
      overflow_ = false;
      end_frame(on_datagram);
    } else if (frame_.size() < limit) {
      frame_.push_back(byte);
    } else {
      overflow_ = true;
      ++garbage_;
    }
  }
}

}  // namespace ravine::services
