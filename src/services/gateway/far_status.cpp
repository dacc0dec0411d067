// What the far service tells.
#include "host/clock.h"
#include "services/gateway/far_service_impl.h"

namespace ravine::services {

namespace json = boost::json;

json::object FarService::Impl::peer_json(Instant now, const Peer& peer) const {
  const auto& paired = *peer.paired;
  const auto* core = paired.core();
  const auto stats = core != nullptr ? sum_of(peer.past, core->stats()) : peer.past;
  const auto total = total_of(stats);
  json::object out = pairing_json(paired.keys().state().pairing());
  out["peer_address"] = paired.peer().port != 0 ? json::value(paired.peer().to_text()) : json::value();
  out["protection"] = core != nullptr ? json::value(core->link().channel().options().protection.to_text())
                                      : json::value("no keys yet");
  out["generation"] = core != nullptr ? core->link().channel().generation() : 0;
  out["link"] = link_json(now, core != nullptr ? &core->link() : nullptr,
                          {.rate_bps = options.tuning.rate_bps,
                           .overhead_bytes = overhead,
                           .http_bytes = total.request_bytes + total.response_bytes,
                           .handshakes = paired.handshakes(),
                           .last_heard = paired.last_heard(),
                           .silent_since = paired.silent_since()});
  add_routes(out, stats, options.tuning.rate_bps);
  out["handshakes_refused"] = paired.keys().agreement().refused();
  if (!paired.last_error().empty()) out["store_error"] = paired.last_error();
  return out;
}

json::object FarService::Impl::status() const {
  const Instant now = host::monotonic_now();
  json::array list;
  for (const auto& peer : peers) list.push_back(peer_json(now, *peer));
  const auto& counters = upstream->counters();
  return {{"role", "far"},
          {"transport", transport_json(*transport)},
          {"unknown_datagrams", unknown},
          {"handshakes_over_rate", handshakes_refused},
          {"coap_datagrams", coap_datagrams},
          {"coap", coap ? json::value(coap->status()) : json::value()},
          {"upstream", json::object{{"base", options.upstream.base},
                                    {"verified", options.upstream.tls.verify},
                                    {"requests", counters.requests},
                                    {"responses", counters.responses},
                                    {"failed", counters.failed},
                                    {"waiting", counters.waiting},
                                    {"connections", counters.open},
                                    {"last_error", upstream->last_error()}}},
          {"pairings", std::move(list)}};
}

json::object FarService::Impl::well_known() const {
  json::array coders;
  for (const auto& coder : context.make_coders())
    coders.push_back(json::object{{"name", json::string(coder->name())}, {"id", encode_hex(coder->id())}});
  json::object out{{"version", 1},
                   {"transport", "udp"},
                   {"coders", std::move(coders)},
                   {"matrix", options.tuning.matrix},
                   {"alias_events", options.tuning.alias_events}};
  std::string address = options.public_address;
  if (address.empty() && !transport->addresses().empty()) address = transport->addresses().front().to_text();
  out["address"] = address;
  if (options.tuning.rate_bps > 0) out["rate_bps"] = options.tuning.rate_bps;
  return out;
}

}  // namespace ravine::services
