// What the tests of the HTTP ends share: a loop that is driven from the test's own thread, raw clients and
// raw servers on loopback whose every byte the test chooses.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <functional>
#include <optional>
#include <string>

#include "host/sockaddr.h"
#include "services/http/http_server.h"
#include "services/http/upstream.h"
#include "services/socket.h"

namespace ravine::services::http::test {

inline const SocketAddress kAnyPort{IpAddress::v4({127, 0, 0, 1}), 0};

// Runs the loop until `condition` holds; false after `limit`, which is for broken code alone.
inline bool run_until(boost::asio::io_context& loop, const std::function<bool()>& condition,
                      std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    loop.restart();
    loop.run_one_for(std::chrono::milliseconds(2));
  }
  return true;
}

// One end of a connection, all in the open.
class RawPeer {
 public:
  RawPeer(boost::asio::io_context& loop, Socket socket) : loop_(&loop), socket_(std::move(socket)) {}

  // On loopback the kernel connects at once, before the server takes or refuses.
  static RawPeer connect(boost::asio::io_context& loop, const SocketAddress& address) {
    const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    host::RawSocketAddress raw{};
    const socklen_t size = host::encode_socket_address(address, raw);
    EXPECT_EQ(::connect(descriptor, &raw.any, size), 0);
    return {loop, adopt(loop, descriptor)};
  }

  void send(std::string_view text) {
    std::size_t at = 0;
    EXPECT_TRUE(run_until(*loop_, [&] {
      const ssize_t sent =
          ::send(socket_.native_handle(), text.data() + at, text.size() - at, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent > 0) at += static_cast<std::size_t>(sent);
      return at == text.size() || (sent < 0 && errno != EAGAIN);
    }));
  }

  // Everything received so far, `ended()` known afterwards.
  const std::string& received() {
    char chunk[65536];
    ssize_t got = 0;
    while (!ended_ && (got = ::recv(socket_.native_handle(), chunk, sizeof chunk, MSG_DONTWAIT)) != 0) {
      if (got < 0) {
        if (errno == EAGAIN) return received_;
        break;
      }
      received_.append(chunk, static_cast<std::size_t>(got));
    }
    ended_ = true;
    return received_;
  }
  bool ended() const { return ended_; }
  // Waits until `part` has come; returns everything received.
  std::string wait_for(std::string_view part) {
    const bool came = run_until(*loop_, [&] { return received().find(part) != std::string::npos || ended_; });
    EXPECT_TRUE(came && received_.find(part) != std::string::npos)
        << "wanted: " << part << "\nreceived: " << received_;
    return received_;
  }
  std::string wait_for_end() {
    EXPECT_TRUE(run_until(*loop_, [&] { return received(), ended_; })) << received_;
    return received_;
  }
  void forget() { received_.clear(); }
  void close() { socket_.close(); }
  void reset() { reset_and_close(socket_); }
  Socket& socket() { return socket_; }

 private:
  boost::asio::io_context* loop_;
  Socket socket_;
  std::string received_;
  bool ended_ = false;
};

// A server whose answers the test writes by hand.
class RawServer {
 public:
  explicit RawServer(boost::asio::io_context& loop)
      : loop_(loop), listener_(listen_tcp(loop, kAnyPort).value()) {}
  SocketAddress address() const { return local_address(listener_); }
  std::string url() const { return "http://" + address().to_text(); }
  // The next connection.
  RawPeer accept() {
    std::optional<Socket> socket;
    EXPECT_TRUE(run_until(loop_, [&] {
      auto accepted = accept_one(loop_, listener_);
      if (accepted && accepted->ok()) socket.emplace(std::move(**accepted));
      return socket.has_value();
    }));
    return {loop_, std::move(*socket)};
  }
  bool has_waiting() { return accept_one(loop_, listener_).has_value(); }
  void close() { listener_.close(); }
  boost::asio::io_context& loop() { return loop_; }

 private:
  boost::asio::io_context& loop_;
  Socket listener_;
};

inline std::string text_of(const Bytes& bytes) {
  return std::string(as_text(bytes));
}

}  // namespace ravine::services::http::test
