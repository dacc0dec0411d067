// The near side for programs: one listener that speaks SOCKS5 (RFC 1928, first byte 5) and HTTP CONNECT.
#pragma once

#include <memory>
#include <vector>

#include "services/socks_protocol.h"
#include "services/tunnel.h"

namespace ravine::services {

struct ProxyOptions {
  SocketAddress listen;                 // loopback, unless there are credentials
  std::vector<Credential> credentials;  // empty: none asked, loopback only
  std::size_t max_clients = 1024;
  Duration handshake_timeout = 10s;
};

class ProxyServer {
 public:
  ProxyServer(Tunnels& tunnels, ProxyOptions options);
  ~ProxyServer();
  // invalid_argument when `listen` is not loopback and there are no credentials; already_exists when the port
  // is taken.
  Result<> start();
  void stop();                    // takes no more clients; tunnels that are open live on
  SocketAddress address() const;  // as bound

  struct Counters {
    std::uint64_t accepted = 0, active = 0, connects = 0, associates = 0, refused = 0, failed = 0,
                  malformed = 0, timed_out = 0, over_limit = 0, denied = 0;
  };
  const Counters& counters() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
