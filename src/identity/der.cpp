#include "identity/der.h"

#include <fmt/format.h>

#include <chrono>

namespace ravine::identity::der {
namespace {

constexpr std::size_t kMaxLengthBytes = 3;

std::optional<unsigned> read_digits(ByteView text, std::size_t at, std::size_t count) {
  unsigned value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

// "MMDDHHMMSSZ" from `at`.
std::optional<UnixTime> parse_time(ByteView text, std::size_t at, unsigned year) {
  using namespace std::chrono;
  if (text.size() != at + 11 || text[at + 10] != 'Z') return std::nullopt;
  const auto month_number = read_digits(text, at, 2), day_number = read_digits(text, at + 2, 2);
  const auto hour = read_digits(text, at + 4, 2), minute = read_digits(text, at + 6, 2);
  const auto second = read_digits(text, at + 8, 2);
  if (!month_number || !day_number || !hour || !minute || !second) return std::nullopt;
  const year_month_day date{std::chrono::year(static_cast<int>(year)), month(*month_number),
                            day(*day_number)};
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 59) return std::nullopt;
  const auto days = sys_days(date).time_since_epoch();
  return UnixTime{duration_cast<seconds>(days + hours(*hour) + minutes(*minute) + seconds(*second)).count()};
}

}  // namespace

Value Reader::read() {
  if (!ok_ || rest_.size() < 2 || (rest_[0] & 0x1f) == 0x1f) return fail(), Value{};
  std::size_t head = 2, size = rest_[1];
  if (size >= 0x80) {
    const std::size_t count = size & 0x7f;
    if (count == 0 || count > kMaxLengthBytes || rest_.size() < 2 + count) return fail(), Value{};
    size = 0;
    for (std::size_t i = 0; i < count; ++i) size = size << 8 | rest_[2 + i];
    // X.690 §10.1: the shortest length form.
    if (size < 0x80 || (count > 1 && size >> (8 * (count - 1)) == 0)) return fail(), Value{};
    head += count;
  }
  if (rest_.size() - head < size) return fail(), Value{};
  const Value value{rest_[0], rest_.subspan(head, size), rest_.first(head + size)};
  rest_ = rest_.subspan(head + size);
  return value;
}

Value Reader::expect(std::uint8_t tag) {
  if (!next_is(tag)) return fail(), Value{};
  return read();
}

Reader Reader::enter(std::uint8_t tag) {
  const Value value = expect(tag);
  Reader inside(value.body);
  if (!ok_) inside.fail();
  return inside;
}

ByteView Reader::read_integer() {
  const ByteView body = expect(kInteger).body;
  // X.690 §8.3.2: the first nine bits are not all equal.
  const bool padded =
      body.size() > 1 && ((body[0] == 0 && body[1] < 0x80) || (body[0] == 0xff && body[1] >= 0x80));
  if (body.empty() || padded) return fail(), ByteView{};
  return body;
}

std::optional<std::uint32_t> Reader::read_small_integer() {
  const ByteView body = read_integer();
  if (!ok_ || body.size() > 4 || body[0] >= 0x80) return fail(), std::nullopt;
  std::uint32_t value = 0;
  for (const std::uint8_t byte : body) value = value << 8 | byte;
  return value;
}

bool Reader::read_boolean() {
  const ByteView body = expect(kBoolean).body;
  if (body.size() != 1 || (body[0] != 0 && body[0] != 0xff)) return fail(), false;
  return body[0] != 0;
}

ByteView Reader::read_bytes_of_bit_string() {
  const ByteView body = expect(kBitString).body;
  if (body.empty() || body[0] != 0) return fail(), ByteView{};
  return body.subspan(1);
}

UnixTime Reader::read_time() {
  const Value value = read();
  std::optional<UnixTime> at;
  if (value.tag == kUtcTime && value.body.size() == 13) {
    const auto year = read_digits(value.body, 0, 2);
    if (year) at = parse_time(value.body, 2, *year < 50 ? 2000 + *year : 1900 + *year);
  } else if (value.tag == kGeneralizedTime && value.body.size() == 15) {
    const auto year = read_digits(value.body, 0, 4);
    if (year && *year >= 2050) at = parse_time(value.body, 4, *year);
  }
  if (!at) fail();
  return at.value_or(UnixTime{});
}

Bytes value(std::uint8_t tag, ByteView body) {
  Bytes out{tag};
  if (body.size() < 0x80) {
    out.push_back(static_cast<std::uint8_t>(body.size()));
  } else {
    std::size_t count = 1;
    while (body.size() >> (8 * count) != 0) ++count;
    out.push_back(static_cast<std::uint8_t>(0x80 | count));
    while (count-- > 0) out.push_back(static_cast<std::uint8_t>(body.size() >> (8 * count)));
  }
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

Bytes join(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes value(std::uint8_t tag, std::initializer_list<Bytes> parts) {
  return value(tag, ByteView(join(parts)));
}

Bytes oid(ByteView body) {
  return value(kOid, body);
}

Bytes boolean(bool on) {
  const std::uint8_t body = on ? 0xff : 0x00;
  return value(kBoolean, ByteView(&body, 1));
}

Bytes small_integer(std::uint32_t number) {
  Bytes body;
  for (int shift = 24; shift >= 0; shift -= 8) {
    const auto byte = static_cast<std::uint8_t>(number >> shift);
    if (!body.empty() || byte != 0 || shift == 0) body.push_back(byte);
  }
  if (body[0] >= 0x80) body.insert(body.begin(), 0);
  return value(kInteger, ByteView(body));
}

Bytes octet_string(ByteView body) {
  return value(kOctetString, body);
}

Bytes bit_string(ByteView body, std::uint8_t unused_bits) {
  Bytes content{unused_bits};
  content.insert(content.end(), body.begin(), body.end());
  return value(kBitString, ByteView(content));
}

Bytes text(std::uint8_t tag, std::string_view content) {
  return value(tag, as_bytes(content));
}

Bytes time(UnixTime at) {
  using namespace std::chrono;
  const sys_seconds moment{seconds(at.seconds)};
  const auto midnight = floor<days>(moment);
  const year_month_day date{midnight};
  const hh_mm_ss clock{moment - midnight};
  const int year = static_cast<int>(date.year());
  const std::string rest = fmt::format("{:02}{:02}{:02}{:02}{:02}Z", static_cast<unsigned>(date.month()),
                                       static_cast<unsigned>(date.day()), clock.hours().count(),
                                       clock.minutes().count(), clock.seconds().count());
  if (year < 2050) return text(kUtcTime, fmt::format("{:02}{}", year % 100, rest));
  return text(kGeneralizedTime, fmt::format("{:04}{}", year, rest));
}

}  // namespace ravine::identity::der
