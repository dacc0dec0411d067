#include "services/udp_association.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <utility>

#include "host/sockaddr.h"
#include "services/socks_protocol.h"
#include "services/target.h"

namespace ravine::services {
namespace {
constexpr std::size_t kMaxDatagram = 65535;
}

UdpAssociation::UdpAssociation(Tunnels& tunnels, Socket socket, SocketAddress client)
    : tunnels_(tunnels), socket_(std::move(socket)), client_(client) {}

void UdpAssociation::start() {
  wait();
}

void UdpAssociation::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
  flows_.clear();
}

void UdpAssociation::wait() {
  socket_.async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || !self->socket_.is_open()) return;
    self->receive();
    self->wait();
  });
}

void UdpAssociation::receive() {
  constexpr int kBudget = 64;  // datagrams per wake
  buffer_.resize(kMaxDatagram);
  for (int i = 0; i < kBudget; ++i) {
    host::RawSocketAddress raw{};
    socklen_t size = sizeof raw;
    const ssize_t got =
        ::recvfrom(socket_.native_handle(), buffer_.data(), buffer_.size(), MSG_DONTWAIT, &raw.any, &size);
    if (got < 0) return;
    const SocketAddress from = host::decode_socket_address(raw);
    if (from.ip != client_.ip || (client_.port != 0 && from.port != client_.port)) continue;
    const auto datagram = decode_socks_datagram(ByteView(buffer_).first(static_cast<std::size_t>(got)));
    if (!datagram || datagram->port == 0 || !check_overlay_host(datagram->host)) continue;
    client_.port = from.port;
    OutgoingFlow* flow = find_flow({datagram->host, datagram->port});
    if (flow != nullptr) flow->send(datagram->payload);
  }
}

OutgoingFlow* UdpAssociation::find_flow(const Key& target) {
  const auto found = flows_.find(target);
  if (found != flows_.end()) return found->second.get();
  const auto host = check_overlay_host(target.first);
  if (!host || flows_.size() >= kMaxFlowsPerAssociation) return nullptr;
  FlowCallbacks callbacks;
  callbacks.on_receive = [this, target](ByteView payload) { answer(target, payload); };
  callbacks.on_end = [weak = weak_from_this(), target](const Error&) {
    const auto self = weak.lock();
    if (!self) return;
    // Not from inside the flow's own call.
    boost::asio::post(self->tunnels_.context().loop, [weak, target] {
      if (const auto later = weak.lock()) later->flows_.erase(target);
    });
  };
  auto flow = open_flow(tunnels_.router(), tunnels_.connector(), tunnels_.flows(), *host, target.second,
                        std::move(callbacks));
  return flows_.emplace(target, std::move(flow)).first->second.get();
}

void UdpAssociation::answer(const Key& target, ByteView payload) {
  // The source is named as the client named the target, so that it finds its own request again.
  const Bytes datagram = encode_socks_datagram(target.first, target.second, payload);
  host::RawSocketAddress raw{};
  const socklen_t size = host::encode_socket_address(client_, raw);
  ::sendto(socket_.native_handle(), datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL, &raw.any,
           size);
}

}  // namespace ravine::services
