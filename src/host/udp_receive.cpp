#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "host/sockaddr.h"
#include "host/udp.h"

#ifndef UDP_GRO
#define UDP_GRO 104  // linux/udp.h; absent from older C libraries
#endif

namespace ravine::host {
namespace {

constexpr std::size_t kSlotBytes = 65536;   // a GRO train's upper bound
constexpr std::size_t kControlBytes = 128;  // ≥ pktinfo (32 or 40) + traffic class (24) + GRO size (24)

template <class T>
T control_value(const cmsghdr* header) {
  T value{};
  std::memcpy(&value, CMSG_DATA(header), std::min(sizeof value, header->cmsg_len - CMSG_LEN(0)));
  return value;
}

void read_control(msghdr& message, Received& out) {
  for (cmsghdr* h = CMSG_FIRSTHDR(&message); h != nullptr; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level == SOL_UDP && h->cmsg_type == UDP_GRO) {
      out.segment_size = static_cast<std::uint32_t>(control_value<int>(h));
    } else if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TOS) {
      out.ecn = control_value<std::uint8_t>(h) & 3;
    } else if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_TCLASS) {
      out.ecn = static_cast<std::uint8_t>(control_value<int>(h) & 3);
    } else if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO) {
      const auto info = control_value<in_pktinfo>(h);
      out.route.local = decode_v4(info.ipi_addr);
      out.route.interface_index = static_cast<std::uint32_t>(info.ipi_ifindex);
    } else if (h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_PKTINFO) {
      const auto info = control_value<in6_pktinfo>(h);
      out.route.interface_index = static_cast<std::uint32_t>(info.ipi6_ifindex);
      out.route.local = decode_v6(info.ipi6_addr, out.route.interface_index);
    }
  }
}

}  // namespace

struct ReceiveBuffers::Arrays {
  struct alignas(cmsghdr) Control {
    std::array<std::uint8_t, kControlBytes> bytes;
  };
  explicit Arrays(std::size_t slots) : headers(slots), vectors(slots), addresses(slots), controls(slots) {}
  std::vector<mmsghdr> headers;
  std::vector<iovec> vectors;
  std::vector<RawSocketAddress> addresses;
  std::vector<Control> controls;
};

ReceiveBuffers::ReceiveBuffers(std::size_t slots)
    : slots_(slots),
      memory_(
          new std::uint8_t[slots * kSlotBytes]),  // NOLINT: left uninitialised, so that pages stay untouched
      arrays_(std::make_unique<Arrays>(slots)) {
  for (std::size_t i = 0; i < slots; ++i) {
    arrays_->vectors[i] = {memory_.get() + i * kSlotBytes, kSlotBytes};
    msghdr& message = arrays_->headers[i].msg_hdr;
    message = {};
    message.msg_iov = &arrays_->vectors[i];
    message.msg_iovlen = 1;
    message.msg_name = &arrays_->addresses[i];
    message.msg_control = &arrays_->controls[i];
  }
  received_.reserve(slots);
}

ReceiveBuffers::~ReceiveBuffers() = default;

ReceiveRound UdpSocket::receive(ReceiveBuffers& buffers, std::size_t max_messages) {
  const std::size_t wanted = std::min(max_messages, buffers.free_slots());
  auto& arrays = *buffers.arrays_;
  buffers.received_.clear();
  if (wanted == 0) return {};
  mmsghdr* const first = arrays.headers.data() + buffers.used_;
  for (std::size_t i = 0; i < wanted; ++i) {
    first[i].msg_hdr.msg_namelen = sizeof(RawSocketAddress);
    first[i].msg_hdr.msg_controllen = kControlBytes;
    first[i].msg_hdr.msg_flags = 0;
  }
  ++counters_.receive_calls;
  const int got = ::recvmmsg(descriptor_, first, static_cast<unsigned>(wanted), MSG_DONTWAIT, nullptr);
  if (got <= 0) return {.more = got < 0 && errno == EINTR};
  const auto messages = static_cast<std::size_t>(got);
  counters_.messages += messages;
  for (std::size_t i = 0; i < messages; ++i) {
    msghdr& message = first[i].msg_hdr;
    const std::size_t size = first[i].msg_len;
    if (size == 0 || (message.msg_flags & MSG_TRUNC) != 0) {
      ++(size == 0 ? counters_.empty : counters_.truncated);
      continue;
    }
    Received& out = buffers.received_.emplace_back();
    out.route.remote = decode_socket_address(*static_cast<RawSocketAddress*>(message.msg_name));
    out.bytes = {static_cast<std::uint8_t*>(message.msg_iov->iov_base), size};
    read_control(message, out);
    if (out.segment_size == 0 || out.segment_size > size) out.segment_size = static_cast<std::uint32_t>(size);
  }
  buffers.used_ += messages;
  return {buffers.received_, messages, messages == wanted};
}

}  // namespace ravine::host
