// What arrives: by label to a session, a forwarding entry or an offer; first flights of strangers; stateless
// resets.
#include <algorithm>

#include "session/endpoint_impl.h"

namespace ravine::session {
namespace {

constexpr std::uint32_t kQuicV1 = 1;
constexpr std::size_t kMinInitialDatagram = 1200;  // RFC 9000 §14.1
constexpr std::uint8_t kLongTypeMask = 0x30, kInitialType = 0x00;
constexpr std::size_t kResetTokenSize = 16;

// The token of an Initial; nullopt when the packet is malformed (RFC 9000 §17.2.2).
std::optional<ByteView> initial_token(const wire::LongHeader& header, ByteView packet) {
  ByteReader reader(packet.subspan(7 + header.dcid.size() + header.scid.size()));
  const std::uint64_t size = reader.read_varint();
  if (!reader.ok() || size > reader.remaining()) return std::nullopt;
  return reader.read_view(static_cast<std::size_t>(size));
}

}  // namespace

void Endpoint::handle_datagrams(Instant now, const Received& received) {
  Impl& self = *impl_;
  MutableBytes rest = received.bytes;
  const std::size_t segment = std::max<std::size_t>(received.segment_size, 1);
  do {
    const MutableBytes packet = rest.first(std::min(segment, rest.size()));
    rest = rest.subspan(packet.size());
    self.handle_datagram(now, received.route, received.ecn, packet);
  } while (!rest.empty());
  for (const std::uint32_t slot : self.touched) {
    Session::Impl& session = self.in_slot(slot);
    session.touched = false;
    self.after_input(now, session);
  }
  self.touched.clear();
}

void Endpoint::Impl::handle_datagram(Instant now, const Route& route, std::uint8_t ecn, MutableBytes packet) {
  counters.datagrams_received += 1;  // the empty one too
  counters.bytes_received += packet.size();
  const std::size_t at = wire::label_offset(packet);
  if (at == 0) {
    counters.malformed += 1;
    return;
  }
  const Label label = Label::load(packet.data() + at);
  const forward::Target target = table.find(label);
  switch (target.kind) {
    case forward::TargetKind::local:
      return deliver(now, target, route, ecn, packet);
    case forward::TargetKind::forward:
      return forward_packet(now, target.index, route, ecn, packet);
    case forward::TargetKind::offer:
      if (wire::is_long_header(packet)) return handle_first_flight(now, target, route, ecn, packet);
      counters.unknown_label += 1;
      return;
    case forward::TargetKind::none:
      return handle_unknown(now, label, route, ecn, packet);
  }
}

void Endpoint::Impl::deliver(Instant now, const forward::Target& target, const Route& route, std::uint8_t ecn,
                             MutableBytes packet) {
  Session::Impl& session = in_slot(target.index);
  session.receive(now, target.path, route, ecn, packet);
  if (!session.touched) {
    session.touched = true;
    touched.push_back(target.index);
  }
}

void Endpoint::Impl::forward_packet(Instant now, std::uint32_t entry, const Route& route, std::uint8_t ecn,
                                    ByteView packet) {
  const auto outcome = forwarder.check(now, entry, route.remote, packet.size());
  if (outcome.verdict != forward::Verdict::forward ||
      raw_bytes + packet.size() > options.limits.forward_queue_bytes) {
    counters.forward_refused += 1;
    if (outcome.verdict == forward::Verdict::wrong_source) counters.wrong_source += 1;
    return;
  }
  counters.forwarded += 1;
  send_raw(*outcome.egress, ecn, to_bytes(packet));
}

void Endpoint::Impl::send_raw(const Route& route, std::uint8_t ecn, Bytes bytes) {
  if (bytes.empty() || raw_bytes + bytes.size() > options.limits.forward_queue_bytes) return;
  raw_bytes += bytes.size();
  raw.push_back({route, ecn, std::move(bytes)});
}

void Endpoint::Impl::handle_unknown(Instant now, Label label, const Route& route, std::uint8_t ecn,
                                    MutableBytes packet) {
  if (wire::is_long_header(packet)) {
    if (!options.accept) {
      counters.unknown_label += 1;
      return;
    }
    return handle_first_flight(now, {}, route, ecn, packet);
  }
  if (handle_reset(now, label, route, packet)) return;
  counters.unknown_label += 1;
  if (!prefixes.take_reply(now, address_prefix(route.remote.ip))) return;
  Bytes reset = make_stateless_reset(options.static_secret, packet, random);
  if (reset.empty()) return;
  counters.resets_sent += 1;
  send_raw(route, 0, std::move(reset));
}

// A reset names the label of the packet that it answers, which is our transmit label, and ends in the token
// of the connection ID in use (RFC 9000 §10.3.1). It counts from the path's address alone.
bool Endpoint::Impl::handle_reset(Instant now, Label label, const Route& route, ByteView packet) {
  const auto known = by_transmit.find(label.wire);
  if (known == by_transmit.end() || packet.size() < kResetTokenSize + 5) return false;
  Session::Impl* session = live(known->second);
  if (session == nullptr) return false;
  const Path* path = session->paths.find(0);
  if (path == nullptr || path->route.remote != route.remote) return false;
  if (!session->connection->matches_reset_token(packet.last(kResetTokenSize))) return false;
  session->finish(
      now, {CloseCause::stateless_reset, 0, "the peer lost this session, it may have restarted: dial again"},
      false);
  keep_books(now, *session);
  arm(*session);
  return true;
}

Endpoint::Impl::FirstFlight Endpoint::Impl::admit(Instant now, const Route& route,
                                                  const wire::LongHeader& header, ByteView packet,
                                                  bool offered) {
  FirstFlight flight;
  const auto token = initial_token(header, packet);
  if (!token) {
    counters.malformed += 1;
    return flight;
  }
  flight.label = Label::load(header.dcid.data());
  flight.initial.original_dcid = to_bytes(header.dcid);
  flight.initial.client_scid = to_bytes(header.scid);
  flight.initial.version = header.version;
  if (flight.label.is_none() || counters.sessions >= options.limits.sessions) {
    counters.initials_dropped += 1;
    return flight;
  }
  if (offered) {  // the entry shows that a member's link leads there; its source is the last hop and proves
                  // nothing more
    flight.admitted = true;
    return flight;
  }
  const std::uint64_t prefix = address_prefix(route.remote.ip);
  const EndpointLimits& limits = options.limits;
  if (auto original = verify_retry(now, options.static_secret, route.remote, header, *token)) {
    flight.initial.original_dcid = std::move(*original);
    flight.initial.retry_scid = to_bytes(header.dcid);
    flight.initial.token = to_bytes(*token);
    flight.admitted = counters.half_open < limits.half_open + limits.half_open / 2 &&
                      prefixes.half_open(prefix) < limits.half_open_per_prefix;
  } else if (counters.half_open >= limits.half_open) {
    flight.admitted = false;
  } else if (counters.half_open >= limits.retry_above_half_open ||
             prefixes.half_open(prefix) >= limits.half_open_per_prefix) {
    if (prefixes.take_reply(now, prefix)) {
      counters.retries_sent += 1;
      send_raw(route, 0, make_retry(now, options.static_secret, route.remote, header, random));
    }
    return flight;
  } else {
    flight.admitted = true;
  }
  if (!flight.admitted) counters.initials_dropped += 1;
  return flight;
}

void Endpoint::Impl::handle_first_flight(Instant now, const forward::Target& target, const Route& route,
                                         std::uint8_t ecn, MutableBytes packet) {
  const Offer* offer = target.kind == forward::TargetKind::offer ? &offers[target.index] : nullptr;
  if (offer != nullptr && offer->options.ingress.remote != route.remote) {
    counters.wrong_source += 1;
    return;
  }
  auto header = wire::decode_long_header(packet);
  if (!header || packet.size() < kMinInitialDatagram || header->version == 0) {
    counters.malformed += 1;
    return;
  }
  if (header->version != kQuicV1) {
    if (prefixes.take_reply(now, address_prefix(route.remote.ip))) {
      counters.version_negotiations += 1;
      send_raw(route, 0, make_version_negotiation(*header, random));
    }
    return;
  }
  if ((header->flags & kLongTypeMask) != kInitialType) {
    counters.unknown_label += 1;
    return;
  }
  if (offer != nullptr && !offer->options.canonical.is_none()) {
    offer->options.canonical.store(packet.data() + wire::kLongHeaderDcidOffset);
    header = wire::decode_long_header(packet);
  }
  const FirstFlight flight = admit(now, route, *header, packet, offer != nullptr);
  if (!flight.admitted) return;
  const std::optional<OfferOptions> options_of_offer =
      offer != nullptr ? std::optional(offer->options) : std::nullopt;
  accept(now, flight, options_of_offer ? &*options_of_offer : nullptr, route, ecn, packet);
}

void Endpoint::Impl::accept(Instant now, const FirstFlight& flight, const OfferOptions* offer,
                            const Route& route, std::uint8_t ecn, ByteView packet) {
  ConnectionOptions made = connection_options(Role::acceptor);
  made.selector = this;
  if (offer == nullptr) made.initial_rtt = first_round_trip(route, Duration{0});
  auto connection = Connection::accept(now, std::move(made), random, clock, options.static_secret,
                                       flight.label, flight.initial, SyntheticPath{0, 0});
  if (!connection) {
    counters.initials_dropped += 1;
    return;
  }
  // Nothing is spent on the packet before QUIC could read it: garbage leaves the offer, and no session.
  const ReadOutcome outcome = (*connection)->read(now, SyntheticPath{0, 0}, ecn, packet);
  if (outcome == ReadOutcome::dropped || outcome == ReadOutcome::draining) {
    counters.initials_dropped += 1;
    return;
  }
  const std::uint32_t slot = take_slot();
  const SessionId id{slot, slots[slot].generation};
  auto session = std::make_unique<Session::Impl>(*this, id, NetworkId{}, Role::acceptor);
  session->connection = std::move(connection).value();
  session->info.id = id;
  session->canonical_receive = flight.label;
  if (flight.initial.client_scid.size() >= kLabelSize) {
    session->canonical_transmit = Label::load(flight.initial.client_scid.data());
  }
  session->dialled_at = session->last_packet = now;
  if (offer != nullptr) {
    adopt_offers(*session, flight.label, *offer);
  } else {
    Path path;
    path.route = route;
    path.has_route = path.agreed = true;
    path.transmit = session->canonical_transmit;
    path.receive = flight.label;
    path.last_received = now;
    if (!session->claim_path(path)) {
      free_slots.push_back(slot);
      counters.initials_dropped += 1;
      return;
    }
    session->paths.add(path);
    if (!path.transmit.is_none()) by_transmit[path.transmit.wire] = id;
  }
  session->counted_half_open = true;
  session->prefix = address_prefix(route.remote.ip);
  prefixes.add_half_open(session->prefix);
  counters.half_open += 1;
  counters.accepted += 1;
  Session::Impl& placed = *session;
  place(std::move(session));
  after_input(now, placed);
  arm(placed);
}

// All offers of one set-up become paths of the session, whichever of them brought the first flight.
void Endpoint::Impl::adopt_offers(Session::Impl& session, Label canonical, const OfferOptions& used) {
  for (Offer& offer : offers) {
    const Label of =
        offer.options.canonical.is_none() ? offer.options.labels.receive : offer.options.canonical;
    if (!offer.used || of != canonical || session.paths.full() ||
        session.paths.find(offer.options.path) != nullptr) {
      continue;
    }
    Path path;
    path.id = offer.options.path;
    path.kind = offer.options.kind;
    path.route = offer.options.ingress;
    path.has_route = path.agreed = true;
    path.transmit = offer.options.labels.transmit;
    path.receive = offer.options.labels.receive;
    table.replace(path.receive, {forward::TargetKind::local, path.id, session.id.index});
    session.paths.add(path);
    offer.used = false;
    --offers_used;
  }
  if (session.paths.find(0) == nullptr) {
    // The set-up of path 0 never came: the session lives on the others, and 0 stays a name without a way.
    Path path;
    path.kind = used.kind;
    path.transmit = session.canonical_transmit;
    path.receive = canonical;
    session.claim_path(path);
    session.paths.add(path);
  }
  if (used.path != 0) session.carry = used.path;
}

}  // namespace ravine::session
