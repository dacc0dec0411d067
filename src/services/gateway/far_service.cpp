#include "services/gateway/far_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>

#include "host/clock.h"
#include "services/gateway/far_service_impl.h"

namespace ravine::services {
namespace {

namespace core = gateway::core;
namespace security = gateway::security;

constexpr double kHandshakesPerSecond = 10, kHandshakeBurst = 50;  // each costs two X25519 or more
constexpr std::size_t kMaxAddresses = 4 * kMaxPairings;
constexpr std::string_view kWellKnown = "/.well-known/ravine-gateway";

}  // namespace

FarService::Impl::Impl(GatewayContext given, FarServiceOptions wanted)
    : context(std::move(given)),
      options(std::move(wanted)),
      log(context.log.named("far")),
      handshake_tokens(kHandshakeBurst) {}

Result<> FarService::Impl::start(const PairingStore& store) {
  auto made = host::DeadlineTimer::make(context.loop, [this] { handle_timer(); });
  if (!made) return made.error();
  timer = std::move(*made);
  options.upstream.max_body = options.tuning.max_body;
  auto client = http::UpstreamClient::make(context.loop, options.upstream, context.resolve, log);
  if (!client) return client.error();
  upstream = std::move(*client);
  if (auto opened = open_transport(); !opened) return opened;
  std::vector<std::string> names = options.pairings;
  if (names.empty() && !options.coap_only) {
    auto all = store.list();
    if (!all) return all.error();
    for (const StoredPairing& one : *all)
      if (one.role == security::Role::far) names.push_back(one.name);
  }
  if (names.empty() && !options.coap.enabled())
    return Error{ErrorKind::not_found,
                 "no near gateway is paired with this one; make a code with \"ravine gateway pair --address "
                 "HOST:PORT\" and enter it on the near side"};
  for (const std::string& name : names)
    if (auto opened = open_peer(store, name); !opened) return opened;
  if (options.coap.enabled())
    if (auto opened = start_coap(store); !opened) return opened;
  auto started = transport->start(
      [this](const SocketAddress& from, ByteView datagram) { handle_datagram(from, datagram); });
  if (!started) return started;
  return start_well_known();
}

Result<> FarService::Impl::open_transport() {
  if (options.make_transport) {
    transport = options.make_transport();
  } else if (!options.line.empty()) {
    auto made = make_pipe_transport(context.loop, log, {.line = options.line, .on_end = {}});
    if (!made) return made.error();
    transport = std::move(*made);
  } else {
    transport = make_udp_transport(context.loop, {.addresses = options.listen, .port = options.port});
  }
  if (options.tuning.plain_point_to_point && !transport->is_point_to_point())
    return Error{ErrorKind::refused,
                 "UDP is no line between two points: frames go encrypted there; leave out "
                 "--no-encryption-point-to-point"};
  const bool v6 = !options.listen.empty() && options.listen.front().ip.is_v6();
  overhead = transport->overhead_bytes(v6 ? SocketAddress{} : only_peer());
  return {};
}

Result<> FarService::Impl::open_peer(const PairingStore& store, const std::string& name) {
  auto state = store.open(name);
  if (!state) return state.error();
  if (state->pairing().role != security::Role::far)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("the pairing \"{}\" is for a near gateway; pair again for this side", name)};
  PairedKeys::Security protection;
  if (options.tuning.plain_point_to_point)
    protection.protection = security::UframeProtection::none(
        security::UframeProtection::PointToPoint("the user said that this line has two ends only"));
  core::FarOptions far;
  far.matrix = options.tuning.matrix;
  far.alias_events = options.tuning.alias_events;
  far.max_body = options.tuning.max_body;
  far.more_headers = options.tuning.more_headers;
  far.upstream_timeout = options.upstream_timeout;
  Paired<core::FarGateway>::Parts parts;
  parts.link = link_options();
  parts.make_coders = context.make_coders;
  parts.make_core = [far](gateway::link::ThinLink link) { return core::FarGateway(far, std::move(link)); };
  auto peer = std::make_unique<Peer>();
  peer->paired.emplace(PairedKeys(std::move(*state), protection, options.tuning.rate_bps, context.random),
                       std::move(parts));
  const std::size_t index = peers.size();
  peer->paired->on_replace = [this, index] {
    Peer& replaced = *peers[index];
    replaced.past = sum_of(replaced.past, replaced.paired->core()->stats());
    for (auto at = calls.begin(); at != calls.end();) {
      if (at->second.peer == index) upstream->cancel(at->first);
      at = at->second.peer == index ? calls.erase(at) : std::next(at);
    }
  };
  const bool one_end = transport->is_point_to_point();
  auto started = peer->paired->start(host::monotonic_now(), one_end ? only_peer() : SocketAddress{});
  peers.push_back(std::move(peer));
  return started;
}

gateway::link::LinkOptions FarService::Impl::link_options() const {
  gateway::link::LinkOptions link;
  link.rate_bps = options.tuning.rate_bps;
  link.rto = options.tuning.rto;
  link.overhead_bytes = overhead;
  link.max_frame = transport->max_frame();
  link.max_message = std::max(link.max_message, options.tuning.max_body * 2);
  link.max_buffered = std::max(link.max_buffered, options.tuning.max_body * 4);
  return core::link_options(std::move(link), options.tuning.matrix, options.tuning.alias_events);
}

Result<> FarService::Impl::start_coap(const PairingStore& store) {
  CoapFar::Surroundings around;
  around.upstream = options.upstream;
  around.tuning = options.tuning;
  around.upstream_timeout = options.upstream_timeout;
  around.state_directory = store.directory() + "/oscore";
  around.overhead_bytes = overhead;
  around.max_frame = transport->max_frame();
  around.point_to_point = transport->is_point_to_point();
  auto made =
      CoapFar::start(context, options.coap, std::move(around),
                     [this](const SocketAddress& to, ByteView datagram) { transport->send(to, datagram); });
  if (!made) return made.error();
  coap = std::move(*made);
  on_coap = [this](const SocketAddress& from, ByteView datagram) { coap->handle_datagram(from, datagram); };
  return {};
}

Result<> FarService::Impl::start_well_known() {
  if (options.well_known_listen.empty()) return {};
  http::HttpServerOptions http;
  http.listen = options.well_known_listen;
  http.max_body = 0;
  http.max_connections = 64;
  well_known_server = std::make_unique<http::HttpServer>(
      context.loop, std::move(http),
      [this](http::HttpId id, core::HttpRequest request) {
        const bool asked =
            request.target == kWellKnown || request.target.starts_with(std::string(kWellKnown) + "?");
        core::HttpResponse response{404, {{"content-type", "text/plain"}}, to_bytes(as_bytes("not here\n"))};
        if (asked && request.method != "GET" && request.method != "HEAD") response.status = 405;
        if (asked && response.status == 404)
          response = {200,
                      {{"content-type", "application/json"}, {"access-control-allow-origin", "*"}},
                      to_bytes(as_bytes(boost::json::serialize(well_known())))};
        well_known_server->respond(id, std::move(response));
      },
      [](http::HttpId) {}, log);
  auto started = well_known_server->start();
  if (!started) return started.error();
  well_known_bound = std::move(*started);
  return {};
}

// Which pairing a frame belongs to: a connection ID says it, else the address that its near gateway had, else
// there is only one.
std::optional<std::size_t> FarService::Impl::owner_of(const SocketAddress& from, ByteView datagram) {
  const auto frame = security::parse_frame(datagram);
  if (!frame) return std::nullopt;
  if (frame->connection) {
    for (std::size_t i = 0; i < peers.size(); ++i)
      if (peers[i]->paired->has_id(*frame->connection)) return i;
    return std::nullopt;
  }
  const auto at = by_address.find(from);
  if (at != by_address.end()) return at->second;
  if (peers.size() == 1) return 0;
  return std::nullopt;
}

bool FarService::Impl::spend_handshake(Instant now) {
  const double passed = std::chrono::duration<double>(now - tokens_at).count();
  handshake_tokens = std::min(kHandshakeBurst, handshake_tokens + passed * kHandshakesPerSecond);
  tokens_at = now;
  if (handshake_tokens < 1) return false;
  handshake_tokens -= 1;
  return true;
}

void FarService::Impl::handle_datagram(const SocketAddress& from, ByteView datagram) {
  if (datagram.empty()) return;
  if (security::frame_kind(datagram[0]) == security::FrameKind::coap) {
    ++coap_datagrams;
    if (on_coap) on_coap(from, datagram);
    return;
  }
  const auto index = owner_of(from, datagram);
  if (!index) {
    ++unknown;
    return;
  }
  const Instant now = host::monotonic_now();
  const auto frame = security::parse_frame(datagram);
  if (frame && frame->handshake && !spend_handshake(now)) {
    ++handshakes_refused;
    return;
  }
  Peer& peer = *peers[*index];
  peer.paired->handle_datagram(now, from, datagram);
  const SocketAddress& moved = peer.paired->peer();
  if (moved.port != 0 && moved != peer.address) {
    const auto old = by_address.find(peer.address);
    if (old != by_address.end() && old->second == *index) by_address.erase(old);
    if (by_address.size() < kMaxAddresses) by_address[moved] = *index;
    peer.address = moved;
  }
  turn(*index);
}

void FarService::Impl::turn(std::size_t index) {
  Peer& peer = *peers[index];
  const Instant now = host::monotonic_now();
  auto& paired = *peer.paired;
  if (auto* far = paired.core()) {
    while (auto request = far->poll_upstream()) ask(index, std::move(*request));
    while (auto withdrawn = far->poll_withdrawn()) {
      for (auto at = calls.begin(); at != calls.end(); ++at) {
        if (at->second.peer != index || at->second.id != *withdrawn) continue;
        upstream->cancel(at->first);
        calls.erase(at);
        break;
      }
    }
  }
  while (auto transmit = paired.poll_transmit(now)) transport->send(transmit->to, transmit->bytes);
  arm();
}

void FarService::Impl::ask(std::size_t index, core::UpstreamRequest request) {
  const auto id = next_call++;
  Call call;
  call.peer = index;
  call.id = request.id;
  calls.emplace(id, call);
  upstream->send(id, std::move(request.request), request.timeout, request.long_poll,
                 [this](core::UpstreamId done, http::UpstreamClient::Outcome outcome) {
                   handle_outcome(done, std::move(outcome));
                 });
}

void FarService::Impl::handle_outcome(core::UpstreamId id, http::UpstreamClient::Outcome outcome) {
  const auto at = calls.find(id);
  if (at == calls.end()) return;
  const Call call = at->second;
  calls.erase(at);
  Peer& peer = *peers[call.peer];
  auto* far = peer.paired->core();
  if (far == nullptr) return;
  const Instant now = host::monotonic_now();
  if (auto* response = std::get_if<core::HttpResponse>(&outcome)) {
    far->handle_response(now, call.id, std::move(*response));
  } else {
    if (!upstream->last_error().empty()) log.debug("upstream: {}", upstream->last_error());
    far->handle_failure(now, call.id, std::get<core::UpstreamError>(outcome));
  }
  turn(call.peer);
}

void FarService::Impl::handle_timer() {
  const Instant now = host::monotonic_now();
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (peers[i]->paired->next_deadline().at > now) continue;
    peers[i]->paired->handle_timeout(now);
    turn(i);
  }
  arm();
}

void FarService::Impl::arm() {
  Instant at = Instant::never();
  for (const auto& peer : peers) at = std::min(at, peer->paired->next_deadline().at);
  timer->arm(at);
}

Result<std::unique_ptr<FarService>> FarService::start(GatewayContext context, const PairingStore& store,
                                                      FarServiceOptions options) {
  auto impl = std::make_shared<Impl>(std::move(context), std::move(options));
  if (auto started = impl->start(store); !started) return started.error();
  return std::unique_ptr<FarService>(new FarService(std::move(impl)));
}

FarService::FarService(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
FarService::~FarService() = default;

void FarService::stop(std::function<void()> done) {
  impl_->transport->stop();
  if (impl_->well_known_server) impl_->well_known_server->stop();
  // What is under way at the server ends with us: the near side asks again when we are back.
  for (const auto& [id, call] : impl_->calls) impl_->upstream->cancel(id);
  impl_->calls.clear();
  impl_->coap.reset();
  impl_->on_coap = nullptr;
  impl_->timer->arm(Instant::never());
  boost::asio::post(impl_->context.loop, std::move(done));
}

std::vector<SocketAddress> FarService::addresses() const {
  return impl_->transport->addresses();
}
std::vector<SocketAddress> FarService::well_known_addresses() const {
  return impl_->well_known_bound;
}
boost::json::object FarService::status() const {
  return impl_->status();
}
boost::json::object FarService::well_known() const {
  return impl_->well_known();
}
void FarService::set_on_coap(OnCoap on_coap) {
  impl_->on_coap = std::move(on_coap);
}
Transport& FarService::transport() {
  return *impl_->transport;
}
http::UpstreamClient& FarService::upstream() {
  return *impl_->upstream;
}

}  // namespace ravine::services
