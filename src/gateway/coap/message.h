// The CoAP message format of RFC 7252 §3: strict decoding, canonical encoding. Does not judge options beyond
// their framing: classify_options() tells a caller what it must refuse. Pure values.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "gateway/coap/options.h"

namespace ravine::gateway::coap {

enum class MessageType : std::uint8_t {
  confirmable = 0,
  non_confirmable = 1,
  acknowledgement = 2,
  reset = 3
};

// RFC 7252 §12.1, with the codes of RFC 7959, 8132 and 8768. Other values of class 0, 2, 4 and 5 pass
// through.
enum class Code : std::uint8_t {
  empty = 0x00,
  get = 0x01,
  post = 0x02,
  put = 0x03,
  del = 0x04,
  fetch = 0x05,   // RFC 8132
  patch = 0x06,   // RFC 8132
  ipatch = 0x07,  // RFC 8132
  created = 0x41,
  deleted = 0x42,
  valid = 0x43,
  changed = 0x44,
  content = 0x45,
  continue_ = 0x5f,  // RFC 7959
  bad_request = 0x80,
  unauthorized = 0x81,
  bad_option = 0x82,
  forbidden = 0x83,
  not_found = 0x84,
  method_not_allowed = 0x85,
  not_acceptable = 0x86,
  request_entity_incomplete = 0x88,  // RFC 7959
  conflict = 0x89,                   // RFC 8132
  precondition_failed = 0x8c,
  request_entity_too_large = 0x8d,
  unsupported_content_format = 0x8f,
  unprocessable_entity = 0x96,  // RFC 8132
  too_many_requests = 0x9d,     // RFC 8516
  internal_server_error = 0xa0,
  not_implemented = 0xa1,
  bad_gateway = 0xa2,
  service_unavailable = 0xa3,
  gateway_timeout = 0xa4,
  proxying_not_supported = 0xa5,
  hop_limit_reached = 0xa8,  // RFC 8768
};

constexpr unsigned code_class(Code code) {
  return static_cast<unsigned>(code) >> 5;
}
constexpr unsigned code_detail(Code code) {
  return static_cast<unsigned>(code) & 31;
}
constexpr Code make_code(unsigned klass, unsigned detail) {
  return static_cast<Code>(static_cast<std::uint8_t>((klass << 5) | detail));
}
constexpr bool is_request(Code code) {
  return code_class(code) == 0 && code != Code::empty;
}
constexpr bool is_response(Code code) {
  return code_class(code) >= 2;
}
constexpr bool is_success(Code code) {
  return code_class(code) == 2;
}
// RFC 7252 §5.1, RFC 8132: repeating the request does no more than doing it once.
constexpr bool is_idempotent(Code code) {
  return code == Code::get || code == Code::put || code == Code::del || code == Code::fetch ||
         code == Code::ipatch;
}
// RFC 7252 §5.1: no effect but retrieval.
constexpr bool is_safe(Code code) {
  return code == Code::get || code == Code::fetch;
}
std::string to_text(Code code);  // "2.05"

struct Option {
  std::uint16_t number = 0;
  Bytes value;
  friend bool operator==(const Option&, const Option&) = default;
};

inline constexpr std::size_t kMaxToken = 8;        // bytes, RFC 7252 §3
inline constexpr std::size_t kMaxMessage = 65507;  // bytes: what one UDP/IPv4 datagram holds
inline constexpr std::size_t kMaxOptions =
    128;  // per message; a limit of ours against floods of empty options
inline constexpr std::size_t kMaxOptionValue = 8192;  // bytes; no registered option needs more than 1034
inline constexpr std::size_t kHeaderSize = 4;         // bytes before the token

struct Message {
  MessageType type = MessageType::confirmable;
  Code code = Code::empty;
  std::uint16_t id = 0;
  Bytes token;                  // at most kMaxToken bytes
  std::vector<Option> options;  // any order; encoding sorts by number and keeps the order of equal ones
  Bytes payload;

  const Option* find(std::uint16_t number) const;  // first of that number
  bool has(std::uint16_t number) const { return find(number) != nullptr; }
  std::optional<std::uint64_t> uint_option(std::uint16_t number) const;
  void add(std::uint16_t number, ByteView value) { options.push_back({number, to_bytes(value)}); }
  void add_uint(std::uint16_t number, std::uint64_t value) {
    options.push_back({number, encode_uint(value)});
  }
  void set(std::uint16_t number, ByteView value);  // replaces all of that number by one
  void set_uint(std::uint16_t number, std::uint64_t value) { set(number, encode_uint(value)); }
  void remove(std::uint16_t number);

  friend bool operator==(const Message&, const Message&) = default;
};

// Requires a token of at most kMaxToken bytes and values within kMaxOptionValue; an empty message has neither
// token, options nor payload (RFC 7252 §4.1).
Bytes encode_message(const Message& message);
// Size in bytes of encode_message(message), without building it.
std::size_t encoded_size(const Message& message);

// Options and payload alone, as OSCORE's plaintext needs them (RFC 8613 §5.3): options, then 0xff and the
// payload.
void encode_options(ByteWriter& out, const std::vector<Option>& options);
// Reads options up to the payload marker or the end; false when malformed. `payload` is what follows the
// marker.
bool decode_options(ByteView bytes, std::vector<Option>& options, Bytes& payload);

enum class MessageFault : std::uint8_t {
  none,
  truncated,         // shorter than its header, token, option or value says
  version,           // not CoAP version 1: ignored without an answer (RFC 7252 §3)
  token_length,      // 9–15
  option_header,     // reserved nibble 15, or number above 65535
  empty_payload,     // marker with nothing behind it
  not_empty,         // code 0.00 with anything behind the header
  code_class,        // reserved class 1, 6 or 7
  too_many_options,  // beyond our limits
};
std::string_view to_text(MessageFault fault);

struct Decoded {
  MessageFault fault = MessageFault::none;
  // With a fault, `message` has type and id when the header was there and of our version, so that a reset can
  // be sent.
  bool header_valid = false;
  Message message;
  bool ok() const { return fault == MessageFault::none; }
};
Decoded decode_message(ByteView bytes);

// What RFC 7252 §5.4 makes of a message's options.
struct OptionVerdict {
  // Critical options that are unknown, have a length outside their format, or repeat without being
  // repeatable: the request is to be refused with 4.02, a response rejected. Elective ones of that kind are
  // dropped from the message.
  std::vector<std::uint16_t> refused;
  bool ok() const { return refused.empty(); }
};
// Drops elective options that must be ignored, and names the critical ones that cannot be understood.
OptionVerdict classify_options(Message& message);

}  // namespace ravine::gateway::coap
