#include "services/lab/link_relay.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <map>
#include <optional>

#include "host/clock.h"
#include "host/deadline_timer.h"
#include "host/sockaddr.h"
#include "services/lab/pcap.h"
#include "services/socket.h"

namespace ravine::services {
namespace {

constexpr std::size_t kMaxDatagram = 65535;
constexpr int kBudget = 64;  // datagrams per wake

}  // namespace

struct LinkRelay::Impl : std::enable_shared_from_this<LinkRelay::Impl> {
  struct Client {
    std::uint64_t tag = 0;
    SocketAddress address;
    std::optional<Socket> upstream;
    Instant last, bound;
  };

  Impl(boost::asio::io_context& io, RelayOptions given, OnParcel hook)
      : loop(io),
        options(std::move(given)),
        on_parcel(std::move(hook)),
        start(host::monotonic_now()),
        up(options.up, options.seed * 2, start),
        down(options.down, options.seed * 2 + 1, start),
        buffer(kMaxDatagram) {}

  void wait_for_clients();
  void wait_for_server(std::uint64_t tag);
  void take_from_clients();
  void take_from_server(Client& client);
  Client* client_of(const SocketAddress& address);
  void rebind(Client& client);
  void offer(bool upward, std::uint64_t tag, ByteView datagram, const SocketAddress& from,
             const SocketAddress& to);
  void deliver();

  boost::asio::io_context& loop;
  RelayOptions options;
  OnParcel on_parcel;
  Instant start;
  lab::EmulatedLink up, down;
  std::optional<Socket> listener;
  SocketAddress bound;
  std::map<std::uint64_t, Client> clients;
  std::map<SocketAddress, std::uint64_t> tags;
  std::uint64_t next_tag = 1;
  std::uint64_t send_failures = 0;
  std::size_t rebindings = 0;
  std::optional<PcapFile> capture;
  std::unique_ptr<host::DeadlineTimer> timer;
  Bytes buffer;
};

void LinkRelay::Impl::wait_for_clients() {
  listener->async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self) return;
    self->take_from_clients();
    self->wait_for_clients();
  });
}

void LinkRelay::Impl::wait_for_server(std::uint64_t tag) {
  clients.at(tag).upstream->async_wait(Socket::wait_read,
                                       [weak = weak_from_this(), tag](boost::system::error_code error) {
                                         const auto self = weak.lock();
                                         if (error || !self) return;
                                         const auto at = self->clients.find(tag);
                                         if (at == self->clients.end()) return;
                                         self->take_from_server(at->second);
                                         self->wait_for_server(tag);
                                       });
}

LinkRelay::Impl::Client* LinkRelay::Impl::client_of(const SocketAddress& address) {
  if (const auto known = tags.find(address); known != tags.end()) return &clients.at(known->second);
  auto upstream = connect_udp(loop, options.to);
  if (!upstream) {
    ++send_failures;
    return nullptr;
  }
  if (clients.size() >= options.max_clients) {
    const auto oldest = std::min_element(clients.begin(), clients.end(), [](const auto& a, const auto& b) {
      return a.second.last < b.second.last;
    });
    tags.erase(oldest->second.address);
    clients.erase(oldest);
  }
  const std::uint64_t tag = next_tag++;
  tags[address] = tag;
  Client& client = clients[tag];
  client.tag = tag;
  client.address = address;
  client.upstream.emplace(std::move(*upstream));
  client.bound = host::monotonic_now();
  wait_for_server(tag);
  return &client;
}

void LinkRelay::Impl::rebind(Client& client) {
  const Instant now = host::monotonic_now();
  if (options.rebind <= Duration{0} || client.bound + options.rebind > now) return;
  auto upstream = connect_udp(loop, options.to);
  if (!upstream) return;
  client.upstream.emplace(std::move(*upstream));
  client.bound = now;
  ++rebindings;
  wait_for_server(client.tag);
}

void LinkRelay::Impl::offer(bool upward, std::uint64_t tag, ByteView datagram, const SocketAddress& from,
                            const SocketAddress& to) {
  const Instant now = host::monotonic_now();
  if (capture) capture->write(now - start, from, to, datagram);
  lab::EmulatedLink& link = upward ? up : down;
  const lab::Fate fate = link.send(now, {tag, to_bytes(datagram)});
  if (on_parcel) on_parcel({upward, datagram, datagram.size() + link.profile().overhead_bytes, fate, now});
}

void LinkRelay::Impl::take_from_clients() {
  for (int i = 0; i < kBudget; ++i) {
    host::RawSocketAddress raw{};
    socklen_t size = sizeof raw;
    const ssize_t got =
        ::recvfrom(listener->native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT, &raw.any, &size);
    if (got < 0) break;
    const SocketAddress from = host::decode_socket_address(raw);
    Client* client = client_of(from);
    if (client == nullptr) continue;
    rebind(*client);
    client->last = host::monotonic_now();
    offer(true, client->tag, ByteView(buffer).first(static_cast<std::size_t>(got)), from, bound);
  }
  deliver();
}

void LinkRelay::Impl::take_from_server(Client& client) {
  for (int i = 0; i < kBudget; ++i) {
    const ssize_t got = ::recvfrom(client.upstream->native_handle(), buffer.data(), buffer.size(),
                                   MSG_DONTWAIT, nullptr, nullptr);
    // A port that nobody listens on answers with an error, once per datagram.
    if (got < 0) break;
    client.last = host::monotonic_now();
    offer(false, client.tag, ByteView(buffer).first(static_cast<std::size_t>(got)), bound, client.address);
  }
  deliver();
}

void LinkRelay::Impl::deliver() {
  const Instant now = host::monotonic_now();
  while (auto parcel = up.receive(now)) {
    const auto at = clients.find(parcel->tag);
    if (at == clients.end()) continue;
    const int socket = at->second.upstream->native_handle();
    // The first send after the server was away reports that; the second one goes.
    if (::send(socket, parcel->bytes.data(), parcel->bytes.size(), MSG_DONTWAIT) < 0 &&
        ::send(socket, parcel->bytes.data(), parcel->bytes.size(), MSG_DONTWAIT) < 0)
      ++send_failures;
  }
  while (auto parcel = down.receive(now)) {
    const auto at = clients.find(parcel->tag);
    if (at == clients.end()) continue;
    host::RawSocketAddress raw{};
    const socklen_t size = host::encode_socket_address(at->second.address, raw);
    if (::sendto(listener->native_handle(), parcel->bytes.data(), parcel->bytes.size(), MSG_DONTWAIT,
                 &raw.any, size) < 0)
      ++send_failures;
  }
  timer->arm(std::min(up.next_deadline().at, down.next_deadline().at));
}

Result<std::unique_ptr<LinkRelay>> LinkRelay::start(boost::asio::io_context& loop, RelayOptions options,
                                                    OnParcel on_parcel) {
  if (options.listen.ip.is_v4() != options.to.ip.is_v4())
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{} and {} are of two families; give both ends IPv4 or both IPv6",
                             options.listen.to_text(), options.to.to_text())};
  auto impl = std::make_shared<Impl>(loop, std::move(options), std::move(on_parcel));
  auto listener = bind_udp(loop, impl->options.listen);
  if (!listener) return listener.error();
  impl->listener.emplace(std::move(*listener));
  impl->bound = local_address(*impl->listener);
  if (!impl->options.capture.empty()) {
    auto file = PcapFile::create(impl->options.capture);
    if (!file) return file.error();
    impl->capture.emplace(std::move(*file));
  }
  auto timer = host::DeadlineTimer::make(loop, [weak = std::weak_ptr(impl)] {
    if (const auto self = weak.lock()) self->deliver();
  });
  if (!timer) return timer.error();
  impl->timer = std::move(*timer);
  impl->wait_for_clients();
  return std::unique_ptr<LinkRelay>(new LinkRelay(std::move(impl)));
}

LinkRelay::~LinkRelay() = default;

SocketAddress LinkRelay::address() const {
  return impl_->bound;
}

RelayTally LinkRelay::tally() const {
  return {impl_->up.tally(), impl_->down.tally(), static_cast<std::size_t>(impl_->next_tag - 1),
          impl_->rebindings, impl_->send_failures};
}

void LinkRelay::set_down(bool down) {
  impl_->up.down = impl_->down.down = down;
}

}  // namespace ravine::services
