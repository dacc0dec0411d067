// Another configuration while sessions run. Whatever can fail comes first, each step with its way back, so an
// error leaves the node as it was.
#include <fmt/format.h>

#include <algorithm>

#include "node/node_impl.h"
#include "services/target.h"

namespace ravine::node {

Result<std::vector<services::StaticPeer>> Node::Impl::static_peers(const Config& wanted,
                                                                   const NamedNetworks& named) const {
  std::vector<services::StaticPeer> peers;
  for (const PeerConfig& peer : wanted.peers) {
    const bool known =
        std::ranges::any_of(named, [&](const auto& at) { return at.second->name == peer.network; });
    const bool disabled = std::ranges::any_of(
        networks, [&](const auto& network) { return network->member.name == peer.network; });
    if (!peer.network.empty() && !known && !disabled) {
      return Error{
          ErrorKind::invalid_argument,
          fmt::format("[[peer]] {} names the network \"{}\", which this node is not in; see \"ravine id\"",
                      peer.name.empty() ? peer.id : peer.name, peer.network)};
    }
    for (const auto& [id, member] : named) {
      if (!peer.network.empty() && member->name != peer.network) continue;
      services::StaticPeer entry{.network = id, .name = peer.name, .short_id = peer.id, .keep = peer.keep};
      for (const std::string& address : peer.addresses) {
        if (const auto parsed = HostPort::parse(address)) entry.addresses.push_back(*parsed);
      }
      peers.push_back(std::move(entry));
    }
  }
  // What the issuer told at joining; the configuration says it better where both know a peer. A session to
  // the issuer is held: so its node knows where this one is, and revocations come at once.
  for (const auto& [id, member] : named) {
    for (const identity::KnownPeer& known : member->known) {
      const bool issues = member->issuer == known.id;
      const auto configured =
          std::ranges::find_if(peers, [&, network = id](const services::StaticPeer& peer) {
            return peer.network == network &&
                   ((!peer.name.empty() && peer.name == known.name) || known.id.matches_text(peer.short_id));
          });
      if (configured != peers.end()) {
        configured->keep |= issues;
        continue;
      }
      if (known.addresses.empty() || known.id == member->id()) continue;
      peers.push_back({.network = id,
                       .name = known.name,
                       .short_id = known.id.to_text(),
                       .id = known.id,
                       .addresses = known.addresses,
                       .keep = issues});
    }
  }
  return peers;
}

Result<> Node::Impl::check_peers(const Config& wanted, const std::vector<Member>& members) const {
  services::PeerDirectory trial;
  NamedNetworks named;
  for (const Member& member : members) {
    const session::NetworkId id{static_cast<std::uint32_t>(named.size())};
    named.emplace_back(id, &member);
    trial.add_network(id, member.name, identity::overlay_prefix(member.network));
  }
  auto peers = static_peers(wanted, named);
  if (!peers) return peers.error();
  return trial.set_static(std::move(*peers));
}

Result<> Node::Impl::apply_peers(const Config& wanted) {
  NamedNetworks named;
  for (const auto& network : networks) {
    if (network->active()) named.emplace_back(network->id, &network->member);
  }
  auto peers = static_peers(wanted, named);
  if (!peers) return peers.error();
  if (auto set = directory.set_static(std::move(*peers)); !set) return set;
  for (const CachedPeer& cached : peer_cache.peers()) {
    const Network* network = find_network(cached.network);
    if (network == nullptr || !network->active()) continue;
    identity::VerifiedPeer peer{.id = cached.id,
                                .name = cached.name,
                                .overlay = identity::overlay_address(network->member.network, cached.id),
                                .groups = cached.groups};
    for (auto it = cached.addresses.rbegin(); it != cached.addresses.rend(); ++it) {
      directory.learn(driver->now(), network->id, peer, *it);
    }
  }
  return {};
}

// The parser saw to targets and rules; what is left is what "ravine expose" added meanwhile.
Result<> Node::Impl::check_exposes(const Config& wanted) const {
  for (const ExposeConfig& entry : wanted.exposes) {
    const auto same_port = [&](const auto& other) {
      return other.port == entry.port &&
             (entry.udp ? services::Protocol::udp : services::Protocol::tcp) == other.protocol;
    };
    const bool configured = std::ranges::any_of(config.exposes, [&](const ExposeConfig& old) {
      return old.port == entry.port && old.udp == entry.udp;
    });
    if (!configured && std::ranges::any_of(exposes->list(), same_port)) {
      return Error{ErrorKind::already_exists,
                   fmt::format("[[expose]] port {}: \"ravine expose\" opened it already; run \"ravine "
                               "unexpose {}\" first",
                               entry.port, entry.port)};
    }
    if (auto target = services::parse_local_target(entry.to); !target)
      return target.error().with_context(fmt::format("[[expose]] port {}", entry.port));
  }
  return {};
}

Result<> Node::Impl::apply_exposes(const Config& wanted, ReloadReport* report) {
  const auto protocol = [](const ExposeConfig& entry) {
    return entry.udp ? services::Protocol::udp : services::Protocol::tcp;
  };
  if (report != nullptr) {
    for (const ExposeConfig& old : config.exposes) {
      if (std::ranges::find(wanted.exposes, old) != wanted.exposes.end()) continue;
      exposes->remove(protocol(old), old.port);
      report->changed.push_back(fmt::format("closed exposed port {}", old.port));
    }
  }
  for (const ExposeConfig& entry : wanted.exposes) {
    if (report != nullptr && std::ranges::find(config.exposes, entry) != config.exposes.end()) continue;
    auto added =
        exposes->add({.protocol = protocol(entry), .port = entry.port, .to = entry.to, .allow = entry.allow});
    if (!added) return added.error().with_context(fmt::format("[[expose]] port {}", entry.port));
    if (report != nullptr) report->changed.push_back(fmt::format("exposed port {}", entry.port));
  }
  return {};
}

Result<> Node::Impl::apply_forwards(const Config& wanted, ReloadReport* report, Undo& undo) {
  const auto protocol = [](const ForwardConfig& entry) {
    return entry.udp ? services::Protocol::udp : services::Protocol::tcp;
  };
  const auto add = [this, protocol](const ForwardConfig& entry) -> Result<> {
    const auto target = HostPort::parse(entry.to);
    if (!target) return {};  // parse_config lets none through
    auto added = forwards->add({.protocol = protocol(entry),
                                .listen = entry.listen,
                                .host = fuse_host(target->host),
                                .port = target->port});
    if (added) return {};
    return added.error().with_context(fmt::format("[[forward]] listen {}", entry.listen.to_text()));
  };
  if (report != nullptr) {
    for (const ForwardConfig& old : config.forwards) {
      if (std::ranges::find(wanted.forwards, old) != wanted.forwards.end()) continue;
      forwards->remove(protocol(old), old.listen);
      undo.add([add, old] { (void)add(old).ok(); });
      report->changed.push_back(fmt::format("closed forward {}", old.listen.to_text()));
    }
  }
  for (const ForwardConfig& entry : wanted.forwards) {
    if (report != nullptr && std::ranges::find(config.forwards, entry) != config.forwards.end()) continue;
    if (auto added = add(entry); !added) return added;
    undo.add([this, protocol, entry] { forwards->remove(protocol(entry), entry.listen); });
    if (report != nullptr)
      report->changed.push_back(fmt::format("opened forward {}", entry.listen.to_text()));
  }
  return {};
}

Result<> Node::Impl::apply_listeners(const Config& wanted, ReloadReport& report, Undo& undo) {
  if (auto applied = apply_forwards(wanted, &report, undo); !applied) return applied;
  if (!(wanted.proxy == config.proxy)) {
    undo.add([this] {
      if (auto back = start_proxy(config.proxy); !back) log.error("{}", back.error().message);
    });
    if (auto started = start_proxy(wanted.proxy); !started) return started;
    report.changed.push_back(wanted.proxy.enabled ? fmt::format("proxy on {}", wanted.proxy.listen.to_text())
                                                  : std::string("proxy off"));
  }
  if (wanted.node.metrics != config.node.metrics) {
    undo.add([this] {
      if (auto back = start_metrics(config.node.metrics); !back) log.error("{}", back.error().message);
    });
    if (auto started = start_metrics(wanted.node.metrics); !started) return started;
    report.changed.push_back(wanted.node.metrics
                                 ? fmt::format("metrics on {}", wanted.node.metrics->to_text())
                                 : std::string("metrics off"));
  }
  return {};
}

Result<ReloadReport> Node::Impl::reload() {
  Config wanted = config;
  if (options.read_config) {
    auto read = options.read_config();
    if (!read) return read.error();
    wanted = std::move(*read);
  }
  driver->enter();
  auto members = load_members(wanted);
  if (!members) return members.error();
  auto authority = load_authority(*members);
  if (!authority) return authority.error();
  Result<> checked = check_peers(wanted, *members);
  if (checked) checked = check_exposes(wanted);
  ReloadReport report;
  Undo undo;
  if (checked) checked = apply_listeners(wanted, report, undo);
  if (!checked) return checked.error();
  undo.keep_all();
  if (auto taken = take_members(std::move(*members), std::move(*authority), report); !taken)
    return taken.error();
  if (auto applied = apply_peers(wanted); !applied) return applied.error();
  if (!(wanted.peers == config.peers)) report.changed.emplace_back("peers");
  if (auto applied = apply_exposes(wanted, &report); !applied) return applied.error();
  if (options.apply_log_levels) options.apply_log_levels(wanted);
  report.needs_restart = keys_needing_restart(config, wanted);
  // What was not taken over keeps its running value, so that the next reload names it again.
  Config running = config;
  running.networks = wanted.networks;
  running.peers = wanted.peers;
  running.proxy = wanted.proxy;
  running.exposes = wanted.exposes;
  running.forwards = wanted.forwards;
  running.node.log_level = wanted.node.log_level;
  running.node.log_levels = wanted.node.log_levels;
  running.node.metrics = wanted.node.metrics;
  running.node.grace = wanted.node.grace;
  config = std::move(running);
  connector->keep_sessions();
  schedule_tick();
  driver->touch();
  log.info("configuration reloaded: {} changes, {} keys wait for a restart", report.changed.size(),
           report.needs_restart.size());
  return report;
}

}  // namespace ravine::node
