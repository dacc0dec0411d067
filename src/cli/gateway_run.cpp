// A gateway's life: its services, its control socket, its signals.
#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/gateway.h"
#include "cli/output.h"
#include "host/file.h"
#include "host/logging.h"
#include "host/process.h"
#include "host/random.h"
#include "host/resolver.h"
#include "host/signals.h"
#include "node/state_dir.h"
#include "services/control_server.h"

namespace ravine::cli {
namespace {

namespace json = boost::json;
using services::FarService;
using services::NearService;
using services::PairingStore;

Result<host::LogOptions> log_options(const GatewayLog& log) {
  host::LogOptions options;
  const auto level = host::parse_log_level(log.level);
  if (!level)
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("--log-level \"{}\" is wrong; use trace, debug, info, warning, error or off", log.level)};
  if (log.format != "text" && log.format != "json")
    return Error{ErrorKind::invalid_argument,
                 fmt::format("--log-format \"{}\" is wrong; use text or json", log.format)};
  options.level = *level;
  options.format = log.format == "json" ? host::LogFormat::json : host::LogFormat::text;
  options.file = log.file;
  return options;
}

// The only pairing with that role, for whoever named none.
Result<std::string> only_pairing(const PairingStore& store, gateway::security::Role role) {
  auto all = store.list();
  if (!all) return all.error();
  std::vector<std::string> names;
  for (const auto& one : *all)
    if (one.role == role) names.push_back(one.name);
  if (names.size() == 1) return names.front();
  if (names.empty())
    return Error{
        ErrorKind::not_found,
        "this gateway is paired with none; make a code with \"ravine gateway pair\" on the far side and "
        "enter it here with \"ravine gateway pair CODE\""};
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return Error{ErrorKind::invalid_argument, fmt::format("which pairing? Give --pairing, one of: {}", list)};
}

std::vector<IpAddress> addresses_of(const std::vector<SocketAddress>& found) {
  std::vector<IpAddress> addresses;
  addresses.reserve(found.size());
  for (const SocketAddress& one : found) addresses.push_back(one.ip);
  return addresses;
}

class GatewayLaunch {
 public:
  GatewayLaunch(const Context& context, node::GatewayConfig config, std::string role)
      : context_(context),
        config_(std::move(config)),
        role_(std::move(role)),
        store_(gateway_directory_of(context, config_)) {}

  Result<> start(const GatewayLog& log) {
    auto options = log_options(log);
    if (!options) return options.error();
    auto opened = host::Logger::open(*options);
    if (!opened) return opened.error();
    logger_ = std::move(*opened);
    host::raise_open_file_limit();
    host::forbid_core_dumps();
    if (auto made = host::make_private_directory(store_.directory()); !made) return made;
    auto coders = gateway_coders(config_.coder);
    if (!coders) return coders.error();
    make_coders_ = std::move(*coders);
    signals_ = std::make_unique<host::SignalWatch>(loop_, [this](host::Signal signal) {
      if (signal != host::Signal::hang_up) return stop();
      (void)logger_->reopen().ok();
    });
    if (config_.far)
      if (auto started = start_far(); !started) return started;
    if (config_.near)
      if (auto started = start_near(); !started) return started;
    return start_control();
  }

  void run() {
    (void)host::notify_service_manager("READY=1").ok();
    loop_.run();
    logger_->flush();
  }

 private:
  static std::string gateway_directory_of(const Context& context, const node::GatewayConfig& config) {
    return context.state.empty() && !config.state.empty() ? config.state + "/gateway"
                                                          : gateway_directory(context);
  }

  services::GatewayContext services_context() {
    services::GatewayContext out{loop_, random_, Log(logger_.get(), "gateway"), {}, make_coders_, {}};
    out.resolve = [this](const std::string& host, std::function<void(services::Addresses)> done) {
      resolver_.resolve(host, 0, [done = std::move(done)](const Result<std::vector<SocketAddress>>& found) {
        if (!found) return done(found.error());
        done(addresses_of(*found));
      });
    };
    out.control_path = config_.node_control.empty() ? control_path(context_) : config_.node_control;
    return out;
  }

  Result<> start_near() {
    auto& peers = config_.near->peers;
    for (auto at = peers.begin(); at != peers.end();) {
      const bool named = !at->pairing.empty();
      auto name = named ? at->pairing : only_pairing(store_, gateway::security::Role::near);
      // A bridge to CoAP servers needs no other gateway.
      const bool alone = !name && name.error().kind == ErrorKind::not_found && at->peer.empty();
      if (!name && !(alone && config_.near->coap.enabled())) return name.error();
      if (name) at->pairing = *name;
      at = name ? std::next(at) : peers.erase(at);
    }
    auto near = NearService::start(services_context(), store_, *config_.near);
    if (!near) return near.error();
    near_ = std::move(*near);
    for (const SocketAddress& address : near_->addresses())
      Log(logger_.get(), "gateway").info("near: HTTP clients use http://{}/", address.to_text());
    return {};
  }

  Result<> start_far() {
    auto far = FarService::start(services_context(), store_, *config_.far);
    if (!far) return far.error();
    far_ = std::move(*far);
    Log(logger_.get(), "gateway")
        .info("far: {} to {}", far_->transport().describe(), config_.far->upstream.base);
    return {};
  }

  Result<> start_control() {
    control_ = std::make_unique<services::ControlServer>(
        loop_, Log(logger_.get(), "gateway"), fmt::format("{}/{}.sock", store_.directory(), role_));
    control_->add_method("stats", [this](const json::object&, services::RpcReply reply) {
      json::array all;
      if (near_) all.push_back(near_->status());
      if (far_) all.push_back(far_->status());
      reply.result(json::object{{"role", role_}, {"gateways", std::move(all)}});
    });
    control_->add_method("well-known", [this](const json::object&, services::RpcReply reply) {
      if (!far_) return reply.error(Error{ErrorKind::not_found, "this is no far gateway"});
      reply.result(far_->well_known());
    });
    control_->add_method("shutdown", [this](const json::object&, services::RpcReply reply) {
      reply.result(json::object{{"stopping", true}});
      stop();
    });
    return control_->start();
  }

  void stop() {
    if (stopping_) return loop_.stop();  // asked twice: at once
    stopping_ = true;
    (void)host::notify_service_manager("STOPPING=1").ok();
    Log(logger_.get(), "gateway").info("stopping");
    waiting_ = (near_ ? 1 : 0) + (far_ ? 1 : 0);
    const auto one_less = [this] {
      if (--waiting_ > 0) return;
      if (control_) control_->stop();
      loop_.stop();
    };
    if (near_) near_->stop(one_less);
    if (far_) far_->stop(one_less);
  }

  const Context& context_;
  node::GatewayConfig config_;
  std::string role_;
  PairingStore store_;
  boost::asio::io_context loop_{1};
  host::SystemRandom random_;
  host::Resolver resolver_{loop_};
  std::unique_ptr<host::Logger> logger_;
  std::function<gateway::link::Coders()> make_coders_;
  std::unique_ptr<host::SignalWatch> signals_;
  std::unique_ptr<NearService> near_;
  std::unique_ptr<FarService> far_;
  std::unique_ptr<services::ControlServer> control_;
  int waiting_ = 0;
  bool stopping_ = false;
};

}  // namespace

std::string gateway_directory(const Context& context) {
  return state_directory(context) + "/gateway";
}

std::string toml_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + "\"";
}

int run_gateway(const Context& context, node::GatewayConfig config, const GatewayLog& log,
                const std::string& role) {
  GatewayLaunch launch(context, std::move(config), role);
  if (auto started = launch.start(log); !started) return fail(started.error());
  launch.run();
  return kOk;
}

}  // namespace ravine::cli
