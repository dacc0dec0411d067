#include "services/socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <utility>

#include "host/os_error.h"
#include "host/sockaddr.h"

namespace ravine::services {
namespace {

constexpr int kListenBacklog = 1024;
constexpr auto kOutOfDescriptorsPause = std::chrono::milliseconds(100);

// A descriptor that closes itself until it is released.
struct Descriptor {
  int value = -1;
  explicit Descriptor(int descriptor) : value(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  int release() { return std::exchange(value, -1); }
};

void set_flag(int descriptor, int level, int option) {
  const int on = 1;
  ::setsockopt(descriptor, level, option, &on, sizeof on);
}

int open_socket(const SocketAddress& address, int type) {
  const int descriptor =
      ::socket(address.ip.is_v4() ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor >= 0 && address.ip.is_v6()) set_flag(descriptor, IPPROTO_IPV6, IPV6_V6ONLY);
  return descriptor;
}

Result<Socket> open_bound(boost::asio::io_context& loop, const SocketAddress& address, int type) {
  Descriptor descriptor(open_socket(address, type));
  if (descriptor.value < 0) return host::os_error(errno, "socket");
  if (type == SOCK_STREAM) set_flag(descriptor.value, SOL_SOCKET, SO_REUSEADDR);
  host::RawSocketAddress raw{};
  const socklen_t size = host::encode_socket_address(address, raw);
  const bool bound = ::bind(descriptor.value, &raw.any, size) == 0;
  if (!bound || (type == SOCK_STREAM && ::listen(descriptor.value, kListenBacklog) != 0)) {
    return host::os_error(errno, fmt::format("cannot listen on {}", address.to_text()));
  }
  return adopt(loop, descriptor.release());
}

}  // namespace

Socket adopt(boost::asio::io_context& loop, int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  if ((flags & O_NONBLOCK) == 0) ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
  return Socket(loop, descriptor);
}

Result<Socket> listen_tcp(boost::asio::io_context& loop, const SocketAddress& address) {
  return open_bound(loop, address, SOCK_STREAM);
}

Result<Socket> bind_udp(boost::asio::io_context& loop, const SocketAddress& address) {
  return open_bound(loop, address, SOCK_DGRAM);
}

Result<Socket> connect_udp(boost::asio::io_context& loop, const SocketAddress& remote) {
  Descriptor descriptor(open_socket(remote, SOCK_DGRAM));
  if (descriptor.value < 0) return host::os_error(errno, "socket");
  host::RawSocketAddress raw{};
  const socklen_t size = host::encode_socket_address(remote, raw);
  if (::connect(descriptor.value, &raw.any, size) != 0) {
    return host::os_error(errno, fmt::format("cannot reach {}", remote.to_text()));
  }
  return adopt(loop, descriptor.release());
}

SocketAddress local_address(const Socket& socket) {
  host::RawSocketAddress raw{};
  socklen_t size = sizeof raw;
  auto& mutable_socket = const_cast<Socket&>(socket);
  if (::getsockname(mutable_socket.native_handle(), &raw.any, &size) != 0) return {};
  return raw.any.sa_family == AF_INET || raw.any.sa_family == AF_INET6 ? host::decode_socket_address(raw)
                                                                       : SocketAddress{};
}

SocketAddress remote_address(const Socket& socket) {
  host::RawSocketAddress raw{};
  socklen_t size = sizeof raw;
  auto& mutable_socket = const_cast<Socket&>(socket);
  if (::getpeername(mutable_socket.native_handle(), &raw.any, &size) != 0) return {};
  return raw.any.sa_family == AF_INET || raw.any.sa_family == AF_INET6 ? host::decode_socket_address(raw)
                                                                       : SocketAddress{};
}

std::optional<Result<Socket>> accept_one(boost::asio::io_context& loop, Socket& listener) {
  while (true) {
    const int descriptor =
        ::accept4(listener.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) return Result<Socket>(Socket(loop, descriptor));
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EBADF || errno == EINVAL) return std::nullopt;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      return Result<Socket>(Error{ErrorKind::limit_reached, "out of file descriptors or memory"});
    }
    // EINTR, ECONNABORTED and network errors belong to the connection that was waiting (accept(2)): take the
    // next.
  }
}

void accept_loop(boost::asio::io_context& loop, std::shared_ptr<Socket> listener,
                 std::function<void(Socket client)> on_client) {
  Socket& socket = *listener;
  socket.async_wait(
      Socket::wait_read, [&loop, listener = std::move(listener),
                          on_client = std::move(on_client)](boost::system::error_code error) mutable {
        if (error || !listener->is_open()) return;
        while (listener->is_open()) {
          auto accepted = accept_one(loop, *listener);
          if (!accepted) break;
          if (!accepted->ok()) {
            auto timer = std::make_shared<boost::asio::steady_timer>(loop, kOutOfDescriptorsPause);
            timer->async_wait([&loop, timer, listener, on_client](boost::system::error_code) {
              if (listener->is_open()) accept_loop(loop, listener, on_client);
            });
            return;
          }
          on_client(std::move(**accepted));
        }
        if (listener->is_open()) accept_loop(loop, std::move(listener), std::move(on_client));
      });
}

class PendingConnect : public std::enable_shared_from_this<PendingConnect> {
 public:
  PendingConnect(boost::asio::io_context& loop, std::vector<SocketAddress> remotes, ConnectDone done)
      : loop_(loop), remotes_(std::move(remotes)), done_(std::move(done)), timer_(loop) {}

  void start(Duration limit) {
    timer_.expires_after(limit);
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      if (const auto self = weak.lock(); self && !error) {
        self->finish(Error{ErrorKind::timed_out, "the target did not answer in time"});
      }
    });
    try_next();
  }

 private:
  void finish(Result<Socket> result) {
    if (!done_) return;
    timer_.cancel();
    const ConnectDone done = std::exchange(done_, nullptr);
    socket_.reset();
    done(std::move(result));
  }

  void note(int error, const SocketAddress& remote) {
    const ErrorKind kind = error == ECONNREFUSED ? ErrorKind::closed
                           : error == ETIMEDOUT  ? ErrorKind::timed_out
                                                 : ErrorKind::unreachable;
    last_ = {kind, host::os_error(error, fmt::format("cannot connect to {}", remote.to_text())).message};
  }

  void try_next() {
    while (next_ < remotes_.size()) {
      const SocketAddress& remote = remotes_[next_++];
      Descriptor descriptor(open_socket(remote, SOCK_STREAM));
      if (descriptor.value < 0) {
        note(errno, remote);
        continue;
      }
      host::RawSocketAddress raw{};
      const socklen_t size = host::encode_socket_address(remote, raw);
      const int outcome = ::connect(descriptor.value, &raw.any, size);
      if (outcome != 0 && errno != EINPROGRESS) {
        note(errno, remote);
        continue;
      }
      socket_ = std::make_unique<Socket>(loop_, descriptor.release());
      wait_connected(remote);
      return;
    }
    finish(last_);
  }

  void wait_connected(const SocketAddress& remote) {
    socket_->async_wait(Socket::wait_write,
                        [weak = weak_from_this(), remote](boost::system::error_code error) {
                          const auto self = weak.lock();
                          if (!self || !self->done_ || error) return;
                          const int failure = take_socket_error(*self->socket_);
                          if (failure != 0) {
                            self->note(failure, remote);
                            self->socket_.reset();
                            self->try_next();
                            return;
                          }
                          set_no_delay(*self->socket_);
                          Socket connected = std::move(*self->socket_);
                          self->finish(std::move(connected));
                        });
  }

  boost::asio::io_context& loop_;
  std::vector<SocketAddress> remotes_;
  ConnectDone done_;
  boost::asio::steady_timer timer_;
  std::unique_ptr<Socket> socket_;
  std::size_t next_ = 0;
  Error last_{ErrorKind::unreachable, "the target has no address"};
};

std::shared_ptr<PendingConnect> connect_tcp(boost::asio::io_context& loop, std::vector<SocketAddress> remotes,
                                            Duration limit, ConnectDone done) {
  auto pending = std::make_shared<PendingConnect>(loop, std::move(remotes), std::move(done));
  // From the loop, so that the callback never runs before the caller holds the handle.
  boost::asio::post(loop, [weak = std::weak_ptr(pending), limit] {
    if (const auto self = weak.lock()) self->start(limit);
  });
  return pending;
}

int take_socket_error(const Socket& socket) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(const_cast<Socket&>(socket).native_handle(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

void reset_and_close(Socket& socket) {
  if (!socket.is_open()) return;
  const linger immediately{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_LINGER, &immediately, sizeof immediately);
  boost::system::error_code ignored;
  socket.close(ignored);
}

void set_no_delay(const Socket& socket) {
  set_flag(const_cast<Socket&>(socket).native_handle(), IPPROTO_TCP, TCP_NODELAY);
}

}  // namespace ravine::services
