// The addresses that ngtcp2 gets instead of real ones: one pair per (path, epoch), equal in meaning on both
// ends.
//   dialler side   240.0.<slot>.1, port = epoch      acceptor side   241.0.<slot>.2, port 1000
// So another path changes the dialler's IP address (the acceptor's ngtcp2 resets its congestion window),
// another epoch of one path its port alone (the window stays), and every migration is a path that ngtcp2 has
// never seen.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <ngtcp2/ngtcp2.h>

#include "session/connection.h"

namespace ravine::session {

// The ngtcp2_path of a SyntheticPath; points into itself, so it must stay where it was made.
class SyntheticAddresses {
 public:
  SyntheticAddresses() = default;
  SyntheticAddresses(const SyntheticAddresses&) = delete;
  SyntheticAddresses& operator=(const SyntheticAddresses&) = delete;

  const ngtcp2_path* set(SyntheticPath path, Role role) {
    fill(dialler_, 0xf0000001u | (std::uint32_t{path.slot} << 8), path.epoch);
    fill(acceptor_, 0xf1000002u | (std::uint32_t{path.slot} << 8), 1000);
    sockaddr_in& local = role == Role::dialler ? dialler_ : acceptor_;
    sockaddr_in& remote = role == Role::dialler ? acceptor_ : dialler_;
    path_ = {{reinterpret_cast<ngtcp2_sockaddr*>(&local), sizeof local},
             {reinterpret_cast<ngtcp2_sockaddr*>(&remote), sizeof remote},
             nullptr};
    return &path_;
  }

 private:
  static void fill(sockaddr_in& address, std::uint32_t ip, std::uint16_t port) {
    address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(ip);
    address.sin_port = htons(port);
  }
  sockaddr_in dialler_{}, acceptor_{};
  ngtcp2_path path_{};
};

// Requires a path that SyntheticAddresses made.
inline SyntheticPath synthetic_path_of(const ngtcp2_path& path, Role role) {
  const ngtcp2_addr& dialler = role == Role::dialler ? path.local : path.remote;
  const auto& address = *reinterpret_cast<const sockaddr_in*>(dialler.addr);
  return {static_cast<PathId>((ntohl(address.sin_addr.s_addr) >> 8) & 0xff), ntohs(address.sin_port)};
}

}  // namespace ravine::session
