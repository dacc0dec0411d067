// One UDP port number on one socket per family (or per listed address), as one thing to receive from and send
// to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "host/udp.h"

namespace ravine::host {

struct UdpPort {
  std::vector<UdpSocket> sockets;  // at least one
  std::uint16_t port = 0;
  bool has_v4 = false, has_v6 = false;

  // Binds `port` (0: any that is free in both families) on `addresses`, or on all addresses of both families
  // when there are none. A family that the machine lacks is left out as long as the other works. Errors:
  // already_exists when the port is taken; unsupported when no family works or an address is not ours.
  static Result<UdpPort> open(std::uint16_t port, std::span<const IpAddress> addresses,
                              const UdpOptions& options = {});
};

}  // namespace ravine::host
