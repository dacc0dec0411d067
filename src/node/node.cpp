// Start and stop: the order in which the parts of a node come up and go.
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
  clock_recorded_at = started_at - 1h;  // by the first upkeep: writing to disk would hold up the start
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
    if (!network->member.unusable.empty()) {
      deactivate(*network, network->member.unusable);
    } else if (auto activated = activate(*network); !activated) {
      return activated;
    }
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
  Undo kept;
  auto started = apply_forwards(config, nullptr, kept);
  kept.keep_all();
  if (started) started = start_proxy(config.proxy);
  if (started) started = start_metrics(config.node.metrics);
  if (!started) return started;
  if (!options.control) return {};
  control = std::make_unique<services::ControlServer>(context(), control_path);
  add_methods();
  return control->start();
}

Result<> Node::Impl::start_proxy(const ProxyConfig& wanted) {
  proxy.reset();
  if (!wanted.enabled) return {};
  std::vector<services::Credential> credentials;
  for (const ProxyUser& user : wanted.users) credentials.push_back({user.name, user.password});
  proxy = std::make_unique<services::ProxyServer>(
      *tunnels, services::ProxyOptions{.listen = wanted.listen, .credentials = std::move(credentials)});
  auto started = proxy->start();
  if (started) return {};
  proxy.reset();
  return started.error().with_context(fmt::format(
      "proxy on {} (choose another with --proxy or [proxy] listen, or turn it off with --no-proxy)",
      wanted.listen.to_text()));
}

Result<> Node::Impl::start_metrics(const std::optional<SocketAddress>& listen) {
  metrics_server.reset();
  if (!listen) return {};
  if (!metrics) add_metrics();
  metrics_server = std::make_unique<services::MetricsServer>(
      context(), *metrics,
      services::MetricsServerOptions{.listen = *listen, .allow_remote = !listen->ip.is_loopback()});
  auto started = metrics_server->start();
  if (started) return {};
  metrics_server.reset();
  return started.error().with_context(fmt::format("metrics on {}", listen->to_text()));
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

void Node::Impl::warn_of_refusal(const session::SessionInfo& info, const session::CloseReason& reason) {
  using session::CloseCause;
  const auto is_alert = [&](identity::TlsAlert alert) {  // RFC 9001 §4.8: 0x100 + alert
    return reason.cause == CloseCause::remote_transport &&
           reason.code == 0x100 + static_cast<std::uint64_t>(alert);
  };
  const bool cut = reason.cause == CloseCause::remote_application &&
                   reason.code == static_cast<std::uint64_t>(session::AppError::revoked);
  if (!cut && !is_alert(identity::TlsAlert::certificate_revoked) &&
      !is_alert(identity::TlsAlert::certificate_expired)) {
    return;
  }
  Network* network = find_network(info.network);
  if (network == nullptr) return;
  if (network->refusal_told && driver->now() - *network->refusal_told < kRefusalPause) return;
  network->refusal_told = driver->now();
  log.warning(
      "network {}: a peer refuses this machine's certificate as revoked or expired ({}); check the time "
      "here, and "
      "ask the authority's operator (\"ravine ca list\" there shows it), who can invite this machine again",
      network->member.name, reason.text);
}

void Node::Impl::on_closed(session::SessionId id, const session::SessionInfo& info,
                           const session::CloseReason& reason) {
  session_facts.erase(id);
  warn_of_refusal(info, reason);
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
