// Tunnel: from a near-side request (peer, port) to an open session stream. What SOCKS, HTTP CONNECT, forwards
// and `ravine connect` share.
#pragma once

#include "services/flow.h"
#include "services/peers.h"
#include "services/pump.h"
#include "services/streams.h"

namespace ravine::services {

inline constexpr Duration kOpenTimeout =
    15s;  // the exposing peer connects to its target within 10 s or says no

class Tunnels {
 public:
  Tunnels(StreamRouter& router, PeerConnector& connector, FlowTable& flows);

  // Checks the target (check_overlay_host), connects to the peer, opens TCP stream to its overlay port. Calls
  // back once, in a turn; then call start_pump. Destroying the handle cancels. Errors: refused (not ours, or
  // the peer's policy), not_found, unreachable, unauthenticated, timed_out, closed (the exposed port's target
  // is closed, or no such port).
  Pending open(std::string_view host, std::uint16_t port, OpenDone done);

  ServiceContext& context() { return router_.context(); }
  StreamRouter& router() { return router_; }
  PeerConnector& connector() { return connector_; }
  FlowTable& flows() { return flows_; }
  PumpCounters& pump_counters() { return pump_counters_; }

 private:
  StreamRouter& router_;
  PeerConnector& connector_;
  FlowTable& flows_;
  PumpCounters pump_counters_;
};

}  // namespace ravine::services
