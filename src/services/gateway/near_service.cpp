#include "services/gateway/near_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>

#include "host/clock.h"
#include "services/gateway/near_service_impl.h"

namespace ravine::services {
namespace {

constexpr Duration kResolveAgain = 30s;
constexpr Duration kStopPatience = 2s;
constexpr std::size_t kMaxKept = 64u << 10;  // bytes of a body that is kept for the other way

constexpr Duration kLook = 10ms;

// Calls `done` when no client is connected any more, or patience ends.
void wait_for_clients(const std::weak_ptr<NearService::Impl>& weak, Instant until,
                      const std::shared_ptr<boost::asio::steady_timer>& timer,
                      const std::shared_ptr<std::function<void()>>& done) {
  timer->expires_after(kLook);
  timer->async_wait([=](boost::system::error_code error) {
    const auto impl = weak.lock();
    if (error || !impl) return;
    if (impl->server->counters().active == 0 || host::monotonic_now() >= until) return (*done)();
    wait_for_clients(weak, until, timer, done);
  });
}

}  // namespace

NearService::Impl::Impl(GatewayContext given, NearServiceOptions wanted)
    : context(std::move(given)),
      options(std::move(wanted)),
      log(context.log.named("near")),
      resolver(context.loop) {}

Result<> NearService::Impl::start(const PairingStore& store) {
  const bool beyond = std::any_of(options.listen.begin(), options.listen.end(),
                                  [](const SocketAddress& address) { return !address.ip.is_loopback(); });
  if (beyond && !options.allow_remote)
    return Error{ErrorKind::refused,
                 "listening beyond loopback lets everybody who reaches the port use the link; give "
                 "--allow-remote if that is meant, or listen on 127.0.0.1"};
  auto made = host::DeadlineTimer::make(context.loop, [this] { handle_timer(); });
  if (!made) return made.error();
  timer = std::move(*made);
  for (NearPeer& config : options.peers) {
    auto peer = std::make_unique<Peer>();
    peer->config = config;
    const std::size_t index = peers.size();
    peers.push_back(std::move(peer));
    if (config.hosts.empty()) table.set_default(index);
    for (const std::string& host : config.hosts)
      if (auto added = table.add(host, index); !added) return added;
    if (auto opened = open_peer(store, *peers.back()); !opened) return opened;
  }
  http::HttpServerOptions http;
  http.listen = options.listen;
  http.max_body = options.tuning.max_body;
  server = std::make_unique<http::HttpServer>(
      context.loop, std::move(http),
      [this](HttpId id, HttpRequest request) { handle_request(id, std::move(request)); },
      [this](HttpId id) { handle_gone(id); }, log);
  if (options.coap.enabled()) {
    auto made_coap = CoapNear::start(
        context, options.coap, options.tuning, options.gateway_timeout,
        [this](HttpId id, HttpResponse response) { server->respond(id, std::move(response)); });
    if (!made_coap) return made_coap.error();
    coap = std::move(*made_coap);
  }
  auto started = server->start();
  if (!started) return started.error();
  bound = std::move(*started);
  for (std::size_t i = 0; i < peers.size(); ++i) {
    resolve(i);
    turn(i);
  }
  return {};
}

Result<> NearService::Impl::open_transport(Peer& peer) {
  if (peer.config.make_transport) {
    peer.transport = peer.config.make_transport();
    return {};
  }
  const StoredPairing& pairing = peer.paired->keys().state().pairing();
  std::string where = peer.config.peer;
  if (where.empty() && pairing.code.address && !pairing.made_here)
    where = fmt::format("{}:{}", pairing.code.address->host, pairing.code.address->port);
  if (where.empty())
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("where is the far gateway of pairing \"{}\"? Its code has no address; give --peer "
                    "HOST:PORT",
                    pairing.name)};
  auto spec = PeerSpec::parse(where);
  if (!spec) return spec.error();
  peer.spec = std::move(*spec);
  if (peer.spec.kind == PeerSpec::Kind::pipe) {
    auto made = make_pipe_transport(context.loop, log, {.line = peer.spec.host, .on_end = {}});
    if (!made) return made.error();
    peer.transport = std::move(*made);
  } else if (peer.spec.kind == PeerSpec::Kind::session) {
    peer.transport = make_session_transport(
        context.loop, log,
        {.control_path = context.control_path, .host = peer.spec.host, .port = peer.spec.port});
  } else {
    const auto literal = IpAddress::parse(peer.spec.host);
    // A socket on loopback alone reaches loopback alone.
    UdpTransportOptions udp;
    if (literal && literal->is_loopback()) udp.addresses = {{*literal, 0}};
    peer.transport = make_udp_transport(context.loop, std::move(udp));
  }
  return {};
}

Result<> NearService::Impl::open_peer(const PairingStore& store, Peer& peer) {
  auto state = store.open(peer.config.pairing);
  if (!state) return state.error();
  if (state->pairing().role != gateway::security::Role::near)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("the pairing \"{}\" is for a far gateway; pair again for this side",
                             peer.config.pairing)};
  PairedKeys::Security security;
  if (options.tuning.plain_point_to_point)
    security.protection = gateway::security::UframeProtection::none(
        gateway::security::UframeProtection::PointToPoint("the user said that this line has two ends only"));
  peer.paired.emplace(PairedKeys(std::move(*state), security, options.tuning.rate_bps, context.random),
                      Paired<gateway::core::NearGateway>::Parts{});
  if (auto opened = open_transport(peer); !opened) return opened;
  if (options.tuning.plain_point_to_point && !peer.transport->is_point_to_point())
    return Error{ErrorKind::refused,
                 fmt::format("{} is no line between two points: frames go encrypted there; leave out "
                             "--no-encryption-point-to-point",
                             peer.spec.to_text())};
  const bool by_address = peer.spec.kind == PeerSpec::Kind::udp && !peer.config.make_transport;
  const auto literal = IpAddress::parse(peer.spec.host);
  SocketAddress address = only_peer();
  if (by_address) address = literal ? SocketAddress{*literal, peer.spec.port} : SocketAddress{};
  peer.overhead = peer.transport->overhead_bytes(literal || !by_address ? address : only_peer());
  gateway::core::NearOptions near;
  near.matrix = options.tuning.matrix;
  near.alias_events = options.tuning.alias_events;
  near.max_body = options.tuning.max_body;
  near.more_headers = options.tuning.more_headers;
  near.suppress = options.suppress;
  near.gateway_timeout = options.gateway_timeout;
  near.max_waiting = options.max_waiting;
  Paired<gateway::core::NearGateway>::Parts parts;
  parts.link = link_options(peer);
  parts.make_coders = context.make_coders;
  parts.silence = options.tuning.silence;
  parts.make_core = [near](gateway::link::ThinLink link) {
    return gateway::core::NearGateway(near, std::move(link));
  };
  peer.paired->set_parts(std::move(parts));
  const std::size_t index = peers.size() - 1;
  peer.paired->on_replace = [this, index] { handle_replaced(index); };
  if (auto started = peer.paired->start(host::monotonic_now(), address); !started) return started;
  return peer.transport->start([this, index](const SocketAddress& from, ByteView datagram) {
    peers[index]->paired->handle_datagram(host::monotonic_now(), from, datagram);
    turn(index);
  });
}

gateway::link::LinkOptions NearService::Impl::link_options(const Peer& peer) const {
  gateway::link::LinkOptions link;
  link.rate_bps = options.tuning.rate_bps;
  link.rto = options.tuning.rto;
  link.overhead_bytes = peer.overhead;
  link.max_frame = peer.transport->max_frame();
  link.max_message = std::max(link.max_message, options.tuning.max_body * 2);
  link.max_buffered = std::max(link.max_buffered, options.tuning.max_body * 4);
  // One far gateway may serve many: what is repeated says whose it is, should an address have changed.
  link.name_connection = !peer.transport->is_point_to_point();
  return gateway::core::link_options(std::move(link), options.tuning.matrix, options.tuning.alias_events);
}

// Looks the far gateway's name up, now and whenever it has been silent for long.
void NearService::Impl::resolve(std::size_t index) {
  Peer& peer = *peers[index];
  if (peer.spec.kind != PeerSpec::Kind::udp || peer.config.make_transport || peer.resolving) return;
  if (IpAddress::parse(peer.spec.host)) return;
  peer.resolving = true;
  resolver.resolve(peer.spec.host, peer.spec.port, [this, index](Result<std::vector<SocketAddress>> found) {
    Peer& at = *peers[index];
    at.resolving = false;
    at.resolve_at = host::monotonic_now() + kResolveAgain;
    if (!found || found->empty()) {
      at.resolve_error = found ? "no address" : found.error().message;
    } else {
      at.resolve_error.clear();
      const auto& now_at = at.paired->peer();
      if (std::find(found->begin(), found->end(), now_at) == found->end())
        at.paired->set_peer(found->front());
    }
    turn(index);
  });
}

void NearService::Impl::handle_request(HttpId id, HttpRequest request) {
  if (coap && coap->is_ours(request.target) && !stopping) return coap->handle_request(id, std::move(request));
  const std::string_view host = gateway::core::header_value(request.headers, "host");
  const auto index = table.find(host);
  Exchange exchange;
  exchange.matrix = options.tuning.matrix && gateway::core::classify(request.method, request.target).matrix;
  exchange.started = host::monotonic_now();
  exchange.peer = index.value_or(0);
  const bool matrix = exchange.matrix;
  if (!index || stopping) {
    server->respond(id, gateway::core::error_response(
                            matrix, stopping ? 503 : 502,
                            stopping ? "the gateway is shutting down"
                                     : "no far gateway serves this Host; see --route HOST=PAIRING"));
    return;
  }
  Peer& peer = *peers[*index];
  if (!options.fallback.empty() && request.body.size() <= kMaxKept) exchange.copy = request;
  const bool other_way = goes_by_fallback(exchange.started, peer, exchange);
  const Instant now = exchange.started;
  exchanges.emplace(id, std::move(exchange));
  if (other_way && fall_back(id, request)) return;
  enter_link(now, peer, id, std::move(request));
  turn(*index);
}

void NearService::Impl::enter_link(Instant now, Peer& peer, HttpId id, HttpRequest request) {
  if (auto* core = peer.paired->core()) return core->handle_request(now, id, std::move(request));
  if (peer.waiting.size() >= options.max_waiting)
    return refuse(id, 503, "too many requests wait for the other gateway");
  peer.waiting.push_back({id, std::move(request)});
}

void NearService::Impl::handle_gone(HttpId id) {
  const auto at = exchanges.find(id);
  if (at == exchanges.end() && coap) coap->withdraw(id);
  if (at == exchanges.end()) return;
  Peer& peer = *peers[at->second.peer];
  const std::size_t index = at->second.peer;
  std::erase_if(peer.waiting, [id](const Waiting& one) { return one.id == id; });
  for (const auto& [base, client] : fallbacks) client->cancel(id);
  exchanges.erase(at);
  if (auto* core = peer.paired->core()) core->withdraw(host::monotonic_now(), id);
  turn(index);
}

// New keys: what is under way under the old ones gets no answer. What may run twice goes again.
void NearService::Impl::handle_replaced(std::size_t index) {
  Peer& peer = *peers[index];
  peer.past = sum_of(peer.past, peer.paired->core()->stats());
  std::vector<HttpId> open;
  for (const auto& [id, exchange] : exchanges)
    if (exchange.peer == index && !exchange.by_fallback) open.push_back(id);
  const auto& waiting = peer.waiting;
  for (const HttpId id : open) {
    if (std::any_of(waiting.begin(), waiting.end(), [id](const Waiting& one) { return one.id == id; }))
      continue;
    refuse(id, 503, "the other gateway has lost its state and new keys were made; send the request again");
  }
}

void NearService::Impl::turn(std::size_t index) {
  Peer& peer = *peers[index];
  const Instant now = host::monotonic_now();
  auto& paired = *peer.paired;
  if (auto* core = paired.core()) {
    while (!peer.waiting.empty()) {
      Waiting first = std::move(peer.waiting.front());
      peer.waiting.pop_front();
      core->handle_request(now, first.id, std::move(first.request));
    }
  }
  while (auto transmit = paired.poll_transmit(now)) peer.transport->send(transmit->to, transmit->bytes);
  if (auto* core = paired.core()) {
    while (auto done = core->poll_answer()) answer(done->id, std::move(done->response));
  }
  arm();
}

void NearService::Impl::handle_timer() {
  const Instant now = host::monotonic_now();
  for (std::size_t i = 0; i < peers.size(); ++i) {
    Peer& peer = *peers[i];
    if (peer.paired->next_deadline().at <= now) peer.paired->handle_timeout(now);
    if (!options.fallback.empty()) move_to_fallback(now, i);
    expire(now, peer);
    if (peer.resolve_at <= now) {
      peer.resolve_at = now + kResolveAgain;
      const bool quiet = peer.paired->peer().port == 0 || is_down(now, peer);
      if (quiet) resolve(i);
    }
    turn(i);
  }
}

// Requests that wait for keys.
void NearService::Impl::expire(Instant now, Peer& peer) {
  while (!peer.waiting.empty()) {
    const auto at = exchanges.find(peer.waiting.front().id);
    if (at != exchanges.end() && at->second.started + options.gateway_timeout > now) break;
    const HttpId id = peer.waiting.front().id;
    peer.waiting.pop_front();
    refuse(id, 504, silence_reason(now, peer));
  }
}

void NearService::Impl::arm() {
  Instant at = Instant::never();
  for (const auto& peer : peers) {
    at = std::min({at, peer->paired->next_deadline().at, peer->resolve_at});
    if (!peer->waiting.empty()) {
      const auto first = exchanges.find(peer->waiting.front().id);
      if (first != exchanges.end()) at = std::min(at, first->second.started + options.gateway_timeout);
    }
    const Instant silent = peer->paired->silent_since();
    if (!options.fallback.empty() && !silent.is_never() && !is_down(host::monotonic_now(), *peer))
      at = std::min(at, silent + options.fallback_after);
  }
  timer->arm(at);
}

void NearService::Impl::answer(HttpId id, HttpResponse response) {
  const auto at = exchanges.find(id);
  if (at == exchanges.end()) return;
  const Exchange exchange = std::move(at->second);
  exchanges.erase(at);
  Peer& peer = *peers[exchange.peer];
  const Instant now = host::monotonic_now();
  // Nothing authentic ever came, so this is no server's word.
  if (response.status == 504 && !exchange.by_fallback && peer.paired->last_heard().is_never())
    response = gateway::core::error_response(exchange.matrix, 504, silence_reason(now, peer));
  server->respond(id, std::move(response));
}

void NearService::Impl::refuse(HttpId id, std::uint16_t status, std::string_view reason) {
  const auto at = exchanges.find(id);
  if (at == exchanges.end()) return;
  ++peers[at->second.peer]->refused;
  answer(id, gateway::core::error_response(at->second.matrix, status, reason));
}

Result<std::unique_ptr<NearService>> NearService::start(GatewayContext context, const PairingStore& store,
                                                        NearServiceOptions options) {
  auto impl = std::make_shared<Impl>(std::move(context), std::move(options));
  if (auto started = impl->start(store); !started) return started.error();
  return std::unique_ptr<NearService>(new NearService(std::move(impl)));
}

NearService::NearService(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
NearService::~NearService() = default;

void NearService::stop(std::function<void()> done) {
  impl_->stopping = true;
  for (std::size_t i = 0; i < impl_->peers.size(); ++i) impl_->peers[i]->waiting.clear();
  std::vector<HttpId> open;
  for (const auto& [id, exchange] : impl_->exchanges) open.push_back(id);
  for (const HttpId id : open)
    impl_->refuse(id, 503, "the gateway is shutting down; what was sent is kept and goes on after it");
  impl_->server->stop();
  // The server closes connections behind their responses; slow readers do not hold us up.
  wait_for_clients(impl_, host::monotonic_now() + kStopPatience,
                   std::make_shared<boost::asio::steady_timer>(impl_->context.loop),
                   std::make_shared<std::function<void()>>(std::move(done)));
}

std::vector<SocketAddress> NearService::addresses() const {
  return impl_->bound;
}
boost::json::object NearService::status() const {
  return impl_->status();
}
bool NearService::is_idle() const {
  for (const auto& peer : impl_->peers) {
    const auto* core = peer->paired->core();
    if (core == nullptr || !core->link().is_idle()) return false;
  }
  return impl_->exchanges.empty() && (!impl_->coap || impl_->coap->waiting() == 0);
}

}  // namespace ravine::services
