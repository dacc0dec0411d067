#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>

#include "host/sockaddr.h"
#include "services/gateway/transport.h"
#include "services/socket.h"

namespace ravine::services {
namespace {

constexpr std::size_t kMaxDatagram = 65535;
constexpr int kBudget = 64;  // datagrams per wake
constexpr std::uint32_t kIpv4Udp = 28, kIpv6Udp = 48;

class UdpTransport final : public Transport {
 public:
  UdpTransport(boost::asio::io_context& loop, UdpTransportOptions options)
      : loop_(loop), options_(std::move(options)) {}
  ~UdpTransport() override { stop(); }

  Result<> start(OnDatagram on_datagram) override {
    if (auto opened = open(); !opened) {
      stop();
      return opened;
    }
    on_datagram_ = std::make_shared<OnDatagram>(std::move(on_datagram));
    for (const auto& socket : sockets_) wait(socket);
    return {};
  }

  void stop() override {
    on_datagram_.reset();
    boost::system::error_code ignored;
    for (const auto& socket : sockets_) socket->close(ignored);
    sockets_.clear();
  }

  void send(const SocketAddress& to, ByteView datagram) override {
    host::RawSocketAddress raw{};
    const socklen_t size = host::encode_socket_address(to, raw);
    for (const auto& socket : sockets_) {
      if (local_address(*socket).ip.is_v4() != to.ip.is_v4()) continue;
      const ssize_t sent = ::sendto(socket->native_handle(), datagram.data(), datagram.size(),
                                    MSG_DONTWAIT | MSG_NOSIGNAL, &raw.any, size);
      // A closed port's ICMP error shows up at the next call, which it does not concern.
      const bool again = sent < 0 && errno == ECONNREFUSED;
      if (again && ::sendto(socket->native_handle(), datagram.data(), datagram.size(),
                            MSG_DONTWAIT | MSG_NOSIGNAL, &raw.any, size) < 0)
        break;
      if (sent < 0 && !again) break;
      ++counters_.datagrams_out;
      counters_.bytes_out += datagram.size();
      return;
    }
    ++counters_.send_failures;
  }

  std::uint32_t overhead_bytes(const SocketAddress& to) const override {
    return to.ip.is_v4() ? kIpv4Udp : kIpv6Udp;
  }
  std::size_t max_frame() const override { return options_.max_frame; }
  bool is_point_to_point() const override { return false; }
  std::string describe() const override {
    std::string text = "udp";
    for (const SocketAddress& address : addresses()) text += " " + address.to_text();
    return text;
  }
  std::vector<SocketAddress> addresses() const override {
    std::vector<SocketAddress> all;
    all.reserve(sockets_.size());
    for (const auto& socket : sockets_) all.push_back(local_address(*socket));
    return all;
  }

 private:
  Result<> open() {
    if (!options_.addresses.empty()) {
      for (const SocketAddress& address : options_.addresses) {
        auto socket = bind_udp(loop_, address);
        if (!socket) return socket.error();
        sockets_.push_back(std::make_shared<Socket>(std::move(*socket)));
      }
      return {};
    }
    auto v4 = bind_udp(loop_, {IpAddress::v4({0, 0, 0, 0}), options_.port});
    if (!v4) return v4.error();
    const std::uint16_t port = local_address(*v4).port;
    sockets_.push_back(std::make_shared<Socket>(std::move(*v4)));
    // A machine without IPv6 is fine; a port that somebody else has in it is not.
    auto v6 = bind_udp(loop_, {IpAddress(), port});
    if (v6) {
      sockets_.push_back(std::make_shared<Socket>(std::move(*v6)));
    } else if (v6.error().kind == ErrorKind::already_exists && options_.port != 0) {
      return v6.error();
    }
    return {};
  }

  void wait(const std::shared_ptr<Socket>& socket) {
    socket->async_wait(Socket::wait_read,
                       [this, weak = std::weak_ptr(on_datagram_), socket](boost::system::error_code error) {
                         if (error || weak.expired() || !socket->is_open()) return;
                         receive(*socket, weak);
                         if (!weak.expired() && socket->is_open()) wait(socket);
                       });
  }

  void receive(Socket& socket, const std::weak_ptr<OnDatagram>& weak) {
    Bytes buffer(kMaxDatagram);
    for (int i = 0; i < kBudget; ++i) {
      host::RawSocketAddress raw{};
      socklen_t size = sizeof raw;
      const ssize_t got =
          ::recvfrom(socket.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT, &raw.any, &size);
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (got < 0) continue;  // an ICMP error of an earlier datagram
      ++counters_.datagrams_in;
      counters_.bytes_in += static_cast<std::size_t>(got);
      const auto call = weak.lock();
      if (!call) return;
      (*call)(host::decode_socket_address(raw), ByteView(buffer).first(static_cast<std::size_t>(got)));
      if (call.use_count() == 1) return;  // stopped from inside the call
    }
  }

  boost::asio::io_context& loop_;
  UdpTransportOptions options_;
  std::vector<std::shared_ptr<Socket>> sockets_;
  std::shared_ptr<OnDatagram> on_datagram_;  // also tells whether `this` lives
};

}  // namespace

SocketAddress only_peer() {
  return {IpAddress::v4({0, 0, 0, 0}), 1};
}

std::unique_ptr<Transport> make_udp_transport(boost::asio::io_context& loop, UdpTransportOptions options) {
  return std::make_unique<UdpTransport>(loop, std::move(options));
}

}  // namespace ravine::services
