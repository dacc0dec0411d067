#include <fmt/format.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "host/os_error.h"
#include "host/sockaddr.h"
#include "host/udp.h"

#ifndef UDP_GRO
#define UDP_GRO 104  // linux/udp.h; absent from older C libraries
#endif

namespace ravine::host {
namespace {

bool set_option(int descriptor, int level, int name, int value) {
  return setsockopt(descriptor, level, name, &value, sizeof value) == 0;
}

// The forced variant ignores the administrator's limit and needs CAP_NET_ADMIN.
void set_buffer(int descriptor, int forced, int ordinary, std::uint32_t bytes) {
  const int value = static_cast<int>(bytes);
  if (!set_option(descriptor, SOL_SOCKET, forced, value)) set_option(descriptor, SOL_SOCKET, ordinary, value);
}

}  // namespace

UdpSocket::UdpSocket(UdpSocket&& other) noexcept {
  *this = std::move(other);
}

UdpSocket& UdpSocket::operator=(UdpSocket&& other) noexcept {
  if (this == &other) return *this;
  close();
  descriptor_ = std::exchange(other.descriptor_, -1);
  local_ = other.local_;
  gro_ = other.gro_;
  gso_ = other.gso_;
  faults_ = other.faults_;
  counters_ = other.counters_;
  return *this;
}

UdpSocket::~UdpSocket() {
  close();
}

void UdpSocket::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

Result<> UdpSocket::configure(const UdpOptions& options) {
  const bool v4 = local_.ip.is_v4();
  set_buffer(descriptor_, SO_RCVBUFFORCE, SO_RCVBUF, options.receive_buffer_bytes);
  set_buffer(descriptor_, SO_SNDBUFFORCE, SO_SNDBUF, options.send_buffer_bytes);
  gro_ = options.gro && set_option(descriptor_, SOL_UDP, UDP_GRO, 1);
  gso_ = options.gso;
  // PROBE: set the don't-fragment bit and ignore the kernel's idea of the path MTU, which an attacker's ICMP
  // can lower.
  if (v4) {
    set_option(descriptor_, IPPROTO_IP, IP_RECVTOS, 1);
    set_option(descriptor_, IPPROTO_IP, IP_PKTINFO, 1);
    set_option(descriptor_, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
  } else {
    if (!set_option(descriptor_, IPPROTO_IPV6, IPV6_V6ONLY, 1))
      return os_error(errno, "set IPV6_V6ONLY on a UDP socket");
    set_option(descriptor_, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    set_option(descriptor_, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    set_option(descriptor_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
  }
  if (options.mark != 0 && !set_option(descriptor_, SOL_SOCKET, SO_MARK, static_cast<int>(options.mark)))
    return os_error(errno, fmt::format("set mark {} on a UDP socket", options.mark));
  if (!options.device.empty() && setsockopt(descriptor_, SOL_SOCKET, SO_BINDTODEVICE, options.device.data(),
                                            static_cast<socklen_t>(options.device.size())) != 0)
    return os_error(errno, fmt::format("bind a UDP socket to interface {}", options.device));
  return {};
}

Result<UdpSocket> UdpSocket::open(const SocketAddress& address, const UdpOptions& options) {
  UdpSocket made;
  made.local_ = address;
  made.faults_ = options.faults;
  const int family = address.ip.is_v4() ? AF_INET : AF_INET6;
  made.descriptor_ = ::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (made.descriptor_ < 0)
    return os_error(errno, address.ip.is_v4() ? "make an IPv4 UDP socket" : "make an IPv6 UDP socket");
  if (auto configured = made.configure(options); !configured) return configured.error();

  RawSocketAddress raw;
  socklen_t size = encode_socket_address(address, raw);
  if (::bind(made.descriptor_, &raw.any, size) != 0) {
    const int error = errno;
    if (error == EADDRINUSE)
      return Error{
          ErrorKind::already_exists,
          fmt::format(
              "UDP port {} is taken on {}: another program, or another node, listens there; stop it or "
              "choose another port",
              address.port, address.ip.to_text())};
    return os_error(error, fmt::format("bind UDP {}", address.to_text()));
  }
  size = sizeof raw;
  if (::getsockname(made.descriptor_, &raw.any, &size) != 0)
    return os_error(errno, "read a UDP socket's address");
  made.local_ = decode_socket_address(raw);
  return made;
}

}  // namespace ravine::host
