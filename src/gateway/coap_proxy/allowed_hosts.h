// Which hosts a proxy may be sent to. Filled from configuration; empty allows none. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/coap/uri.h"

namespace ravine::gateway::coap_proxy {

class AllowedHosts {
 public:
  AllowedHosts() = default;
  // "HOST", "HOST:PORT", "*.DOMAIN" or "*.DOMAIN:PORT"; without a port the scheme's own alone. IPv6 addresses
  // in brackets. Errors: invalid_argument, naming the entry.
  static Result<AllowedHosts> parse(const std::vector<std::string>& entries);

  bool allows(const coap::UriParts& uri) const;
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    std::string host;        // lower case, without brackets; of a domain with its leading dot
    std::uint16_t port = 0;  // 0: the scheme's
  };
  std::vector<Entry> entries_;
};

// "http://host:port", always with the port.
std::string origin_of(const coap::UriParts& uri);

}  // namespace ravine::gateway::coap_proxy
