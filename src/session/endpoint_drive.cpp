// Timers, output and bookkeeping of all sessions.
#include <algorithm>

#include "base/ensure.h"
#include "session/endpoint_impl.h"

namespace ravine::session {
namespace {
constexpr std::size_t kLeastSpace = kMaxEchoSize;
constexpr Duration kSweepInterval = 1s;
}  // namespace

void EndpointCore::touch(Session::Impl& session) {
  if (session.dirty) return;
  session.dirty = true;
  dirty.push_back(session.id.index);
}

Label EndpointCore::random_label() {
  Label label;
  while (label.is_none() || table.find(label).kind != forward::TargetKind::none)
    label.wire = random.next_u64();
  return label;
}

// ---------------------------------------------------------------------------------------------- slots

std::uint32_t Endpoint::Impl::take_slot() {
  if (!free_slots.empty()) {
    const std::uint32_t slot = free_slots.back();
    free_slots.pop_back();
    return slot;
  }
  slots.emplace_back();
  return static_cast<std::uint32_t>(slots.size() - 1);
}

SessionId Endpoint::Impl::place(std::unique_ptr<Session::Impl> session) {
  const SessionId id = session->id;
  slots[id.index].session = std::make_unique<Session>(std::move(session));
  counters.sessions += 1;
  return id;
}

void Endpoint::Impl::erase(std::uint32_t slot) {
  Session::Impl& session = in_slot(slot);
  disarm(session);
  unindex_peer(session);
  session.release_labels();
  if (session.counted_half_open) {
    prefixes.remove_half_open(session.prefix);
    counters.half_open -= 1;
  }
  if (session.dirty) std::erase(dirty, slot);
  if (session.touched) std::erase(touched, slot);
  slots[slot].session.reset();
  ++slots[slot].generation;
  free_slots.push_back(slot);
  counters.sessions -= 1;
}

// ---------------------------------------------------------------------------------------------- deadline
// heap

void Endpoint::Impl::heap_swap(std::size_t a, std::size_t b) {
  std::swap(heap[a], heap[b]);
  in_slot(heap[a]).heap_position = a;
  in_slot(heap[b]).heap_position = b;
}

void Endpoint::Impl::heap_up(std::size_t at) {
  while (at > 0 && in_slot(heap[at]).heap_deadline < in_slot(heap[(at - 1) / 2]).heap_deadline) {
    heap_swap(at, (at - 1) / 2);
    at = (at - 1) / 2;
  }
}

void Endpoint::Impl::heap_down(std::size_t at) {
  for (;;) {
    std::size_t least = at;
    for (const std::size_t child : {2 * at + 1, 2 * at + 2}) {
      if (child < heap.size() && in_slot(heap[child]).heap_deadline < in_slot(heap[least]).heap_deadline) {
        least = child;
      }
    }
    if (least == at) return;
    heap_swap(at, least);
    at = least;
  }
}

void Endpoint::Impl::arm(Session::Impl& session) {
  const Instant at = session.next_deadline().at;
  if (session.heap_position == SIZE_MAX) {
    session.heap_position = heap.size();
    session.heap_deadline = at;
    heap.push_back(session.id.index);
    heap_up(session.heap_position);
    return;
  }
  if (at == session.heap_deadline) return;
  const bool earlier = at < session.heap_deadline;
  session.heap_deadline = at;
  earlier ? heap_up(session.heap_position) : heap_down(session.heap_position);
}

void Endpoint::Impl::disarm(Session::Impl& session) {
  const std::size_t at = session.heap_position;
  if (at == SIZE_MAX) return;
  const std::size_t last = heap.size() - 1;
  if (at != last) heap_swap(at, last);
  heap.pop_back();
  session.heap_position = SIZE_MAX;
  if (at < heap.size()) {
    heap_up(at);
    heap_down(at);
  }
}

// ---------------------------------------------------------------------------------------------- books

void Endpoint::Impl::after_input(Instant now, Session::Impl& session) {
  session.settle(now);
  keep_books(now, session);
  touch(session);
}

void Endpoint::Impl::keep_books(Instant now, Session::Impl& session) {
  if (session.counted_half_open && session.phase != Phase::handshaking) {
    session.counted_half_open = false;
    prefixes.remove_half_open(session.prefix);
    counters.half_open -= 1;
  }
  if (!session.is_live()) {
    unindex_peer(session);
    return;
  }
  if (session.phase == Phase::established && !session.is_guest() && !session.converged) {
    session.converged = true;
    index_peer(session);
    const auto known = peers.find({session.network.value, session.info.peer.id});
    if (known != peers.end() && known->second.size() > 1) {
      session::converge(now, session, sessions_of(known->second),
                        networks[session.network.value].options.local.id);
    }
  }
  settle_contest(session);
  keep_ticket(session);
  drain_superseded(now, session);
  if (!session.is_live()) unindex_peer(session);
}

void Endpoint::Impl::index_peer(Session::Impl& session) {
  const auto peer = session.peer_id();
  if (!peer || session.indexed) return;
  session.indexed = true;
  session.indexed_peer = *peer;
  peers[{session.network.value, *peer}].push_back(session.id);
}

void Endpoint::Impl::unindex_peer(Session::Impl& session) {
  if (!session.indexed) return;
  session.indexed = false;
  const auto known = peers.find({session.network.value, session.indexed_peer});
  if (known == peers.end()) return;
  std::erase(known->second, session.id);
  if (known->second.empty()) {
    peers.erase(known);
    return;
  }
  revive(sessions_of(known->second));
}

std::vector<Session::Impl*> Endpoint::Impl::sessions_of(const std::vector<SessionId>& ids) {
  std::vector<Session::Impl*> all;
  for (const SessionId id : ids) {
    if (Session::Impl* session = live(id); session != nullptr) all.push_back(session);
  }
  return all;
}

void Endpoint::Impl::settle_contest(Session::Impl& session) {
  if (session.contenders.empty() || session.last_packet <= session.contended_at) return;
  for (const SessionId id : std::exchange(session.contenders, {})) {
    Session::Impl* const other = live(id);
    if (other == nullptr || session.superseded) continue;
    other->superseded = true;
    touch(*other);
  }
}

void Endpoint::Impl::keep_ticket(Session::Impl& session) {
  while (auto ticket = session.connection->poll_ticket()) {
    if (session.role != Role::dialler || !session.info.has_certificate || !session.keys_exported) continue;
    const PeerKey key{session.network.value, session.info.peer.id};
    Remembered remembered{std::move(*ticket), session.connection->smoothed_rtt()};
    if (tickets.insert_or_assign(key, std::move(remembered)).second) ticket_order.push_back(key);
    while (tickets.size() > options.limits.tickets) {
      tickets.erase(ticket_order.front());
      ticket_order.pop_front();
    }
  }
}

void Endpoint::Impl::expire_offers(Instant now) {
  for (Offer& offer : offers) {
    if (!offer.used || now < offer.options.until) continue;
    table.release(offer.options.labels.receive);
    offer.used = false;
    --offers_used;
  }
}

// ---------------------------------------------------------------------------------------------- public drive

void Endpoint::handle_timeout(Instant now) {
  Impl& self = *impl_;
  std::vector<std::uint32_t> due;
  // Only the due part of the heap is walked: children of a session that is not due are not due either.
  std::vector<std::size_t> open{0};
  while (!open.empty()) {
    const std::size_t at = open.back();
    open.pop_back();
    if (at >= self.heap.size() || self.in_slot(self.heap[at]).heap_deadline > now) continue;
    due.push_back(self.heap[at]);
    open.push_back(2 * at + 1);
    open.push_back(2 * at + 2);
  }
  std::sort(due.begin(), due.end());
  for (const std::uint32_t slot : due) {
    Session::Impl& session = self.in_slot(slot);
    session.handle_timeout(now);
    if (session.phase == Phase::gone && session.closed_told && self.told_closed != session.id) {
      self.erase(slot);
      continue;
    }
    if (session.phase == Phase::gone) session.gone_at = Instant::never();  // erased when its end was polled
    self.keep_books(now, session);
    self.touch(session);
    self.arm(session);
  }
  if (now >= self.next_sweep) {
    self.next_sweep = now + kSweepInterval;
    self.expire_offers(now);
    if (self.forwarder.size() > 0) self.forwarder.expire(now);
    std::erase_if(self.punches, [&](const auto& target) { return now >= target.second.since + 1s; });
  }
}

Deadline Endpoint::next_deadline() const {
  Deadline deadline;
  if (!impl_->dirty.empty() || !impl_->raw.empty()) return {Instant{}, "packets to send"};
  if (!impl_->heap.empty()) {
    const Session::Impl& nearest = impl_->in_slot(impl_->heap.front());
    deadline.earlier(nearest.heap_deadline, "session");
  }
  if (impl_->offers_used > 0 || impl_->forwarder.size() > 0 || !impl_->punches.empty())
    deadline.earlier(impl_->next_sweep, "leases");
  return deadline;
}

bool Endpoint::Impl::transmit_raw(TransmitBatch& batch) {
  while (!raw.empty()) {
    const RawPacket& packet = raw.front();
    if (batch.space().size() < packet.bytes.size()) return true;
    std::copy(packet.bytes.begin(), packet.bytes.end(), batch.space().begin());
    batch.commit(packet.bytes.size(), packet.route, packet.ecn);
    counters.datagrams_sent += 1;
    counters.bytes_sent += packet.bytes.size();
    raw_bytes -= packet.bytes.size();
    raw.pop_front();
  }
  return false;
}

bool Endpoint::poll_transmit(Instant now, TransmitBatch& batch) {
  Impl& self = *impl_;
  if (self.transmit_raw(batch)) return true;
  // Sessions take turns of one quantum each, until the batch is full.
  std::vector<std::uint32_t> round;
  while (!self.dirty.empty()) {
    round.swap(self.dirty);
    std::size_t done = 0;
    for (; done < round.size() && batch.space().size() >= kLeastSpace; ++done) {
      Session::Impl& session = self.in_slot(round[done]);
      session.dirty = false;
      if (session.transmit(now, batch, self.scratch)) self.touch(session);
      self.keep_books(now, session);
      self.arm(session);
    }
    const bool full = done < round.size();
    self.dirty.insert(self.dirty.begin(), round.begin() + static_cast<std::ptrdiff_t>(done), round.end());
    round.clear();
    if (full || batch.space().size() < kLeastSpace) break;
  }
  return !self.dirty.empty();
}

std::optional<Event> Endpoint::poll_event() {
  Impl& self = *impl_;
  if (self.told_closed) {
    const SessionId id = *self.told_closed;
    self.told_closed.reset();
    if (Session::Impl* session = self.held(id); session != nullptr && session->phase == Phase::gone) {
      self.erase(id.index);
    }
  }
  if (self.events.empty()) return std::nullopt;
  Event event = self.events.front();
  self.events.pop_front();
  Session::Impl* const session = self.held(event.session);
  if (event.stream >= 0) {
    // The context of now: it may have been set, or taken away, since the event was queued.
    Connection* const connection = session == nullptr ? nullptr : session->connection.get();
    event.context = connection == nullptr ? nullptr : connection->stream_context(event.stream);
    if (event.kind == EventKind::stream_closed && connection != nullptr)
      connection->forget_stream(event.stream);
  }
  if (event.kind == EventKind::session_closed) {
    self.told_closed = event.session;
    if (session != nullptr) {
      session->closed_told = true;
      session->connection.reset();
    }
  }
  return event;
}

}  // namespace ravine::session
