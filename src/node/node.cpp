// Start, stop and reload: the order in which the parts of a node come up, change and go.
#include "node/node.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "host/resolver.h"
#include "node/node_impl.h"
#include "ravine/version.h"

namespace ravine::node {

namespace asio = boost::asio;

namespace {

std::vector<IpAddress> without_ports(const std::vector<SocketAddress>& found) {
  std::vector<IpAddress> addresses;
  for (const SocketAddress& address : found) addresses.push_back(address.ip);
  return addresses;
}

services::Resolver make_resolver(const std::shared_ptr<host::Resolver>& resolver) {
  return [resolver](const std::string& host, std::function<void(services::Addresses)> done) {
    resolver->resolve(host, 0, [done = std::move(done)](const Result<std::vector<SocketAddress>>& found) {
      if (!found.ok()) return done(found.error());
      done(without_ports(found.value()));
    });
  };
}

Result<Bytes> load_endpoint_secret(const std::string& path, RandomSource& random) {
  auto loaded = host::read_secret_file(path, 64);
  if (loaded && loaded->size() == 32) return loaded;
  if (!loaded && loaded.error().kind != ErrorKind::not_found) return loaded;
  Bytes secret(32);
  random.fill(secret);
  if (auto written = host::write_file(path, secret, host::FileMode::owner_only); !written)
    return written.error();
  return secret;
}

std::string node_name(const Config& config, const std::vector<std::unique_ptr<Network>>& networks) {
  if (!config.node.name.empty()) return config.node.name;
  return networks.empty() ? std::string() : networks.front()->member.leaf().name;
}

}  // namespace

std::string_view protocol_text(services::Protocol protocol) {
  return protocol == services::Protocol::tcp ? "tcp" : "udp";
}

std::string fuse_host(std::string_view host) {
  const bool bare = host.find('.') == std::string_view::npos && host.find(':') == std::string_view::npos;
  return bare ? fmt::format("{}.fuse", host) : std::string(host);
}

Node::Impl::Impl(asio::io_context& io, NodeOptions wanted, RandomSource& source, Log sink)
    : loop(io),
      options(std::move(wanted)),
      random(source),
      log(sink),
      config(options.config),
      state(!options.state.empty()       ? options.state
            : !config.node.state.empty() ? config.node.state
                                         : default_state_directory()),
      control_path(config.node.control.empty() ? default_control_path(state.path()) : config.node.control),
      resolve(make_resolver(std::make_shared<host::Resolver>(io))),
      tick_timer(io),
      stop_timer(io) {}

Result<> Node::Impl::start() {
  if (auto opened = open_state(); !opened) return opened;
  if (auto loaded = load_networks(); !loaded) return loaded;
  if (auto opened = open_driver(); !opened) return opened;
  if (auto started = start_services(); !started) return started;
  started_at = driver->enter();
  clock_recorded_at = started_at;
  connector->keep_sessions();
  schedule_tick();
  driver->touch();
  log.info("node {} runs on UDP port {} with {} networks", RAVINE_VERSION, driver->port(), networks.size());
  return {};
}

Result<> Node::Impl::open_state() {
  if (auto made = state.make(); !made) return made;
  auto locked = host::FileLock::acquire(state.lock());
  if (!locked) {
    if (locked.error().kind != ErrorKind::already_exists) return locked.error();
    return Error{
        ErrorKind::already_exists,
        fmt::format(
            "a node runs on {} already; stop it with \"ravine down\", or choose another directory with "
            "--state DIR ({})",
            state.path(), locked.error().message)};
  }
  lock = std::move(*locked);
  auto opened = host::FlooredClock::open(state.clock());
  if (!opened) return opened.error();
  clock = std::move(*opened);
  if (clock->is_behind_floor()) {
    warnings.emplace_back(
        "this machine's clock is behind a date that it has seen before; set it (ravine doctor)");
    log.warning("{}", warnings.back());
  }
  if (auto recorded = clock->record(); !recorded) return recorded;
  std::string fault;
  peer_cache = PeerCache::load(state.peers(), &fault);
  if (!fault.empty()) log.warning("{}", fault);
  auto loaded = load_invites(state);
  if (!loaded) return loaded.error();
  invites = std::move(*loaded);
  return {};
}

Result<> Node::Impl::open_driver() {
  auto secret = load_endpoint_secret(state.endpoint_secret(), random);
  if (!secret) return secret.error();
  session::EndpointOptions endpoint;
  endpoint.seed = random.next_u64();
  endpoint.static_secret = std::move(*secret);
  endpoint.defaults.protection = config.node.protection;
  endpoint.defaults.congestion = config.node.congestion;
  endpoint.defaults.idle_timeout = config.node.idle_timeout;
  endpoint.defaults.keep_alive = config.node.keep_alive;
  endpoint.node_name = node_name(config, networks);
  endpoint.software = "ravine/" RAVINE_VERSION;
  endpoint.path_keepalive = config.node.keep_alive;
  driver = std::make_unique<runtime::Driver>(
      loop,
      runtime::DriverOptions{.port = config.node.port.value_or(kDefaultPort),
                             .listen = config.node.listen,
                             .endpoint = std::move(endpoint)},
      random, *clock, log.named("driver"));
  if (auto opened = driver->open(); !opened) {
    if (opened.error().kind != ErrorKind::already_exists) return opened;
    return Error{
        ErrorKind::already_exists,
        fmt::format(
            "UDP port {} is taken by another program or node: stop it, or choose another port with --port "
            "or node.port (0 takes any free one)",
            config.node.port.value_or(kDefaultPort))};
  }
  for (auto& network : networks) {
    auto made = network_options(*network);
    if (!made) return made.error();
    network->id = driver->endpoint().add_network(std::move(*made));
    directory.add_network(network->id, network->member.name,
                          identity::overlay_prefix(network->member.network));
  }
  return {};
}

Result<> Node::Impl::start_services() {
  driver->add_observer(this);
  router = std::make_unique<services::StreamRouter>(context());
  connector = std::make_unique<services::PeerConnector>(context(), directory);
  flows = std::make_unique<services::FlowTable>(*driver);
  tunnels = std::make_unique<services::Tunnels>(*router, *connector, *flows);
  exposes = std::make_unique<services::ExposeService>(*router, *flows);
  forwards = std::make_unique<services::ForwardService>(*tunnels);
  join = std::make_unique<services::JoinService>(*router, *this);
  revocations = std::make_unique<services::RevocationExchange>(context(), *this);
  bench = std::make_unique<services::BenchService>(*router);
  if (auto applied = apply_peers(config); !applied) return applied;
  if (auto applied = apply_exposes(config, nullptr); !applied) return applied;
  if (auto applied = apply_forwards(config, nullptr); !applied) return applied;
  if (config.proxy.enabled) {
    std::vector<services::Credential> credentials;
    for (const ProxyUser& user : config.proxy.users) credentials.push_back({user.name, user.password});
    proxy = std::make_unique<services::ProxyServer>(
        *tunnels,
        services::ProxyOptions{.listen = config.proxy.listen, .credentials = std::move(credentials)});
    if (auto started = proxy->start(); !started) {
      return started.error().with_context(fmt::format(
          "proxy on {} (choose another with --proxy or [proxy] listen, or turn it off with --no-proxy)",
          config.proxy.listen.to_text()));
    }
  }
  if (config.node.metrics) {
    add_metrics();
    metrics_server = std::make_unique<services::MetricsServer>(
        context(), *metrics,
        services::MetricsServerOptions{.listen = *config.node.metrics,
                                       .allow_remote = !config.node.metrics->ip.is_loopback()});
    if (auto started = metrics_server->start(); !started) {
      return started.error().with_context(fmt::format("metrics on {}", config.node.metrics->to_text()));
    }
  }
  if (!options.control) return {};
  control = std::make_unique<services::ControlServer>(context(), control_path);
  add_methods();
  return control->start();
}

Result<> Node::Impl::apply_peers(const Config& wanted) {
  std::vector<services::StaticPeer> peers;
  const auto add = [&](const Network& network, const PeerConfig& peer) {
    services::StaticPeer entry{
        .network = network.id, .name = peer.name, .short_id = peer.id, .keep = peer.keep};
    for (const std::string& address : peer.addresses) {
      if (const auto parsed = HostPort::parse(address)) entry.addresses.push_back(*parsed);
    }
    peers.push_back(std::move(entry));
  };
  for (const PeerConfig& peer : wanted.peers) {
    if (!peer.network.empty() && find_network(peer.network) == nullptr) {
      return Error{
          ErrorKind::invalid_argument,
          fmt::format("[[peer]] {} names the network \"{}\", which this node is not in; see \"ravine id\"",
                      peer.name.empty() ? peer.id : peer.name, peer.network)};
    }
    for (const auto& network : networks) {
      if (peer.network.empty() || network->member.name == peer.network) add(*network, peer);
    }
  }
  // What the issuer told at joining; the configuration says it better where both know a peer.
  for (const auto& network : networks) {
    for (const identity::KnownPeer& known : network->member.known) {
      const bool configured = std::ranges::any_of(peers, [&](const services::StaticPeer& peer) {
        return peer.network == network->id &&
               ((!peer.name.empty() && peer.name == known.name) || known.id.matches_text(peer.short_id));
      });
      if (configured || known.id == network->member.id()) continue;
      peers.push_back({.network = network->id,
                       .name = known.name,
                       .short_id = known.id.to_text(),
                       .id = known.id,
                       .addresses = known.addresses});
    }
  }
  if (auto set = directory.set_static(std::move(peers)); !set) return set;
  for (const CachedPeer& cached : peer_cache.peers()) {
    const Network* network = find_network(cached.network);
    if (network == nullptr) continue;
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

Result<> Node::Impl::apply_forwards(const Config& wanted, ReloadReport* report) {
  const auto protocol = [](const ForwardConfig& entry) {
    return entry.udp ? services::Protocol::udp : services::Protocol::tcp;
  };
  if (report != nullptr) {
    for (const ForwardConfig& old : config.forwards) {
      if (std::ranges::find(wanted.forwards, old) != wanted.forwards.end()) continue;
      forwards->remove(protocol(old), old.listen);
      report->changed.push_back(fmt::format("closed forward {}", old.listen.to_text()));
    }
  }
  for (const ForwardConfig& entry : wanted.forwards) {
    if (report != nullptr && std::ranges::find(config.forwards, entry) != config.forwards.end()) continue;
    const auto target = HostPort::parse(entry.to);
    if (!target) continue;  // parse_config lets none through
    auto added = forwards->add({.protocol = protocol(entry),
                                .listen = entry.listen,
                                .host = fuse_host(target->host),
                                .port = target->port});
    if (!added)
      return added.error().with_context(fmt::format("[[forward]] listen {}", entry.listen.to_text()));
    if (report != nullptr)
      report->changed.push_back(fmt::format("opened forward {}", entry.listen.to_text()));
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
  ReloadReport report;
  driver->enter();
  if (auto reloaded = reload_networks(report); !reloaded) return reloaded.error();
  if (auto applied = apply_peers(wanted); !applied) return applied.error();
  if (!(wanted.peers == config.peers)) report.changed.emplace_back("peers");
  if (auto applied = apply_exposes(wanted, &report); !applied) return applied.error();
  if (auto applied = apply_forwards(wanted, &report); !applied) return applied.error();
  if (options.apply_log_levels) options.apply_log_levels(wanted);
  report.needs_restart = keys_needing_restart(config, wanted);
  if (!(wanted.networks == config.networks)) report.needs_restart.emplace_back("network");
  // What was not taken over keeps its running value, so that the next reload names it again.
  Config running = config;
  running.peers = wanted.peers;
  running.exposes = wanted.exposes;
  running.forwards = wanted.forwards;
  running.node.log_level = wanted.node.log_level;
  running.node.log_levels = wanted.node.log_levels;
  config = std::move(running);
  connector->keep_sessions();
  driver->touch();
  log.info("configuration reloaded: {} changes, {} keys wait for a restart", report.changed.size(),
           report.needs_restart.size());
  return report;
}

void Node::Impl::stop(std::function<void()> done) {
  if (stopping) return;
  stopping = true;
  stop_done = std::move(done);
  tick_timer.cancel();
  if (!driver || !router) return finish_stop();
  driver->enter();
  if (proxy) proxy->stop();
  if (metrics_server) metrics_server->stop();
  connector->stop();
  save_peers();
  if (auto recorded = clock->record(); !recorded) log.warning("{}", recorded.error().message);
  driver->endpoint().set_accepting(false);
  driver->endpoint().close_all(driver->now(), session::AppError::shutdown);
  driver->touch();
  // on_closed() ends the wait as soon as the last session is gone.
  stop_timer.expires_after(session_facts.empty() ? Duration{0} : kStopLimit);
  stop_timer.async_wait([this](boost::system::error_code) { finish_stop(); });
}

void Node::Impl::finish_stop() {
  if (!stop_done) return;
  if (control) control->stop();
  auto done = std::exchange(stop_done, nullptr);
  if (driver) driver->close();
  log.info("node stopped");
  done();
}

void Node::Impl::on_established(session::Session& session) {
  session_facts[session.id()] = {driver->now()};
  const auto& info = session.info();
  if (!info.has_certificate) return log.debug("somebody with a code came to join");
  log.debug("session with {} ({}) is up", info.peer.name, info.peer.id.to_text());
}

void Node::Impl::on_closed(session::SessionId id, const session::SessionInfo& info,
                           const session::CloseReason& reason) {
  session_facts.erase(id);
  if (info.has_certificate)
    log.debug("session with {} ({}) is over: {}", info.peer.name, info.peer.id.to_text(), reason.text);
  if (stopping && session_facts.empty()) stop_timer.cancel();
}

Node::Node(asio::io_context& loop, NodeOptions options, RandomSource& random, Log log)
    : impl_(std::make_unique<Impl>(loop, std::move(options), random, log)) {}
Node::~Node() = default;
Result<> Node::start() {
  return impl_->start();
}
Result<ReloadReport> Node::reload() {
  return impl_->reload();
}
void Node::stop(std::function<void()> done) {
  impl_->stop(std::move(done));
}
std::uint16_t Node::port() const {
  return impl_->driver->port();
}
const std::string& Node::state_directory() const {
  return impl_->state.path();
}
const std::string& Node::control_path() const {
  return impl_->control_path;
}

}  // namespace ravine::node
