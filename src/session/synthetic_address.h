// The addresses that ngtcp2 gets instead of real ones: one pair per (path, epoch), equal in meaning on both
// ends.
//   dialler side   240.<slot>.<epoch, 2 bytes>      acceptor side   241.<slot>.0.2
// So every migration is a path that ngtcp2 has never seen, and changes the dialler's IP address: the
// acceptor's ngtcp2 resets its congestion state (RFC 9002 §9.4). It has to, even when the labels stay the
// same: a window that is full of packets of a dead path holds back PATH_CHALLENGE, and no timer would ever
// empty it.
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
    fill(dialler_, 0xf0000000u | (std::uint32_t{path.slot} << 16) | path.epoch);
    fill(acceptor_, 0xf1000002u | (std::uint32_t{path.slot} << 16));
    sockaddr_in& local = role == Role::dialler ? dialler_ : acceptor_;
    sockaddr_in& remote = role == Role::dialler ? acceptor_ : dialler_;
    path_ = {{reinterpret_cast<ngtcp2_sockaddr*>(&local), sizeof local},
             {reinterpret_cast<ngtcp2_sockaddr*>(&remote), sizeof remote},
             nullptr};
    return &path_;
  }

 private:
  static constexpr std::uint16_t kPort = 1000;
  static void fill(sockaddr_in& address, std::uint32_t ip) {
    address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(ip);
    address.sin_port = htons(kPort);
  }
  sockaddr_in dialler_{}, acceptor_{};
  ngtcp2_path path_{};
};

// Requires a path that SyntheticAddresses made.
inline SyntheticPath synthetic_path_of(const ngtcp2_path& path, Role role) {
  const ngtcp2_addr& dialler = role == Role::dialler ? path.local : path.remote;
  const auto& address = *reinterpret_cast<const sockaddr_in*>(dialler.addr);
  const std::uint32_t ip = ntohl(address.sin_addr.s_addr);
  return {static_cast<PathId>((ip >> 16) & 0xff), static_cast<std::uint16_t>(ip & 0xffff)};
}

}  // namespace ravine::session
