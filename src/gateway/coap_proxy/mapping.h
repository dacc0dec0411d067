// One CoAP request as an HTTP request, and the HTTP response as its CoAP response: RFC 8075 and RFC 7252 §10
// the other way round, with MSC3079 for Matrix servers. No state but the entity tags. Pure.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "gateway/cbor/json_cbor.h"
#include "gateway/coap/message.h"
#include "gateway/coap_proxy/allowed_hosts.h"
#include "gateway/coap_proxy/etag_table.h"
#include "gateway/coap_proxy/path_table.h"
#include "gateway/core/http.h"

namespace ravine::gateway::coap_proxy {

struct MappingOptions {
  bool reverse = true;   // requests without Proxy-* go to the configured server; else 5.05
  AllowedHosts forward;  // where Proxy-* may lead; others get 5.05
  bool matrix = true;  // CBOR bodies to JSON and back on Matrix paths, short paths, the Authorization option
  PathTable paths = PathTable::matrix();
  std::size_t max_body = std::size_t{1} << 20;  // bytes, either way
};

struct MappedRequest {
  std::string origin;  // "http://host:port" by Proxy-*; "" for the configured server
  core::HttpRequest http;
  coap::Code method = coap::Code::get;  // of the CoAP request
  bool matrix = false;                  // a Matrix path of the configured server
  bool cbor = false;                    // JSON comes back as CBOR
  std::vector<Bytes> etags;             // that the asker has
  std::string authorization;            // of the Authorization option
};
struct Refused {
  coap::Code code;
  std::string reason;
};

// 5.05 for targets that are not allowed, 5.08 and 4.00 by Hop-Limit, 4.06 and 4.15 for formats without a
// media type, 4.13 and 4.00 for bodies that cannot be converted, 4.12 for unknown entity tags in If-Match.
std::expected<MappedRequest, Refused> map_request(const coap::Message& request, const MappingOptions& options,
                                                  const EtagTable& etags);
coap::Message map_response(const MappedRequest& request, core::HttpResponse response,
                           const MappingOptions& options, EtagTable& etags);
// With a diagnostic text (RFC 7252 §5.5.2).
coap::Message make_error(coap::Code code, std::string_view reason);

// Seconds that a response may be kept, by RFC 9111 §4.2.1 with Age; nullopt when it does not say.
std::optional<std::uint32_t> freshness_of(const core::Headers& headers);
// Content-Format of a media type; for others the loose mapping of RFC 8075 §6.3.
std::uint16_t loose_format_of(std::string_view media_type);

}  // namespace ravine::gateway::coap_proxy
