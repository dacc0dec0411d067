#include "services/gateway/gateway_status.h"

#include "services/gateway/gateway_context.h"

namespace ravine::services {
namespace {

namespace json = boost::json;
namespace core = gateway::core;

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

json::value ratio_of(std::uint64_t http, std::uint64_t link) {
  return link == 0 ? json::value() : json::value(static_cast<double>(http) / static_cast<double>(link));
}

// All but what waits now.
void add_to(core::RouteCounters& sum, const core::RouteCounters& more) {
  sum.exchanges += more.exchanges;
  sum.failed += more.failed;
  sum.local += more.local;
  sum.request_bytes += more.request_bytes;
  sum.response_bytes += more.response_bytes;
  sum.link_bytes_out += more.link_bytes_out;
  sum.link_bytes_in += more.link_bytes_in;
  sum.copies += more.copies;
  sum.time += more.time;
}

void add_counters(json::object& out, const core::RouteCounters& route, double rate_bps) {
  const std::uint64_t http = route.request_bytes + route.response_bytes;
  const std::uint64_t link = route.link_bytes_out + route.link_bytes_in;
  out["exchanges"] = route.exchanges;
  out["failed"] = route.failed;
  out["local"] = route.local;
  out["waiting"] = route.waiting;
  out["request_bytes"] = route.request_bytes;
  out["response_bytes"] = route.response_bytes;
  out["link_bytes_out"] = route.link_bytes_out;
  out["link_bytes_in"] = route.link_bytes_in;
  out["link_ratio"] = ratio_of(http, link);
  out["link_seconds"] = rate_bps > 0 ? json::value(static_cast<double>(link) * 8 / rate_bps) : json::value();
  out["retransmissions"] = route.copies;
  out["mean_seconds"] = route.exchanges == 0
                            ? json::value()
                            : json::value(seconds(route.time) / static_cast<double>(route.exchanges));
}

}  // namespace

core::GatewayStats sum_of(const core::GatewayStats& before, const core::GatewayStats& now) {
  core::GatewayStats sum = now;
  for (std::size_t i = 0; i < sum.routes.size(); ++i) add_to(sum.routes.at(i), before.routes.at(i));
  sum.pushes += before.pushes;
  sum.push_bytes += before.push_bytes;
  return sum;
}

core::RouteCounters total_of(const core::GatewayStats& stats) {
  core::RouteCounters total;
  for (const core::RouteCounters& route : stats.routes) {
    add_to(total, route);
    total.waiting += route.waiting;
  }
  return total;
}

void add_routes(json::object& out, const core::GatewayStats& stats, double rate_bps) {
  json::array routes;
  for (std::size_t i = 0; i < stats.routes.size(); ++i) {
    const core::RouteCounters& route = stats.routes.at(i);
    if (route.exchanges + route.waiting == 0) continue;
    json::object one{{"kind", json::string(core::to_text(static_cast<core::RouteKind>(i)))}};
    add_counters(one, route, rate_bps);
    routes.push_back(std::move(one));
  }
  add_counters(out, total_of(stats), rate_bps);
  out["routes"] = std::move(routes);
  out["pushes"] = stats.pushes;
  out["push_bytes"] = stats.push_bytes;
  out["clients"] = stats.clients;
  out["streams"] = stats.streams;
}

json::object link_json(Instant now, const gateway::link::ThinLink* link, const LinkFacts& facts) {
  json::object out{{"keys", link != nullptr},
                   {"rate_bps", facts.rate_bps},
                   {"overhead_bytes", facts.overhead_bytes},
                   {"http_bytes", facts.http_bytes},
                   {"handshakes", facts.handshakes}};
  out["heard_seconds_ago"] =
      facts.last_heard.is_never() ? json::value() : json::value(seconds(now - facts.last_heard));
  out["silent_seconds"] = facts.silent_since.is_never() ? 0.0 : seconds(now - facts.silent_since);
  if (link == nullptr) return out;
  const auto& stats = link->stats();
  const std::uint64_t out_air = stats.bytes_out + stats.frames_out * facts.overhead_bytes;
  const std::uint64_t in_air = stats.bytes_in + stats.frames_in * facts.overhead_bytes;
  out["air_bytes_out"] = out_air;
  out["air_bytes_in"] = in_air;
  out["ratio"] = ratio_of(facts.http_bytes, out_air + in_air);
  out["air_seconds"] = facts.rate_bps > 0
                           ? json::value(static_cast<double>(out_air + in_air) * 8 / facts.rate_bps)
                           : json::value();
  out["coder"] = json::string(link->coder_name());
  out["frames_out"] = stats.frames_out;
  out["frames_in"] = stats.frames_in;
  out["retransmissions"] = stats.copies_out;
  out["duplicates_in"] = stats.duplicates_in;
  out["dropped_in"] = stats.dropped_in;
  out["acknowledgements_out"] = stats.acks_out;
  out["resyncs"] = stats.resyncs;
  out["text_bytes_out"] = stats.text_bytes_out;
  out["coded_bytes_out"] = stats.coded_bytes_out;
  out["text_bytes_in"] = stats.text_bytes_in;
  out["waiting"] = link->waiting();
  out["in_flight"] = link->in_flight();
  const auto smoothed = link->rto().smoothed();
  out["rtt_seconds"] = smoothed ? json::value(seconds(*smoothed)) : json::value();
  json::array transfers;
  for (const auto& transfer : link->transfers())
    transfers.push_back(
        json::object{{"direction", transfer.incoming ? "in" : "out"},
                     {"bytes", transfer.bytes},
                     {"total", transfer.total == 0 ? json::value() : json::value(transfer.total)}});
  out["transfers"] = std::move(transfers);
  return out;
}

json::object transport_json(const Transport& transport) {
  const TransportCounters& counters = transport.counters();
  return {{"name", transport.describe()},
          {"datagrams_out", counters.datagrams_out},
          {"datagrams_in", counters.datagrams_in},
          {"bytes_out", counters.bytes_out},
          {"bytes_in", counters.bytes_in},
          {"send_failures", counters.send_failures},
          {"garbage_bytes_in", counters.garbage_in},
          {"fault", transport.fault()}};
}

json::object pairing_json(const StoredPairing& pairing) {
  return {{"name", pairing.name},
          {"role", pairing.role == gateway::security::Role::near ? "near" : "far"},
          {"keys_from", !pairing.peer.empty()                  ? "certificates"
                        : pairing.keys == KeySource::handshake ? "handshake"
                                                               : "code"},
          {"peer", pairing.peer},
          {"made_here", pairing.made_here},
          {"used", pairing.begun}};
}

}  // namespace ravine::services
