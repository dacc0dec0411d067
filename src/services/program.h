// Blocking sockets for a test's own thread, which plays the programs on both sides of the nodes.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"

namespace ravine::services::test {

inline constexpr int kPatience = 20000;  // ms; five times what anything here may take

// A blocking socket of the test's thread.
class Program {
 public:
  explicit Program(int descriptor = -1) : descriptor_(descriptor) {}
  Program(Program&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Program& operator=(Program&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Program() { close(); }
  static Program tcp() { return Program(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
  static Program udp() { return Program(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

  int descriptor() const { return descriptor_; }
  void close() {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }
  void close_with_reset() {
    const linger now{1, 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  bool connect(std::uint16_t port) {
    const sockaddr_in address = loopback(port);
    return ::connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  void bind() {
    const sockaddr_in address = loopback(0);
    ASSERT_EQ(::bind(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  void listen(int backlog = 64) {
    bind();
    ASSERT_EQ(::listen(descriptor_, backlog), 0);
  }
  std::uint16_t port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    ::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
  }
  bool wait_readable(int limit_ms = kPatience) const {
    pollfd wait{descriptor_, POLLIN, 0};
    return ::poll(&wait, 1, limit_ms) == 1;
  }
  Program accept() const {
    return wait_readable() ? Program(::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC)) : Program();
  }
  void send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void send(const Bytes& bytes) const { send(as_text(bytes)); }
  void finish() const { ::shutdown(descriptor_, SHUT_WR); }
  // Exactly `size` bytes, fewer at the end of the stream, a failed read or when patience ends.
  std::string receive(std::size_t size) {
    std::string out;
    while (out.size() < size && wait_readable()) {
      char chunk[65536];
      const ssize_t got = ::recv(descriptor_, chunk, std::min(sizeof chunk, size - out.size()), 0);
      error_ = got < 0 ? errno : 0;
      if (got <= 0) break;
      out.append(chunk, static_cast<std::size_t>(got));
    }
    return out;
  }
  // One datagram, and where it came from.
  std::string receive_datagram(sockaddr_in* from = nullptr) {
    if (!wait_readable()) return {};
    std::string out(65536, '\0');
    sockaddr_in source{};
    socklen_t size = sizeof source;
    const ssize_t got =
        ::recvfrom(descriptor_, out.data(), out.size(), 0, reinterpret_cast<sockaddr*>(&source), &size);
    if (from != nullptr) *from = source;
    out.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return out;
  }
  void send_datagram(const sockaddr_in& to, std::string_view text) const {
    ::sendto(descriptor_, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  }
  std::string receive_all() { return receive(SIZE_MAX); }
  int last_error() const { return error_; }  // errno of the last receive; 0 for a clean end

 private:
  int descriptor_ = -1;
  int error_ = 0;
};

}  // namespace ravine::services::test
