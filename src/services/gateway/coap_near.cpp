#include "services/gateway/coap_near.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>

#include "gateway/coap/uri.h"
#include "host/clock.h"

namespace ravine::services {
namespace {

namespace json = boost::json;
namespace proxy = gateway::coap_proxy;
namespace core = gateway::core;

constexpr Duration kResolveAgain = 300s;
constexpr Duration kResolveFailed = 10s;

}  // namespace

std::string dumped(ByteView body) {
  constexpr std::size_t kDumped = 2048;
  std::string out;
  for (const std::uint8_t byte : body.first(std::min(body.size(), kDumped)))
    out += byte >= 0x20 && byte < 0x7f ? std::string(1, static_cast<char>(byte))
                                       : fmt::format("\\x{:02x}", byte);
  return body.size() > kDumped ? out + fmt::format("… ({} bytes)", body.size()) : out;
}

Result<proxy::CoapServer> parse_coap_server(std::string_view text) {
  const auto uri = gateway::coap::parse_uri(fmt::format("coap://{}", text));
  if (!uri || uri->target != "/" || text.ends_with('/'))
    return Error{ErrorKind::invalid_argument,
                 fmt::format("'{}' is no CoAP server; write HOST or HOST:PORT", text)};
  proxy::CoapServer server;
  server.host = uri->host;
  if (uri->port != 0) server.port = uri->port;
  if (const auto literal = IpAddress::parse(server.host)) {
    if (literal->is_multicast() || literal->is_unspecified())
      return Error{ErrorKind::invalid_argument, fmt::format("'{}' is no address of one server", text)};
    server.address = {*literal, server.port};
  }
  return server;
}

CoapNear::CoapNear(const GatewayContext& context, Respond respond)
    : context_(context), respond_(std::move(respond)), log_(context.log.named("coap")) {}

CoapNear::~CoapNear() {
  if (transport_) transport_->stop();
}

Result<std::unique_ptr<CoapNear>> CoapNear::start(const GatewayContext& context,
                                                  const CoapNearOptions& options, const LinkTuning& tuning,
                                                  Duration timeout, Respond respond) {
  std::unique_ptr<CoapNear> near(new CoapNear(context, std::move(respond)));
  if (auto prepared = near->prepare(options, tuning, timeout); !prepared) return prepared.error();
  return near;
}

Result<> CoapNear::prepare(const CoapNearOptions& options, const LinkTuning& tuning, Duration timeout) {
  proxy::HttpToCoapOptions made;
  for (const std::string& text : options.servers) {
    auto server = parse_coap_server(text);
    if (!server) return server.error().with_context("--coap-server");
    made.servers.push_back(std::move(*server));
  }
  if (!options.target.empty()) {
    auto server = parse_coap_server(options.target);
    if (!server) return server.error().with_context("--coap-target");
    made.everything_to = made.servers.size();
    made.servers.push_back(std::move(*server));
  }
  made.matrix = options.matrix;
  dump_payloads_ = options.dump_payloads;
  made.gateway_timeout = timeout;
  made.limits.max_body = tuning.max_body;
  gateway::coap::EndpointOptions& endpoint = made.exchanger.endpoint;
  if (tuning.rate_bps > 0) endpoint.timing = gateway::coap::thin_link_timing(tuning.rate_bps, 28);
  endpoint.pacer.rate_bps = tuning.rate_bps;
  machine_.emplace(std::move(made), context_.random);
  transport_ = make_udp_transport(context_.loop, {});
  auto timer = host::DeadlineTimer::make(context_.loop, [this] {
    const Instant now = host::monotonic_now();
    for (std::size_t i = 0; i < resolve_at_.size(); ++i)
      if (resolve_at_[i] <= now) resolve(i);
    machine_->handle_timeout(now);
    turn();
  });
  if (!timer) return timer.error();
  timer_ = std::move(*timer);
  auto started = transport_->start([this](const SocketAddress& from, ByteView datagram) {
    machine_->handle_datagram(host::monotonic_now(), from, datagram);
    turn();
  });
  if (!started) return started;
  resolve_at_.assign(machine_->servers().size(), Instant::never());
  for (std::size_t i = 0; i < resolve_at_.size(); ++i)
    if (machine_->servers()[i].address.port == 0) resolve(i);
  return {};
}

void CoapNear::resolve(std::size_t server) {
  resolve_at_[server] = Instant::never();
  const std::string& host = machine_->servers()[server].host;
  context_.resolve(host, [this, server, weak = std::weak_ptr(alive_)](const Addresses& found) {
    if (weak.expired()) return;
    const bool good = found.ok() && !found->empty();
    if (good) machine_->set_address(server, {found->front(), machine_->servers()[server].port});
    resolve_at_[server] = host::monotonic_now() + (good ? kResolveAgain : kResolveFailed);
    turn();
  });
}

void CoapNear::handle_request(core::HttpId id, core::HttpRequest request) {
  ++requests_;
  log_.debug("{} {}", request.method, request.target.substr(0, request.target.find('?')));
  if (dump_payloads_) log_.debug("request body: {}", dumped(request.body));
  machine_->handle_request(host::monotonic_now(), id, std::move(request));
  turn();
}

void CoapNear::withdraw(core::HttpId id) {
  machine_->withdraw(id);
  turn();
}

void CoapNear::turn() {
  while (auto out = machine_->poll_transmit(host::monotonic_now())) transport_->send(out->to, out->bytes);
  while (auto answer = machine_->poll_answer()) {
    log_.debug("status {}, {} bytes", answer->response.status, answer->response.body.size());
    if (dump_payloads_) log_.debug("response body: {}", dumped(answer->response.body));
    respond_(answer->id, std::move(answer->response));
  }
  Instant at = machine_->next_deadline().at;
  for (const Instant resolve_at : resolve_at_) at = std::min(at, resolve_at);
  timer_->arm(at);
}

json::object CoapNear::status() const {
  json::array servers;
  for (const proxy::CoapServer& server : machine_->servers()) {
    const bool known = server.address.port != 0;
    servers.push_back(
        json::object{{"host", server.host},
                     {"port", server.port},
                     {"address", known ? json::value(server.address.to_text()) : json::value()}});
  }
  return {{"servers", std::move(servers)}, {"requests", requests_}, {"waiting", machine_->waiting()}};
}

}  // namespace ravine::services
