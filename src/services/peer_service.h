// Opening a service at a peer by name: connects, asks, and asks again over a fresh session when the one that
// carried the request ended or fell silent. What tunnels and flows share. Internal to services.
#pragma once

#include <string_view>

#include "services/peers.h"
#include "services/streams.h"

namespace ravine::services {

// Calls `done` once; destroying the handle cancels. The request may reach the peer twice, over two sessions:
// it must not do anything before its stream is used. `host` as check_overlay_host returns it; `timeout`
// covers what follows connecting. Errors: those of PeerConnector::connect and open_service.
Pending open_peer_service(StreamRouter& router, PeerConnector& connector, std::string_view host,
                          StreamRequest request, Duration timeout, OpenDone done);

}  // namespace ravine::services
