// What `ravine gateway stats` shows, as JSON, of both services. Internal to services/gateway.
#pragma once

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/core/http.h"
#include "gateway/core/matrix.h"
#include "gateway/link/thin_link.h"
#include "services/gateway/store.h"
#include "services/gateway/transport.h"

namespace ravine::services {

// HTTP bytes as they would be on a connection: start line, header lines, body.
std::size_t http_bytes(const gateway::core::HttpRequest& request);
std::size_t http_bytes(const gateway::core::HttpResponse& response);

// Exchanges of each kind of route.
class ExchangeCounts {
 public:
  struct Count {
    std::uint64_t exchanges = 0, failed = 0;  // failed: no response of the server
    std::uint64_t request_bytes = 0, response_bytes = 0;
    Duration time{0};  // of all exchanges
  };
  void add(gateway::core::RouteKind kind, std::size_t request, std::size_t response, Duration time,
           bool failed);
  Count total() const;
  boost::json::array to_json() const;

 private:
  std::array<Count, gateway::core::kRouteKinds> counts_{};
};

struct LinkFacts {
  double rate_bps = 0;
  std::uint32_t overhead_bytes = 0;
  std::uint64_t http_bytes = 0;  // both ways
  std::uint64_t handshakes = 0;
  Instant last_heard = Instant::never(), silent_since = Instant::never();
};
// `link` may be null: no keys yet.
boost::json::object link_json(Instant now, const gateway::link::ThinLink* link, const LinkFacts& facts);
boost::json::object transport_json(const Transport& transport);
boost::json::object pairing_json(const StoredPairing& pairing);

}  // namespace ravine::services
