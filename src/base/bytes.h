// Byte views, big-endian readers and writers, QUIC variable-length integers, and text forms of bytes.
// Pure; no allocation in readers. Thread rule: values, no shared state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ravine {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes to_bytes(ByteView view) {
  return {view.begin(), view.end()};
}

// Host-order value of `sizeof(T)` big-endian bytes at `p`. Requires that many readable bytes.
template <class T>
T load_big_endian(const std::uint8_t* p) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>((value << 8) | p[i]);
  return value;
}
template <class T>
void store_big_endian(std::uint8_t* p, T value) {
  for (std::size_t i = sizeof(T); i-- > 0; value = static_cast<T>(value >> 8))
    p[i] = static_cast<std::uint8_t>(value);
}

inline constexpr std::uint64_t kMaxVarint = (std::uint64_t{1} << 62) - 1;  // RFC 9000 §16

// Size in bytes (1, 2, 4 or 8) of `value` as a QUIC varint. Requires value ≤ kMaxVarint.
constexpr std::size_t varint_size(std::uint64_t value) {
  return value < 64 ? 1 : value < 16384 ? 2 : value < 1073741824 ? 4 : 8;
}

// Reads a byte view front to back. After the first short read every further read fails, so a decoder may
// check `ok()` once at its end.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  std::size_t remaining() const { return rest_.size(); }
  ByteView rest() const { return rest_; }

  std::uint8_t read_u8() { return read_integer<std::uint8_t>(); }
  std::uint16_t read_u16() { return read_integer<std::uint16_t>(); }
  std::uint32_t read_u32() { return read_integer<std::uint32_t>(); }
  std::uint64_t read_u64() { return read_integer<std::uint64_t>(); }
  std::uint64_t read_varint();           // RFC 9000 §16; 0 when short
  ByteView read_view(std::size_t size);  // empty when short
  bool read_into(MutableBytes out);

 private:
  template <class T>
  T read_integer() {
    ByteView view = read_view(sizeof(T));
    return view.size() == sizeof(T) ? load_big_endian<T>(view.data()) : T{0};
  }
  ByteView rest_;
  bool ok_ = true;
};

// Appends to a vector that it owns.
class ByteWriter {
 public:
  void write_u8(std::uint8_t value) { bytes_.push_back(value); }
  void write_u16(std::uint16_t value) { write_integer(value); }
  void write_u32(std::uint32_t value) { write_integer(value); }
  void write_u64(std::uint64_t value) { write_integer(value); }
  void write_varint(std::uint64_t value);  // requires value ≤ kMaxVarint
  void write(ByteView view) { bytes_.insert(bytes_.end(), view.begin(), view.end()); }

  std::size_t size() const { return bytes_.size(); }
  ByteView view() const { return bytes_; }
  Bytes take() { return std::move(bytes_); }

 private:
  template <class T>
  void write_integer(T value) {
    std::array<std::uint8_t, sizeof(T)> raw;
    store_big_endian(raw.data(), value);
    write(raw);
  }
  Bytes bytes_;
};

std::string encode_hex(ByteView bytes);
std::optional<Bytes> decode_hex(
    std::string_view text);  // either case; nullopt when not an even run of hex digits

// Base32 (RFC 4648 §6), lower case, no padding. Decoding accepts either case and refuses non-zero trailing
// bits.
std::string encode_base32(ByteView bytes);
std::optional<Bytes> decode_base32(std::string_view text);

// Base64url without padding (RFC 4648 §5).
std::string encode_base64url(ByteView bytes);
std::optional<Bytes> decode_base64url(std::string_view text);

// Compares in time that depends on the sizes alone; false when they differ.
bool equal_constant_time(ByteView a, ByteView b);

// Overwrites secrets in a way that the optimiser keeps.
void wipe(MutableBytes bytes);

}  // namespace ravine
