// Loopback sockets of the ceilings: owned descriptors with the few options that they need.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace ravine::bench {

// An IPv4 socket on 127.0.0.1. Moves, never copies.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  // On a free port; SOCK_STREAM listens as well.
  static Result<Socket> bound(int type) {
    Socket out(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(0);
    if (out.fd_ < 0 || ::bind(out.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        (type == SOCK_STREAM && ::listen(out.fd_, 64) != 0)) {
      return failure("bind a socket on 127.0.0.1");
    }
    return out;
  }
  static Result<Socket> connected(int type, std::uint16_t port) {
    Socket out(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(port);
    if (out.fd_ < 0 || ::connect(out.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return failure("connect to 127.0.0.1");
    }
    return out;
  }
  // Waits for a connection; nullopt-like Socket(-1) when none came within the receive timeout.
  Socket accepted() const { return Socket(::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC)); }

  bool valid() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  std::uint16_t port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
  }
  // Options are wishes: a kernel that lacks one makes the figure worse, not wrong.
  void set(int level, int option, int value) const { ::setsockopt(fd_, level, option, &value, sizeof value); }
  void set_receive_timeout_ms(int milliseconds) const {
    const timeval time{.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  }

 private:
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  static Error failure(std::string_view what) {
    return {ErrorKind::io, fmt::format("cannot {}: {}", what, std::strerror(errno))};
  }
  int fd_;
};

}  // namespace ravine::bench
