// ravine gateway near, far, both: flags become the configuration that a file would say.
#include "cli/gateway.h"

#include <fmt/format.h>

#include <memory>

#include "cli/context.h"
#include "cli/output.h"

namespace ravine::cli {
namespace {

struct GatewayFlags {
  // both sides
  std::string rate, coder, silence;
  std::vector<std::string> headers;
  bool alias_events = false, no_matrix = false, plain = false;
  GatewayLog log;
  // near
  std::string listen = "127.0.0.1:8888", peer, pairing, fallback, near_timeout;
  std::vector<std::string> suppress, routes;
  bool allow_remote = false;
  // far
  std::string far_listen = ":5683", upstream, host, ca_file, far_timeout, well_known, public_address;
  std::vector<std::string> far_pairings;
  bool insecure = false;
  // CoAP: near, far
  std::string coap_target, maps_dir;
  std::vector<std::string> coap_servers, oscore, coap_forward;
  bool coap_clear = false;
};

void add_text(std::string& toml, std::string_view key, const std::string& value) {
  if (!value.empty()) toml += fmt::format("{} = {}\n", key, toml_quoted(value));
}

void add_list(std::string& toml, std::string_view key, const std::vector<std::string>& values) {
  if (values.empty()) return;
  std::string list;
  for (const std::string& value : values) list += (list.empty() ? "" : ", ") + toml_quoted(value);
  toml += fmt::format("{} = [{}]\n", key, list);
}

void add_flag(std::string& toml, std::string_view key, bool set, bool value = true) {
  if (set) toml += fmt::format("{} = {}\n", key, value);
}

// HOST[,HOST…]=PAIRING[@PEER]
Result<std::string> route_toml(const std::string& flag) {
  const std::size_t equals = flag.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == flag.size())
    return Error{ErrorKind::invalid_argument,
                 fmt::format("--route \"{}\" is wrong; write HOST=PAIRING or HOST=PAIRING@PEER", flag)};
  std::vector<std::string> hosts(1);
  for (const char c : flag.substr(0, equals)) {
    if (c == ',') {
      hosts.emplace_back();
    } else {
      hosts.back() += c;
    }
  }
  const std::string rest = flag.substr(equals + 1);
  const std::size_t at = rest.find('@');
  std::string toml = "[[gateway.route]]\n";
  add_list(toml, "hosts", hosts);
  add_text(toml, "pairing", rest.substr(0, at));
  if (at != std::string::npos) add_text(toml, "peer", rest.substr(at + 1));
  return toml;
}

Result<node::GatewayConfig> config_of(const GatewayFlags& flags, bool near, bool far) {
  std::string toml = "[gateway]\n";
  add_text(toml, "rate", flags.rate);
  add_text(toml, "coder", flags.coder);
  add_text(toml, "silence", flags.silence);
  add_list(toml, "headers", flags.headers);
  add_flag(toml, "alias_events", flags.alias_events);
  add_flag(toml, "matrix", flags.no_matrix, false);
  add_flag(toml, "no_encryption_point_to_point", flags.plain);
  if (near) {
    toml += "[gateway.near]\n";
    add_text(toml, "listen", flags.listen);
    add_text(toml, "peer", flags.peer);
    add_text(toml, "pairing", flags.pairing);
    add_text(toml, "fallback", flags.fallback);
    add_text(toml, "timeout", flags.near_timeout);
    add_list(toml, "suppress", flags.suppress);
    add_flag(toml, "allow_remote", flags.allow_remote);
    add_list(toml, "coap_servers", flags.coap_servers);
    add_text(toml, "coap_target", flags.coap_target);
  }
  if (far) {
    toml += "[gateway.far]\n";
    add_text(toml, "listen", flags.far_listen);
    add_text(toml, "upstream", flags.upstream);
    add_text(toml, "host", flags.host);
    add_text(toml, "ca_file", flags.ca_file);
    add_text(toml, "timeout", flags.far_timeout);
    add_text(toml, "well_known", flags.well_known);
    add_text(toml, "public_address", flags.public_address);
    add_list(toml, "pairings", flags.far_pairings);
    add_flag(toml, "verify", flags.insecure, false);
    add_flag(toml, "coap_clear", flags.coap_clear);
    add_list(toml, "oscore", flags.oscore);
    add_list(toml, "coap_forward", flags.coap_forward);
    add_text(toml, "maps_dir", flags.maps_dir);
  }
  for (const std::string& flag : flags.routes) {
    auto route = route_toml(flag);
    if (!route) return route.error();
    toml += *route;
  }
  auto config = node::parse_gateway_config(toml, "flags");
  // With routes alone, there is no gateway for all other hosts.
  if (config && config->near && !flags.routes.empty() && flags.peer.empty() && flags.pairing.empty())
    config->near->peers.erase(config->near->peers.begin());
  return config;
}

void add_common_options(CLI::App& command, GatewayFlags& flags) {
  command.add_option("--rate", flags.rate, "Rate of the link, each way: 100bps, 9.6kbps (default: learned)");
  command.add_option("--coder", flags.coder, "How texts are coded, the same on both sides");
  command.add_option("--header", flags.headers, "Carry this header too; repeat, on both sides")
      ->allow_extra_args(false);
  command.add_flag("--alias-events", flags.alias_events,
                   "Answer sends with short event IDs; the real ones come with the sync. On both sides");
  command.add_flag("--no-matrix", flags.no_matrix, "Treat all requests alike. On both sides");
  command.add_flag(
      "--no-encryption-point-to-point", flags.plain,
      "Frames in the clear, on a line that only these two can reach; stats shows it. On both sides");
  command.add_option(
      "--silence", flags.silence,
      "Ask whether the other side still has its keys after so long without a word (default 60s)");
  command.add_option("--log-level", flags.log.level, "trace, debug, info, warning, error or off");
  command.add_option("--log-format", flags.log.format, "text or json");
  command.add_option("--log-file", flags.log.file, "Append the log to this file instead of standard error");
}

void add_near_options(CLI::App& command, GatewayFlags& flags) {
  command.add_option("--listen", flags.listen, "Where HTTP clients connect")->capture_default_str();
  command.add_flag("--allow-remote", flags.allow_remote,
                   "Let --listen name more than loopback: whoever reaches it uses the link");
  command.add_option(
      "--peer", flags.peer,
      "The far gateway: HOST[:PORT], NAME.fuse[:PORT], /dev/ttyUSB0:9600, stdio or exec:COMMAND "
      "(default: the address in the pairing code)");
  command.add_option("--pairing", flags.pairing, "Name of the pairing with it (default: the only one)");
  command
      .add_option("--route", flags.routes,
                  "HOST[,HOST]=PAIRING[@PEER]: requests with this Host go to another far gateway; repeat")
      ->allow_extra_args(false);
  command.add_option("--suppress", flags.suppress, "What is not carried: avatars,receipts,typing,presence")
      ->delimiter(',');
  command.add_option("--fallback", flags.fallback,
                     "While the far gateway is silent: \"https\" sends requests to the hosts of --route over "
                     "plain HTTPS, a URL sends all of them there");
  command.add_option("--timeout", flags.near_timeout, "How long a request may take (default 600s)");
  command
      .add_option(
          "--coap-server", flags.coap_servers,
          "HOST[:PORT]: requests to /hc/coap://HOST[:PORT]/PATH go to this CoAP server (RFC 8075); repeat")
      ->allow_extra_args(false);
  command.add_option("--coap-target", flags.coap_target,
                     "HOST[:PORT]: all other requests go to this CoAP server");
}

void add_far_options(CLI::App& command, GatewayFlags& flags, bool alone) {
  command
      .add_option(alone ? "--listen" : "--far-listen", flags.far_listen,
                  "UDP address and port, or a line: /dev/ttyUSB0:9600, stdio, exec:COMMAND")
      ->capture_default_str();
  command.add_option("--upstream", flags.upstream, "The HTTP server: http(s)://HOST[:PORT][/PREFIX]")
      ->required();
  command.add_option("--host", flags.host, "Host header for it (default: as in --upstream)");
  command.add_option("--ca-file", flags.ca_file,
                     "Certificate authorities for it, PEM (default: the system's)");
  command.add_flag("--insecure-upstream", flags.insecure, "Do not check its certificate; stats shows it");
  command
      .add_option(alone ? "--pairing" : "--far-pairing", flags.far_pairings,
                  "Serve this pairing; repeat (default: all)")
      ->allow_extra_args(false);
  command.add_option(alone ? "--timeout" : "--upstream-timeout", flags.far_timeout,
                     "How long the server may take (default 60s)");
  command.add_option("--well-known", flags.well_known,
                     "Serve /.well-known/ravine-gateway over HTTP on this address");
  command.add_option("--public-address", flags.public_address, "HOST:PORT to tell there");
  command
      .add_option("--oscore", flags.oscore, "Serve CoAP clients with the OSCORE context in this file; repeat")
      ->allow_extra_args(false);
  command.add_flag("--coap-clear", flags.coap_clear, "Serve CoAP clients without encryption; stats shows it");
  command
      .add_option("--coap-forward", flags.coap_forward,
                  "HOST[:PORT] or *.DOMAIN that CoAP clients may name by Proxy-Uri; repeat")
      ->allow_extra_args(false);
  command.add_option("--maps-dir", flags.maps_dir,
                     "Short CoAP paths by the routes.json there (default: those of MSC3079)");
}

void add_role(CLI::App& gateway, Context& context, const std::string& name, const std::string& summary,
              const std::string& examples, bool near, bool far) {
  auto flags = std::make_shared<GatewayFlags>();
  CLI::App* command = add_command(gateway, name, summary, examples);
  if (near) add_near_options(*command, *flags);
  if (far) add_far_options(*command, *flags, !near);
  add_common_options(*command, *flags);
  command->callback([&context, flags, name, near, far] {
    context.action = [&context, flags, name, near, far] {
      auto config = config_of(*flags, near, far);
      return config ? run_gateway(context, std::move(*config), flags->log, name) : fail(config.error());
    };
  });
}

}  // namespace

void add_gateway_commands(CLI::App& app, Context& context) {
  CLI::App* gateway = add_command(app, "gateway", "Carry HTTP over links of 100 bit/s and up",
                                  "ravine gateway pair --address far.example:5683    # on the far side\n"
                                  "ravine gateway far --upstream https://matrix.example.org\n"
                                  "ravine gateway pair RVG1…                          # on the near side\n"
                                  "ravine gateway near --rate 100bps\n"
                                  "ravine gateway -c /etc/ravine/gateway.toml");
  auto file = std::make_shared<std::string>();
  auto log = std::make_shared<GatewayLog>();
  gateway->require_subcommand(0, 1);
  gateway->add_option("-c,--config", *file, "Run what this file's [gateway] says");
  gateway->callback([&context, gateway, file, log] {
    if (!gateway->get_subcommands().empty()) return;
    context.action = [&context, gateway, file, log] {
      if (file->empty()) {
        print(gateway->help());
        return static_cast<int>(kUsage);
      }
      auto config = node::load_gateway_config(*file);
      if (!config) return fail(config.error());
      const std::string role = config->near && config->far ? "both" : config->near ? "near" : "far";
      return run_gateway(context, std::move(*config), *log, role);
    };
  });
  add_role(*gateway, context, "near", "Serve HTTP clients on this side of the link",
           "ravine gateway near --listen 127.0.0.1:8888 --peer far.example:5683 --rate 100bps\n"
           "ravine gateway near --peer /dev/ttyUSB0:9600 --suppress typing,receipts\n"
           "ravine gateway near --peer box.fuse --fallback https://matrix.example.org\n"
           "ravine gateway near --route a.example=hut --route b.example=ship@203.0.113.7:5683",
           true, false);
  add_role(*gateway, context, "far", "Carry requests of near gateways to an HTTP server",
           "ravine gateway far --listen :5683 --upstream https://matrix.example.org\n"
           "ravine gateway far --listen /dev/ttyUSB0:9600 --upstream http://127.0.0.1:8008\n"
           "ravine gateway far --upstream http://127.0.0.1:8008 --well-known 127.0.0.1:8449 "
           "--public-address far.example:5683",
           false, true);
  add_role(*gateway, context, "both",
           "Near and far in one process, as servers that talk to each other need it",
           "ravine gateway both --peer b.example:5683 --upstream http://127.0.0.1:8008\n"
           "ravine gateway both --route b.example=b@b.example:5683 --far-pairing b-in --upstream "
           "http://127.0.0.1:8008",
           true, true);
  add_gateway_pair_command(*gateway, context);
  add_gateway_stats_command(*gateway, context);
  add_gateway_model_commands(*gateway, context);
  add_gateway_bench_command(*gateway, context);
}

}  // namespace ravine::cli
