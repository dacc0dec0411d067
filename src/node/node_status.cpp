// What `ravine status`, `peers`, `sessions` and the metrics show. Reading only.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "host/process.h"
#include "node/node_impl.h"
#include "ravine/version.h"
#include "services/service_metrics.h"

namespace ravine::node {

namespace json = boost::json;

namespace {

std::string_view kind_text(session::PathKind kind) {
  switch (kind) {
    case session::PathKind::direct:
      return "direct";
    case session::PathKind::relayed:
      return "relayed";
    case session::PathKind::circuit:
      return "circuit";
  }
  return "unknown";
}

std::string_view state_text(session::PathState state) {
  switch (state) {
    case session::PathState::offered:
      return "offered";
    case session::PathState::validated:
      return "validated";
    case session::PathState::current:
      return "current";
    case session::PathState::silent:
      return "silent";
  }
  return "unknown";
}

json::object path_json(const session::PathInfo& path) {
  return {{"id", path.id},
          {"kind", kind_text(path.kind)},
          {"state", state_text(path.state)},
          {"remote", path.route.remote.to_text()},
          {"local", path.route.local.is_unspecified() ? std::string() : path.route.local.to_text()},
          {"interface", path.route.interface_index},
          {"rtt_ns", path.smoothed_rtt.count()},
          {"loss", path.loss},
          {"mtu", path.mtu},
          {"bytes_sent", path.bytes_sent},
          {"bytes_received", path.bytes_received},
          {"why", path.reason}};
}

json::array strings(const std::vector<std::string>& values) {
  return json::array(values.begin(), values.end());
}

std::int64_t seconds_between(Instant later, Instant earlier) {
  return later < earlier ? 0 : std::chrono::duration_cast<std::chrono::seconds>(later - earlier).count();
}

json::object certificate_json(const Network& network, UnixTime now) {
  const identity::Certificate& leaf = network.member.leaf();
  const auto grace = network.member.trust ? network.member.trust->options().grace : std::chrono::seconds{0};
  const UnixTime renews = identity::renew_at(leaf);
  std::string_view state = "valid";
  if (!network.member.is_pinned() && now >= renews) state = "renewing";
  if (now > leaf.not_after) state = "in grace";
  if (!network.member.unusable.empty()) state = now < leaf.not_before ? "not yet valid" : "expired";
  json::object out{{"state", state},
                   {"serial", identity::serial_to_text(leaf.serial)},
                   {"not_before_unix", leaf.not_before.seconds},
                   {"not_after_unix", leaf.not_after.seconds}};
  if (network.member.is_pinned()) return out;
  out["grace_until_unix"] = (leaf.not_after + grace).seconds;
  out["renew_at_unix"] = renews.seconds;
  out["renewal_error"] = network.renewal_error;
  return out;
}

}  // namespace

json::array Node::Impl::networks_json() const {
  json::array out;
  const UnixTime now = clock->unix_time();
  for (const auto& network : networks) {
    const Member& member = network->member;
    json::object entry{{"name", member.name},
                       {"mode", member.is_pinned() ? "pinned" : "ca"},
                       {"issuer", ca && ca->network_name() == member.name},
                       {"id", member.id().to_text()},
                       {"full_id", encode_hex(member.id().view())},
                       {"peer_name", member.leaf().name},
                       {"address", member.overlay().to_text()},
                       {"groups", strings(member.leaf().groups)},
                       {"certificate", certificate_json(*network, now)},
                       {"active", network->active()},
                       {"fault", member.unusable},
                       {"revocation_number", member.trust ? member.trust->revocations().number() : 0}};
    if (member.issuer) entry["issuer_id"] = member.issuer->to_text();
    out.push_back(std::move(entry));
  }
  return out;
}

json::array Node::Impl::sessions_json() const {
  json::array out;
  auto& endpoint = driver->endpoint();
  for (const session::SessionId id : endpoint.sessions()) {
    session::Session* session = endpoint.find(id);
    if (session == nullptr || !session->is_established()) continue;
    const session::SessionInfo& info = session->info();
    const Network* network = find_network(info.network);
    json::array paths;
    std::uint64_t sent = 0, received = 0;
    for (const session::PathInfo& path : session->paths()) {
      paths.push_back(path_json(path));
      sent += path.bytes_sent;
      received += path.bytes_received;
    }
    json::object path = path_json(session->current_path());
    if (session->smoothed_rtt().count() > 0) path["rtt_ns"] = session->smoothed_rtt().count();
    const auto facts = session_facts.find(id);
    out.push_back(
        {{"network", network != nullptr ? network->member.name : ""},
         {"name", info.peer.name},
         {"id", info.peer.id.to_text()},
         {"overlay", info.peer.overlay.to_text()},
         {"groups", strings(info.peer.groups)},
         {"in_grace", info.peer.in_grace},
         {"role", info.role == session::Role::dialler ? "dialler" : "acceptor"},
         {"path", std::move(path)},
         {"paths", std::move(paths)},
         {"handshake_ns", info.handshake_time.count()},
         {"age_s", facts != session_facts.end() ? seconds_between(driver->now(), facts->second.since) : 0},
         {"bytes_sent", sent},
         {"bytes_received", received},
         {"congestion_window", session->congestion_window()},
         {"resumed", info.resumed},
         {"cipher", info.tls_cipher},
         {"protection", info.protection}});
  }
  return out;
}

json::array Node::Impl::peers_json() const {
  json::array out;
  for (const services::PeerHandle& record : directory.peers()) {
    const Network* network = find_network(record->network);
    if (record->id && network != nullptr && *record->id == network->member.id()) continue;
    json::array addresses;
    for (const HostPort& address : record->addresses) {
      addresses.emplace_back(address.host.find(':') != std::string::npos
                                 ? fmt::format("[{}]:{}", address.host, address.port)
                                 : fmt::format("{}:{}", address.host, address.port));
    }
    for (const SocketAddress& address : record->learned) {
      const std::string text = address.to_text();
      if (std::ranges::none_of(addresses,
                               [&](const json::value& known) { return known.as_string() == text; })) {
        addresses.emplace_back(text);
      }
    }
    json::object entry{{"name", record->name},
                       {"id", record->id ? record->id->to_text() : record->short_id},
                       {"network", network != nullptr ? network->member.name : ""},
                       {"overlay", record->overlay ? record->overlay->to_text() : ""},
                       {"groups", strings(record->groups)},
                       {"state", connector->find_session(*record) ? "connected" : "idle"},
                       {"addresses", std::move(addresses)},
                       {"static", record->is_static},
                       {"keep", record->keep},
                       {"last_error", record->last_error}};
    if (record->id) entry["full_id"] = encode_hex(record->id->view());
    out.push_back(std::move(entry));
  }
  return out;
}

json::array Node::Impl::exposures_json() const {
  json::array out;
  for (const services::Exposure& exposure : exposes->list()) {
    out.push_back({{"protocol", protocol_text(exposure.protocol)},
                   {"port", exposure.port},
                   {"to", exposure.to},
                   {"allow", strings(exposure.allow)}});
  }
  return out;
}

json::array Node::Impl::forwards_json() const {
  json::array out;
  for (const services::Forward& forward : forwards->list()) {
    out.push_back({{"protocol", protocol_text(forward.protocol)},
                   {"listen", forward.listen.to_text()},
                   {"to", fmt::format("{}:{}", forward.host, forward.port)}});
  }
  return out;
}

json::object Node::Impl::status() const {
  json::array addresses;
  for (const SocketAddress& address : driver->local_addresses()) addresses.emplace_back(address.to_text());
  json::value proxy_json;
  if (proxy) {
    proxy_json = {{"listen", proxy->address().to_text()},
                  {"active", proxy->counters().active},
                  {"accepted", proxy->counters().accepted},
                  {"failed", proxy->counters().failed}};
  }
  const host::ProcessFacts facts = host::process_facts();
  json::object out{{"version", RAVINE_VERSION},
                   {"pid", ::getpid()},
                   {"uptime_s", seconds_between(host::monotonic_now(), started_at)},
                   {"state_directory", state.path()},
                   {"control", control_path},
                   {"config", config.file},
                   {"port", driver->port()},
                   {"addresses", std::move(addresses)},
                   {"networks", networks_json()},
                   {"proxy", std::move(proxy_json)},
                   {"metrics", metrics_server ? metrics_server->address().to_text() : ""},
                   {"forwards", forwards_json()},
                   {"exposures", exposures_json()},
                   {"sessions", sessions_json()},
                   {"pending_invites", invites.pending().size()},
                   {"rss_anon_bytes", facts.rss_anon_bytes},
                   {"cpu_ns", facts.cpu_time.count()},
                   {"warnings", strings(warnings)}};
  return out;
}

void Node::Impl::add_network_metrics(const Network& network) {
  const std::string name = network.member.name;
  if (!measured_networks.insert(name).second) return;
  metrics->add_gauge("ravine_certificate_expires_seconds", "Unix time at which this node's certificate ends",
                     [this, name] {
                       const Network* at = find_network(name);
                       return at != nullptr ? static_cast<double>(at->member.leaf().not_after.seconds) : 0.0;
                     },
                     {{"network", name}});
}

void Node::Impl::add_metrics() {
  metrics = std::make_unique<services::Metrics>();
  metrics->add_driver(*driver);
  metrics->add_gauge("ravine_uptime_seconds", "Time since the node started", [this] {
    return static_cast<double>(seconds_between(host::monotonic_now(), started_at));
  });
  metrics->add_gauge("ravine_resident_anonymous_bytes", "Private memory in RAM",
                     [] { return static_cast<double>(host::process_facts().rss_anon_bytes); });
  metrics->add_counter("ravine_cpu_seconds_total", "Processor time of the node",
                       [] { return std::chrono::duration<double>(host::process_facts().cpu_time).count(); });
  for (const auto& network : networks) add_network_metrics(*network);
  services::add_service_metrics(*metrics, {.proxy = [this] { return proxy.get(); },
                                           .tunnels = tunnels.get(),
                                           .exposes = exposes.get(),
                                           .join = [this] { return join.get(); }});
}

}  // namespace ravine::node
