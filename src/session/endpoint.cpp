#include "session/endpoint.h"

#include <algorithm>

#include "base/ensure.h"
#include "session/endpoint_impl.h"

namespace ravine::session {
namespace {

constexpr std::size_t kSecretSize = 32;
constexpr std::size_t kMaxPunch = 1200;  // bytes
constexpr unsigned kPunchesPerSecond = 3;
constexpr std::size_t kMaxPunchTargets = 1024;
constexpr unsigned kLabelTries = 4;
constexpr Duration kFirstTurn = 300ms;  // of a first flight with more than one path

// Where QUIC's probe timeout starts, at three times this and doubling (RFC 9002 §6.2.2, which lets what is
// known replace its 333 ms). With the larger one first flights leave after 0, 0.3, 0.9 and 2.1 s: a dial that
// begins in an outage of 2 s is through before the 3 s that an application waits. So nothing shorter than
// these is used either, however short the known round trip.
constexpr Duration kNearRoundTrip = 50ms, kDirectRoundTrip = 100ms;

template <class T>
bool contains(const std::vector<std::string>& all, const T& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

Endpoint::Impl::Impl(EndpointOptions made, RandomSource& random_source, const WallClock& wall_clock)
    : EndpointCore(std::move(made), random_source, wall_clock),
      prefixes(options.seed, options.limits.replies_per_second) {
  ensure(options.static_secret.size() == kSecretSize);
  if (auto guest = TlsContext::make(nullptr, options.static_secret); guest) guest_tls = *guest;
}

Endpoint::Endpoint(EndpointOptions options, RandomSource& random, const WallClock& clock)
    : impl_(std::make_unique<Impl>(std::move(options), random, clock)) {}
Endpoint::~Endpoint() = default;

// ---------------------------------------------------------------------------------------------- networks

void Endpoint::Impl::prepare(Network& network, ByteView secret) {
  auto tls = TlsContext::make(&network.options.local, secret);
  if (tls) {
    network.tls = *tls;
    network.error.clear();
  } else {
    network.tls.reset();
    network.error = tls.error().message;
  }
}

NetworkId Endpoint::add_network(NetworkOptions options) {
  Impl& self = *impl_;
  Impl::Network network;
  network.options = std::move(options);
  Impl::prepare(network, self.options.static_secret);
  self.networks.push_back(std::move(network));
  return {static_cast<std::uint32_t>(self.networks.size() - 1)};
}

void Endpoint::update_network(NetworkId id, NetworkOptions options) {
  Impl::Network* network = impl_->network_of(id);
  if (network == nullptr) return;
  const bool same_identity = network->options.local.chain == options.local.chain &&
                             network->options.local.private_key == options.local.private_key;
  network->options = std::move(options);
  if (!same_identity || network->tls == nullptr) Impl::prepare(*network, impl_->options.static_secret);
}

void Endpoint::remove_network(Instant now, NetworkId id) {
  Impl& self = *impl_;
  Impl::Network* network = self.network_of(id);
  if (network == nullptr) return;
  network->live = false;
  network->tls.reset();
  for (const Impl::Slot& slot : self.slots) {
    if (slot.session && slot.session->impl().network == id) {
      slot.session->impl().close_now(now, AppError::shutdown, "network left");
    }
  }
  std::erase_if(self.tickets, [&](const auto& ticket) { return ticket.first.network == id.value; });
  std::erase_if(self.ticket_order, [&](const Impl::PeerKey& key) { return key.network == id.value; });
}

Endpoint::Impl::Network* Endpoint::Impl::network_of(NetworkId id) {
  if (id.value >= networks.size() || !networks[id.value].live) return nullptr;
  return &networks[id.value];
}

std::variant<AcceptChoice, AcceptRefusal> Endpoint::Impl::select(std::string_view server_name,
                                                                 std::string_view alpn) const {
  for (std::uint32_t i = 0; i < networks.size(); ++i) {
    const Network& network = networks[i];
    if (!network.live || network.tls == nullptr) continue;
    if (alpn == kAlpn && contains(network.options.server_names, server_name)) {
      return AcceptChoice{NetworkId{i}, network.tls, network.options.policy, true};
    }
    if (alpn == kJoinAlpn && network.options.accept_joiners &&
        contains(network.options.join_server_names, server_name)) {
      return AcceptChoice{NetworkId{i}, network.tls, nullptr, false};
    }
  }
  return AcceptRefusal::unrecognized_name;
}

void Endpoint::recheck_peers(Instant now) {
  for (const Impl::Slot& slot : impl_->slots) {
    if (slot.session) impl_->recheck(now, slot.session->impl());
  }
}

void Endpoint::Impl::recheck(Instant now, Session::Impl& session) {
  if (!session.is_live() || !session.keys_exported || !session.info.has_certificate) return;
  const Network* network = network_of(session.network);
  if (network == nullptr) return;
  const auto& policy = session.policy ? session.policy : network->options.policy;
  if (policy == nullptr) return;
  identity::VerifyRequest request;
  request.chain = session.info.chain;
  request.now = clock.unix_time();
  request.peer_dials = session.role == Role::acceptor;
  request.expected = session.expected_peer;
  const identity::VerifyOutcome outcome = policy->verify(request);
  if (const auto* rejection = std::get_if<identity::Rejection>(&outcome)) {
    session.connection->close(now, AppError::revoked, rejection->reason);
    session.finish(
        now, {CloseCause::verify_refused, static_cast<std::uint64_t>(AppError::revoked), rejection->reason},
        true);
    keep_books(now, session);
  }
}

// ---------------------------------------------------------------------------------------------- dialling

Duration Endpoint::Impl::first_round_trip(const Route& route, Duration known) {
  const IpAddress& ip = route.remote.ip;
  const bool near =
      known.count() > 0 ? known <= kNearRoundTrip : ip.is_private() || ip.is_link_local() || ip.is_loopback();
  return near ? kNearRoundTrip : std::max<Duration>(known, kDirectRoundTrip);
}

ConnectionOptions Endpoint::Impl::connection_options(Role role) const {
  ConnectionOptions made = options.defaults;
  made.role = role;
  made.blocks = blocks;
  // One side's keep-alive holds both sides' idle timers.
  if (made.keep_alive.count() == 0 && role == Role::dialler) made.keep_alive = options.path_keepalive;
  return made;
}

Result<std::unique_ptr<Connection>> Endpoint::Impl::connect(Instant now, const DialOptions& dial,
                                                            Network& network, PathLabels labels) {
  ConnectionOptions made = connection_options(Role::dialler);
  made.alpn = std::string(dial.alpn);
  made.server_name = dial.server_name;
  if (made.server_name.empty() && !network.options.server_names.empty()) {
    made.server_name = network.options.server_names.front();
  }
  made.tls = dial.with_certificate ? network.tls : guest_tls;
  made.policy = dial.policy ? dial.policy : network.options.policy;
  made.expected_peer = dial.expected_peer;
  made.network = dial.network;
  made.initial_rtt = dial.initial_rtt;
  Duration known{0};
  if (dial.expected_peer && dial.with_certificate && dial.alpn == kAlpn) {
    if (const auto ticket = tickets.find({dial.network.value, *dial.expected_peer});
        ticket != tickets.end()) {
      made.ticket = ticket->second.ticket;
      known = ticket->second.round_trip;
    }
  }
  if (made.initial_rtt.count() == 0 && dial.kind == PathKind::direct) {
    made.initial_rtt = first_round_trip(dial.route, known);
  }
  return Connection::dial(now, std::move(made), random, clock, options.static_secret, labels.receive,
                          labels.transmit, SyntheticPath{0, 0});
}

Result<SessionId> Endpoint::dial(Instant now, const DialOptions& options) {
  return impl_->dial(now, options);
}

Result<SessionId> Endpoint::Impl::dial(Instant now, const DialOptions& dial) {
  Network* network = network_of(dial.network);
  if (network == nullptr) return Error{ErrorKind::not_found, "dial: no such network"};
  if (dial.with_certificate && network->tls == nullptr) {
    return Error{ErrorKind::invalid_argument,
                 "dial: network " + network->options.name + ": " + network->error};
  }
  if (counters.sessions >= options.limits.sessions) {
    return Error{ErrorKind::limit_reached,
                 "dial: as many sessions as the limit allows: close some or raise it"};
  }
  if (dial.spares.size() >= kMaxPaths)
    return Error{ErrorKind::invalid_argument, "dial: too many spare paths"};
  const std::uint32_t slot = take_slot();
  const SessionId id{slot, slots[slot].generation};
  auto session = std::make_unique<Session::Impl>(*this, id, dial.network, Role::dialler);
  Path path;
  path.kind = dial.kind;
  path.route = dial.route;
  path.has_route = path.agreed = true;
  path.pinned = !dial.route.local.is_unspecified() || dial.route.interface_index != 0;
  bool claimed = false;
  for (unsigned i = 0; i < (dial.labels ? 1 : kLabelTries) && !claimed; ++i) {
    path.transmit = dial.labels ? dial.labels->transmit : random_label();
    path.receive = dial.labels ? dial.labels->receive : random_label();
    claimed = session->claim_path(path);
  }
  if (!claimed) {
    free_slots.push_back(slot);
    return Error{ErrorKind::already_exists, "dial: receive label is taken: set the path up with another"};
  }
  session->paths.add(path);
  for (const SparePath& spare : dial.spares) {
    Path next;
    next.id = static_cast<PathId>(session->paths.all().size());
    next.kind = spare.kind;
    next.route = spare.route;
    next.has_route = next.agreed = true;
    next.transmit = spare.labels.transmit;
    next.receive = spare.labels.receive;
    if (session->claim_path(next)) session->paths.add(next);
  }
  session->canonical_transmit = path.transmit;
  session->canonical_receive = path.receive;
  auto connection = connect(now, dial, *network, {path.transmit, path.receive});
  if (!connection) {
    session->release_labels();
    free_slots.push_back(slot);
    return connection.error().with_context("dial");
  }
  session->connection = std::move(connection).value();
  session->info.id = id;
  session->info.network = dial.network;
  session->info.alpn = std::string(dial.alpn);
  session->context = dial.context;
  session->expected_peer = dial.expected_peer;
  session->policy = dial.policy;
  session->dialled_at = now;
  session->carry_retry = now + kFirstTurn;
  if (dial.kind == PathKind::direct) by_transmit[path.transmit.wire] = id;
  Session::Impl& placed = *session;
  place(std::move(session));
  counters.dialled += 1;
  if (dial.alpn == kAlpn) index_peer(placed);
  arm(placed);
  touch(placed);
  return id;
}

// ---------------------------------------------------------------------------------------------- look-ups

Session::Impl* Endpoint::Impl::held(SessionId id) {
  if (id.index >= slots.size() || slots[id.index].generation != id.generation) return nullptr;
  Session* session = slots[id.index].session.get();
  return session == nullptr ? nullptr : &session->impl();
}

Session::Impl* Endpoint::Impl::live(SessionId id) {
  Session::Impl* session = held(id);
  return session != nullptr && session->is_live() ? session : nullptr;
}

Session* Endpoint::find(SessionId id) {
  const Session::Impl* session = impl_->held(id);
  if (session == nullptr) return nullptr;
  // A session that ended can be looked at until the event after its session_closed is polled.
  if (!session->is_live() && session->closed_told && impl_->told_closed != id) return nullptr;
  return impl_->slots[id.index].session.get();
}

Session* Endpoint::find_peer(NetworkId network, const identity::PeerId& peer) {
  const auto known = impl_->peers.find({network.value, peer});
  if (known == impl_->peers.end()) return nullptr;
  Session::Impl* best = nullptr;
  const auto rank = [](const Session::Impl& one) {
    return std::pair{one.phase == Phase::established ? (one.superseded || one.linger ? 1 : 2) : 0,
                     one.established_at};
  };
  for (const SessionId id : known->second) {
    Session::Impl* one = impl_->live(id);
    if (one != nullptr && (best == nullptr || rank(*one) > rank(*best))) best = one;
  }
  return best == nullptr ? nullptr : impl_->slots[best->id.index].session.get();
}

std::vector<SessionId> Endpoint::sessions() const {
  std::vector<SessionId> all;
  for (const Impl::Slot& slot : impl_->slots) {
    if (slot.session && slot.session->impl().is_live()) all.push_back(slot.session->impl().id);
  }
  return all;
}

const CloseReason* Endpoint::close_reason(SessionId id) const {
  const Session::Impl* session = impl_->held(id);
  return session != nullptr && !session->is_live() ? &session->close_reason : nullptr;
}

// ---------------------------------------------------------------------------------------------- other
// commands

Result<> Endpoint::punch(Instant now, const Route& route, ByteView bytes) {
  Impl& self = *impl_;
  if (bytes.size() > kMaxPunch) return Error{ErrorKind::invalid_argument, "punch: more than 1200 bytes"};
  Impl::Punches& target = self.punches[route.remote];
  if (now >= target.since + 1s) target = {now, 0};
  if (target.count >= kPunchesPerSecond || self.punches.size() > kMaxPunchTargets) {
    return Error{ErrorKind::limit_reached, "punch: too many to this address: wait a second"};
  }
  ++target.count;
  self.send_raw(route, 0, to_bytes(bytes));
  return {};
}

void Endpoint::handle_send_too_large(Instant now, const Route& route, std::size_t size) {
  for (const Impl::Slot& slot : impl_->slots) {
    if (!slot.session || !slot.session->impl().is_live()) continue;
    Session::Impl& session = slot.session->impl();
    if (session.current().route.remote == route.remote) session.handle_send_too_large(now, size);
  }
}

void Endpoint::handle_local_change(Instant now) {
  for (const Impl::Slot& slot : impl_->slots) {
    if (slot.session) slot.session->impl().handle_local_change(now);
  }
}

void Endpoint::close_all(Instant now, AppError code) {
  for (const Impl::Slot& slot : impl_->slots) {
    if (slot.session) slot.session->impl().close_now(now, code, "node stops");
  }
}

void Endpoint::set_accepting(bool accept) {
  impl_->options.accept = accept;
}

Result<> Endpoint::add_offer(Instant now, const OfferOptions& offer) {
  Impl& self = *impl_;
  if (self.offers_used >= self.options.limits.offers) {
    return Error{ErrorKind::limit_reached, "offer: as many as the limit allows wait already"};
  }
  auto free =
      std::find_if(self.offers.begin(), self.offers.end(), [](const Impl::Offer& one) { return !one.used; });
  const auto index = static_cast<std::uint32_t>(free - self.offers.begin());
  if (!self.table.claim(offer.labels.receive, {forward::TargetKind::offer, 0, index})) {
    return Error{ErrorKind::already_exists, "offer: label is taken"};
  }
  if (free == self.offers.end()) {
    self.offers.push_back({true, offer});
  } else {
    *free = {true, offer};
  }
  ++self.offers_used;
  self.next_sweep = std::min(self.next_sweep, now + 1s);
  return {};
}

bool Endpoint::remove_offer(Label receive) {
  const forward::Target target = impl_->table.find(receive);
  if (target.kind != forward::TargetKind::offer) return false;
  impl_->table.release(receive);
  impl_->offers[target.index].used = false;
  --impl_->offers_used;
  return true;
}

forward::Forwarder& Endpoint::forwarder() {
  return impl_->forwarder;
}
const Endpoint::Counters& Endpoint::counters() const {
  return impl_->counters;
}

}  // namespace ravine::session
