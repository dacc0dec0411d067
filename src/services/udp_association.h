// SOCKS5 UDP ASSOCIATE: the datagram side of one client, as long as its TCP connection lives. Internal to
// services.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "services/socket.h"
#include "services/tunnel.h"

namespace ravine::services {

inline constexpr std::size_t kMaxFlowsPerAssociation = 256;

class UdpAssociation : public std::enable_shared_from_this<UdpAssociation> {
 public:
  // `client`: only datagrams from this address are taken, and from this port when it is not 0; otherwise the
  // first datagram fixes the port (RFC 1928 §7).
  UdpAssociation(Tunnels& tunnels, Socket socket, SocketAddress client);
  void start();
  void close();
  SocketAddress address() const { return local_address(socket_); }

 private:
  using Key = std::pair<std::string, std::uint16_t>;
  void wait();
  void receive();
  OutgoingFlow* find_flow(const Key& target);
  void answer(const Key& target, ByteView payload);

  Tunnels& tunnels_;
  Socket socket_;
  SocketAddress client_;
  std::map<Key, std::unique_ptr<OutgoingFlow>> flows_;
  Bytes buffer_;
};

}  // namespace ravine::services
