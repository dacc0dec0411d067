// HTTP and CoAP side by side: status and response code (RFC 8075 §7, RFC 7252 §10), methods, media type and
// content format, the exact status for our own peers, and Hop-Limit (RFC 8768). Pure tables.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gateway/coap/message.h"

namespace ravine::gateway::coap {

// The HTTP status for a response code to a request made by `method`; `has_body` chooses between 200 and 204.
unsigned http_status_of(Code response, std::string_view method, bool has_body);
// The response code for an HTTP status to `method`. Redirects have no counterpart and become 5.02.
Code code_of_http_status(unsigned status, Code method);

// Sets the code for `status`, and adds the option with the exact status when the code does not say it
// already.
void set_http_status(Message& response, unsigned status, Code method);
// The exact status when the option is there and sound, else http_status_of.
unsigned exact_http_status(const Message& response, std::string_view method);
// One byte for 200–263, 300–363, 400–463, 500–563: (hundreds − 2) · 64 + rest; else the status in two bytes.
Bytes encode_http_status(unsigned status);  // requires 100–999
std::optional<unsigned> decode_http_status(ByteView value);

std::optional<Code> code_of_method(std::string_view http_method);  // HEAD is GET; nullopt: no counterpart
// "" for FETCH, which HTTP/1.1 has no method for.
std::string_view method_of_code(Code request);

// Parameters beside charset=utf-8 are not part of any known format. nullopt: none registered.
std::optional<std::uint16_t> content_format_of(std::string_view media_type);
// "application/coap-payload;cf=N" (RFC 8075 §6.2) for formats without a media type here.
std::string media_type_of(std::uint16_t content_format);

// RFC 8768: what a proxy does before forwarding. Adds the option (16) when it is missing, else takes one off.
enum class HopOutcome : std::uint8_t { forward, loop, invalid };  // loop: answer 5.08; invalid: 4.00
HopOutcome take_hop(Message& request);

}  // namespace ravine::gateway::coap
