#include "session/convergence.h"

#include <algorithm>

namespace ravine::session {
namespace {

constexpr Duration kDrainAfterBoth = 3s;  // then an acceptor drops it, should the dialler's close be lost

bool is_given_up(const Session::Impl& session) {
  return session.goaway_sent && session.goaway_heard;
}

void keep(Session::Impl& session) {
  session.superseded = session.goaway_sent = session.goaway_heard = false;
  session.drain_at = Instant::never();
}

}  // namespace

bool stays(const Session::Impl& a, const Session::Impl& b, const identity::PeerId& own) {
  // The peer decided already, and we did not decide otherwise: it has the other one.
  if (a.goaway_heard != b.goaway_heard && !(a.goaway_heard ? b : a).goaway_sent) return !a.goaway_heard;
  // Dialled twice by one side: it knows why; the later one stays.
  if (a.role == b.role) return a.established_at > b.established_at;
  const bool own_is_smaller = own < a.info.peer.id;
  return (a.role == Role::dialler) == own_is_smaller;
}

void converge(Instant now, const Session::Impl& newest, const std::vector<Session::Impl*>& all,
              const identity::PeerId& own) {
  std::vector<Session::Impl*> candidates;
  for (Session::Impl* one : all) {
    if (one->is_live() && one->phase == Phase::established && !is_given_up(*one)) candidates.push_back(one);
  }
  if (candidates.size() < 2) return;
  Session::Impl* winner = candidates.front();
  for (Session::Impl* one : candidates) {
    if (one != winner && stays(*one, *winner, own)) winner = one;
  }
  keep(*winner);
  for (Session::Impl* one : candidates) {
    if (one == winner || one->superseded) continue;
    // Of two dials of the peer, the peer says which one goes.
    if (one->role == winner->role && one->role == Role::acceptor && !one->goaway_heard) continue;
    if (one->goaway_heard || winner == &newest) {
      one->superseded = true;
    } else {
      // The older one may be all that a restarted peer left behind: it has to show first that it is alive.
      winner->contenders.push_back(one->id);
      winner->contended_at = now;
      winner->paths.ping_all(now);
    }
    one->touch();
    winner->touch();
  }
}

void revive(const std::vector<Session::Impl*>& all) {
  const auto is_kept = [](const Session::Impl* one) {
    return one->is_live() && one->phase == Phase::established && !one->superseded;
  };
  if (std::any_of(all.begin(), all.end(), is_kept)) return;
  for (Session::Impl* one : all) {
    if (!one->is_live() || !one->superseded || is_given_up(*one)) continue;
    keep(*one);
    return;
  }
}

void drain_superseded(Instant now, Session::Impl& session) {
  if (!session.is_live() || session.phase != Phase::established || !session.superseded) return;
  const bool streams_done = session.connection->open_streams() <= 1;  // the control stream
  if (!session.goaway_sent && streams_done) {
    wire::ControlMessage message;
    message.mutable_goaway();
    session.send_control(message);
    session.goaway_sent = true;
  }
  // Both said it, so both have the other session: only now may this one go.
  if (!is_given_up(session) || !streams_done) return;
  const CloseReason reason{CloseCause::dial_superseded, static_cast<std::uint64_t>(AppError::goaway),
                           "another session to this peer stays"};
  if (session.role == Role::dialler) {
    // Ours must have arrived too, or the acceptor waits for it after we are gone.
    if (session.connection->stream_unacknowledged(kControlStream) > 0) return;
    session.connection->close(now, AppError::goaway, reason.text);
    session.finish(now, reason, true);
    return;
  }
  session.drain_at = session.last_packet + kDrainAfterBoth;
  if (now >= session.drain_at) session.finish(now, reason, false);
}

}  // namespace ravine::session
