#include "services/service_metrics.h"

#include <utility>

namespace ravine::services {
namespace {

// One field of a counters struct that `counters` finds; 0 when it finds none.
template <class Counters>
std::function<double()> field(std::function<const Counters*()> counters, std::uint64_t Counters::* member) {
  return [counters = std::move(counters), member] {
    const Counters* found = counters();
    return found == nullptr ? 0.0 : static_cast<double>(found->*member);
  };
}

void add_proxy(Metrics& metrics, const std::function<const ProxyServer*()>& proxy) {
  using Counters = ProxyServer::Counters;
  const std::function<const Counters*()> counters = [proxy]() -> const Counters* {
    const ProxyServer* found = proxy ? proxy() : nullptr;
    return found == nullptr ? nullptr : &found->counters();
  };
  metrics.add_counter("ravine_proxy_clients_total", "Clients that connected to the proxy",
                      field(counters, &Counters::accepted));
  metrics.add_gauge("ravine_proxy_clients", "Clients whose request is under way, or an association of UDP",
                    field(counters, &Counters::active));
  const auto request = [&](const char* kind, std::uint64_t Counters::* member) {
    metrics.add_counter("ravine_proxy_requests_total", "Requests to the proxy", field(counters, member),
                        {{"kind", kind}});
  };
  request("connect", &Counters::connects);
  request("udp_associate", &Counters::associates);
  const auto failure = [&](const char* reason, std::uint64_t Counters::* member) {
    metrics.add_counter("ravine_proxy_failures_total",
                        "Clients of the proxy that did not get what they asked", field(counters, member),
                        {{"reason", reason}});
  };
  failure("not_ours", &Counters::refused);
  failure("not_opened", &Counters::failed);
  failure("malformed", &Counters::malformed);
  failure("handshake_timeout", &Counters::timed_out);
  failure("too_many_clients", &Counters::over_limit);
  failure("credentials", &Counters::denied);
}

void add_pumps(Metrics& metrics, const char* side, std::function<const PumpCounters*()> counters) {
  const auto labels = [side](const char* direction) {
    return Metrics::Labels{{"side", side}, {"direction", direction}};
  };
  metrics.add_gauge("ravine_tunnels", "TCP connections that are joined with a stream now",
                    field(counters, &PumpCounters::active), {{"side", side}});
  metrics.add_counter("ravine_tunnels_total", "TCP connections that were joined with a stream",
                      field(counters, &PumpCounters::started), {{"side", side}});
  metrics.add_counter("ravine_tunnel_resets_total", "Of these, those that a reset ended",
                      field(counters, &PumpCounters::resets), {{"side", side}});
  metrics.add_counter("ravine_tunnel_bytes_total", "Bytes of TCP connections",
                      field(counters, &PumpCounters::to_stream_bytes), labels("to_peer"));
  metrics.add_counter("ravine_tunnel_bytes_total", "Bytes of TCP connections",
                      field(counters, &PumpCounters::from_stream_bytes), labels("from_peer"));
}

void add_exposures(Metrics& metrics, ExposeService& exposes) {
  using Counters = ExposeService::Counters;
  const std::function<const Counters*()> counters = [&exposes] { return &exposes.counters(); };
  metrics.add_gauge("ravine_exposures", "Exposed ports",
                    [&exposes] { return static_cast<double>(exposes.list().size()); });
  metrics.add_counter("ravine_exposed_connections_total", "Connections of peers to exposed ports",
                      field(counters, &Counters::accepted));
  const auto refusal = [&](const char* reason, std::uint64_t Counters::* member) {
    metrics.add_counter("ravine_exposed_refused_total", "Connections of peers that were refused",
                        field(counters, member), {{"reason", reason}});
  };
  refusal("not_allowed", &Counters::denied);
  refusal("not_exposed", &Counters::unknown);
  refusal("target", &Counters::failed);
  refusal("too_many", &Counters::over_limit);
}

void add_peers(Metrics& metrics, const PeerConnector& connector) {
  using Counters = PeerConnector::Counters;
  const std::function<const Counters*()> counters = [&connector] { return &connector.counters(); };
  metrics.add_counter("ravine_connects_total", "Attempts to get a session with a peer",
                      field(counters, &Counters::succeeded), {{"outcome", "succeeded"}});
  metrics.add_counter("ravine_connects_total", "Attempts to get a session with a peer",
                      field(counters, &Counters::failed), {{"outcome", "failed"}});
  metrics.add_counter("ravine_connects_total", "Attempts to get a session with a peer",
                      field(counters, &Counters::reused), {{"outcome", "already_there"}});
  metrics.add_counter("ravine_redials_total", "Dials beside a session that was silent",
                      field(counters, &Counters::redials));
  metrics.add_counter("ravine_silent_sessions_closed_total", "Silent sessions that a fresh one replaced",
                      field(counters, &Counters::silent_closed));
}

void add_flows(Metrics& metrics, FlowTable& flows) {
  const std::function<const FlowCounters*()> counters = [&flows] { return &flows.counters(); };
  metrics.add_gauge("ravine_udp_flows", "UDP flows that are open", field(counters, &FlowCounters::active));
  metrics.add_counter("ravine_udp_flows_total", "UDP flows that were opened",
                      field(counters, &FlowCounters::opened));
  metrics.add_counter("ravine_udp_datagrams_total", "Datagrams of UDP flows",
                      field(counters, &FlowCounters::sent), {{"direction", "to_peer"}});
  metrics.add_counter("ravine_udp_datagrams_total", "Datagrams of UDP flows",
                      field(counters, &FlowCounters::received), {{"direction", "from_peer"}});
  const auto drop = [&](const char* reason, std::uint64_t FlowCounters::* member) {
    metrics.add_counter("ravine_udp_dropped_total", "Datagrams of UDP flows that were dropped",
                        field(counters, member), {{"reason", reason}});
  };
  drop("too_large", &FlowCounters::too_large);
  drop("queue_full", &FlowCounters::queue_full);
  drop("unknown_flow", &FlowCounters::unknown);
}

void add_streams(Metrics& metrics, StreamRouter& router) {
  using Counters = StreamRouter::Counters;
  const std::function<const Counters*()> counters = [&router] { return &router.counters(); };
  const auto outcome = [&](const char* word, std::uint64_t Counters::* member) {
    metrics.add_counter("ravine_streams_total", "Streams that peers opened", field(counters, member),
                        {{"outcome", word}});
  };
  outcome("accepted", &Counters::accepted);
  outcome("refused", &Counters::refused);
  outcome("malformed", &Counters::malformed);
  outcome("timed_out", &Counters::timed_out);
}

void add_joins(Metrics& metrics, const std::function<const JoinService*()>& join) {
  using Counters = JoinService::Counters;
  const std::function<const Counters*()> counters = [join]() -> const Counters* {
    const JoinService* found = join ? join() : nullptr;
    return found == nullptr ? nullptr : &found->counters();
  };
  const auto exchange = [&](const char* name, const char* text, const char* outcome,
                            std::uint64_t Counters::* member) {
    metrics.add_counter(name, text, field(counters, member), {{"outcome", outcome}});
  };
  exchange("ravine_joins_total", "Requests to join", "granted", &Counters::joins);
  exchange("ravine_joins_total", "Requests to join", "refused", &Counters::joins_refused);
  exchange("ravine_joins_total", "Requests to join", "too_many", &Counters::limited);
  exchange("ravine_renewals_total", "Requests of members for a fresh certificate", "granted",
           &Counters::renewals);
  exchange("ravine_renewals_total", "Requests of members for a fresh certificate", "refused",
           &Counters::renewals_refused);
}

}  // namespace

void add_service_metrics(Metrics& metrics, MetricSources sources) {
  add_proxy(metrics, sources.proxy);
  add_joins(metrics, sources.join);
  if (sources.tunnels != nullptr) {
    Tunnels& tunnels = *sources.tunnels;
    add_pumps(metrics, "near", [&tunnels] { return &tunnels.pump_counters(); });
    add_peers(metrics, tunnels.connector());
    add_flows(metrics, tunnels.flows());
    add_streams(metrics, tunnels.router());
  }
  if (sources.exposes != nullptr) {
    ExposeService& exposes = *sources.exposes;
    add_pumps(metrics, "far", [&exposes] { return &exposes.pump_counters(); });
    add_exposures(metrics, exposes);
  }
}

}  // namespace ravine::services
