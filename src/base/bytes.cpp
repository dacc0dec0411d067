#include "base/bytes.h"

#include "base/ensure.h"

namespace ravine {
namespace {

constexpr std::string_view kBase32 = "abcdefghijklmnopqrstuvwxyz234567";
constexpr std::string_view kBase64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string encode_power_of_two(ByteView bytes, std::string_view alphabet, unsigned bits_per_digit) {
  std::string text;
  text.reserve(bytes.size() * 8 / bits_per_digit + 1);
  std::uint32_t window = 0;
  unsigned held = 0;
  const std::uint32_t mask = (1u << bits_per_digit) - 1;
  for (std::uint8_t byte : bytes) {
    window = (window << 8) | byte;
    held += 8;
    while (held >= bits_per_digit) {
      held -= bits_per_digit;
      text.push_back(alphabet[(window >> held) & mask]);
    }
  }
  if (held > 0) text.push_back(alphabet[(window << (bits_per_digit - held)) & mask]);
  return text;
}

std::optional<Bytes> decode_power_of_two(std::string_view text, std::string_view alphabet,
                                         unsigned bits_per_digit) {
  Bytes bytes;
  bytes.reserve(text.size() * bits_per_digit / 8);
  std::uint32_t window = 0;
  unsigned held = 0;
  for (char digit : text) {
    const std::size_t value = alphabet.find(digit);
    if (value == std::string_view::npos) return std::nullopt;
    window = (window << bits_per_digit) | static_cast<std::uint32_t>(value);
    held += bits_per_digit;
    if (held >= 8) {
      held -= 8;
      bytes.push_back(static_cast<std::uint8_t>(window >> held));
    }
  }
  // A whole leftover digit or non-zero padding bits are a second spelling of the same bytes: refused.
  if (held >= bits_per_digit || (window & ((1u << held) - 1)) != 0) return std::nullopt;
  return bytes;
}

}  // namespace

std::uint64_t ByteReader::read_varint() {
  if (rest_.empty()) {
    ok_ = false;
    return 0;
  }
  const std::size_t size = std::size_t{1} << (rest_[0] >> 6);
  ByteView view = read_view(size);
  if (view.size() != size) return 0;
  std::uint64_t value = view[0] & 0x3f;
  for (std::size_t i = 1; i < size; ++i) value = (value << 8) | view[i];
  return value;
}

ByteView ByteReader::read_view(std::size_t size) {
  if (!ok_ || size > rest_.size()) {
    ok_ = false;
    rest_ = {};
    return {};
  }
  ByteView view = rest_.first(size);
  rest_ = rest_.subspan(size);
  return view;
}

bool ByteReader::read_into(MutableBytes out) {
  ByteView view = read_view(out.size());
  if (!ok_) return false;
  if (!view.empty()) std::memcpy(out.data(), view.data(), view.size());
  return true;
}

void ByteWriter::write_varint(std::uint64_t value) {
  ensure(value <= kMaxVarint);
  const std::size_t size = varint_size(value);
  const unsigned prefix = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
  for (std::size_t i = size; i-- > 0;) {
    auto byte = static_cast<std::uint8_t>(value >> (8 * i));
    if (i == size - 1) byte = static_cast<std::uint8_t>(byte | (prefix << 6));
    bytes_.push_back(byte);
  }
}

std::string encode_hex(ByteView bytes) {
  return encode_power_of_two(bytes, "0123456789abcdef", 4);
}

std::optional<Bytes> decode_hex(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  }
  return decode_power_of_two(lower, "0123456789abcdef", 4);
}

std::string encode_base32(ByteView bytes) {
  return encode_power_of_two(bytes, kBase32, 5);
}

std::optional<Bytes> decode_base32(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return decode_power_of_two(lower, kBase32, 5);
}

std::string encode_base64url(ByteView bytes) {
  return encode_power_of_two(bytes, kBase64url, 6);
}

std::optional<Bytes> decode_base64url(std::string_view text) {
  return decode_power_of_two(text, kBase64url, 6);
}

bool equal_constant_time(ByteView a, ByteView b) {
  if (a.size() != b.size()) return false;
  std::uint8_t difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference = static_cast<std::uint8_t>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

void wipe(MutableBytes bytes) {
  if (bytes.empty()) return;
  std::memset(bytes.data(), 0, bytes.size());
  asm volatile("" : : "r"(bytes.data()) : "memory");
}

}  // namespace ravine
