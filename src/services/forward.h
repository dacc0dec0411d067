// ForwardService: local ports that lead to an exposed port of one peer ([[forward]]). TCP and UDP.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "services/tunnel.h"

namespace ravine::services {

enum class Protocol : std::uint8_t { tcp, udp };

struct Forward {
  Protocol protocol = Protocol::tcp;
  SocketAddress listen;
  std::string host;  // a .fuse name or overlay address
  std::uint16_t port = 0;
};

class ForwardService {
 public:
  explicit ForwardService(Tunnels& tunnels);
  ~ForwardService();
  // invalid_argument for a target that is not ours; already_exists when the port is taken. Returns the bound
  // address.
  Result<SocketAddress> add(const Forward& forward);
  bool remove(Protocol protocol,
              const SocketAddress& listen);  // false when there is none; open tunnels live on
  std::vector<Forward> list() const;         // with bound addresses

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::services
