#include "session/session.h"

#include <algorithm>

#include "base/ensure.h"
#include "identity/join.h"
#include "session/session_impl.h"
#include "wire/quic_packet.h"

namespace ravine::session {
namespace {
constexpr Duration kMinDrain = 300ms;  // at least 3 PTO (RFC 9000 §10.2); PTO may be unknown yet
constexpr Duration kLinger = 1s;
constexpr std::size_t kSmallestSpace = 2048;
constexpr std::size_t kWriteQuantum = 64 * 1024;
}  // namespace

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

SessionId Session::id() const {
  return impl_->id;
}
const SessionInfo& Session::info() const {
  return impl_->info;
}
bool Session::is_established() const {
  return impl_->phase == Phase::established;
}
bool Session::is_closing() const {
  return !impl_->is_live() || impl_->superseded || impl_->linger;
}
void Session::set_context(void* context) {
  impl_->context = context;
}
void* Session::context() const {
  return impl_->context;
}

void Session::close(Instant now, AppError code, std::string text) {
  if (!impl_->is_live()) return;
  const bool gentle = code == AppError::none || code == AppError::shutdown;
  if (gentle && !impl_->linger && impl_->phase == Phase::established &&
      impl_->connection->has_unacknowledged_end()) {
    impl_->linger = Impl::Linger{code, std::move(text), now + kLinger};
    impl_->touch();
    return;
  }
  impl_->close_now(now, code, std::move(text));
}

void Session::Impl::close_now(Instant now, AppError code, std::string text) {
  if (!is_live()) return;
  connection->close(now, code, text);
  finish(now, {CloseCause::local_application, static_cast<std::uint64_t>(code), std::move(text)}, true);
}

bool Session::Impl::may_use(StreamId stream) const {
  return is_live() && connection != nullptr && (stream != kControlStream || is_guest());
}

Result<StreamId> Session::open_stream(StreamKind kind, void* context) {
  Impl& self = *impl_;
  if (!self.is_live()) return Error{ErrorKind::closed, "session is closed: dial again"};
  if (self.phase != Phase::established) {
    return Error{ErrorKind::unreachable, "session is not established yet: wait for session_established"};
  }
  if (self.linger) return Error{ErrorKind::closed, "session is closing: dial again"};
  if (self.superseded) {
    return Error{ErrorKind::closed, "session is being replaced by the peer's other one: use find_peer()"};
  }
  auto opened = self.connection->open_stream(kind, context);
  if (opened) self.touch();
  return opened;
}

void Session::set_stream_context(StreamId stream, void* context) {
  // Also once the session is over: the end of each of its streams is still to be told, with the context of
  // then.
  if (impl_->connection != nullptr && (stream != kControlStream || impl_->is_guest()))
    impl_->connection->set_stream_context(stream, context);
}

std::size_t Session::write(StreamId stream, ByteView data) {
  if (!impl_->may_use(stream)) return 0;
  impl_->touch();
  return impl_->connection->write_stream(stream, data);
}

MutableBytes Session::reserve(StreamId stream, std::size_t wanted) {
  return impl_->may_use(stream) ? impl_->connection->reserve_stream(stream, wanted) : MutableBytes{};
}

void Session::commit(StreamId stream, std::size_t size) {
  if (!impl_->may_use(stream)) return;
  impl_->touch();
  impl_->connection->commit_stream(stream, size);
}

void Session::finish(StreamId stream) {
  if (!impl_->may_use(stream)) return;
  impl_->touch();
  impl_->connection->finish_stream(stream);
}

void Session::reset(StreamId stream, AppError code) {
  if (!impl_->may_use(stream)) return;
  impl_->touch();
  impl_->connection->reset_stream(stream, code);
}

void Session::stop(StreamId stream, AppError code) {
  if (!impl_->may_use(stream)) return;
  impl_->touch();
  impl_->connection->stop_stream(stream, code);
}

void Session::set_priority(StreamId stream, std::uint8_t urgency) {
  if (impl_->may_use(stream)) impl_->connection->set_stream_priority(stream, urgency);
}

ByteView Session::peek(StreamId stream) const {
  return impl_->may_use(stream) ? impl_->connection->peek_stream(stream) : ByteView{};
}

void Session::consume(StreamId stream, std::size_t size) {
  if (!impl_->may_use(stream)) return;
  impl_->touch();
  impl_->connection->consume_stream(stream, size);
}

bool Session::is_finished(StreamId stream) const {
  return impl_->may_use(stream) && impl_->connection->is_stream_finished(stream);
}

std::uint64_t Session::unacknowledged(StreamId stream) const {
  return impl_->may_use(stream) ? impl_->connection->stream_unacknowledged(stream) : 0;
}

Connection::DatagramOutcome Session::send_datagram(ByteView data) {
  if (impl_->phase != Phase::established || impl_->is_guest())
    return Connection::DatagramOutcome::unsupported;
  impl_->touch();
  return impl_->connection->send_datagram(data);
}

std::size_t Session::max_datagram_size() const {
  if (impl_->phase != Phase::established || impl_->is_guest()) return 0;
  return impl_->connection->max_datagram_size();
}

std::optional<ByteView> Session::peek_datagram() const {
  if (!impl_->is_live()) return std::nullopt;
  return impl_->connection->peek_datagram();
}

void Session::pop_datagram() {
  if (impl_->is_live()) impl_->connection->pop_datagram();
}

void Session::send_control(const wire::ControlMessage& message) {
  if (impl_->phase == Phase::established && !impl_->is_guest()) impl_->send_control(message);
}

std::optional<wire::ControlMessage> Session::poll_control() {
  if (impl_->control_queue.empty()) return std::nullopt;
  wire::ControlMessage message = std::move(impl_->control_queue.front());
  impl_->control_queue.erase(impl_->control_queue.begin());
  if (impl_->is_live()) impl_->touch();  // room again: the control stream may have more
  return message;
}

std::vector<PathInfo> Session::paths() const {
  std::vector<PathInfo> all;
  for (const Path& path : impl_->paths.all()) all.push_back(path.info());
  return all;
}

PathInfo Session::current_path() const {
  PathInfo info = impl_->current().info();
  if (impl_->is_live()) {
    info.mtu = impl_->connection->path_mtu();
    if (const Duration rtt = impl_->connection->smoothed_rtt(); rtt.count() > 0) info.smoothed_rtt = rtt;
  }
  return info;
}

Result<PathId> Session::add_path(Instant now, PathKind kind, const Route& route,
                                 std::optional<PathLabels> labels) {
  return impl_->add_path(now, kind, route, labels);
}

Result<> Session::retire_path(Instant now, PathId path) {
  return impl_->retire_path(now, path, true);
}
Result<> Session::move_to(Instant now, PathId path) {
  return impl_->move_to(now, path);
}
void Session::handle_local_change(Instant now) {
  impl_->handle_local_change(now);
}

void Session::ping(Instant now, PathId path, std::uint64_t) {
  if (Path* found = impl_->paths.find(path); found != nullptr && impl_->is_live()) {
    found->asked = true;
    impl_->paths.ping(now, *found);
    impl_->touch();
  }
}

std::uint64_t Session::congestion_window() const {
  return impl_->is_live() ? impl_->connection->congestion_window() : 0;
}
Duration Session::smoothed_rtt() const {
  return impl_->is_live() ? impl_->connection->smoothed_rtt() : Duration{0};
}

std::array<std::uint8_t, 32> Session::export_keying_material(std::string_view label) const {
  // The TLS state is freed after the handshake, so what identity asks for was taken from it before.
  ensure(impl_->keys_exported && (label == identity::kJoinExporter || label == kGatewayExporter));
  return label == kGatewayExporter ? impl_->gateway_key : impl_->join_key;
}

// ---------------------------------------------------------------------------------------------- life cycle

Event Session::Impl::event(EventKind kind) const {
  Event made;
  made.kind = kind;
  made.session = id;
  made.context = context;
  return made;
}

std::optional<identity::PeerId> Session::Impl::peer_id() const {
  if (keys_exported && info.has_certificate) return info.peer.id;
  return expected_peer;
}

void Session::Impl::settle(Instant now) {
  if (!is_live()) return;
  if (!keys_exported && connection->is_handshake_complete()) {
    keys_exported = true;
    echo_key = connection->export_keying_material(kEchoExporter);
    join_key = connection->export_keying_material(identity::kJoinExporter);
    gateway_key = connection->export_keying_material(kGatewayExporter);
    echo.emplace(echo_key, role);
    info = connection->info();
    connection->forget_chain();
    info.id = id;
    network = info.network;
    if (role == Role::dialler && !is_guest()) start_control(now);
  }
  if (phase == Phase::handshaking && connection->is_confirmed()) {
    phase = Phase::confirmed;
    info.handshake_time = connection->info().handshake_time;
    paths.set_current(current_slot);
    paths.start(now);
    connection->release_tls();
  }
  if (is_guest()) check_established(now);
  pump_events(now);
  if (!is_live()) return;
  if (!is_guest() && keys_exported) {
    read_control(now);
    if (!is_live()) return;
    check_established(now);
    flush_control();
  }
  handle_verdicts(now);
  follow_path_changes(now);
  if (connection->is_closed()) return finish(now, connection->close_reason(), true);
  if (linger && (now >= linger->until || !connection->has_unacknowledged_end()))
    close_now(now, linger->code, linger->text);
}

void Session::Impl::handle_timeout(Instant now) {
  if (phase == Phase::closing) {
    if (now >= gone_at) {
      phase = Phase::gone;
      release_labels();
    }
    return;
  }
  if (!is_live()) return;
  if (connection->next_deadline().at <= now) connection->handle_timeout(now);
  if (!connection->is_closed()) {
    paths.handle_timeout(now);
    check_handshake_path(now);
    check_liveness(now);
    check_silence(now);
    check_stall(now);
  }
  settle(now);
}

Deadline Session::Impl::next_deadline() const {
  Deadline deadline;
  if (phase == Phase::closing) {
    deadline.earlier(gone_at, "drain");
    return deadline;
  }
  if (!is_live()) return deadline;
  deadline = connection->next_deadline();
  const Deadline echoes = paths.next_deadline();
  deadline.earlier(echoes.at, echoes.reason);
  const Deadline liveness = liveness_deadline();
  deadline.earlier(liveness.at, liveness.reason);
  deadline.earlier(drain_at, "superseded");
  if (linger) deadline.earlier(linger->until, "last data");
  return deadline;
}

void Session::Impl::finish(Instant now, CloseReason reason, bool send_close) {
  if (!is_live()) return;
  close_reason = std::move(reason);
  const bool silent = close_reason.cause == CloseCause::idle_timeout ||
                      close_reason.cause == CloseCause::handshake_timeout ||
                      close_reason.cause == CloseCause::stateless_reset ||
                      close_reason.cause == CloseCause::remote_application ||
                      close_reason.cause == CloseCause::remote_transport;
  if (close_reason.cause == CloseCause::remote_application &&
      close_reason.code == static_cast<std::uint64_t>(AppError::goaway)) {
    close_reason.cause = CloseCause::dial_superseded;
  }
  const PathId over = carry.value_or(current_slot);
  if (send_close && !silent) {
    Bytes space(1500);
    const Path* path = paths.find(over);
    const auto packet = connection->write_close(now, space);
    if (packet && path != nullptr && path->has_route) {
      if (path->transmit != canonical_transmit) {
        if (const std::size_t at = wire::label_offset({packet->data, packet->size}); at != 0) {
          path->transmit.store(packet->data + at);
        }
      }
      close_packet.assign(packet->data, packet->data + packet->size);
      close_route = path->route;
      closes_due = 1;
    }
  }
  const Duration drain = std::max<Duration>(connection->probe_timeout() * 3, kMinDrain);
  // Every stream hears its end before the session does.
  if (!connection->is_closed()) connection->close(now, AppError::internal, close_reason.text);
  phase = Phase::closing;
  while (const std::optional<Event> last = connection->poll_event()) {
    if (last->kind == EventKind::stream_closed && (last->stream != kControlStream || is_guest())) {
      Event told = *last;
      told.session = id;
      core.push(told);
    }
  }
  gone_at = now + drain;
  core.push(event(EventKind::session_closed));
  touch();
}

void Session::Impl::answer_while_closing(const Route& from) {
  // One more close for every doubling of late packets (RFC 9000 §10.2.1), to where the session's packets
  // went.
  if (close_packet.empty() || from.remote != close_route.remote) return;
  ++late_packets;
  if ((late_packets & (late_packets - 1)) == 0) {
    closes_due = 1;
    touch();
  }
}

bool Session::Impl::transmit(Instant now, TransmitBatch& batch, std::vector<OutgoingPacket>& packets) {
  if (phase == Phase::closing && closes_due > 0) {
    if (batch.space().size() < close_packet.size()) return true;
    std::copy(close_packet.begin(), close_packet.end(), batch.space().begin());
    batch.commit(close_packet.size(), close_route, 0);
    core.counters.datagrams_sent += 1;
    core.counters.bytes_sent += close_packet.size();
    closes_due = 0;
  }
  if (!is_live()) return false;
  while (paths.has_orders()) {
    if (batch.space().size() < kMaxEchoSize) return true;
    const auto order = *paths.poll_order();
    const Path* path = paths.find(order.path);
    if (path == nullptr || !echo) continue;
    if (!echo->encode(path->transmit, order.echo, order.size, batch.space().first(order.size))) continue;
    batch.commit(order.size, order.route, 0);
    core.counters.datagrams_sent += 1;
    core.counters.bytes_sent += order.size;
    if (order.path == current_slot && order.echo.type == EchoType::request) note_sent(now);
  }
  if (batch.space().size() < kSmallestSpace) return true;
  packets.clear();
  const MutableBytes space = batch.space().first(std::min(batch.space().size(), kWriteQuantum));
  connection->write(now, space, packets);
  for (const OutgoingPacket& packet : packets) {
    const PathId slot = carry && packet.path.slot == current_slot ? *carry : packet.path.slot;
    Path* path = paths.find(slot);
    if (path == nullptr || !path->has_route) continue;
    if (path->transmit != canonical_transmit) {
      if (const std::size_t at = wire::label_offset({packet.data, packet.size}); at != 0) {
        path->transmit.store(packet.data + at);
      }
    }
    if (packet.data != batch.space().data()) std::memmove(batch.space().data(), packet.data, packet.size);
    batch.commit(packet.size, path->route, packet.ecn);
    ++path->packets_sent;
    path->bytes_sent += packet.size;
    core.counters.datagrams_sent += 1;
    core.counters.bytes_sent += packet.size;
    if (carry) ++core.counters.carried;
  }
  if (!packets.empty()) note_sent(now);
  settle(now);
  return is_live() && !packets.empty();
}

}  // namespace ravine::session
