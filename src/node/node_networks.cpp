// Memberships over time: loading, what the endpoint is told of them, server names of the day, the peer cache.
#include <fmt/format.h>

#include <algorithm>

#include "node/node_impl.h"

namespace ravine::node {

namespace {

std::int64_t day_of(UnixTime at) {
  return at.seconds / 86400;
}

}  // namespace

Result<std::vector<Member>> Node::Impl::load_members(const Config& wanted) const {
  auto entries = configured_networks(state, wanted);
  if (!entries) return entries.error();
  if (entries->size() > kMaxNetworks) {
    return Error{ErrorKind::limit_reached, fmt::format("{} networks are configured; at most {} fit one node",
                                                       entries->size(), kMaxNetworks)};
  }
  std::vector<Member> members;
  for (const NetworkConfig& entry : *entries) {
    auto member = load_member(state, entry, clock->unix_time());
    if (!member) return member.error();
    if (auto local = member->local_identity(); !local)
      return local.error().with_context(fmt::format("network {}", entry.name));
    members.push_back(std::move(*member));
  }
  return members;
}

Result<std::optional<CaStore>> Node::Impl::load_authority(const std::vector<Member>& members) const {
  if (!CaStore::exists(state)) return std::optional<CaStore>();
  auto name = CaStore::network_of(state);
  if (!name) return name.error();
  const auto own = std::ranges::find(members, *name, &Member::name);
  auto opened = CaStore::open(state, own != members.end() ? own->trust : nullptr, clock->unix_time());
  if (!opened) return opened.error();
  return std::optional<CaStore>(std::move(*opened));
}

Result<> Node::Impl::load_networks() {
  auto members = load_members(config);
  if (!members) return members.error();
  auto authority = load_authority(*members);
  if (!authority) return authority.error();
  const auto is_unusable = [](const Member& member) { return !member.unusable.empty(); };
  if (!members->empty() && std::ranges::all_of(*members, is_unusable)) {
    const Member& first = members->front();
    return Error{
        ErrorKind::unauthenticated,
        fmt::format("network {}: peers would refuse {}/cert.crt: {}; check this machine's time, or join "
                    "again with \"ravine join CODE\"",
                    first.name, first.directory, first.unusable)};
  }
  for (Member& member : *members) {
    networks.push_back(std::make_unique<Network>());
    networks.back()->member = std::move(member);
  }
  ca = std::move(*authority);
  day = day_of(clock->unix_time());
  return {};
}

Result<> Node::Impl::reload_networks(ReloadReport& report) {
  auto members = load_members(config);
  if (!members) return members.error();
  auto authority = load_authority(*members);
  if (!authority) return authority.error();
  return take_members(std::move(*members), std::move(*authority), report);
}

Result<> Node::Impl::take_members(std::vector<Member> members, std::optional<CaStore> authority,
                                  ReloadReport& report) {
  ca = std::move(authority);
  if (auto read = load_invites(state)) invites = std::move(*read);
  std::erase_if(networks, [&](const auto& network) {
    const auto stays = [&](const Member& member) {
      return member.name == network->member.name && member.directory == network->member.directory;
    };
    if (std::ranges::any_of(members, stays)) return false;
    report.changed.push_back(fmt::format("left network {}", network->member.name));
    deactivate(*network, "it is not configured any more");
    return true;
  });
  for (Member& member : members) {
    Network* network = find_network(member.name);
    if (network == nullptr) {
      networks.push_back(std::make_unique<Network>());
      network = networks.back().get();
      report.changed.push_back(fmt::format("entered network {}", member.name));
    } else if (network->member.leaf().der != member.leaf().der) {
      report.changed.push_back(fmt::format("certificate of network {}", member.name));
    }
    network->member = std::move(member);
    if (!network->member.unusable.empty()) {
      deactivate(*network, network->member.unusable);
    } else if (auto updated = network->active() ? update_endpoint(*network) : activate(*network); !updated) {
      return updated;
    }
  }
  driver->endpoint().recheck_peers(driver->now());
  return {};
}

Result<> Node::Impl::activate(Network& network) {
  auto made = network_options(network);
  if (!made) return made.error();
  network.id = driver->endpoint().add_network(std::move(*made));
  directory.add_network(network.id, network.member.name, identity::overlay_prefix(network.member.network));
  if (metrics) add_network_metrics(network);
  return {};
}

void Node::Impl::deactivate(Network& network, std::string_view why) {
  log.warning("network {} is off: {}; check this machine's time, or join again with \"ravine join CODE\"",
              network.member.name, why);
  if (!network.active()) return;
  directory.remove_network(network.id);
  driver->endpoint().remove_network(driver->now(), network.id);
  network.id = {};
  network.renewing = false;
}

void Node::Impl::follow_dates() {
  const UnixTime now = clock->unix_time();
  for (auto& network : networks) {
    std::string fault = network->member.date_fault(now);
    if (fault.empty() == network->member.unusable.empty()) continue;
    network->member.unusable = std::move(fault);
    if (!network->member.unusable.empty()) {
      deactivate(*network, network->member.unusable);
      continue;
    }
    log.info("the certificate of network {} is good now", network->member.name);
    auto changed = activate(*network);
    if (changed) changed = apply_peers(config);
    if (!changed) log.error("{}", changed.error().message);
  }
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
    if (!network->active()) continue;
    if (auto updated = update_endpoint(*network); !updated) log.warning("{}", updated.error().message);
  }
  driver->touch();
}

Network* Node::Impl::find_network(session::NetworkId id) {
  if (id == session::NetworkId{}) return nullptr;
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
  Network* network = ca ? find_network(ca->network_name()) : nullptr;
  return network != nullptr && network->active() ? network : nullptr;
}

Network* Node::Impl::pairing_network() {
  const auto found =
      std::ranges::find_if(networks, [](const auto& network) { return network->member.is_pinned(); });
  return found != networks.end() ? found->get() : nullptr;
}

void Node::Impl::schedule_tick() {
  tick_timer.expires_after(until_upkeep());
  tick_timer.async_wait([this](boost::system::error_code code) {
    if (code || stopping) return;
    tick();
    schedule_tick();
  });
}

// Until the next upkeep: a minute, or sooner for what is due by then.
Duration Node::Impl::until_upkeep() const {
  constexpr Duration kLeast = 200ms;
  Duration least = kTick;
  const UnixTime now = clock->unix_time();
  for (const auto& network : networks) {
    if (network->member.is_pinned() || !network->active()) continue;
    least = std::min(least, until_renewal(*network));
    const UnixTime end = network->member.leaf().not_after + network->member.trust->options().grace;
    least = std::min<Duration>(least, end - now + 1s);
  }
  return std::max(least, kLeast);
}

void Node::Impl::tick() {
  const Instant now = driver->enter();
  refresh_names();
  follow_dates();
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
