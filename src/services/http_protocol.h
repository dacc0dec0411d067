// The little HTTP/1.1 (RFC 9112) that a CONNECT proxy and the metrics endpoint need: one request head,
// strictly parsed. No bodies, no pipelining, no folding. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"

namespace ravine::services {

inline constexpr std::size_t kMaxHttpHead = 16 * 1024;  // bytes
inline constexpr std::size_t kMaxHttpFields = 64;

struct HttpHead {
  std::string method, target;
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case

  // The only field of that name; nullptr when absent or repeated.
  const std::string* field(std::string_view lower_case_name) const;
};

enum class HttpOutcome : std::uint8_t { ready, need_more, malformed, too_large };
struct HttpParse {
  HttpOutcome outcome = HttpOutcome::need_more;
  std::size_t size = 0;  // bytes of the head, with the empty line
  HttpHead head;
};
// CRLF line ends only; refuses bare CR or LF, spaces around names, control characters, and repeated Host.
HttpParse parse_http_head(ByteView bytes);

// user and password of `Basic …` (RFC 7617); nullopt when malformed.
std::optional<std::pair<std::string, std::string>> parse_basic(std::string_view value);

// A whole answer with Connection: close.
std::string make_http_answer(int status, std::string_view reason, std::string_view content_type,
                             std::string_view body, std::string_view extra_fields = {});

// A local API may only be addressed by loopback or by the address it was bound to (DNS rebinding).
bool is_host_allowed(const HttpHead& head, std::uint16_t port, const std::vector<std::string>& extra_hosts);

}  // namespace ravine::services
