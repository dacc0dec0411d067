// Memberships over time: loading, what the endpoint is told of them, server names of the day, renewals with
// their retries, the peer cache.
#include <fmt/format.h>

#include <algorithm>

#include "node/node_impl.h"

namespace ravine::node {

namespace {

std::int64_t day_of(UnixTime at) {
  return at.seconds / 86400;
}

}  // namespace

Result<> Node::Impl::load_networks() {
  auto wanted = configured_networks(state, config);
  if (!wanted) return wanted.error();
  if (wanted->size() > kMaxNetworks) {
    return Error{ErrorKind::limit_reached, fmt::format("{} networks are configured; at most {} fit one node",
                                                       wanted->size(), kMaxNetworks)};
  }
  const UnixTime now = clock->unix_time();
  for (const NetworkConfig& entry : *wanted) {
    auto member = load_member(state, entry, now);
    if (!member) return member.error();
    auto network = std::make_unique<Network>();
    network->member = std::move(*member);
    networks.push_back(std::move(network));
  }
  if (CaStore::exists(state)) {
    auto name = CaStore::open(state, nullptr, now);
    if (!name) return name.error();
    Network* own = find_network(name->network_name());
    auto opened = CaStore::open(state, own != nullptr ? own->member.trust : nullptr, now);
    if (!opened) return opened.error();
    ca = std::move(*opened);
  }
  day = day_of(now);
  return {};
}

Result<> Node::Impl::reload_networks(ReloadReport& report) {
  const UnixTime now = clock->unix_time();
  std::vector<Member> loaded;
  for (const auto& network : networks) {
    NetworkConfig entry{network->member.name, network->member.directory, {}};
    const auto configured = std::ranges::find(config.networks, network->member.name, &NetworkConfig::name);
    if (configured != config.networks.end()) entry.pinned = configured->pinned;
    auto member = load_member(state, entry, now);
    if (!member) return member.error();
    loaded.push_back(std::move(*member));
  }
  std::optional<CaStore> authority;
  if (ca) {
    std::shared_ptr<identity::NetworkTrust> trust;
    for (const Member& member : loaded) {
      if (member.name == ca->network_name()) trust = member.trust;
    }
    auto opened = CaStore::open(state, std::move(trust), now);
    if (!opened) return opened.error();
    authority = std::move(*opened);
  }
  for (std::size_t i = 0; i < networks.size(); ++i) {
    Network& network = *networks[i];
    if (network.member.leaf().der != loaded[i].leaf().der) {
      report.changed.push_back(fmt::format("certificate of network {}", network.member.name));
    }
    network.member = std::move(loaded[i]);
    if (auto updated = update_endpoint(network); !updated) return updated.error();
  }
  if (authority) ca = std::move(authority);
  if (auto read = load_invites(state)) invites = std::move(*read);
  driver->endpoint().recheck_peers(driver->now());
  return {};
}

Result<session::NetworkOptions> Node::Impl::network_options(const Network& network) const {
  auto local = network.member.local_identity();
  if (!local) return local.error().with_context(fmt::format("network {}", network.member.name));
  session::NetworkOptions made;
  made.name = network.member.name;
  made.local = std::move(*local);
  made.policy = network.member.policy();
  const UnixTime now = clock->unix_time();
  made.server_names = network.member.secrets.server_names(now);
  const bool issues = ca && ca->network_name() == network.member.name;
  const auto kind = network.member.is_pinned() ? identity::CodeKind::pair : identity::CodeKind::invite;
  if (!issues && !network.member.is_pinned()) return made;
  for (const identity::PendingInvite& invite : invites.pending()) {
    if (invite.kind == kind && invite.expires >= now) made.join_server_names.push_back(invite.server_name);
  }
  made.accept_joiners = !made.join_server_names.empty();
  return made;
}

Result<> Node::Impl::update_endpoint(Network& network) {
  auto made = network_options(network);
  if (!made) return made.error();
  driver->endpoint().update_network(network.id, std::move(*made));
  return {};
}

void Node::Impl::sync_join_names() {
  for (auto& network : networks) {
    if (auto updated = update_endpoint(*network); !updated) log.warning("{}", updated.error().message);
  }
  driver->touch();
}

Network* Node::Impl::find_network(session::NetworkId id) {
  const auto found = std::ranges::find(networks, id, [](const auto& network) { return network->id; });
  return found != networks.end() ? found->get() : nullptr;
}

const Network* Node::Impl::find_network(session::NetworkId id) const {
  return const_cast<Impl*>(this)->find_network(id);
}

Network* Node::Impl::find_network(std::string_view name) {
  const auto found = std::ranges::find(
      networks, name, [](const auto& network) { return std::string_view(network->member.name); });
  return found != networks.end() ? found->get() : nullptr;
}

Network* Node::Impl::issuing_network() {
  return ca ? find_network(ca->network_name()) : nullptr;
}

Network* Node::Impl::pairing_network() {
  const auto found =
      std::ranges::find_if(networks, [](const auto& network) { return network->member.is_pinned(); });
  return found != networks.end() ? found->get() : nullptr;
}

void Node::Impl::schedule_tick() {
  tick_timer.expires_after(kTick);
  tick_timer.async_wait([this](boost::system::error_code code) {
    if (code || stopping) return;
    tick();
    schedule_tick();
  });
}

void Node::Impl::tick() {
  const Instant now = driver->enter();
  refresh_names();
  driver->endpoint().recheck_peers(now);
  for (auto& network : networks) renew_due(*network);
  save_peers();
  if (now - clock_recorded_at >= 1h) {
    clock_recorded_at = now;
    if (auto recorded = clock->record(); !recorded) log.warning("{}", recorded.error().message);
  }
  driver->touch();
}

void Node::Impl::refresh_names() {
  const UnixTime now = clock->unix_time();
  const std::size_t before = invites.pending().size();
  invites.forget_expired(now);
  if (day_of(now) == day && invites.pending().size() == before) return;
  day = day_of(now);
  sync_join_names();
}

void Node::Impl::renew_due(Network& network) {
  if (network.member.is_pinned() || network.renewing) return;
  if (clock->unix_time() < identity::renew_at(network.member.leaf())) return;
  if (driver->now() < network.next_renewal) return;
  if (ca && ca->network_name() == network.member.name) {
    auto renewed = ca->renew_own(clock->unix_time(), random);
    ReloadReport report;
    if (renewed) renewed = reload_networks(report);
    if (!renewed) return renewal_failed(network, renewed.error().message);
    network.renewal_error.clear();
    log.info("certificate for network {} renewed here", network.member.name);
    return;
  }
  renew_from_issuer(network);
}

void Node::Impl::renewal_failed(Network& network, std::string_view why) {
  network.renewing = false;
  network.renewal_error = why;
  network.renewal_delay = std::clamp(network.renewal_delay * 2, kRenewRetryFirst, kRenewRetryLast);
  network.next_renewal = driver->now() + network.renewal_delay;
  log.warning("certificate for network {} was not renewed, next try in {} min: {}", network.member.name,
              std::chrono::duration_cast<std::chrono::minutes>(network.renewal_delay).count(), why);
}

void Node::Impl::renew_from_issuer(Network& network) {
  if (!network.member.issuer) {
    return renewal_failed(
        network, "the issuer is not known here; renew on it with \"ravine ca renew\", or join again");
  }
  const services::PeerHandle issuer = directory.find_id(network.id, *network.member.issuer);
  if (!issuer) return renewal_failed(network, "no address of the issuer is known; add it as [[peer]]");
  network.renewing = true;
  const session::NetworkId id = network.id;
  connector->connect(issuer, [this, id](Result<session::SessionId> session) {
    Network* at = find_network(id);
    if (at == nullptr) return;
    if (!session) return renewal_failed(*at, session.error().message);
    Bytes request = identity::make_renew_request(*at->member.key, at->member.leaf().name);
    services::renew_certificate(
        *router, *session, [request = std::move(request)](ByteView) -> Result<Bytes> { return request; },
        [this, id](Result<services::Exchanged> exchanged) { finish_renewal(id, std::move(exchanged)); });
  });
}

void Node::Impl::finish_renewal(session::NetworkId id, Result<services::Exchanged> exchanged) {
  Network* network = find_network(id);
  if (network == nullptr || stopping) return;
  driver->enter();
  if (!exchanged) return renewal_failed(*network, exchanged.error().message);
  Member& member = network->member;
  auto membership =
      identity::accept_renew_response(member.trust, *member.key, exchanged->request, exchanged->response,
                                      exchanged->exporter, clock->unix_time());
  if (!membership) return renewal_failed(*network, membership.error().message);
  if (auto saved = save_member(member.directory, *member.key, *membership); !saved) {
    return renewal_failed(*network, saved.error().message);
  }
  ReloadReport report;
  if (auto reloaded = reload_networks(report); !reloaded)
    return renewal_failed(*network, reloaded.error().message);
  network->renewing = false;
  network->renewal_error.clear();
  network->renewal_delay = Duration{0};
  network->next_renewal = {};
  log.info("certificate for network {} renewed", member.name);
  driver->touch();
}

void Node::Impl::save_peers() {
  std::vector<CachedPeer> peers;
  for (const services::PeerHandle& record : directory.peers()) {
    if (!record->id || record->learned.empty()) continue;
    const Network* network = find_network(record->network);
    if (network == nullptr) continue;
    peers.push_back({network->member.name, *record->id, record->name, record->groups, record->learned});
  }
  if (auto stored = peer_cache.store(state.peers(), std::move(peers)); !stored) {
    log.warning("addresses of peers were not saved: {}", stored.error().message);
  }
}

}  // namespace ravine::node
