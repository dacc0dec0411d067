#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <limits>
#include <vector>

#include "gateway/cbor/json_cbor.h"
#include "gateway/cbor/key_table.h"

namespace ravine::gateway::cbor {
namespace {

using boost::json::error_code;
using boost::json::string_view;

void write_head(Bytes& out, unsigned major, std::uint64_t value) {
  const auto type = static_cast<std::uint8_t>(major << 5);
  const unsigned size = value < 24 ? 0 : value < 256 ? 1 : value < 65536 ? 2 : value >> 32 == 0 ? 4 : 8;
  if (size == 0) {
    out.push_back(static_cast<std::uint8_t>(type | value));
    return;
  }
  out.push_back(static_cast<std::uint8_t>(type | (23 + std::bit_width(size))));
  for (unsigned shift = 8 * size; shift > 0; shift -= 8)
    out.push_back(static_cast<std::uint8_t>(value >> (shift - 8)));
}

// What the parser calls. A container's head says how many items follow, so it is put before them at the end:
// each byte moves once per level at most.
struct Writer {
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  Keys keys = Keys::text;
  std::size_t limit = 0;
  Bytes out;
  std::vector<std::size_t> starts;
  std::string text;  // of a string, key or number that comes in parts
  bool too_large = false, inexact = false;

  bool check(error_code& error) {
    too_large = too_large || out.size() > limit;
    if (too_large || inexact) error = boost::json::error::exception;  // any: the flags say why
    return !too_large && !inexact;
  }
  bool open() {
    starts.push_back(out.size());
    return true;
  }
  bool close(unsigned major, std::size_t items, error_code& error) {
    Bytes head;
    write_head(head, major, items);
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(starts.back()), head.begin(), head.end());
    starts.pop_back();
    return check(error);
  }
  bool write_text(error_code& error) {
    write_head(out, 3, text.size());
    out.insert(out.end(), text.begin(), text.end());
    text.clear();
    return check(error);
  }
  // An integer that comes as a double has lost digits. RFC 8949 §4.1: the shorter float when it is equal.
  bool write_double(double value, error_code& error) {
    inexact = text.find_first_of(".eE") == std::string::npos || value > std::numeric_limits<double>::max() ||
              value < std::numeric_limits<double>::lowest();
    text.clear();
    const auto narrow = static_cast<float>(value);
    const bool fits = static_cast<double>(narrow) == value;
    out.push_back(fits ? 0xfa : 0xfb);
    const std::uint64_t bits =
        fits ? std::bit_cast<std::uint32_t>(narrow) : std::bit_cast<std::uint64_t>(value);
    for (unsigned shift = fits ? 32 : 64; shift > 0; shift -= 8)
      out.push_back(static_cast<std::uint8_t>(bits >> (shift - 8)));
    return check(error);
  }

  bool on_document_begin(error_code&) { return true; }
  bool on_document_end(error_code&) { return true; }
  bool on_array_begin(error_code&) { return open(); }
  bool on_array_end(std::size_t items, error_code& error) { return close(4, items, error); }
  bool on_object_begin(error_code&) { return open(); }
  bool on_object_end(std::size_t items, error_code& error) { return close(5, items, error); }
  bool on_string_part(string_view part, std::size_t, error_code&) { return add(part); }
  bool on_string(string_view part, std::size_t, error_code& error) { return add(part) && write_text(error); }
  bool on_key_part(string_view part, std::size_t, error_code&) { return add(part); }
  bool on_key(string_view part, std::size_t, error_code& error) {
    add(part);
    if (keys == Keys::matrix) {
      if (const std::optional<unsigned> number = matrix_key_number(text)) {
        text.clear();
        write_head(out, 0, *number);
        return check(error);
      }
    }
    return write_text(error);
  }
  bool on_number_part(string_view part, error_code&) { return add(part); }
  bool on_int64(std::int64_t value, string_view, error_code& error) {
    text.clear();
    if (value >= 0) {
      write_head(out, 0, static_cast<std::uint64_t>(value));
    } else {
      write_head(out, 1, ~static_cast<std::uint64_t>(value));  // −1 − value
    }
    return check(error);
  }
  bool on_uint64(std::uint64_t value, string_view, error_code& error) {
    text.clear();
    write_head(out, 0, value);
    return check(error);
  }
  bool on_double(double value, string_view part, error_code& error) {
    add(part);
    return write_double(value, error);
  }
  bool on_bool(bool value, error_code& error) {
    out.push_back(value ? 0xf5 : 0xf4);
    return check(error);
  }
  bool on_null(error_code& error) {
    out.push_back(0xf6);
    return check(error);
  }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }

  bool add(string_view part) {
    text.append(part.data(), part.size());
    return true;
  }
};

}  // namespace

Result<Bytes> cbor_of_json(ByteView json, Keys keys, const ConvertLimits& limits) {
  boost::json::parse_options how;
  how.max_depth = limits.depth;
  how.numbers = boost::json::number_precision::precise;
  boost::json::basic_parser<Writer> parser(how);
  Writer& writer = parser.handler();
  writer.keys = keys;
  writer.limit = limits.bytes;
  error_code error;
  const std::size_t used =
      parser.write_some(false, reinterpret_cast<const char*>(json.data()), json.size(), error);
  if (writer.too_large) {
    return Error{ErrorKind::limit_reached, fmt::format("CBOR of more than {} bytes", limits.bytes)};
  }
  if (writer.inexact)
    return Error{ErrorKind::unsupported, "an integer over 64 bits, or a number beyond a double's range"};
  if (error == boost::json::error::too_deep) {
    return Error{ErrorKind::limit_reached, fmt::format("JSON of more than {} levels", limits.depth)};
  }
  if (!error && used < json.size()) error = boost::json::error::extra_data;
  if (error) return Error{ErrorKind::invalid_argument, fmt::format("no JSON: {}", error.message())};
  return std::move(writer.out);
}

std::optional<Bytes> exact_cbor_of_json(ByteView json) {
  auto item = cbor_of_json(json, Keys::text, {.bytes = json.size()});
  if (!item) return std::nullopt;
  const auto again = json_of_cbor(*item, Keys::text, {.bytes = json.size()});
  if (!again || !std::equal(again->begin(), again->end(), json.begin(), json.end())) return std::nullopt;
  return std::move(item).value();
}

}  // namespace ravine::gateway::cbor
