#include "gateway/coap_proxy/allowed_hosts.h"

#include <fmt/format.h>

#include <algorithm>

namespace ravine::gateway::coap_proxy {
namespace {

std::uint16_t usual_port(std::string_view scheme) {
  if (scheme == "http") return 80;
  if (scheme == "https") return 443;
  return scheme == "coap" ? 5683 : 5684;
}

std::uint16_t port_of(const coap::UriParts& uri) {
  return uri.port != 0 ? uri.port : usual_port(uri.scheme);
}

}  // namespace

Result<AllowedHosts> AllowedHosts::parse(const std::vector<std::string>& entries) {
  AllowedHosts allowed;
  for (const std::string& entry : entries) {
    const bool domain = entry.starts_with("*.");
    const std::string authority = domain ? entry.substr(2) : entry;
    const auto uri = coap::parse_uri("http://" + authority);
    if (!uri || uri->target != "/" || authority.ends_with('/') || authority.find('*') != std::string::npos) {
      return Error{ErrorKind::invalid_argument,
                   fmt::format("'{}' is no host: HOST, HOST:PORT or *.DOMAIN is expected", entry)};
    }
    allowed.entries_.push_back({domain ? "." + uri->host : uri->host, uri->port});
  }
  return allowed;
}

bool AllowedHosts::allows(const coap::UriParts& uri) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    const bool domain = entry.host.starts_with('.');
    const bool named = domain ? uri.host.ends_with(entry.host) : uri.host == entry.host;
    const std::uint16_t port = entry.port != 0 ? entry.port : usual_port(uri.scheme);
    return named && port == port_of(uri);
  });
}

std::string origin_of(const coap::UriParts& uri) {
  const bool v6 = uri.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", uri.scheme, v6 ? "[" : "", uri.host, v6 ? "]" : "", port_of(uri));
}

}  // namespace ravine::gateway::coap_proxy
