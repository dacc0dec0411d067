#include "session/convergence.h"

#include <algorithm>

namespace ravine::session {
namespace {

constexpr Duration kDrainAfterBoth = 3s;  // then an acceptor drops it, should the dialler's close be lost
constexpr Duration kDrainAlone = 20s;     // or when the dialler says nothing any more
constexpr Duration kAliveWithin = 20s;    // a session that was silent for longer does not supersede anything

}  // namespace

bool stays(const Session::Impl& a, const Session::Impl& b, const identity::PeerId& own) {
  const Instant newest = std::max(a.last_packet, b.last_packet);
  const bool a_alive = a.last_packet + kAliveWithin >= newest,
             b_alive = b.last_packet + kAliveWithin >= newest;
  if (a_alive != b_alive) return a_alive;
  // Dialled twice by one side: it knows why; the later one stays.
  if (a.role == b.role) return a.established_at > b.established_at;
  const bool own_is_smaller = own < a.info.peer.id;
  return (a.role == Role::dialler) == own_is_smaller;
}

void drain_superseded(Instant now, Session::Impl& session) {
  if (!session.is_live() || session.phase != Phase::established) return;
  if (session.goaway_heard) session.superseded = true;
  if (!session.superseded) return;
  const bool streams_done = session.connection->open_streams() <= 1;  // the control stream
  if (!session.goaway_sent && streams_done) {
    wire::ControlMessage message;
    message.mutable_goaway();
    session.send_control(message);
    session.goaway_sent = true;
  }
  if (!session.goaway_sent || !streams_done) return;
  const CloseReason reason{CloseCause::dial_superseded, static_cast<std::uint64_t>(AppError::goaway),
                           "another session to this peer stays"};
  if (session.role == Role::dialler) {
    // Ours must have arrived too, or the acceptor waits for it after we are gone.
    if (!session.goaway_heard || session.connection->stream_unacknowledged(kControlStream) > 0) return;
    session.connection->close(now, AppError::goaway, reason.text);
    session.finish(now, reason, true);
    return;
  }
  session.drain_at = session.last_packet + (session.goaway_heard ? kDrainAfterBoth : kDrainAlone);
  if (now >= session.drain_at) session.finish(now, reason, false);
}

}  // namespace ravine::session
