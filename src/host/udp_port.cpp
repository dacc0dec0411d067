#include "host/udp_port.h"

#include <fmt/format.h>

#include <array>

namespace ravine::host {
namespace {

constexpr int kFreePortTries = 32;

Result<UdpPort> open_once(std::uint16_t port, std::span<const IpAddress> addresses, bool families_optional,
                          const UdpOptions& options) {
  UdpPort made;
  made.port = port;
  Error missing{ErrorKind::unsupported, "no UDP address to listen on"};
  for (const IpAddress& address : addresses) {
    auto socket = UdpSocket::open({address, made.port}, options);
    if (!socket) {
      if (!families_optional || socket.error().kind != ErrorKind::unsupported) return socket.error();
      missing = socket.error();
      continue;
    }
    made.port = socket->local_address().port;  // the further sockets join the first one's free port
    (address.is_v4() ? made.has_v4 : made.has_v6) = true;
    made.sockets.push_back(std::move(*socket));
  }
  if (made.sockets.empty()) return missing;
  return made;
}

}  // namespace

Result<UdpPort> UdpPort::open(std::uint16_t port, std::span<const IpAddress> addresses,
                              const UdpOptions& options) {
  const std::array<IpAddress, 2> all{IpAddress(), IpAddress::v4({0, 0, 0, 0})};
  const bool everywhere = addresses.empty();
  if (everywhere) addresses = all;
  // A port that is free in one family may be taken in the other; only a free choice may try again.
  for (int attempt = 1;; ++attempt) {
    auto made = open_once(port, addresses, everywhere, options);
    const bool again = !made && port == 0 && made.error().kind == ErrorKind::already_exists;
    if (!again || attempt == kFreePortTries) return made;
  }
}

}  // namespace ravine::host
