// coap:// URIs, request targets of HTTP, and the Uri-*, Location-* and Proxy-* options: RFC 7252 §6 and
// §5.10. A character that HTTP or a log could take for structure (CR, LF, NUL, other controls) never passes
// either way.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "gateway/coap/message.h"

namespace ravine::gateway::coap {

inline constexpr std::size_t kMaxSegment = 255;    // bytes of Uri-Path, Uri-Query and Uri-Host, decoded
inline constexpr std::size_t kMaxProxyUri = 1034;  // bytes
inline constexpr std::size_t kMaxTarget = 8192;    // bytes of an HTTP request target

struct UriParts {
  std::string scheme;      // lower case: "coap", "coaps", "http", "https"
  std::string host;        // without brackets, lower case, percent-decoded
  std::uint16_t port = 0;  // 0: the scheme's default
  std::string target;      // "/path?query" as it was spelled; "/" when there was none
};

// Absolute URI of one of the four schemes. Refuses user information, fragments, empty hosts and control
// characters.
Result<UriParts> parse_uri(std::string_view uri);

// Adds Uri-Path and Uri-Query for an HTTP origin-form target ("/a/b?x=1&y"). Errors: a segment or query part
// over 255 bytes decoded (limit_reached: send it as FETCH with the target in the body, or as Proxy-Uri), bad
// percent-coding, a control character, "." or ".." segments, a target that does not start with "/"
// (invalid_argument), "%2B" in a query, which Uri-Query cannot tell from "+" (unsupported).
Result<> add_target(Message& request, std::string_view target);

// The origin-form target of a request's Uri-Path and Uri-Query, percent-coded (RFC 7252 §6.5): "/" inside a
// segment becomes %2F. Refuses control characters and the segments "." and "..", which would change the
// path's meaning.
Result<std::string> target_of(const Message& request);
// Same for Location-Path and Location-Query of a 2.01 response; empty when there is neither.
Result<std::string> location_of(const Message& response);

// Adds Uri-Host, Uri-Port (when not the default of the scheme), path and query for a coap URI. `with_host`
// false leaves Uri-Host out, for a host that is the literal destination address (RFC 7252 §6.4).
Result<> add_uri(Message& request, std::string_view uri, bool with_host = true);

// Where a forward-proxy request wants to go (RFC 7252 §5.7): from Proxy-Uri, or from Proxy-Scheme with Uri-*.
// nullopt-like: `wanted` false when the request names no proxying.
struct ProxyTarget {
  bool wanted = false;
  UriParts uri;
};
Result<ProxyTarget> proxy_target_of(const Message& request);

// RFC 3986 §2.1. decode refuses incomplete escapes and controls (below 0x20, 0x7f).
Result<std::string> percent_decode(std::string_view text);
std::string percent_encode(std::string_view text, std::string_view also_allowed);

}  // namespace ravine::gateway::coap
