// When a session moves between its paths: noticing death, silence and MTU black holes, migrating, carrying,
// and what the acceptor, whose QUIC cannot migrate, does instead.
#include <algorithm>

#include "session/session_impl.h"

namespace ravine::session {
namespace {

constexpr Duration kMinSuspect = 80ms;  // below this, a busy peer looks dead
constexpr Duration kMinDead = 150ms;
constexpr Duration kLately = 1s;  // a path is fit to move to when it answered within this
constexpr Duration kMaxProbeInterval = 2s;
constexpr Duration kMigrationWait = 1s;  // for the verdict, before the next one
constexpr Duration kCarryRetry = 500ms;
constexpr Duration kAskInterval = 500ms;
constexpr Duration kSelfMoveInterval = 1s;
constexpr Duration kWishLife = 3s;
constexpr Duration kHandshakeTurn = 300ms;  // then the first flight is tried over the next path of the set-up
constexpr Duration kMinSilence = 300ms;
constexpr Duration kStallCheck = 1s;
constexpr Duration kLongSleep = 1500ms;  // above the probe timeout of a path without a round trip yet, 1.02 s
constexpr unsigned kBurst = 10;          // packets that make a following silence suspicious
constexpr unsigned kSizeTestsLost = 2;
constexpr std::uint32_t kFloorMtu = 1200;  // RFC 9000 §14

}  // namespace

Duration Session::Impl::suspect_after() const {
  return std::max<Duration>(connection->probe_timeout() * 3 / 2, kMinSuspect);
}
Duration Session::Impl::dead_after() const {
  return std::max<Duration>(connection->probe_timeout() * 3, kMinDead);
}

void Session::Impl::note_sent(Instant now) {
  if (phase < Phase::confirmed) return;
  const bool in_flight = connection->bytes_in_flight() > 0;
  if (in_flight && waiting.quic_since.is_never()) waiting.quic_since = now;
  if (in_flight && next_stall_check.is_never()) next_stall_check = now + kStallCheck;
  if (waiting.since.is_never() && (in_flight || current().awaits_answer())) waiting.since = now;
}

void Session::Impl::note_received(Instant now, PathId arrival, bool quic) {
  if (quic) last_quic = now;
  if (arrival != current_slot) return;
  carry.reset();
  carry_retry = Instant::never();
  const bool in_flight = connection->bytes_in_flight() > 0;
  waiting.since = in_flight ? now : Instant::never();
  waiting.suspected = false;
  waiting.dead = false;
  waiting.stale_told = false;
  waiting.probe_interval = Duration{0};
  if (quic) {
    waiting.quic_since = in_flight ? now : Instant::never();
    waiting.was_dead = false;
    ++burst;
  }
}

// Three probe timeouts without any packet, while data or an echo is outstanding, is a dead path; half of that
// starts echoes on all paths, so that the answer to "where to" is there in time.
void Session::Impl::check_liveness(Instant now) {
  if (phase < Phase::confirmed || !is_live()) return;
  if (carry_retry <= now) retry_carried(now);
  check_black_hole(now);
  if (waiting.since.is_never() || now < waiting.since + suspect_after()) return;
  if (connection->bytes_in_flight() == 0 && !current().awaits_answer() && current().unanswered == 0) {
    waiting = {};
    return;
  }
  if (!waiting.suspected || now >= waiting.next_probe) {
    waiting.suspected = true;
    const Duration base = std::clamp<Duration>(connection->smoothed_rtt() * 3 / 2, 100ms, kMaxProbeInterval);
    waiting.probe_interval = waiting.probe_interval.count() == 0
                                 ? base
                                 : std::min<Duration>(waiting.probe_interval * 2, kMaxProbeInterval);
    waiting.next_probe = now + waiting.probe_interval;
    paths.ping_all(now);
    touch();
  }
  if (now >= waiting.since + dead_after()) leave_dead_path(now);
}

void Session::Impl::retry_carried(Instant now) {
  carry_retry = Instant::never();
  Path* over = carry && role == Role::dialler ? paths.find(*carry) : nullptr;
  if (over == nullptr) return;
  carry_retry = now + kCarryRetry;
  if (over->last_answer != Instant{} && now <= over->last_answer + kLately) {
    migrate(now, *over, true);
  } else {
    paths.ping(now, *over);
  }
}

void Session::Impl::leave_dead_path(Instant now) {
  waiting.dead = waiting.was_dead = true;
  const Duration lately = std::max<Duration>(kLately, connection->smoothed_rtt() * 3);
  Path* best = paths.best_alive(now, current_slot, lately);
  if (best == nullptr) {
    if (!waiting.stale_told) {
      waiting.stale_told = true;
      core.push(event(EventKind::local_addresses_stale));
    }
    return;
  }
  current().reason = "silent";
  if (role == Role::dialler) {
    migrate(now, *best, true);
  } else if (now >= next_ask) {
    carry = best->id;
    ask_move(now, *best, MoveReason::dead);
  }
}

bool Session::Impl::migrate(Instant now, Path& path, bool immediate) {
  if (role != Role::dialler || phase < Phase::confirmed || !is_live()) return false;
  if (migrating && now < migrating_until && !(immediate && migrating->slot != path.id)) return false;
  if (++next_epoch == 0) next_epoch = 1;
  const SyntheticPath target{path.id, next_epoch};
  switch (connection->migrate(now, target, immediate)) {
    case Connection::MigrateOutcome::started:
      path.epoch = target.epoch;
      migrating = target;
      migrating_until = now + kMigrationWait;
      ++core.counters.migrations;
      touch();
      follow_path_changes(now);
      return true;
    case Connection::MigrateOutcome::no_spare_id:
      // Spare IDs are replaced only over a path that works: lend the current one this path's labels until
      // then.
      if (immediate && path.id != current_slot) {
        carry = path.id;
        carry_retry = now + kCarryRetry;
        touch();
      }
      return false;
    default:
      return false;
  }
}

void Session::Impl::move_current_anew(Instant now, const char* reason) {
  if (now < next_self_move) return;
  next_self_move = now + kSelfMoveInterval;
  Path& path = current();
  path.reason = reason;
  path.mtu = kFloorMtu;
  paths.size_tests_lost = 0;
  if (role == Role::dialler) {
    migrate(now, path, true);
    waiting.quic_since = now;
  } else {
    ask_move(now, path, MoveReason::black_hole);
  }
}

void Session::Impl::ask_move(Instant now, Path& path, MoveReason reason) {
  next_ask = now + kAskInterval;
  wire::ControlMessage message;
  message.mutable_migrate()->set_path(path.id);
  message.mutable_migrate()->set_reason(static_cast<std::uint32_t>(reason));
  send_control(message);
  // The congestion window of a dead path may hold the message back; the echo does not wait for it.
  paths.order_move(now, path, path.id, reason);
  touch();
}

void Session::Impl::handle_move_request(Instant now, PathId id_of_path, MoveReason reason) {
  if (role != Role::dialler || phase < Phase::confirmed) return;
  Path* path = paths.find(id_of_path);
  if (path == nullptr) return;
  if (id_of_path == current_slot) {
    if (reason == MoveReason::black_hole) move_current_anew(now, "large packets vanish");
    return;
  }
  wish = Wish{id_of_path, reason == MoveReason::dead, now + kWishLife};
  paths.ping(now, *path);
  touch();
  grant_wish(now);
}

void Session::Impl::grant_wish(Instant now) {
  if (!wish) return;
  Path* path = paths.find(wish->path);
  if (path == nullptr || now > wish->until || wish->path == current_slot) {
    wish.reset();
    return;
  }
  const Duration lately = std::max<Duration>(kLately, connection->smoothed_rtt() * 3);
  if (path->last_answer == Instant{} || now > path->last_answer + lately) return;
  if (migrate(now, *path, wish->immediate)) wish.reset();
}

Result<> Session::Impl::move_to(Instant now, PathId id_of_path) {
  if (!is_live()) return Error{ErrorKind::closed, "session is closed: it cannot move"};
  Path* path = paths.find(id_of_path);
  if (path == nullptr) return Error{ErrorKind::not_found, "no such path: see paths()"};
  if (id_of_path == current_slot) return {};
  if (phase < Phase::confirmed || path->state == PathState::offered || path->state == PathState::silent) {
    return Error{ErrorKind::unreachable, "path did not answer its echoes lately: wait until it is validated"};
  }
  if (role == Role::dialler) {
    wish = Wish{id_of_path, false, now + kWishLife};
    paths.ping(now, *path);
    grant_wish(now);
    touch();
  } else {
    ask_move(now, *path, MoveReason::requested);
  }
  return {};
}

// Small echoes pass and QUIC's packets do not: the path's MTU shrank, and QUIC never lowers what it found. A
// fresh path with the same labels starts at 1200 again on both ends.
void Session::Impl::check_black_hole(Instant now) {
  if (waiting.quic_since.is_never() || now < waiting.quic_since + dead_after()) return;
  if (connection->bytes_in_flight() == 0) {
    waiting.quic_since = Instant::never();
    return;
  }
  if (connection->path_mtu() <= kFloorMtu || now < waiting.next_size_test) return;
  Path& path = current();
  waiting.next_size_test = now + std::max<Duration>(connection->smoothed_rtt() * 3 + 10ms, 110ms);
  const bool answers = path.last_answer != Instant{} && path.last_answer >= waiting.quic_since;
  if (answers && paths.size_tests_lost >= kSizeTestsLost) {
    move_current_anew(now, "large packets vanish");
    return;
  }
  paths.ping(now, path);
  paths.ping(now, path, std::min<std::uint32_t>(connection->path_mtu(), kMaxEchoSize));
  touch();
}

// A stream of packets that stops: perhaps the sender is done, perhaps our mapping is gone and only we can
// tell the peer where we are now. One echo finds out.
void Session::Impl::check_silence(Instant now) {
  if (phase < Phase::confirmed || !is_live() || burst < kBurst) return;
  if (now < last_quic + std::max<Duration>(connection->probe_timeout() * 2, kMinSilence)) return;
  burst = 0;
  paths.ping(now, current());
  touch();
}

// The path answers echoes, packets are in flight, and QUIC waits for nothing soon: its probe timeout is
// backed off by a past outage, or off altogether. A fresh epoch wakes it.
void Session::Impl::check_stall(Instant now) {
  if (!is_live() || now < next_stall_check) return;
  next_stall_check = Instant::never();
  if (phase < Phase::confirmed || connection->bytes_in_flight() == 0) return;
  next_stall_check = now + kStallCheck;
  // Only a full window needs this; otherwise the next data brings a timer with it, and a move on a lossy link
  // costs connection IDs.
  if (role != Role::acceptor || connection->bytes_in_flight() < connection->congestion_window()) return;
  const Duration sleep = std::max<Duration>(kLongSleep, connection->probe_timeout() * 3 / 2);
  if (connection->next_deadline().at <= now + sleep) return;
  const Path& path = current();
  if (path.last_answer != Instant{} && path.last_answer + kStallCheck * 2 > now) {
    move_current_anew(now, "QUIC sleeps");
  } else {
    paths.ping(now, current());
    touch();
  }
}

// An address that answered an echo is validated better than QUIC could. Dialler's choice of path, our own
// proof.
void Session::Impl::lift_send_limit(Instant now) {
  if (role != Role::acceptor || phase < Phase::confirmed || !is_live()) return;
  const SyntheticPath path = connection->current_path();
  const Path* known = paths.find(path.slot);
  if (path == lifted || known == nullptr || known->last_answer == Instant{}) return;
  lifted = path;
  connection->lift_amplification_limit(now);
}

// What was in flight went to the old address and is lost. A QUIC that backed off meanwhile would find that
// out as late again as the silence took.
void Session::Impl::wake_after_rebinding(Instant now) {
  if (phase < Phase::confirmed || connection->bytes_in_flight() == 0) return;
  waiting = {};
  waiting.since = waiting.quic_since = now;
  if (connection->next_deadline().at > now + connection->probe_timeout()) {
    move_current_anew(now, "peer's address changed");
  }
}

void Session::Impl::check_handshake_path(Instant now) {
  if (phase != Phase::handshaking || role != Role::dialler || paths.all().size() < 2) return;
  if (last_packet != Instant{} || now < carry_retry) return;
  carry_retry = now + kHandshakeTurn;
  carry_turn = (carry_turn + 1) % static_cast<unsigned>(paths.all().size());
  carry = paths.all()[carry_turn].id;
}

void Session::Impl::handle_verdicts(Instant now) {
  if (!is_live()) return;
  while (const auto verdict = connection->poll_path_verdict()) {
    if (migrating && verdict->path == *migrating) {
      migrating.reset();
      migrating_until = now;
    }
    if (verdict->validated) continue;
    ++core.counters.migrations_failed;
    if (Path* path = paths.find(verdict->path.slot);
        path != nullptr && path->id != connection->current_path().slot) {
      paths.mark_silent(*path, "validation failed");
      path->next_echo = now;
    }
  }
}

void Session::Impl::handle_local_change(Instant now) {
  if (!is_live()) return;
  for (Path& path : paths.all()) {
    const bool only = paths.all().size() == 1;
    if (path.has_route && (!path.pinned || only)) {
      path.route.local = IpAddress{};
      path.route.interface_index = 0;
    }
  }
  paths.ping_all(now);
  if (phase >= Phase::confirmed && waiting.since.is_never()) waiting.since = now;
  waiting.suspected = true;
  waiting.probe_interval = 50ms;
  waiting.next_probe = now + 50ms;
  touch();
}

void Session::Impl::handle_send_too_large(Instant now, std::size_t size) {
  // Larger ones than QUIC uses are its own probes, whose loss is their meaning.
  if (phase < Phase::confirmed || !is_live() || size > connection->path_mtu()) return;
  if (connection->path_mtu() > kFloorMtu) move_current_anew(now, "interface takes smaller packets now");
}

Deadline Session::Impl::liveness_deadline() const {
  Deadline deadline;
  if (phase == Phase::handshaking) {
    if (role == Role::dialler && paths.all().size() > 1 && last_packet == Instant{}) {
      deadline.earlier(carry_retry, "first flight over another path");
    }
    return deadline;
  }
  deadline.earlier(carry_retry, "leave a carried path");
  deadline.earlier(next_stall_check, "stall");
  if (!waiting.since.is_never()) {
    const Instant suspect = waiting.since + suspect_after();
    const Instant dead = waiting.since + dead_after();
    deadline.earlier(waiting.suspected ? waiting.next_probe : suspect, "silence");
    if (!waiting.dead) deadline.earlier(dead, "dead path");
  }
  if (!waiting.quic_since.is_never() && connection->path_mtu() > kFloorMtu) {
    deadline.earlier(std::max(waiting.quic_since + dead_after(), waiting.next_size_test), "black hole");
  }
  if (burst >= kBurst) {
    deadline.earlier(last_quic + std::max<Duration>(connection->probe_timeout() * 2, kMinSilence), "silence");
  }
  return deadline;
}

}  // namespace ravine::session
