// Socket addresses of the operating system from and to ours. For the .cpp files of host alone.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/address.h"

namespace ravine::host {

union RawSocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

// Fills `raw`; returns its length.
socklen_t encode_socket_address(const SocketAddress& address, RawSocketAddress& raw);
SocketAddress decode_socket_address(const RawSocketAddress& raw);
IpAddress decode_v4(const in_addr& raw);
IpAddress decode_v6(const in6_addr& raw,
                    std::uint32_t interface_index);  // the interface scopes link-local ones

}  // namespace ravine::host
