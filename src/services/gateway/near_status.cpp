// What the near service tells, and when requests go past the thin link.
#include <fmt/format.h>

#include <algorithm>

#include "host/clock.h"
#include "services/gateway/near_service_impl.h"

namespace ravine::services {
namespace {

namespace json = boost::json;

constexpr Duration kFallbackTimeout = 60s;

}  // namespace

bool NearService::Impl::is_down(Instant now, const Peer& peer) const {
  const auto& paired = *peer.paired;
  if (paired.core() == nullptr) return paired.last_heard().is_never() && !peer.waiting.empty();
  const Instant silent = paired.silent_since();
  return !silent.is_never() && now - silent >= options.fallback_after;
}

// While the other gateway is silent; now and then one request tries the link.
bool NearService::Impl::goes_by_fallback(Instant now, Peer& peer, const Exchange& exchange) {
  if (options.fallback.empty() || !exchange.copy || !is_down(now, peer)) {
    peer.tried_at = Instant::never();
    return false;
  }
  if (peer.tried_at.is_never()) peer.tried_at = now;
  if (now - peer.tried_at >= options.fallback_retry) {
    peer.tried_at = now;
    return false;
  }
  return true;
}

// Where the configuration says, or to the host that the request and the configuration both name: a request
// alone never chooses where it goes.
http::UpstreamClient* NearService::Impl::fallback_client(const Peer& peer, const HttpRequest& request) {
  std::string base = options.fallback;
  if (base == "https") {
    const std::string_view host = gateway::core::header_value(request.headers, "host");
    const bool named = std::any_of(peer.config.hosts.begin(), peer.config.hosts.end(),
                                   [host](const std::string& one) { return one == host; });
    if (!named) return nullptr;
    base = fmt::format("https://{}", host);
  }
  const auto at = fallbacks.find(base);
  if (at != fallbacks.end()) return at->second.get();
  auto made = http::UpstreamClient::make(context.loop, {.base = base, .max_body = options.tuning.max_body},
                                         context.resolve, log);
  if (!made) {
    log.warning("the fallback {} cannot be used: {}", base, made.error().message);
    return nullptr;
  }
  return fallbacks.emplace(base, std::move(*made)).first->second.get();
}

bool NearService::Impl::fall_back(HttpId id, const HttpRequest& request) {
  Exchange& exchange = exchanges.at(id);
  Peer& peer = *peers[exchange.peer];
  http::UpstreamClient* client = fallback_client(peer, request);
  if (client == nullptr) return false;
  exchange.by_fallback = true;
  ++peer.fallbacks;
  client->send(id, request, kFallbackTimeout, false,
               [this, client](http::UpstreamId done, http::UpstreamClient::Outcome outcome) {
                 handle_fallback(*client, done, std::move(outcome));
               });
  return true;
}

void NearService::Impl::handle_fallback(const http::UpstreamClient& client, HttpId id,
                                        http::UpstreamClient::Outcome outcome) {
  auto* response = std::get_if<HttpResponse>(&outcome);
  if (response != nullptr) return answer(id, std::move(*response));
  refuse(id, 502, fmt::format("neither the other gateway nor the fallback answers: {}", client.last_error()));
}

// What asks for something without changing it moves; the rest may have run on the other side and stays.
void NearService::Impl::move_to_fallback(Instant now, std::size_t index) {
  Peer& peer = *peers[index];
  if (!is_down(now, peer)) return;
  std::vector<HttpId> movable;
  for (const auto& [id, exchange] : exchanges) {
    const bool safe = exchange.copy && (exchange.copy->method == "GET" || exchange.copy->method == "HEAD");
    if (exchange.peer == index && safe && !exchange.by_fallback &&
        now - exchange.started >= options.fallback_after)
      movable.push_back(id);
  }
  for (const HttpId id : movable) {
    if (!fall_back(id, *exchanges.at(id).copy)) continue;
    std::erase_if(peer.waiting, [id](const Waiting& one) { return one.id == id; });
    if (auto* core = peer.paired->core()) core->withdraw(now, id);
  }
}

std::string NearService::Impl::silence_reason(Instant now, const Peer& peer) const {
  const std::string where = peer.config.make_transport ? std::string("the other side") : peer.spec.to_text();
  if (!peer.resolve_error.empty() && peer.paired->peer().port == 0)
    return fmt::format("the far gateway {} has no address: {}", where, peer.resolve_error);
  if (const std::string fault = peer.transport->fault(); !fault.empty())
    return fmt::format("there is no way to the far gateway {}: {}", where, fault);
  const auto* core = peer.paired->core();
  const std::uint64_t refused =
      peer.paired->keys().agreement().refused() + (core != nullptr ? core->link().stats().dropped_in : 0);
  if (refused != 0)
    return fmt::format(
        "the far gateway {} sends frames that this pairing cannot open ({} so far): the pairings "
        "differ; compare \"ravine gateway pair --list\" on both sides",
        where, refused);
  if (peer.transport->counters().datagrams_in == 0)
    return fmt::format(
        "nothing has come from the far gateway {}: check that it runs, its address, and that its "
        "pairing is this one's (\"ravine gateway pair --list\" on both sides)",
        where);
  if (!peer.paired->last_heard().is_never())
    return fmt::format("the far gateway {} was heard last {} s ago", where,
                       (now - peer.paired->last_heard()) / 1s);
  return fmt::format("the far gateway {} did not answer", where);
}

json::object NearService::Impl::peer_json(Instant now, const Peer& peer) const {
  const auto& paired = *peer.paired;
  const auto* core = paired.core();
  const auto stats = core != nullptr ? sum_of(peer.past, core->stats()) : peer.past;
  const auto total = total_of(stats);
  json::object out = pairing_json(paired.keys().state().pairing());
  out["peer_address"] = peer.spec.kind == PeerSpec::Kind::udp && paired.peer().port != 0
                            ? json::value(paired.peer().to_text())
                            : json::value(peer.spec.host);
  out["hosts"] = json::array(peer.config.hosts.begin(), peer.config.hosts.end());
  out["transport"] = transport_json(*peer.transport);
  out["protection"] = core != nullptr ? json::value(core->link().channel().options().protection.to_text())
                                      : json::value("no keys yet");
  out["generation"] = core != nullptr ? core->link().channel().generation() : 0;
  out["link"] = link_json(now, core != nullptr ? &core->link() : nullptr,
                          {.rate_bps = options.tuning.rate_bps,
                           .overhead_bytes = peer.overhead,
                           .http_bytes = total.request_bytes + total.response_bytes,
                           .handshakes = paired.handshakes(),
                           .last_heard = paired.last_heard(),
                           .silent_since = paired.silent_since()});
  out["http_waiting"] = (core != nullptr ? core->waiting() : 0) + peer.waiting.size();
  add_routes(out, stats, options.tuning.rate_bps);
  out["refused"] = peer.refused;
  out["fallback"] = options.fallback.empty() ? json::value() : json::value(options.fallback);
  out["fallback_active"] = !options.fallback.empty() && is_down(now, peer);
  out["fallback_requests"] = peer.fallbacks;
  const bool trouble = core == nullptr || !paired.silent_since().is_never();
  out["trouble"] = trouble && (paired.last_heard().is_never() || is_down(now, peer))
                       ? json::value(silence_reason(now, peer))
                       : json::value();
  if (!paired.last_error().empty()) out["store_error"] = paired.last_error();
  return out;
}

json::object NearService::Impl::status() const {
  const Instant now = host::monotonic_now();
  json::array list, listen;
  for (const auto& peer : peers) list.push_back(peer_json(now, *peer));
  for (const SocketAddress& address : bound) listen.emplace_back(address.to_text());
  return {{"role", "near"},
          {"listen", std::move(listen)},
          {"http_requests", server->counters().requests},
          {"http_malformed", server->counters().malformed},
          {"coap", coap ? json::value(coap->status()) : json::value()},
          {"pairings", std::move(list)}};
}

}  // namespace ravine::services
