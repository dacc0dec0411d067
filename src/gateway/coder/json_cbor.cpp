#include "gateway/coder/json_cbor.h"

#include <fmt/format.h>

#include <bit>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <cmath>

namespace ravine::gateway::coder {
namespace {

namespace json = boost::json;

enum Major : std::uint8_t { unsigned_integer, negative_integer, byte_text, text, array, map, tag, simple };
constexpr std::uint8_t kFalse = 20, kTrue = 21, kNull = 22, kDouble = 27;

void write_head(ByteWriter& out, Major major, std::uint64_t value) {
  const auto first = [&](unsigned low) { out.write_u8(static_cast<std::uint8_t>(major << 5 | low)); };
  if (value < 24) {
    first(static_cast<unsigned>(value));
  } else if (value < 0x100) {
    first(24);
    out.write_u8(static_cast<std::uint8_t>(value));
  } else if (value < 0x10000) {
    first(25);
    out.write_u16(static_cast<std::uint16_t>(value));
  } else if (value < 0x100000000) {
    first(26);
    out.write_u32(static_cast<std::uint32_t>(value));
  } else {
    first(27);
    out.write_u64(value);
  }
}

void write_text(ByteWriter& out, std::string_view value) {
  write_head(out, Major::text, value.size());
  out.write(as_bytes(value));
}

// Depth is bounded by the parser's limit.
void write_value(ByteWriter& out, const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return write_head(out, simple, kNull);
    case json::kind::bool_:
      return write_head(out, simple, value.get_bool() ? kTrue : kFalse);
    case json::kind::int64: {
      const std::int64_t number = value.get_int64();
      if (number >= 0) return write_head(out, unsigned_integer, static_cast<std::uint64_t>(number));
      return write_head(out, negative_integer, static_cast<std::uint64_t>(-1 - number));
    }
    case json::kind::uint64:
      return write_head(out, unsigned_integer, value.get_uint64());
    case json::kind::double_:
      out.write_u8(simple << 5 | kDouble);
      return out.write_u64(std::bit_cast<std::uint64_t>(value.get_double()));
    case json::kind::string:
      return write_text(out, value.get_string());
    case json::kind::array:
      write_head(out, array, value.get_array().size());
      for (const json::value& member : value.get_array()) write_value(out, member);
      return;
    case json::kind::object:
      write_head(out, map, value.get_object().size());
      for (const auto& member : value.get_object()) {
        write_text(out, member.key());
        write_value(out, member.value());
      }
  }
}

class Reader {
 public:
  Reader(ByteView cbor, std::size_t limit) : in_(cbor), limit_(limit) {}

  std::optional<std::string> read() {
    if (!read_value(0) || !in_.ok() || in_.remaining() != 0) return std::nullopt;
    return std::move(out_);
  }

 private:
  struct Head {
    std::uint8_t major = 0, low = 0;
    std::uint64_t value = 0;
  };

  bool read_head(Head& head) {
    const std::uint8_t first = in_.read_u8();
    head.major = first >> 5;
    head.low = first & 31;
    head.value = head.low < 24    ? head.low
                 : head.low == 24 ? in_.read_u8()
                 : head.low == 25 ? in_.read_u16()
                 : head.low == 26 ? in_.read_u32()
                 : head.low == 27 ? in_.read_u64()
                                  : 0;
    return in_.ok() && head.low <= 27;  // 28 to 30 mean nothing, 31 is an indefinite length
  }

  bool add(std::string_view piece) {
    if (piece.size() > limit_ - out_.size()) return false;
    out_ += piece;
    return true;
  }

  bool read_value(unsigned depth) {
    Head head;
    if (!read_head(head)) return false;
    switch (head.major) {
      case unsigned_integer:
        return add(fmt::format_int(head.value).c_str());
      case negative_integer:
        if (head.value > static_cast<std::uint64_t>(INT64_MAX)) return false;
        return add(fmt::format_int(-1 - static_cast<std::int64_t>(head.value)).c_str());
      case Major::text:
        return read_text(head.value);
      case array:
      case map:
        return depth < kMaxCborDepth && read_members(head, depth);
      case simple:
        return read_simple(head);
      default:
        return false;
    }
  }

  bool read_members(const Head& head, unsigned depth) {
    const bool object = head.major == map;
    if (head.value > in_.remaining()) return false;  // each takes a byte at least
    if (!add(object ? "{" : "[")) return false;
    for (std::uint64_t i = 0; i < head.value; ++i) {
      if (i > 0 && !add(",")) return false;
      if (object) {
        Head key;
        if (!read_head(key) || key.major != Major::text || !read_text(key.value) || !add(":")) return false;
      }
      if (!read_value(depth + 1)) return false;
    }
    return add(object ? "}" : "]");
  }

  bool read_simple(const Head& head) {
    if (head.low == kDouble) {
      const auto number = std::bit_cast<double>(head.value);
      return std::isfinite(number) && add(fmt::format("{}", number));
    }
    return head.low == kFalse ? add("false") : head.low == kTrue ? add("true") : head.low == kNull && add("null");
  }

  bool read_text(std::uint64_t size) {
    if (size > in_.remaining() || size > limit_) return false;
    if (!add("\"")) return false;
    for (const std::uint8_t byte : in_.read_view(static_cast<std::size_t>(size))) {
      if (!add_character(static_cast<char>(byte))) return false;
    }
    return add("\"");
  }

  bool add_character(char c) {
    switch (c) {
      case '"':
        return add("\\\"");
      case '\\':
        return add("\\\\");
      case '\b':
        return add("\\b");
      case '\f':
        return add("\\f");
      case '\n':
        return add("\\n");
      case '\r':
        return add("\\r");
      case '\t':
        return add("\\t");
      default:
        if (static_cast<unsigned char>(c) < 0x20) return add(fmt::format("\\u{:04x}", static_cast<unsigned>(c)));
        return add({&c, 1});
    }
  }

  ByteReader in_;
  std::size_t limit_;
  std::string out_;
};

}  // namespace

std::optional<Bytes> cbor_of_json(std::string_view text) {
  json::parse_options options;
  options.max_depth = kMaxCborDepth;
  boost::system::error_code error;
  const json::value value = json::parse(text, error, {}, options);
  if (error) return std::nullopt;
  ByteWriter out;
  write_value(out, value);
  // Spaces, number spellings, escapes and double keys that CBOR cannot tell show here.
  const auto again = json_of_cbor(out.view(), text.size());
  if (!again || *again != text) return std::nullopt;
  return out.take();
}

std::optional<std::string> json_of_cbor(ByteView cbor, std::size_t limit) {
  return Reader(cbor, limit).read();
}

}  // namespace ravine::gateway::coder
