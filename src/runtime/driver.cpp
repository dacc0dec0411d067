#include "runtime/driver.h"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "host/clock.h"
#include "runtime/driver_impl.h"

namespace ravine::runtime {
namespace {

using Descriptor = boost::asio::posix::stream_descriptor;

constexpr std::size_t kReceiveSlots = 32;        // read budget of one turn, in messages
constexpr std::size_t kMessagesPerCall = 8;      // trains that stay in the cache until they were handled
constexpr std::size_t kBytesPerTurn = 1u << 20;  // sent; then input has its turn again
constexpr int kRoundsPerTurn = 64;               // of transmitting and dispatching
constexpr int kEventsPerRound = 4096;
constexpr Duration kBlockedRetry = 1ms;
constexpr Duration kBlockedLimit =
    20ms;  // then the rest counts as lost: other interfaces must not wait for one
constexpr Duration kSuspendNoticed = 1s;

// Best first: what peers anywhere can reach before what only neighbours can.
int rank(const host::InterfaceAddress& entry) {
  const IpAddress& ip = entry.address;
  int value = ip.is_link_local() ? 300 : ip.is_private() ? 100 : 0;
  if (!entry.default_route) value += 50;
  if (entry.deprecated) value += 20;
  if (entry.temporary) value += 2;
  if (ip.is_v4()) value += 10;
  return value;
}

}  // namespace

Driver::Impl::Impl(boost::asio::io_context& io, DriverOptions made, RandomSource& random,
                   const WallClock& clock, Log sink)
    : loop(io),
      options(std::move(made)),
      log(sink),
      endpoint(options.endpoint, random, clock),
      now(host::monotonic_now()),
      suspended(host::time_suspended()),
      buffers(kReceiveSlots),
      blocked_timer(io) {}

Result<> Driver::Impl::open() {
  auto opened = host::UdpPort::open(options.port, options.listen, options.udp);
  if (!opened) return opened.error();
  auto made = host::DeadlineTimer::make(loop, [this] {
    enter();
    run_turn();
  });
  if (!made) return made.error();
  udp = std::move(*opened);
  timer = std::move(*made);
  is_open = true;
  if (options.listen.empty() && !udp.has_v6) log.info("no IPv6 on this machine; IPv4 alone");
  if (options.listen.empty() && !udp.has_v4) log.info("no IPv4 on this machine; IPv6 alone");
  if (auto found = host::list_interface_addresses()) interfaces = std::move(*found);
  if (options.watch_interfaces) {
    auto started = host::InterfaceWatch::start(loop, [this](const auto& found) { handle_interfaces(found); });
    if (started) {
      watch = std::move(*started);
    } else {
      log.warning("changes of the network are noticed late: {}", started.error().message);
    }
  }
  for (std::size_t i = 0; i < udp.sockets.size(); ++i) {
    descriptors.push_back(std::make_unique<Descriptor>(loop, udp.sockets[i].descriptor()));
    wait_readable(i);
  }
  touch();
  return {};
}

void Driver::Impl::close(bool tell_peers) {
  if (!is_open) return;
  ensure(!in_turn);
  enter();
  if (!tell_peers) shut();  // what is sent from here on goes nowhere
  sender.drop_rest();
  endpoint.close_all(now, session::AppError::shutdown);
  run_turn();
  while (dispatch()) {
  }
  if (is_open) shut();
}

void Driver::Impl::shut() {
  is_open = false;
  for (auto& descriptor : descriptors)
    descriptor->release();  // cancels its waits; the socket closes the descriptor
  descriptors.clear();
  udp.sockets.clear();
  blocked_timer.cancel();
  timer.reset();
  watch.reset();
}

Instant Driver::Impl::enter() {
  if (in_turn) return now;
  const Instant read = host::monotonic_now();
  const bool slept_perhaps = read - now > kSuspendNoticed;
  now = std::max(now, read);
  if (slept_perhaps) {
    const Duration total = host::time_suspended();
    if (total - suspended > kSuspendNoticed) {
      log.info("the machine was asleep for {} s",
               std::chrono::duration_cast<std::chrono::seconds>(total - suspended).count());
      endpoint.handle_local_change(now);
    }
    suspended = total;
  }
  return now;
}

void Driver::Impl::wait_readable(std::size_t socket) {
  descriptors[socket]->async_wait(Descriptor::wait_read,
                                  [self = shared_from_this(), socket](boost::system::error_code error) {
                                    if (error || !self->is_open) return;
                                    self->handle_readable(socket);
                                  });
}

void Driver::Impl::handle_readable(std::size_t socket) {
  // Packets being forwarded may still lie in the receive buffers.
  if (!sender.done()) {
    unread.push_back(socket);
    return;
  }
  enter();
  buffers.rewind();
  while (buffers.free_slots() > 0) {
    const host::ReceiveRound round = udp.sockets[socket].receive(buffers, kMessagesPerCall);
    for (const Received& received : round.datagrams) endpoint.handle_datagrams(now, received);
    // Handlers consume what came while it is in the cache, and free its memory for the next call.
    in_turn = true;
    dispatch();
    in_turn = false;
    if (!round.more || !is_open) break;
  }
  run_turn();
  if (is_open) wait_readable(socket);
}

void Driver::Impl::handle_interfaces(const std::vector<host::InterfaceAddress>& found) {
  interfaces = found;
  log.debug("the network changed: {} addresses", found.size());
  enter();
  endpoint.handle_local_change(now);
  run_turn();
}

void Driver::Impl::touch() {
  if (scheduled || in_turn || !is_open) return;
  scheduled = true;
  boost::asio::post(loop, [self = shared_from_this()] {
    self->scheduled = false;
    if (!self->is_open) return;
    self->enter();
    self->run_turn();
  });
}

void Driver::Impl::run_turn() {
  in_turn = true;
  ++turns;
  if (endpoint.next_deadline().at <= now) endpoint.handle_timeout(now);
  bool unfinished = true;
  std::size_t sent_bytes = 0;
  for (int round = 0; round < kRoundsPerTurn && sent_bytes < kBytesPerTurn && unfinished; ++round) {
    const bool more = transmit();
    sent_bytes += batch.used_bytes();
    const bool heard = dispatch();
    unfinished = more || heard;
  }
  in_turn = false;
  std::erase(observers, nullptr);
  if (!is_open) return;
  timer->arm(endpoint.next_deadline().at);
  if (unfinished && sender.done()) touch();
}

bool Driver::Impl::transmit() {
  if (!sender.done() || !is_open) return false;
  batch.clear();
  const bool more = endpoint.poll_transmit(now, batch);
  if (batch.empty()) return false;
  sender.start(batch);
  const int blocked = sender.send(udp.sockets);
  report_too_large();
  if (blocked >= 0) {
    blocked_since = now;
    retry_by_timer = false;
    handle_blocked(blocked);
  }
  return more;
}

void Driver::Impl::report_too_large() {
  if (sender.too_large().empty()) return;
  for (const auto& entry : sender.too_large()) endpoint.handle_send_too_large(now, entry.route, entry.size);
  sender.too_large().clear();
}

void Driver::Impl::handle_blocked(int socket) {
  const auto again = [self = shared_from_this()](boost::system::error_code error) {
    if (!error && self->is_open) self->resume();
  };
  // A full device queue (ENOBUFS) reports itself writable; asking again at once would spin.
  if (retry_by_timer) {
    blocked_timer.expires_after(kBlockedRetry);
    blocked_timer.async_wait(again);
  } else {
    descriptors[static_cast<std::size_t>(socket)]->async_wait(Descriptor::wait_write, again);
    retry_by_timer = true;
  }
}

void Driver::Impl::resume() {
  enter();
  const int blocked = sender.send(udp.sockets);
  report_too_large();
  if (blocked >= 0) {
    if (now - blocked_since < kBlockedLimit) return handle_blocked(blocked);
    ++dropped_blocked;
    sender.drop_rest();
  }
  run_turn();
  const auto waiting = std::move(unread);
  unread.clear();
  for (const std::size_t index : waiting)
    if (is_open) handle_readable(index);
}

bool Driver::Impl::dispatch() {
  int count = 0;
  while (count < kEventsPerRound) {
    const auto event = endpoint.poll_event();
    if (!event) break;
    ++count;
    dispatch_event(*event);
  }
  return count > 0;
}

Driver::Driver(boost::asio::io_context& loop, DriverOptions options, RandomSource& random,
               const WallClock& clock, Log log)
    : impl_(std::make_shared<Impl>(loop, std::move(options), random, clock, log)) {}

Driver::~Driver() {
  impl_->shut();
}

Result<> Driver::open() {
  return impl_->open();
}
void Driver::close() {
  impl_->close(true);
}
void Driver::abandon() {
  impl_->close(false);
}
session::Endpoint& Driver::endpoint() {
  return impl_->endpoint;
}
Instant Driver::now() const {
  return impl_->now;
}
std::uint16_t Driver::port() const {
  return impl_->udp.port;
}
void Driver::add_observer(SessionObserver* observer) {
  impl_->observers.push_back(observer);
}

void Driver::remove_observer(SessionObserver* observer) {
  std::replace(impl_->observers.begin(), impl_->observers.end(), observer,
               static_cast<SessionObserver*>(nullptr));
  if (!impl_->in_turn) std::erase(impl_->observers, nullptr);
}

void Driver::touch() {
  impl_->touch();
}
Instant Driver::enter() {
  return impl_->enter();
}

std::vector<SocketAddress> Driver::local_addresses() const {
  std::vector<SocketAddress> out;
  if (!impl_->options.listen.empty()) {
    for (const IpAddress& ip : impl_->options.listen)
      if (!ip.is_unspecified()) out.push_back({ip, impl_->udp.port});
    if (!out.empty()) return out;
  }
  std::vector<host::InterfaceAddress> usable;
  for (const auto& entry : impl_->interfaces) {
    if (entry.is_usable() && (entry.address.is_v4() ? impl_->udp.has_v4 : impl_->udp.has_v6))
      usable.push_back(entry);
  }
  std::sort(usable.begin(), usable.end(), [](const auto& a, const auto& b) {
    return std::pair(rank(a), a.address) < std::pair(rank(b), b.address);
  });
  for (const auto& entry : usable) out.push_back({entry.address, impl_->udp.port});
  return out;
}

Driver::Counters Driver::counters() const {
  Counters sum;
  sum.turns = impl_->turns;
  sum.dropped_blocked = impl_->dropped_blocked;
  for (const host::UdpSocket& socket : impl_->udp.sockets) {
    const host::UdpCounters& one = socket.counters();
    sum.receive_calls += one.receive_calls;
    sum.send_calls += one.send_calls;
    sum.send_errors += one.send_errors;
    sum.gso_fallbacks += one.gso_refused;
    sum.blocked += one.blocked;
    sum.messages_received += one.messages;
    sum.packets_sent += one.packets_sent;
  }
  return sum;
}

}  // namespace ravine::runtime
