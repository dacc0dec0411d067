#include "services/gateway/coap_far.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>

#include "host/clock.h"
#include "services/gateway/coap_near.h"

namespace ravine::services {
namespace {

namespace json = boost::json;
namespace proxy = gateway::coap_proxy;
namespace coap = gateway::coap;

constexpr std::size_t kMaxMap = std::size_t{1} << 20;  // bytes of one map file
constexpr std::size_t kMaxForwards = 16;               // servers at a time beside the configured one
constexpr std::size_t kCoapMessage = 1152;             // bytes, RFC 7252 §4.6

}  // namespace

Result<proxy::PathTable> read_path_maps(const std::string& directory) {
  proxy::MapFiles files;
  for (const auto& [name, text] :
       {std::pair{"routes.json", &files.routes}, std::pair{"event_types.json", &files.event_types},
        std::pair{"query_params.json", &files.query_params}}) {
    const std::string path = directory + "/" + name;
    if (text != &files.routes && !host::file_exists(path)) continue;
    auto read = host::read_file(path, kMaxMap);
    if (!read) return read.error().with_context("--maps-dir");
    *text = as_text(*read);
  }
  auto table = proxy::PathTable::from_maps(files);
  if (!table) return table.error().with_context(directory);
  return table;
}

CoapFar::CoapFar(const GatewayContext& context, CoapFarOptions options, Surroundings surroundings, Send send)
    : context_(context),
      options_(std::move(options)),
      surroundings_(std::move(surroundings)),
      send_(std::move(send)),
      log_(context.log.named("coap")) {}

CoapFar::~CoapFar() = default;

Result<std::unique_ptr<CoapFar>> CoapFar::start(const GatewayContext& context, CoapFarOptions options,
                                                Surroundings surroundings, Send send) {
  std::unique_ptr<CoapFar> far(
      new CoapFar(context, std::move(options), std::move(surroundings), std::move(send)));
  if (auto prepared = far->prepare(); !prepared) return prepared.error();
  return far;
}

Result<> CoapFar::prepare() {
  proxy::CoapToHttpOptions options;
  options.allow_clear = options_.clear;
  options.upstream_timeout = surroundings_.upstream_timeout;
  options.mapping.matrix = surroundings_.tuning.matrix;
  options.mapping.max_body = surroundings_.tuning.max_body;
  auto hosts = proxy::AllowedHosts::parse(options_.forward);
  if (!hosts) return hosts.error().with_context("--coap-forward");
  options.mapping.forward = std::move(*hosts);
  if (!options_.maps_dir.empty()) {
    auto table = read_path_maps(options_.maps_dir);
    if (!table) return table.error();
    options.mapping.paths = std::move(*table);
  }
  coap::EndpointOptions& endpoint = options.exchanger.endpoint;
  const double rate = surroundings_.tuning.rate_bps;
  if (rate > 0) endpoint.timing = coap::thin_link_timing(rate, surroundings_.overhead_bytes);
  endpoint.pacer.rate_bps = rate;
  endpoint.pacer.overhead_bytes = surroundings_.overhead_bytes;
  endpoint.max_message = std::min(kCoapMessage, surroundings_.max_frame);
  if (surroundings_.point_to_point) endpoint.amplification = 0;
  machine_.emplace(std::move(options), context_.random);
  for (const std::string& file : options_.oscore) {
    auto keys = OscoreKeys::open(file, surroundings_.state_directory);
    if (!keys) return keys.error();
    keys_.push_back(std::move(*keys));
    machine_->add(keys_.back()->context());
  }
  auto client = http::UpstreamClient::make(context_.loop, surroundings_.upstream, context_.resolve, log_);
  if (!client) return client.error();
  upstream_ = std::move(*client);
  auto timer = host::DeadlineTimer::make(context_.loop, [this] {
    machine_->handle_timeout(host::monotonic_now());
    turn();
  });
  if (!timer) return timer.error();
  timer_ = std::move(*timer);
  return {};
}

void CoapFar::handle_datagram(const SocketAddress& from, ByteView datagram) {
  machine_->handle_datagram(host::monotonic_now(), from, datagram);
  turn();
}

void CoapFar::turn() {
  while (auto request = machine_->poll_upstream()) ask(std::move(*request));
  while (auto gone = machine_->poll_withdrawn()) {
    const auto at = calls_.find(*gone);
    if (at == calls_.end()) continue;
    at->second.client->cancel(*gone);
    calls_.erase(at);
  }
  while (auto out = machine_->poll_transmit(host::monotonic_now())) send_(out->to, out->bytes);
  timer_->arm(machine_->next_deadline().at);
}

// The client for a server that Proxy-Uri names; null when all places are busy.
http::UpstreamClient* CoapFar::client_for(const std::string& origin) {
  if (origin.empty()) return upstream_.get();
  if (const auto at = forwards_.find(origin); at != forwards_.end()) return at->second.get();
  if (forwards_.size() >= kMaxForwards) {
    const auto idle = std::find_if(forwards_.begin(), forwards_.end(), [&](const auto& entry) {
      return std::none_of(calls_.begin(), calls_.end(),
                          [&](const auto& call) { return call.second.client == entry.second.get(); });
    });
    if (idle == forwards_.end()) return nullptr;
    forwards_.erase(idle);
  }
  http::UpstreamOptions options = surroundings_.upstream;
  options.base = origin;
  options.host_header.clear();
  options.max_connections = 4;
  auto client = http::UpstreamClient::make(context_.loop, std::move(options), context_.resolve, log_);
  if (!client) return nullptr;
  return forwards_.emplace(origin, std::move(*client)).first->second.get();
}

void CoapFar::ask(proxy::CoapUpstreamRequest request) {
  http::UpstreamClient* client = client_for(request.origin);
  if (client == nullptr)
    return machine_->handle_failure(host::monotonic_now(), request.id, proxy::UpstreamError::unreachable);
  // Without the query, where tokens stand.
  log_.debug("{} {}{}", request.request.method, request.origin,
             request.request.target.substr(0, request.request.target.find('?')));
  if (options_.dump_payloads) log_.debug("request body: {}", dumped(request.request.body));
  calls_.emplace(request.id, Call{request.id, client});
  client->send(request.id, std::move(request.request), request.timeout, request.long_poll,
               [this](proxy::UpstreamId id, http::UpstreamClient::Outcome outcome) {
                 handle_outcome(id, std::move(outcome));
               });
}

void CoapFar::handle_outcome(proxy::UpstreamId id, http::UpstreamClient::Outcome outcome) {
  const auto at = calls_.find(id);
  if (at == calls_.end()) return;
  const Call call = at->second;
  calls_.erase(at);
  const Instant now = host::monotonic_now();
  if (auto* response = std::get_if<gateway::core::HttpResponse>(&outcome)) {
    log_.debug("status {}, {} bytes", response->status, response->body.size());
    if (options_.dump_payloads) log_.debug("response body: {}", dumped(response->body));
    machine_->handle_response(now, id, std::move(*response));
  } else {
    log_.debug("no response: {}", call.client->last_error());
    machine_->handle_failure(now, id, std::get<proxy::UpstreamError>(outcome));
  }
  turn();
}

json::object CoapFar::status() const {
  const proxy::CoapToHttpCounters& counters = machine_->counters();
  const coap::EndpointCounters& endpoint = machine_->exchanger().endpoint().counters();
  json::array contexts;
  for (const auto& keys : keys_) {
    contexts.push_back(json::object{{"file", keys->file()},
                                    {"sends", keys->context().seals()},
                                    {"failed_opens", keys->context().failed_opens()},
                                    {"rekey_due", keys->context().rekey_due()}});
  }
  return {{"clear", options_.clear},
          {"oscore", std::move(contexts)},
          {"forward", json::array(options_.forward.begin(), options_.forward.end())},
          {"requests", counters.requests},
          {"secured", counters.secured},
          {"refused", counters.refused},
          {"overloaded", counters.overloaded},
          {"upstream", counters.upstream},
          {"failed", counters.failed},
          {"waiting", machine_->waiting()},
          {"watched", machine_->watched()},
          {"notifications", counters.notifications},
          {"bytes_in", endpoint.bytes_in},
          {"bytes_out", endpoint.bytes_out},
          {"retransmissions", endpoint.retransmissions},
          {"malformed", endpoint.malformed}};
}

}  // namespace ravine::services
