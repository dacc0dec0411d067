#include "host/udp_send.h"

#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/ensure.h"
#include "host/sockaddr.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103  // linux/udp.h; absent from older C libraries
#endif

namespace ravine::host {
namespace {

// Trains sent singly to one destination after a refusal, before trying the kernel again: routes change.
constexpr std::uint16_t kTrainsAfterRefusal = 4096;

// Control messages of one send.
class ControlWriter {
 public:
  explicit ControlWriter(msghdr& message) : message_(message) {}

  template <class T>
  void add(int level, int type, const T& value) {
    auto* header = reinterpret_cast<cmsghdr*>(space_.data() + used_);
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(header), &value, sizeof value);
    used_ += CMSG_SPACE(sizeof value);
    message_.msg_control = space_.data();
    message_.msg_controllen = used_;
  }

 private:
  msghdr& message_;
  std::size_t used_ = 0;
  alignas(cmsghdr) std::array<std::uint8_t, 160> space_;  // pktinfo 40 + three integers of 24
};

void add_v4_controls(ControlWriter& control, const Route& route, std::uint8_t ecn) {
  if (!route.local.is_unspecified() || route.interface_index != 0) {
    in_pktinfo info{};
    info.ipi_ifindex = static_cast<int>(route.interface_index);
    if (route.local.is_v4()) std::memcpy(&info.ipi_spec_dst, route.local.data(), 4);
    control.add(IPPROTO_IP, IP_PKTINFO, info);
  }
  if (ecn != 0) control.add(IPPROTO_IP, IP_TOS, static_cast<int>(ecn));
  if (route.ttl != 0) control.add(IPPROTO_IP, IP_TTL, static_cast<int>(route.ttl));
}

void add_v6_controls(ControlWriter& control, const Route& route, std::uint8_t ecn) {
  if (!route.local.is_unspecified() || route.interface_index != 0) {
    in6_pktinfo info{};
    info.ipi6_ifindex = route.interface_index;
    if (route.local.is_v6()) std::memcpy(&info.ipi6_addr, route.local.data(), 16);
    control.add(IPPROTO_IPV6, IPV6_PKTINFO, info);
  }
  if (ecn != 0) control.add(IPPROTO_IPV6, IPV6_TCLASS, static_cast<int>(ecn));
  if (route.ttl != 0) control.add(IPPROTO_IPV6, IPV6_HOPLIMIT, static_cast<int>(route.ttl));
}

// The socket for a route: one bound to its local address, else the first of its family. -1: none.
int pick_socket(std::span<const UdpSocket> sockets, const Route& route) {
  int fallback = -1;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    const IpAddress& bound = sockets[i].local_address().ip;
    if (bound.is_v4() != route.remote.ip.is_v4()) continue;
    if (bound.is_unspecified() || bound == route.local) return static_cast<int>(i);
    if (fallback < 0) fallback = static_cast<int>(i);
  }
  return fallback;
}

}  // namespace

UdpSocket::SendOutcome UdpSocket::classify(int error, bool train) {
  switch (error) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
      ++counters_.blocked;
      return SendOutcome::blocked;
    case EIO:
    case EINVAL:
    case EMSGSIZE:
    case EOPNOTSUPP:
      // A train may be refused by the device (no checksum offload), for its segment size, or by an old
      // kernel; which of these it was shows when its packets go alone.
      if (train) return SendOutcome::gso_refused;
      if (error == EMSGSIZE) {
        ++counters_.too_large;
        return SendOutcome::too_large;
      }
      break;
    default:
      break;
  }
  ++counters_.send_errors;
  return SendOutcome::failed;
}

UdpSocket::SendOutcome UdpSocket::send(const Route& route, std::uint8_t ecn, std::span<const Piece> pieces,
                                       std::uint32_t segment_size) {
  static_assert(sizeof(Piece) == sizeof(iovec) && offsetof(Piece, size) == offsetof(iovec, iov_len));
  const bool train = segment_size != 0;
  if (train && faults_.gso_error != 0) return classify(faults_.gso_error, true);
  if (faults_.send_error != 0 && faults_.send_error_after == 0) return classify(faults_.send_error, train);
  if (faults_.send_error_after > 0) --faults_.send_error_after;

  RawSocketAddress remote;
  msghdr message{};
  message.msg_namelen = encode_socket_address(route.remote, remote);
  message.msg_name = &remote;
  // sendmsg does not write through its vectors; POSIX merely shares the type with recvmsg.
  message.msg_iov = reinterpret_cast<iovec*>(const_cast<Piece*>(pieces.data()));
  message.msg_iovlen = pieces.size();
  ControlWriter control(message);
  if (route.remote.ip.is_v4()) {
    add_v4_controls(control, route, ecn);
  } else {
    add_v6_controls(control, route, ecn);
  }
  if (train) control.add(SOL_UDP, UDP_SEGMENT, static_cast<std::uint16_t>(segment_size));
  ++counters_.send_calls;
  ssize_t sent;
  do {
    sent = ::sendmsg(descriptor_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return classify(errno, train);
  counters_.bytes_sent += static_cast<std::uint64_t>(sent);
  return SendOutcome::sent;
}

void TrainPlan::make(const TransmitBatch& batch) {
  const std::vector<Transmit>& packets = batch.packets();
  trains_.clear();
  next_.resize(packets.size());
  open_.assign(batch.routes().size() * 4, 0);
  for (std::uint32_t i = 0; i < packets.size(); ++i) {
    const Transmit& packet = packets[i];
    std::uint32_t& open = open_[packet.route * std::size_t{4} + (packet.ecn & 3u)];
    if (open != 0) {
      Train& train = trains_[open - 1];
      if (packet.size <= train.segment_size && train.bytes + packet.size <= kMaxTrainBytes) {
        next_[train.last] = i;
        train.last = i;
        train.bytes += packet.size;
        if (++train.packets == kMaxTrainPackets || packet.size < train.segment_size) open = 0;
        continue;
      }
    }
    trains_.push_back(
        {.first = i, .last = i, .packets = 1, .bytes = packet.size, .segment_size = packet.size});
    open = static_cast<std::uint32_t>(trains_.size());
  }
}

void UdpSender::start(const TransmitBatch& batch) {
  ensure(done());
  if (batch.empty()) return;
  batch_ = &batch;
  plan_.make(batch);
  position_ = 0;
  single_ = 0;
  singly_ = false;
  refused_ = false;
}

std::uint16_t& UdpSender::refusals(const Route& route) {
  return refusals_[SocketAddressHash{}({route.remote.ip, 0}) % refusals_.size()];
}

int UdpSender::send(std::span<UdpSocket> sockets) {
  if (done()) return -1;
  for (; position_ < plan_.trains().size(); ++position_) {
    const Train& train = plan_.trains()[position_];
    const Transmit& first = batch_->packets()[train.first];
    const int index = pick_socket(sockets, batch_->routes()[first.route]);
    if (index < 0) continue;  // no socket of this family: the packet is lost, as on a path that went away
    if (send_train(sockets[static_cast<std::size_t>(index)], train) == UdpSocket::SendOutcome::blocked)
      return index;
    single_ = 0;
    singly_ = false;
    refused_ = false;
  }
  batch_ = nullptr;
  return -1;
}

UdpSocket::SendOutcome UdpSender::send_train(UdpSocket& socket, const Train& train) {
  const Transmit& first = batch_->packets()[train.first];
  const Route& route = batch_->routes()[first.route];
  if (train.packets > 1 && !singly_) {
    std::uint16_t& left = refusals(route);
    if (left > 0) --left;
    singly_ = !socket.gso_ || left > 0;
  }
  if (singly_) return send_singly(socket, train);
  pieces_.clear();
  std::uint32_t index = train.first;
  for (std::uint32_t i = 0; i < train.packets; ++i, index = plan_.next(index)) {
    const Transmit& packet = batch_->packets()[index];
    if (!pieces_.empty() && pieces_.back().data + pieces_.back().size == packet.data) {
      pieces_.back().size += packet.size;
    } else {
      pieces_.push_back({packet.data, packet.size});
    }
    if (i + 1 == train.packets) break;
  }
  const auto outcome = socket.send(route, first.ecn, pieces_, train.packets > 1 ? train.segment_size : 0);
  if (outcome == UdpSocket::SendOutcome::sent) socket.counters_.packets_sent += train.packets;
  if (outcome == UdpSocket::SendOutcome::too_large) too_large_.push_back({route, first.size});
  if (outcome != UdpSocket::SendOutcome::gso_refused) return outcome;
  singly_ = true;
  refused_ = true;
  return send_singly(socket, train);
}

UdpSocket::SendOutcome UdpSender::send_singly(UdpSocket& socket, const Train& train) {
  using Outcome = UdpSocket::SendOutcome;
  std::uint32_t index = train.first;
  for (std::uint32_t i = 0; i < single_; ++i) index = plan_.next(index);
  for (; single_ < train.packets; ++single_) {
    const Transmit& packet = batch_->packets()[index];
    const Route& route = batch_->routes()[packet.route];
    const UdpSocket::Piece piece{packet.data, packet.size};
    const Outcome outcome = socket.send(route, packet.ecn, {&piece, 1}, 0);
    if (outcome == Outcome::blocked || outcome == Outcome::failed) return outcome;
    if (outcome == Outcome::sent) {
      ++socket.counters_.packets_sent;
      // A packet of full size left alone: so it was the train as such that the kernel refused.
      if (refused_ && packet.size == train.segment_size) {
        refused_ = false;
        refusals(route) = kTrainsAfterRefusal;
        ++socket.counters_.gso_refused;
      }
    } else {
      too_large_.push_back({route, packet.size});
    }
    if (single_ + 1 < train.packets) index = plan_.next(index);
  }
  return Outcome::sent;
}

}  // namespace ravine::host
