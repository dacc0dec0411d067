// DER (X.690): a reader that refuses every encoding but the canonical one, and builders. Tags below 31 and
// lengths below 2^24 alone, which is all that certificates need. Views point into the input.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/time.h"

namespace ravine::identity::der {

inline constexpr std::uint8_t kBoolean = 0x01, kInteger = 0x02, kBitString = 0x03, kOctetString = 0x04,
                              kNull = 0x05, kOid = 0x06, kUtf8String = 0x0c, kPrintableString = 0x13,
                              kIa5String = 0x16, kUtcTime = 0x17, kGeneralizedTime = 0x18, kSequence = 0x30,
                              kSet = 0x31;
constexpr std::uint8_t context(std::uint8_t number) {
  return static_cast<std::uint8_t>(0x80 | number);
}
constexpr std::uint8_t context_constructed(std::uint8_t number) {
  return static_cast<std::uint8_t>(0xa0 | number);
}

struct Value {
  std::uint8_t tag = 0;
  ByteView body;   // content octets
  ByteView whole;  // tag and length too
};

// After the first failure every further read fails, so that a parser may check once.
class Reader {
 public:
  explicit Reader(ByteView bytes) : rest_(bytes) {}
  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }
  bool finished() const { return ok_ && rest_.empty(); }
  bool next_is(std::uint8_t tag) const { return ok_ && !rest_.empty() && rest_[0] == tag; }
  Value read();                    // any tag
  Value expect(std::uint8_t tag);  // empty Value when it is another
  Reader enter(std::uint8_t tag);  // inside of a constructed value; a failed reader when it is another
  ByteView read_integer();         // content octets of a minimal INTEGER
  std::optional<std::uint32_t> read_small_integer();  // 0 … 2^31-1
  bool read_boolean();                                // 00 or ff alone
  ByteView read_bytes_of_bit_string();                // a BIT STRING of whole octets
  UnixTime read_time();  // UTCTime up to 2049, GeneralizedTime from 2050, seconds and Z (RFC 5280 §4.1.2.5)
  void fail() { ok_ = false, rest_ = {}; }

 private:
  ByteView rest_;
  bool ok_ = true;
};

Bytes value(std::uint8_t tag, ByteView body);
Bytes value(std::uint8_t tag, std::initializer_list<Bytes> parts);
Bytes join(std::initializer_list<Bytes> parts);
Bytes oid(ByteView body);
Bytes boolean(bool value);
Bytes small_integer(std::uint32_t value);
Bytes octet_string(ByteView body);
Bytes bit_string(ByteView body, std::uint8_t unused_bits = 0);
Bytes text(std::uint8_t tag, std::string_view text);
Bytes time(UnixTime at);

inline constexpr UnixTime kNoExpiry{253402300799};  // 9999-12-31T23:59:59Z, RFC 5280 §4.1.2.5

}  // namespace ravine::identity::der
