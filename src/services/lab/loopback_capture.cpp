#include "services/lab/loopback_capture.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "base/bytes.h"
#include "host/os_error.h"
#include "services/socket.h"

namespace ravine::services {

struct LoopbackCapture::Impl : std::enable_shared_from_this<LoopbackCapture::Impl> {
  void wait() {
    socket->async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self) return;
      self->take();
      self->wait();
    });
  }
  void take() {
    constexpr int kBudget = 256;
    constexpr std::uint8_t kUdp = 17;
    std::array<std::uint8_t, 128> head{};
    for (int i = 0; i < kBudget; ++i) {
      sockaddr_ll origin{};
      socklen_t size = sizeof origin;
      const ssize_t got = ::recvfrom(socket->native_handle(), head.data(), head.size(), MSG_DONTWAIT,
                                     reinterpret_cast<sockaddr*>(&origin), &size);
      if (got < 0) return;
      // Loopback shows each packet twice, as it leaves and as it comes.
      if (origin.sll_pkttype == PACKET_OUTGOING || got < 28 || head[0] != 0x45 || head[9] != kUdp) continue;
      const auto length = load_big_endian<std::uint16_t>(&head[2]);
      const auto source = load_big_endian<std::uint16_t>(&head[20]);
      const auto target = load_big_endian<std::uint16_t>(&head[22]);
      if (target == port_towards) {
        ++towards.packets;
        towards.ip_bytes += length;
      } else if (source == port_from) {
        ++from.packets;
        from.ip_bytes += length;
      }
    }
  }

  std::optional<Socket> socket;
  std::uint16_t port_towards = 0, port_from = 0;
  Count towards, from;
};

Result<std::unique_ptr<LoopbackCapture>> LoopbackCapture::start(boost::asio::io_context& loop,
                                                                std::uint16_t towards, std::uint16_t from) {
  const int descriptor = ::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_IP));
  if (descriptor < 0) return host::os_error(errno, "cannot capture on loopback");
  auto impl = std::make_shared<Impl>();
  impl->socket.emplace(adopt(loop, descriptor));
  sockaddr_ll loopback{};
  loopback.sll_family = AF_PACKET;
  loopback.sll_protocol = htons(ETH_P_IP);
  loopback.sll_ifindex = static_cast<int>(::if_nametoindex("lo"));
  if (::bind(descriptor, reinterpret_cast<sockaddr*>(&loopback), sizeof loopback) != 0)
    return host::os_error(errno, "cannot capture on loopback");
  impl->port_towards = towards;
  impl->port_from = from;
  impl->wait();
  return std::unique_ptr<LoopbackCapture>(new LoopbackCapture(std::move(impl)));
}

LoopbackCapture::~LoopbackCapture() = default;

LoopbackCapture::Count LoopbackCapture::towards() const {
  return impl_->towards;
}
LoopbackCapture::Count LoopbackCapture::from() const {
  return impl_->from;
}

}  // namespace ravine::services
