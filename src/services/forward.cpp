#include "services/forward.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>
#include <utility>

#include "host/sockaddr.h"
#include "services/target.h"

namespace ravine::services {
namespace {

constexpr std::size_t kMaxWaiting = 1024;     // TCP clients of one forward whose tunnel is not open yet
constexpr std::size_t kMaxUdpClients = 1024;  // of one forward
constexpr std::size_t kMaxDatagram = 65535;

// One [[forward]]: its listener and, for UDP, a flow for each local client.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(Tunnels& tunnels, Forward forward, Socket socket)
      : tunnels_(tunnels),
        forward_(std::move(forward)),
        log_(tunnels.context().log.named("forward")),
        socket_(std::make_shared<Socket>(std::move(socket))) {
    forward_.listen = local_address(*socket_);
  }

  const Forward& forward() const { return forward_; }

  void start() {
    if (forward_.protocol == Protocol::udp) return wait_udp();
    accept_loop(tunnels_.context().loop, socket_, [weak = weak_from_this()](Socket client) {
      const auto self = weak.lock();
      if (self) self->serve_tcp(std::move(client));
    });
  }
  void close() {
    boost::system::error_code ignored;
    socket_->close(ignored);
    waiting_.clear();
    clients_.clear();
  }

 private:
  void serve_tcp(Socket client) {
    if (waiting_.size() >= kMaxWaiting) return reset_and_close(client);
    set_no_delay(client);
    const std::uint64_t key = next_key_++;
    auto socket = std::make_shared<Socket>(std::move(client));
    waiting_[key] =
        tunnels_.open(forward_.host, forward_.port, [this, key, socket](Result<OpenedStream> opened) {
          const auto keep = shared_from_this();
          const Pending spent = std::exchange(waiting_[key], nullptr);
          waiting_.erase(key);
          session::Session* session =
              opened ? tunnels_.context().driver.endpoint().find(opened->session) : nullptr;
          if (session == nullptr) {
            if (!opened) log_.info("forward to port {}: {}", forward_.port, opened.error().message);
            return reset_and_close(*socket);
          }
          start_pump(tunnels_.context(), *session, opened->stream, std::move(*socket),
                     {.first = {}, .counters = &tunnels_.pump_counters(), .on_end = {}});
        });
  }

  void wait_udp() {
    socket_->async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self || !self->socket_->is_open()) return;
      self->receive_udp();
      self->wait_udp();
    });
  }

  void receive_udp() {
    constexpr int kBudget = 64;  // datagrams per wake
    buffer_.resize(kMaxDatagram);
    for (int i = 0; i < kBudget; ++i) {
      host::RawSocketAddress raw{};
      socklen_t size = sizeof raw;
      const ssize_t got =
          ::recvfrom(socket_->native_handle(), buffer_.data(), buffer_.size(), MSG_DONTWAIT, &raw.any, &size);
      if (got < 0) return;
      OutgoingFlow* flow = find_flow(host::decode_socket_address(raw));
      if (flow != nullptr) flow->send(ByteView(buffer_).first(static_cast<std::size_t>(got)));
    }
  }

  OutgoingFlow* find_flow(const SocketAddress& client) {
    const auto found = clients_.find(client);
    if (found != clients_.end()) return found->second.get();
    if (clients_.size() >= kMaxUdpClients) return nullptr;
    FlowCallbacks callbacks;
    callbacks.on_receive = [this, client](ByteView payload) {
      host::RawSocketAddress raw{};
      const socklen_t size = host::encode_socket_address(client, raw);
      ::sendto(socket_->native_handle(), payload.data(), payload.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               &raw.any, size);
    };
    callbacks.on_end = [weak = weak_from_this(), client](const Error& why) {
      const auto self = weak.lock();
      if (!self) return;
      self->log_.debug("a UDP flow ended: {}", why.message);
      // Not from inside the flow's own call.
      boost::asio::post(self->tunnels_.context().loop, [weak, client] {
        if (const auto later = weak.lock()) later->clients_.erase(client);
      });
    };
    auto flow = open_flow(tunnels_.router(), tunnels_.connector(), tunnels_.flows(), forward_.host,
                          forward_.port, std::move(callbacks));
    return clients_.emplace(client, std::move(flow)).first->second.get();
  }

  Tunnels& tunnels_;
  Forward forward_;
  Log log_;
  std::shared_ptr<Socket> socket_;
  std::uint64_t next_key_ = 0;
  std::map<std::uint64_t, Pending> waiting_;
  std::map<SocketAddress, std::unique_ptr<OutgoingFlow>> clients_;
  Bytes buffer_;
};

}  // namespace

struct ForwardService::Impl {
  Tunnels& tunnels;
  std::vector<std::shared_ptr<Listener>> listeners;
};

ForwardService::ForwardService(Tunnels& tunnels) : impl_(std::make_unique<Impl>(Impl{tunnels, {}})) {}

ForwardService::~ForwardService() {
  for (const auto& listener : impl_->listeners) listener->close();
}

Result<SocketAddress> ForwardService::add(const Forward& forward) {
  auto host = check_overlay_host(forward.host);
  if (!host) return host.error().with_context("forward");
  if (forward.port == 0) return Error{ErrorKind::invalid_argument, "forward: port 0 leads nowhere"};
  boost::asio::io_context& loop = impl_->tunnels.context().loop;
  auto socket =
      forward.protocol == Protocol::udp ? bind_udp(loop, forward.listen) : listen_tcp(loop, forward.listen);
  if (!socket) return socket.error().with_context("forward");
  Forward canonical = forward;
  canonical.host = std::move(*host);
  auto listener = std::make_shared<Listener>(impl_->tunnels, std::move(canonical), std::move(*socket));
  listener->start();
  impl_->listeners.push_back(listener);
  return listener->forward().listen;
}

bool ForwardService::remove(Protocol protocol, const SocketAddress& listen) {
  return std::erase_if(impl_->listeners, [&](const std::shared_ptr<Listener>& listener) {
           const bool hit = listener->forward().protocol == protocol && listener->forward().listen == listen;
           if (hit) listener->close();
           return hit;
         }) > 0;
}

std::vector<Forward> ForwardService::list() const {
  std::vector<Forward> out;
  for (const auto& listener : impl_->listeners) out.push_back(listener->forward());
  return out;
}

}  // namespace ravine::services
