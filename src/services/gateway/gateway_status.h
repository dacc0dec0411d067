// What `ravine gateway stats` shows, as JSON, of both services. Internal to services/gateway.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/core/stats.h"
#include "gateway/link/thin_link.h"
#include "services/gateway/store.h"
#include "services/gateway/transport.h"

namespace ravine::services {

// Sums over the cores that one pairing had, and its present one; what is a state and not a sum is of `now`.
gateway::core::GatewayStats sum_of(const gateway::core::GatewayStats& before,
                                   const gateway::core::GatewayStats& now);
gateway::core::RouteCounters total_of(const gateway::core::GatewayStats& stats);
// Puts the totals into `out`, and `routes`, each kind that was met.
void add_routes(boost::json::object& out, const gateway::core::GatewayStats& stats, double rate_bps);

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
