#include "host/netlink.h"

#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "host/os_error.h"

namespace ravine::host {
namespace {

constexpr std::size_t kMessageBytes = 32768;  // the kernel's dumps use at most this much per datagram
constexpr int kDumpTimeoutMs = 2000;

}  // namespace

Result<NetlinkSocket> NetlinkSocket::open(std::uint32_t groups) {
  NetlinkSocket made(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (made.descriptor_ < 0) return os_error(errno, "open a route netlink socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (::bind(made.descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return os_error(errno, "listen to route netlink");
  return made;
}

NetlinkSocket::NetlinkSocket(NetlinkSocket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

NetlinkSocket::~NetlinkSocket() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int NetlinkSocket::release() {
  return std::exchange(descriptor_, -1);
}

Result<> NetlinkSocket::dump(std::uint16_t type, const OnMessage& on_message) {
  struct {
    nlmsghdr header;
    rtgenmsg body;
  } request{};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.body);
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.rtgen_family = AF_UNSPEC;
  if (::send(descriptor_, &request, request.header.nlmsg_len, 0) < 0)
    return os_error(errno, "ask route netlink");
  alignas(nlmsghdr) std::array<std::uint8_t, kMessageBytes> space;
  for (;;) {
    pollfd entry{descriptor_, POLLIN, 0};
    if (::poll(&entry, 1, kDumpTimeoutMs) == 0) return os_error(ETIMEDOUT, "wait for route netlink");
    const ssize_t got = ::recv(descriptor_, space.data(), space.size(), 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return os_error(errno, "read from route netlink");
    auto left = static_cast<unsigned>(got);
    for (auto* h = reinterpret_cast<nlmsghdr*>(space.data()); NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
      if (h->nlmsg_type == NLMSG_DONE) return {};
      if (h->nlmsg_type == NLMSG_ERROR)
        return os_error(-static_cast<nlmsgerr*>(NLMSG_DATA(h))->error, "dump from route netlink");
      on_message(*h);
    }
  }
}

bool NetlinkSocket::drain(const OnMessage& on_message) {
  bool complete = true;
  alignas(nlmsghdr) std::array<std::uint8_t, kMessageBytes> space;
  for (;;) {
    const ssize_t got = ::recv(descriptor_, space.data(), space.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) {
      complete = false;
      continue;
    }
    if (got <= 0) return complete;
    auto left = static_cast<unsigned>(got);
    for (auto* h = reinterpret_cast<nlmsghdr*>(space.data()); NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
      on_message(*h);
  }
}

}  // namespace ravine::host
