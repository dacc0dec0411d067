// The control stream: hello and version, path messages, goaway, ping; everything else goes up through
// poll_control().
#include <algorithm>

#include "session/session_impl.h"

namespace ravine::session {
namespace {

constexpr std::size_t kMaxControlOut = 1u << 20;  // bytes that wait for the peer to read
constexpr std::size_t kMaxControlQueue = 64;      // messages that wait for other layers
constexpr std::size_t kMaxName = 253, kMaxSoftware = 64;
constexpr unsigned kGuestStreams = 1;
constexpr std::uint8_t kControlUrgency = 0;

bool is_for_others(const wire::ControlMessage& message) {
  switch (message.body_case()) {
    case wire::ControlMessage::kHello:
    case wire::ControlMessage::kPathOffer:
    case wire::ControlMessage::kPathAnswer:
    case wire::ControlMessage::kPathRetire:
    case wire::ControlMessage::kMigrate:
    case wire::ControlMessage::kGoaway:
    case wire::ControlMessage::kPing:
    case wire::ControlMessage::BODY_NOT_SET:
      return false;  // not set: a message of a later version
    default:
      return true;
  }
}

}  // namespace

void Session::Impl::start_control(Instant) {
  if (!control_opened && role == Role::dialler) {
    auto opened = connection->open_stream(StreamKind::bidirectional, nullptr);
    if (!opened) return;  // the peer allows no stream yet: streams_available follows
    control_opened = true;
    connection->set_stream_priority(kControlStream, kControlUrgency);
  }
  if (hello_sent || !control_opened) return;
  hello_sent = true;
  wire::ControlMessage message;
  control::Hello& hello = *message.mutable_hello();
  hello.set_version_min(kVersionMin);
  hello.set_version_max(kVersionMax);
  hello.set_capabilities(core.options.capabilities);
  hello.set_name(core.options.node_name.substr(0, kMaxName));
  hello.set_software(core.options.software.substr(0, kMaxSoftware));
  const Path& path = current();
  if (path.kind == PathKind::direct && path.has_route) {
    hello.set_observed_address(path.route.remote.ip.data(), path.route.remote.ip.size());
    hello.set_observed_port(path.route.remote.port);
  }
  send_control(message);
}

void Session::Impl::send_control(const wire::ControlMessage& message) {
  if (!is_live()) return;
  const Bytes bytes = wire::encode_control(message);
  if (control_out.size() + bytes.size() > kMaxControlOut) return;  // a peer that does not read: it idles out
  control_out.insert(control_out.end(), bytes.begin(), bytes.end());
  flush_control();
  touch();
}

void Session::Impl::flush_control() {
  if (control_out.empty() || !control_opened || !is_live()) return;
  const std::size_t taken = connection->write_stream(kControlStream, control_out);
  control_out.erase(control_out.begin(), control_out.begin() + static_cast<std::ptrdiff_t>(taken));
  if (control_out.empty()) control_out.shrink_to_fit();
}

void Session::Impl::read_control(Instant now) {
  if (role == Role::dialler && !control_opened) start_control(now);
  if (!control_opened) return;
  wire::ControlMessage message;
  while (is_live() && control_queue.size() < kMaxControlQueue) {
    const auto outcome = control_in.poll(message);
    if (outcome == wire::ControlDecoder::Outcome::message) {
      handle_control(now, message);
      continue;
    }
    if (outcome == wire::ControlDecoder::Outcome::malformed) {
      connection->close(now, AppError::protocol, "malformed control message");
      finish(now,
             {CloseCause::local_application, static_cast<std::uint64_t>(AppError::protocol),
              "the peer sent a malformed or oversized control message"},
             true);
      return;
    }
    const ByteView bytes = connection->peek_stream(kControlStream);
    if (bytes.empty()) return;
    const ByteView piece = bytes.first(std::min<std::size_t>(bytes.size(), 16 * 1024));
    control_in.feed(piece);
    connection->consume_stream(kControlStream, piece.size());
  }
}

void Session::Impl::handle_hello(Instant now, const control::Hello& hello) {
  if (hello_heard) return;
  hello_heard = true;
  const std::uint32_t version = std::min(hello.version_max(), kVersionMax);
  if (version < std::max(hello.version_min(), kVersionMin)) {
    const std::string text = "no common protocol version: we speak " + std::to_string(kVersionMin) + " to " +
                             std::to_string(kVersionMax) + ", the peer " +
                             std::to_string(hello.version_min()) + " to " +
                             std::to_string(hello.version_max()) + "; update the older node";
    connection->close(now, AppError::version, text);
    finish(now, {CloseCause::local_application, static_cast<std::uint64_t>(AppError::version), text}, true);
    return;
  }
  info.protocol_version = version;
  info.capabilities = hello.capabilities();
  if (role == Role::acceptor) start_control(now);
}

void Session::Impl::handle_control(Instant now, const wire::ControlMessage& message) {
  if (!hello_heard && !message.has_hello()) return;  // nothing is meant before the versions are known
  switch (message.body_case()) {
    case wire::ControlMessage::kHello:
      handle_hello(now, message.hello());
      break;
    case wire::ControlMessage::kPathOffer:
      handle_offer(now, message.path_offer());
      break;
    case wire::ControlMessage::kPathAnswer:
      handle_answer(now, message.path_answer());
      break;
    case wire::ControlMessage::kPathRetire: {
      if (message.path_retire().path() <= UINT8_MAX) {
        (void)retire_path(now, static_cast<PathId>(message.path_retire().path()), false);
      }
      break;
    }
    case wire::ControlMessage::kMigrate: {
      const auto reason = message.migrate().reason() <= 2
                              ? static_cast<MoveReason>(message.migrate().reason())
                              : MoveReason::requested;
      if (message.migrate().path() <= UINT8_MAX) {
        handle_move_request(now, static_cast<PathId>(message.migrate().path()), reason);
      }
      break;
    }
    case wire::ControlMessage::kGoaway:
      goaway_heard = true;
      converged = false;  // the endpoint compares again
      break;
    case wire::ControlMessage::kPing: {
      wire::ControlMessage pong;
      pong.mutable_pong()->set_nonce(message.ping().nonce());
      send_control(pong);
      break;
    }
    default:
      if (is_for_others(message)) {
        control_queue.push_back(message);
        core.push(event(EventKind::control_received));
      }
  }
}

// The peer's hello may come before the packet that confirms the handshake, so both are waited for.
void Session::Impl::check_established(Instant now) {
  if (!is_live() || phase != Phase::confirmed || !(is_guest() || (hello_sent && hello_heard))) return;
  phase = Phase::established;
  established_at = now;
  core.push(event(EventKind::session_established));
}

void Session::Impl::pump_events(Instant now) {
  while (is_live()) {
    const std::optional<Event> next = connection->poll_event();
    if (!next) return;
    pump_event(now, *next);
  }
}

void Session::Impl::pump_event(Instant now, Event next) {
  next.session = id;
  const bool of_stream = next.stream >= 0;
  if (of_stream && next.stream == kControlStream && !is_guest()) {
    switch (next.kind) {
      case EventKind::stream_opened:
        control_opened = true;
        connection->set_stream_priority(kControlStream, kControlUrgency);
        break;
      case EventKind::stream_reset:
      case EventKind::stream_stopped:
      case EventKind::stream_closed: {
        if (connection->is_closed()) return;  // the connection ended, and its streams with it
        connection->close(now, AppError::protocol, "control stream ended");
        finish(now,
               {CloseCause::local_application, static_cast<std::uint64_t>(AppError::protocol),
                "the peer ended its control stream"},
               true);
        break;
      }
      default:
        break;  // read_control and flush_control follow in settle
    }
    return;
  }
  switch (next.kind) {
    case EventKind::session_established:
    case EventKind::session_closed:
      return;  // the session decides these itself
    case EventKind::stream_opened:
      if (is_guest() && (++guest_streams > kGuestStreams || next.stream != kControlStream)) {
        connection->close(now, AppError::limit, "a guest may open one stream");
        finish(now,
               {CloseCause::local_application, static_cast<std::uint64_t>(AppError::limit),
                "the guest opened more than one stream"},
               true);
        return;
      }
      break;
    case EventKind::datagram_readable:
      if (is_guest()) {
        while (connection->peek_datagram()) connection->pop_datagram();
        return;
      }
      break;
    default:
      break;
  }
  if (!of_stream) next.context = context;
  core.push(next);
}

}  // namespace ravine::session
