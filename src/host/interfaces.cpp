#include "host/interfaces.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <set>

#include "host/netlink.h"
#include "host/sockaddr.h"

namespace ravine::host {
namespace {

struct Link {
  std::string name;
  std::uint32_t mtu = 0;
  unsigned flags = 0;
};

template <class Body, class OnAttribute>
void for_each_attribute(const nlmsghdr& message, const Body* body, const OnAttribute& on_attribute) {
  auto left = static_cast<int>(message.nlmsg_len) - static_cast<int>(NLMSG_LENGTH(sizeof(Body)));
  const auto* first = reinterpret_cast<const std::uint8_t*>(body) + NLMSG_ALIGN(sizeof(Body));
  for (auto* a = reinterpret_cast<rtattr*>(const_cast<std::uint8_t*>(first)); RTA_OK(a, left);
       a = RTA_NEXT(a, left))
    on_attribute(*a);
}

std::optional<IpAddress> address_of(int family, const rtattr& attribute, std::uint32_t index) {
  if (family == AF_INET && RTA_PAYLOAD(&attribute) >= sizeof(in_addr))
    return decode_v4(*static_cast<const in_addr*>(RTA_DATA(&attribute)));
  if (family == AF_INET6 && RTA_PAYLOAD(&attribute) >= sizeof(in6_addr))
    return decode_v6(*static_cast<const in6_addr*>(RTA_DATA(&attribute)), index);
  return std::nullopt;
}

void read_link(const nlmsghdr& message, std::map<std::uint32_t, Link>& links) {
  if (message.nlmsg_type != RTM_NEWLINK) return;
  const auto* body = static_cast<const ifinfomsg*>(NLMSG_DATA(&message));
  Link& link = links[static_cast<std::uint32_t>(body->ifi_index)];
  link.flags = body->ifi_flags;
  for_each_attribute(message, body, [&](const rtattr& attribute) {
    if (attribute.rta_type == IFLA_IFNAME) link.name = static_cast<const char*>(RTA_DATA(&attribute));
    if (attribute.rta_type == IFLA_MTU) link.mtu = *static_cast<const std::uint32_t*>(RTA_DATA(&attribute));
  });
}

void read_address(const nlmsghdr& message, std::vector<InterfaceAddress>& out) {
  if (message.nlmsg_type != RTM_NEWADDR) return;
  const auto* body = static_cast<const ifaddrmsg*>(NLMSG_DATA(&message));
  std::uint32_t flags = body->ifa_flags;
  std::optional<IpAddress> local, address;
  for_each_attribute(message, body, [&](const rtattr& attribute) {
    if (attribute.rta_type == IFA_FLAGS) flags = *static_cast<const std::uint32_t*>(RTA_DATA(&attribute));
    if (attribute.rta_type == IFA_LOCAL) local = address_of(body->ifa_family, attribute, body->ifa_index);
    if (attribute.rta_type == IFA_ADDRESS) address = address_of(body->ifa_family, attribute, body->ifa_index);
  });
  if (!local) local = address;  // IFA_ADDRESS is the far end on point-to-point links
  if (!local) return;
  InterfaceAddress& entry = out.emplace_back();
  entry.address = *local;
  entry.prefix_length = body->ifa_prefixlen;
  entry.interface_index = body->ifa_index;
  entry.temporary = local->is_v6() && (flags & IFA_F_TEMPORARY) != 0;
  entry.deprecated = (flags & IFA_F_DEPRECATED) != 0;
  entry.tentative = (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) != 0 && (flags & IFA_F_OPTIMISTIC) == 0;
}

using DefaultRoutes = std::set<std::pair<bool, std::uint32_t>>;  // (IPv4, interface)

void read_route(const nlmsghdr& message, DefaultRoutes& out) {
  if (message.nlmsg_type != RTM_NEWROUTE) return;
  const auto* body = static_cast<const rtmsg*>(NLMSG_DATA(&message));
  if (body->rtm_dst_len != 0 || body->rtm_type != RTN_UNICAST) return;
  for_each_attribute(message, body, [&](const rtattr& attribute) {
    if (attribute.rta_type == RTA_OIF)
      out.emplace(body->rtm_family == AF_INET, *static_cast<const std::uint32_t*>(RTA_DATA(&attribute)));
  });
}

// Whether a notification can matter to a session: local and cached routes and other tables change without
// meaning.
bool matters(const nlmsghdr& message) {
  if (message.nlmsg_type == RTM_NEWADDR || message.nlmsg_type == RTM_DELADDR) return true;
  if (message.nlmsg_type == RTM_NEWLINK || message.nlmsg_type == RTM_DELLINK) return true;
  if (message.nlmsg_type != RTM_NEWROUTE && message.nlmsg_type != RTM_DELROUTE) return false;
  const auto* body = static_cast<const rtmsg*>(NLMSG_DATA(&message));
  return body->rtm_type == RTN_UNICAST && body->rtm_table == RT_TABLE_MAIN &&
         (body->rtm_flags & RTM_F_CLONED) == 0;
}

}  // namespace

bool InterfaceAddress::is_usable() const {
  return running && !loopback && !tentative && !address.is_multicast() && !address.is_unspecified() &&
         !address.is_loopback();
}

std::uint32_t interface_index(const std::string& name) {
  return ::if_nametoindex(name.c_str());
}

Result<std::vector<InterfaceAddress>> list_interface_addresses() {
  auto socket = NetlinkSocket::open(0);
  if (!socket) return socket.error();
  std::map<std::uint32_t, Link> links;
  std::vector<InterfaceAddress> addresses;
  DefaultRoutes defaults;
  auto read = socket->dump(RTM_GETLINK, [&](const nlmsghdr& message) { read_link(message, links); });
  if (read)
    read = socket->dump(RTM_GETADDR, [&](const nlmsghdr& message) { read_address(message, addresses); });
  if (read)
    read = socket->dump(RTM_GETROUTE, [&](const nlmsghdr& message) { read_route(message, defaults); });
  if (!read) return read.error();
  for (InterfaceAddress& entry : addresses) {
    const Link& link = links[entry.interface_index];
    entry.interface_name = link.name;
    entry.mtu = link.mtu;
    entry.running = (link.flags & IFF_UP) != 0 && (link.flags & IFF_RUNNING) != 0;
    entry.loopback = (link.flags & IFF_LOOPBACK) != 0;
    entry.point_to_point = (link.flags & IFF_POINTOPOINT) != 0;
    entry.default_route = defaults.contains({entry.address.is_v4(), entry.interface_index});
  }
  return addresses;
}

struct InterfaceWatch::Impl : std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& loop, NetlinkSocket opened, OnChange call)
      : socket(std::move(opened)),
        descriptor(loop, socket.descriptor()),
        timer(loop),
        on_change(std::move(call)) {}
  ~Impl() { descriptor.release(); }  // the socket object closes it

  void wait() {
    descriptor.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                          [self = shared_from_this()](boost::system::error_code error) {
                            if (error || self->stopped) return;
                            self->handle_readable();
                            self->wait();
                          });
  }

  void handle_readable() {
    bool changed = false;
    if (!socket.drain([&](const nlmsghdr& message) { changed = changed || matters(message); }))
      changed = true;
    if (!changed) return;
    const auto now = std::chrono::steady_clock::now();
    if (!pending) latest = now + kLongest;
    pending = true;
    timer.expires_at(std::min(now + kQuiet, latest));
    timer.async_wait([self = shared_from_this()](boost::system::error_code error) {
      if (error || self->stopped) return;
      self->pending = false;
      if (auto addresses = list_interface_addresses()) self->on_change(*addresses);
    });
  }

  NetlinkSocket socket;
  boost::asio::posix::stream_descriptor descriptor;
  boost::asio::steady_timer timer;
  OnChange on_change;
  std::chrono::steady_clock::time_point latest;
  bool pending = false;
  bool stopped = false;
};

InterfaceWatch::InterfaceWatch() = default;

InterfaceWatch::~InterfaceWatch() {
  impl_->stopped = true;
  impl_->timer.cancel();
  boost::system::error_code ignored;
  impl_->descriptor.cancel(ignored);
}

Result<std::unique_ptr<InterfaceWatch>> InterfaceWatch::start(boost::asio::io_context& loop,
                                                              OnChange on_change) {
  constexpr std::uint32_t groups =
      RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
  auto socket = NetlinkSocket::open(groups);
  if (!socket) return socket.error();
  std::unique_ptr<InterfaceWatch> watch(new InterfaceWatch);
  watch->impl_ = std::make_shared<Impl>(loop, std::move(*socket), std::move(on_change));
  watch->impl_->wait();
  return watch;
}

}  // namespace ravine::host
