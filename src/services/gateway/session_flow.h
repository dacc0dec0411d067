// The node's end of a session transport: a control connection that carries the frames of one UDP flow.
#pragma once

#include <functional>
#include <string>

#include "services/control_server.h"
#include "services/tunnel.h"

namespace ravine::services {

// Control method "flow" {host, port}: after its answer the connection is a line of frames (cobs.h), each a
// datagram to or from UDP port `port` that the peer exposes. It ends when either side does, or the session is
// lost. Requires that `control` ends before `tunnels`. `host` goes through `full_name` first.
void add_flow_method(ControlServer& control, Tunnels& tunnels,
                     std::function<std::string(std::string_view host)> full_name);

}  // namespace ravine::services
