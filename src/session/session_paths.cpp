// Labels and synthetic paths: what arrives becomes canonical before QUIC sees it, and QUIC gets addresses
// that follow from (path, connection ID), never from where a packet really came from. Path offers and echoes.
#include <algorithm>

#include "session/session_impl.h"
#include "wire/quic_packet.h"

namespace ravine::session {
namespace {

constexpr std::size_t kMaxBindings = 32;
constexpr std::size_t kSuffixOffset = wire::kShortHeaderDcidOffset + kLabelSize;
constexpr unsigned kLabelTries = 4;
constexpr PathId kMaxPathId = 63;

enum OfferVerdict : std::uint32_t { kAccepted = 0, kLabelTaken = 1, kTooManyPaths = 2 };

}  // namespace

// Which synthetic path a packet belongs to. A migration always uses a new connection ID, so the first path on
// which a suffix arrives is the path that QUIC at the other end means; later packets with it are the same
// path, whichever labels they travel over (carrying). nullopt: not one of our connection IDs.
std::optional<SyntheticPath> Session::Impl::synthetic_path(PathId arrival, ByteView packet) {
  if (wire::is_long_header(packet)) return SyntheticPath{0, 0};
  if (packet.size() < kSuffixOffset + 4) return std::nullopt;
  const auto suffix = load_big_endian<std::uint32_t>(packet.data() + kSuffixOffset);
  for (const Binding& binding : bindings) {
    if (binding.suffix == suffix) return binding.path;
  }
  const std::vector<Bytes> issued = connection->issued_cids();
  const auto has_suffix = [](const Bytes& cid, std::uint32_t wanted) {
    return cid.size() == kConnectionIdSize &&
           load_big_endian<std::uint32_t>(cid.data() + kLabelSize) == wanted;
  };
  if (std::none_of(issued.begin(), issued.end(), [&](const Bytes& cid) { return has_suffix(cid, suffix); })) {
    return std::nullopt;
  }
  if (bindings.size() >= kMaxBindings) {
    std::erase_if(bindings, [&](const Binding& binding) {
      return std::none_of(issued.begin(), issued.end(),
                          [&](const Bytes& cid) { return has_suffix(cid, binding.suffix); });
    });
    if (bindings.size() >= kMaxBindings) bindings.erase(bindings.begin());
  }
  SyntheticPath path{arrival, 0};
  if (bindings.empty()) {
    path = {0, 0};  // the connection ID of the handshake
  } else if (role == Role::acceptor) {
    if (++next_epoch == 0) next_epoch = 1;
    path.epoch = next_epoch;
  } else if (migrating && migrating->slot == arrival) {
    path = *migrating;
  } else if (connection->current_path().slot == arrival) {
    path = connection->current_path();
  } else if (const Path* known = paths.find(arrival)) {
    path.epoch = known->epoch;
  }
  bindings.push_back({suffix, path});
  tentative_binding = true;
  return path;
}

void Session::Impl::receive(Instant now, PathId id_of_path, const Route& from, std::uint8_t ecn,
                            MutableBytes packet) {
  if (phase == Phase::closing) return answer_while_closing(from);
  Path* path = paths.find(id_of_path);
  if (!is_live() || path == nullptr) return;
  if (is_echo(packet)) return handle_echo(now, *path, from, packet);
  const PathSet::Source source = PathSet::source_of(*path, from);
  if (source == PathSet::Source::refused || source == PathSet::Source::unknown) {
    ++core.counters.wrong_source;
    return;
  }
  const std::size_t at = wire::label_offset(packet);
  if (at == 0) return;
  if (path->receive != canonical_receive) canonical_receive.store(packet.data() + at);
  const auto synthetic = synthetic_path(path->id, packet);
  if (!synthetic) {
    ++core.counters.malformed;
    return;
  }
  const std::uint64_t opened = connection->opened_packets(), fresh = connection->fresh_packets();
  connection->read(now, *synthetic, ecn, packet);
  // Nothing but QUIC's acceptance makes a packet count: not as a sign of life, nor for the path that its
  // connection ID belongs to, nor for the peer's address.
  if (connection->opened_packets() == opened && tentative_binding) bindings.pop_back();
  tentative_binding = false;
  if (connection->fresh_packets() == fresh) return;
  paths.note_packet(now, *path, from, packet.size());
  last_packet = now;
  if (synthetic->slot != path->id) {
    note_carried(now, path->id);
  } else {
    note_received(now, path->id, true);
  }
}

void Session::Impl::note_carried(Instant now, PathId arrival) {
  last_quic = now;
  Path* own = paths.find(current_slot);
  if (arrival == current_slot || own == nullptr) return;
  const bool silent = own->last_received == Instant{} || now > own->last_received + suspect_after();
  if (silent && (phase == Phase::handshaking || paths.find(arrival)->last_answer != Instant{}))
    carry = arrival;
}

void Session::Impl::handle_echo(Instant now, Path& path, const Route& from, ByteView packet) {
  if (!echo) return;
  const auto decoded = echo->decode(packet);
  if (!decoded) {
    ++core.counters.echoes_bad;
    return;
  }
  last_packet = now;
  note_received(now, path.id, false);
  const auto effect = paths.handle_echo(now, path, *decoded, from, packet.size());
  if (decoded->type == EchoType::move && role == Role::dialler) {
    const auto reason = decoded->value <= 2 ? static_cast<MoveReason>(decoded->value) : MoveReason::requested;
    handle_move_request(now, decoded->path, reason);
  }
  if (effect == PathSet::EchoEffect::answered || effect == PathSet::EchoEffect::validated) {
    grant_wish(now);
    // QUIC may sleep in a backed-off probe timeout for a long time after the path came back; a fresh epoch
    // wakes it.
    if (waiting.was_dead && path.id == current_slot && connection->bytes_in_flight() > 0) {
      waiting.was_dead = false;
      move_current_anew(now, "came back");
    }
    check_liveness(now);
  }
}

void Session::Impl::follow_path_changes(Instant now) {
  if (!is_live()) return;
  if (paths.rebindings != rebindings_counted) {
    core.counters.rebindings += paths.rebindings - rebindings_counted;
    rebindings_counted = paths.rebindings;
    wake_after_rebinding(now);
  }
  current().quic_rtt = connection->smoothed_rtt();
  lift_send_limit(now);
  const PathId slot = connection->current_path().slot;
  if (slot != current_slot && paths.find(slot) != nullptr) {
    Path* left = paths.find(current_slot);
    left->mtu = std::max(left->mtu, 1200u);
    current_slot = slot;
    path_changed_at = now;
    carry.reset();
    carry_retry = Instant::never();
    waiting = {};
    if (connection->bytes_in_flight() > 0) waiting.since = waiting.quic_since = now;
    paths.size_tests_lost = 0;
    paths.set_current(slot);
    Event changed = event(EventKind::path_changed);
    changed.code = slot;
    core.push(changed);
  }
  while (const auto changed = paths.poll_state_change()) {
    if (phase != Phase::established) continue;
    Event state = event(EventKind::path_state);
    state.code = *changed;
    core.push(state);
  }
}

bool Session::Impl::claim_path(Path& path) {
  return core.table.claim(path.receive, {forward::TargetKind::local, path.id, id.index});
}

void Session::Impl::release_labels() {
  for (const Path& path : paths.all()) {
    const forward::Target target = core.table.find(path.receive);
    if (target.kind == forward::TargetKind::local && target.index == id.index)
      core.table.release(path.receive);
    if (const auto known = core.by_transmit.find(path.transmit.wire);
        known != core.by_transmit.end() && known->second == id) {
      core.by_transmit.erase(known);
    }
  }
}

// ---------------------------------------------------------------------------------------------- offers

Result<PathId> Session::Impl::add_path(Instant now, PathKind kind, const Route& route,
                                       std::optional<PathLabels> labels) {
  if (!is_live()) return Error{ErrorKind::closed, "session is closed: no path can be added"};
  if (phase != Phase::established || is_guest()) {
    return Error{ErrorKind::unreachable,
                 "session is not established: paths can be added after session_established"};
  }
  if (paths.full()) return Error{ErrorKind::limit_reached, "session has as many paths as it may: retire one"};
  Path path;
  // Even numbers belong to the dialler, odd ones to the acceptor, so that both may offer at once.
  for (PathId candidate = role == Role::dialler ? 2 : 1;; candidate = static_cast<PathId>(candidate + 2)) {
    if (candidate > kMaxPathId)
      return Error{ErrorKind::limit_reached, "no path number is free: retire a path"};
    if (paths.find(candidate) == nullptr) {
      path.id = candidate;
      break;
    }
  }
  path.kind = kind;
  path.route = route;
  path.has_route = true;
  path.pinned = !route.local.is_unspecified() || route.interface_index != 0;
  bool claimed = false;
  for (unsigned i = 0; i < (labels ? 1 : kLabelTries) && !claimed; ++i) {
    path.transmit = labels ? labels->transmit : core.random_label();
    path.receive = labels ? labels->receive : core.random_label();
    claimed = claim_path(path);
  }
  if (!claimed) return Error{ErrorKind::already_exists, "receive label is taken: choose another"};
  paths.add(path);
  send_offer(path);
  (void)now;
  return path.id;
}

void Session::Impl::send_offer(const Path& path) {
  wire::ControlMessage message;
  control::PathOffer& offer = *message.mutable_path_offer();
  offer.set_path(path.id);
  offer.set_label_to_offerer(path.receive.wire);
  offer.set_label_from_offerer(path.transmit.wire);
  offer.set_kind(static_cast<std::uint32_t>(path.kind));
  send_control(message);
}

void Session::Impl::handle_offer(Instant, const control::PathOffer& offer) {
  wire::ControlMessage message;
  control::PathAnswer& answer = *message.mutable_path_answer();
  answer.set_path(offer.path());
  const bool peers_number =
      offer.path() >= 1 && offer.path() <= kMaxPathId && (offer.path() % 2 == 0) == (role == Role::acceptor);
  Path path;
  path.id = static_cast<PathId>(offer.path());
  path.kind = offer.kind() <= 2 ? static_cast<PathKind>(offer.kind()) : PathKind::circuit;
  path.transmit = Label{offer.label_to_offerer()};
  path.receive = Label{offer.label_from_offerer()};
  path.agreed = true;
  if (!peers_number || path.transmit.is_none() || phase < Phase::confirmed) {
    answer.set_verdict(kTooManyPaths);
  } else if (const Path* known = paths.find(path.id)) {
    // A repeated offer changes nothing; a different one under a used number is refused.
    answer.set_verdict(known->receive == path.receive && known->transmit == path.transmit ? kAccepted
                                                                                          : kTooManyPaths);
  } else if (paths.full()) {
    answer.set_verdict(kTooManyPaths);
  } else if (!claim_path(path)) {
    answer.set_verdict(kLabelTaken);
  } else {
    paths.add(path);
    answer.set_verdict(kAccepted);
  }
  send_control(message);
}

void Session::Impl::handle_answer(Instant now, const control::PathAnswer& answer) {
  Path* path = answer.path() <= kMaxPathId ? paths.find(static_cast<PathId>(answer.path())) : nullptr;
  const bool ours = (answer.path() % 2 == 0) == (role == Role::dialler);
  if (path == nullptr || !ours || path->agreed || path->id == 0) return;
  if (answer.verdict() == kAccepted) {
    path->agreed = true;
    path->next_echo = now;
    return;
  }
  const Path refused = *path;
  (void)retire_path(now, refused.id, false);
  // A label that the peer already uses: forwarded paths are set up again by their owner, a direct one just
  // rolls again.
  if (answer.verdict() == kLabelTaken && refused.kind == PathKind::direct) {
    (void)add_path(now, refused.kind, refused.route, std::nullopt);
  }
}

Result<> Session::Impl::retire_path(Instant now, PathId id_of_path, bool tell) {
  Path* path = paths.find(id_of_path);
  if (path == nullptr) return Error{ErrorKind::not_found, "no such path"};
  if (id_of_path == current_slot || (connection && connection->current_path().slot == id_of_path)) {
    return Error{ErrorKind::refused, "the current path cannot be retired: move first"};
  }
  // Path 0 carried the handshake; its canonical labels stay routed as long as the session lives.
  if (id_of_path == 0) return Error{ErrorKind::refused, "path 0 lasts as long as its session"};
  if (carry == id_of_path) carry.reset();
  if (wish && wish->path == id_of_path) wish.reset();
  core.table.release(path->receive);
  paths.remove(id_of_path);
  if (tell) {
    wire::ControlMessage message;
    message.mutable_path_retire()->set_path(id_of_path);
    send_control(message);
  }
  (void)now;
  return {};
}

}  // namespace ravine::session
