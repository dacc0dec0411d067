#include <fmt/format.h>

#include <array>
#include <bitset>
#include <cmath>

#include "gateway/cbor/json_cbor.h"
#include "gateway/cbor/key_table.h"

namespace ravine::gateway::cbor {
namespace {

constexpr unsigned kIndefinite = 31;
constexpr std::uint8_t kBreak = 0xff;

// RFC 3629: no overlong forms, surrogates or values above U+10FFFF.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
    const unsigned first = byte(i);
    const std::size_t more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || i + more >= text.size()) return false;
    if (more > 0) {
      const unsigned second = byte(i + 1);
      const unsigned least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
      const unsigned most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
      if (second < least || second > most) return false;
    }
    for (std::size_t k = 2; k <= more; ++k)
      if ((byte(i + k) & 0xc0) != 0x80) return false;
    i += more + 1;
  }
  return true;
}

double half_to_double(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const double mantissa = half & 1023;
  const double value = exponent == 0    ? std::ldexp(mantissa, -24)
                       : exponent != 31 ? std::ldexp(mantissa + 1024, exponent - 25)
                       : mantissa == 0  ? HUGE_VAL
                                        : std::nan("");
  return (half & 0x8000) != 0 ? -value : value;
}

class Reader {
 public:
  Reader(ByteView cbor, Keys keys, const ConvertLimits& limits) : in_(cbor), keys_(keys), limits_(limits) {}

  Result<Bytes> read() {
    item(0);
    if (!fault_.empty()) return Error{kind_, fault_};
    if (in_.remaining() != 0) return Error{ErrorKind::invalid_argument, "bytes after the CBOR item"};
    return to_bytes(as_bytes(out_));
  }

 private:
  struct Head {
    unsigned major = 0, info = 0;
    std::uint64_t value = 0;
    bool indefinite() const { return info == kIndefinite; }
  };

  bool fail(ErrorKind kind, std::string text) {
    if (fault_.empty()) {
      kind_ = kind;
      fault_ = std::move(text);
    }
    return false;
  }
  bool malformed() { return fail(ErrorKind::invalid_argument, "malformed CBOR"); }
  bool fits() {
    if (out_.size() <= limits_.bytes) return true;
    return fail(ErrorKind::limit_reached, fmt::format("JSON of more than {} bytes", limits_.bytes));
  }

  bool head(Head& out) {
    const std::uint8_t first = in_.read_u8();
    out.major = first >> 5;
    out.info = first & 31u;
    out.value = out.info;
    if (out.info == 24) out.value = in_.read_u8();
    if (out.info == 25) out.value = in_.read_u16();
    if (out.info == 26) out.value = in_.read_u32();
    if (out.info == 27) out.value = in_.read_u64();
    const bool reserved = out.info > 27 && out.info != kIndefinite;
    // RFC 8949 §3.2: integers, tags and simple values have no indefinite form; 7/31 is the break.
    const bool no_length = out.indefinite() && (out.major < 2 || out.major > 5);
    return in_.ok() && !reserved && !no_length ? true : malformed();
  }

  bool at_break() { return in_.remaining() > 0 && in_.rest()[0] == kBreak; }

  // The bytes of a string of `major`, whole or in pieces (RFC 8949 §3.2.3).
  bool string(const Head& first, std::string& text) {
    const auto piece = [&](const Head& head) {
      if (head.value > in_.remaining()) return malformed();
      text += as_text(in_.read_view(static_cast<std::size_t>(head.value)));
      return true;
    };
    if (!first.indefinite()) return piece(first);
    while (!at_break()) {
      Head next;
      if (!head(next)) return false;
      if (next.major != first.major || next.indefinite() || !piece(next)) return malformed();
    }
    return in_.read_u8() == kBreak;
  }

  bool write_string(std::string_view text) {
    if (!is_utf8(text)) return fail(ErrorKind::invalid_argument, "a text that is no UTF-8");
    out_ += '"';
    for (const char c : text) {
      switch (c) {
        case '"':
        case '\\':
          out_ += '\\';
          out_ += c;
          break;
        case '\n':
          out_ += "\\n";
          break;
        case '\r':
          out_ += "\\r";
          break;
        case '\t':
          out_ += "\\t";
          break;
        default:
          if (static_cast<unsigned char>(c) < 0x20) {
            out_ += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
          } else {
            out_ += c;
          }
      }
    }
    out_ += '"';
    return fits();
  }

  bool number(double value) {
    if (!std::isfinite(value)) {
      out_ += "null";
      return fits();
    }
    const std::string text = fmt::format("{}", value);
    out_ += text;
    if (text.find_first_of(".e") == std::string::npos) out_ += ".0";
    return fits();
  }

  bool simple(const Head& head) {
    switch (head.info) {
      case 20:
        out_ += "false";
        return fits();
      case 21:
        out_ += "true";
        return fits();
      case 22:
      case 23:
        out_ += "null";
        return fits();
      case 25:
        return number(half_to_double(static_cast<std::uint16_t>(head.value)));
      case 26:
        return number(std::bit_cast<float>(static_cast<std::uint32_t>(head.value)));
      case 27:
        return number(std::bit_cast<double>(head.value));
      default:
        if (head.info == 24 && head.value < 32) return malformed();
        return fail(ErrorKind::unsupported, fmt::format("the simple value {}", head.value));
    }
  }

  bool item(std::size_t depth) {
    Head first;
    if (!head(first)) return false;
    std::string text;
    switch (first.major) {
      case 0:
        out_ += fmt::format("{}", first.value);
        return fits();
      case 1:
        // −1 − value; the least needs 65 bits.
        out_ += first.value == UINT64_MAX ? "-18446744073709551616" : fmt::format("-{}", first.value + 1);
        return fits();
      case 2:
        return string(first, text) ? write_string(encode_base64url(as_bytes(text))) : malformed();
      case 3:
        return string(first, text) ? write_string(text) : malformed();
      case 6:
        if (first.value == 2 || first.value == 3)
          return fail(ErrorKind::unsupported, "a number over 64 bits");
        return deeper(depth) && item(depth + 1);
      case 7:
        return simple(first);
      default:
        return deeper(depth) && (first.major == 4 ? array(first, depth + 1) : map(first, depth + 1));
    }
  }

  bool deeper(std::size_t depth) {
    return depth < limits_.depth ||
           fail(ErrorKind::limit_reached, fmt::format("CBOR of more than {} levels", limits_.depth));
  }

  bool more(const Head& first, std::uint64_t done) {
    return first.indefinite() ? !at_break() : done < first.value;
  }
  bool end(const Head& first) { return !first.indefinite() || in_.read_u8() == kBreak || malformed(); }

  bool array(const Head& first, std::size_t depth) {
    out_ += '[';
    for (std::uint64_t i = 0; more(first, i); ++i) {
      if (i > 0) out_ += ',';
      if (!item(depth)) return false;
    }
    out_ += ']';
    return end(first) && fits();
  }

  // Where an integer key's entry stands in the output, to take it out again when its text comes too.
  struct Entry {
    unsigned number = 0;
    std::size_t begin = 0, end = 0;
  };

  bool key(std::bitset<kMatrixKeys + 1>& texts, std::bitset<kMatrixKeys + 1>& numbers, unsigned& number) {
    Head first;
    if (!head(first)) return false;
    if (first.major == 3) {
      std::string text;
      if (!string(first, text)) return malformed();
      if (const auto known = keys_ == Keys::matrix ? matrix_key_number(text) : std::nullopt)
        texts.set(*known);
      return write_string(text);
    }
    const std::string_view name =
        first.major == 0 && keys_ == Keys::matrix ? matrix_key(first.value) : std::string_view();
    if (name.empty()) return fail(ErrorKind::unsupported, "a map key that JSON has no text for");
    number = static_cast<unsigned>(first.value);
    if (numbers.test(number)) return fail(ErrorKind::invalid_argument, "a map key that comes twice");
    numbers.set(number);
    return write_string(name);
  }

  void leave_out(std::size_t start, const std::vector<Entry>& entries,
                 const std::bitset<kMatrixKeys + 1>& texts) {
    const std::string whole = out_.substr(start);
    out_.resize(start);
    std::size_t at = start;
    for (const Entry& entry : entries) {
      if (!texts.test(entry.number)) continue;
      out_.append(whole, at - start, entry.begin - at);
      at = entry.end;
    }
    out_.append(whole, at - start);
    if (out_.size() > start && out_[start] == ',') out_.erase(start, 1);
  }

  bool map(const Head& first, std::size_t depth) {
    std::bitset<kMatrixKeys + 1> texts, numbers;
    std::vector<Entry> entries;
    out_ += '{';
    const std::size_t start = out_.size();
    for (std::uint64_t i = 0; more(first, i); ++i) {
      const std::size_t begin = out_.size();
      unsigned number = 0;
      if (i > 0) out_ += ',';
      if (!key(texts, numbers, number)) return false;
      out_ += ':';
      if (!item(depth)) return false;
      if (number != 0) entries.push_back({number, begin, out_.size()});
    }
    if ((texts & numbers).any()) leave_out(start, entries, texts);
    out_ += '}';
    return end(first) && fits();
  }

  ByteReader in_;
  Keys keys_;
  ConvertLimits limits_;
  std::string out_;
  std::string fault_;
  ErrorKind kind_ = ErrorKind::invalid_argument;
};

}  // namespace

Result<Bytes> json_of_cbor(ByteView cbor, Keys keys, const ConvertLimits& limits) {
  return Reader(cbor, keys, limits).read();
}

}  // namespace ravine::gateway::cbor
