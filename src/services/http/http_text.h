// The text side of HTTP/1.1 that both ends share: grammar checks, hop-by-hop fields, URLs, and messages as
// they are written. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/text.h"
#include "base/time.h"
#include "gateway/core/http.h"

namespace ravine::services::http {

bool is_field_value(std::string_view text);    // no controls but tab (RFC 9110 §5.5)
bool is_authority(std::string_view text);      // "host[:port]" without user information (RFC 3986 §3.2)
bool is_origin_form(std::string_view target);  // begins with "/", no blank, control or fragment
bool is_idempotent(std::string_view method);   // RFC 9110 §9.2.2

// Whether the path of `target` has a segment "..", also in percent-encoding or behind a backslash.
bool climbs(std::string_view target);

// An absolute http or https URL. Its pieces are as they were spelled; `target` begins with "/".
struct Url {
  bool https = false;
  std::string authority;   // "host[:port]"
  std::string host;        // without brackets
  std::uint16_t port = 0;  // 80 or 443 when none is given
  std::string target;      // path and query; "/" when empty
  bool has_path = false;
};
// nullopt: another scheme, user information, no host, a bad port, a fragment, a blank or control.
std::optional<Url> parse_url(std::string_view text);

// Which fields belong to one connection alone: the fixed ones, and those that Connection names
// (RFC 9110 §7.6.1). Content-Length counts, since each end frames anew.
class HopByHop {
 public:
  explicit HopByHop(const gateway::core::Headers& headers);
  bool drops(std::string_view name) const;

 private:
  std::vector<std::string_view> named_;  // into `headers`
};

// A message as it leaves: a small body stands behind the head, a large one is not copied.
struct Outgoing {
  std::string head;
  Bytes body;
  std::size_t sent = 0;

  std::size_t size() const { return head.size() + body.size(); }
  bool done() const { return sent == size(); }
  ByteView next() const;  // the piece to send now
};

struct ResponseFraming {
  bool to_head = false;  // the request was HEAD
  bool http_1_0 = false;
  bool keep_alive = true;
  std::string_view server;  // value of Server, when the response has none
  UnixTime now;             // for Date
};
// Fields that are not valid are left out; a status outside 200–599 is written as 502.
Outgoing write_response(gateway::core::HttpResponse response, const ResponseFraming& framing);

// `target` and `host` stand in place of the request's own. nullopt when the method, the target or a field is
// not valid.
std::optional<Outgoing> write_request(gateway::core::HttpRequest request, std::string_view target,
                                      std::string_view host);

std::string to_http_date(UnixTime at);  // IMF-fixdate (RFC 9110 §5.6.7)

}  // namespace ravine::services::http
