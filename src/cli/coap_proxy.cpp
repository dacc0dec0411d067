// ravine coap-proxy: the flags of the program of that name, for who knows them: HTTP to CoAP and CoAP to HTTP
// in the clear, both in one process.
#include <fmt/format.h>

#include <cstdlib>
#include <memory>

#include "cli/context.h"
#include "cli/gateway.h"
#include "cli/output.h"
#include "host/file.h"

namespace ravine::cli {
namespace {

struct ProxyFlags {
  bool only_coap = false, only_http = false, debug_log = false, allow_remote = false;
  std::string maps_dir, coap_target, rate;
  std::string http_listen = "127.0.0.1:8888", coap_listen = ":5683", http_target = "http://localhost:8008";
};

constexpr std::string_view kMapsDir = "./maps";

std::string near_toml(const ProxyFlags& flags) {
  return fmt::format("[gateway.near]\nlisten = {}\nallow_remote = {}\ncoap_target = {}\n",
                     toml_quoted(flags.http_listen), flags.allow_remote, toml_quoted(flags.coap_target));
}

std::string far_toml(const ProxyFlags& flags) {
  return fmt::format("[gateway.far]\nlisten = {}\nupstream = {}\ncoap_clear = true\n",
                     toml_quoted(flags.coap_listen), toml_quoted(flags.http_target));
}

Result<node::GatewayConfig> config_of(const ProxyFlags& flags) {
  const auto usage = [](std::string text) { return Error{ErrorKind::invalid_argument, std::move(text)}; };
  if (flags.only_coap && flags.only_http) return usage("--only-coap and --only-http leave nothing to do");
  if (!flags.only_coap && flags.coap_target.empty())
    return usage(
        "where are HTTP requests to go? Give --coap-target HOST[:PORT], or --only-coap to serve CoAP alone");
  std::string toml = "[gateway]\n";
  if (!flags.rate.empty()) toml += fmt::format("rate = {}\n", toml_quoted(flags.rate));
  if (!flags.only_coap) toml += near_toml(flags);
  if (!flags.only_http) toml += far_toml(flags);
  auto config = node::parse_gateway_config(toml, "flags");
  if (!config) return config;
  const bool dump = std::getenv("PROXY_DUMP_PAYLOADS") != nullptr;
  if (config->near) {
    config->near->peers.clear();
    config->near->coap.matrix = true;
    config->near->coap.dump_payloads = dump;
  }
  if (config->far) {
    config->far->coap_only = true;
    config->far->coap.dump_payloads = dump;
    // Without maps, short paths are those of MSC3079.
    const bool there = host::file_exists(std::string(kMapsDir) + "/routes.json");
    config->far->coap.maps_dir = !flags.maps_dir.empty() ? flags.maps_dir : there ? kMapsDir : "";
  }
  return config;
}

}  // namespace

void add_coap_proxy_command(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ProxyFlags>();
  CLI::App* command =
      add_command(app, "coap-proxy", "Carry HTTP as CoAP and CoAP as HTTP, in the clear",
                  "ravine coap-proxy --coap-target far.example:5683                  # both ways\n"
                  "ravine coap-proxy --only-http --coap-target far.example:5683      # HTTP clients here\n"
                  "ravine coap-proxy --only-coap --http-target http://localhost:8008 # HTTP server here\n"
                  "PROXY_DUMP_PAYLOADS=1 ravine coap-proxy --only-coap --debug-log");
  command->footer(
      command->get_footer() +
      "\nNothing is encrypted: use it on links that only you reach, or \"ravine gateway\", which also "
      "takes a quarter of the bytes.");
  command->add_flag("--only-coap", flags->only_coap, "Only take CoAP requests, to the HTTP server");
  command->add_flag("--only-http", flags->only_http, "Only take HTTP requests, to the CoAP server");
  command->add_flag("--debug-log", flags->debug_log,
                    "Log each request; with PROXY_DUMP_PAYLOADS set, bodies too");
  command->add_option("--maps-dir", flags->maps_dir,
                      "Short CoAP paths by routes.json, event_types.json and query_params.json there "
                      "(default: ./maps, else those of MSC3079)");
  command->add_option("--coap-target", flags->coap_target,
                      "HOST[:PORT] of the CoAP server for HTTP requests");
  command->add_option("--http-target", flags->http_target, "HTTP server for CoAP requests")
      ->capture_default_str();
  command->add_option("--http-listen", flags->http_listen, "Where HTTP clients connect")
      ->capture_default_str();
  command->add_option("--coap-listen", flags->coap_listen, "UDP address and port for CoAP clients")
      ->capture_default_str();
  command->add_flag("--allow-remote", flags->allow_remote, "Let --http-listen name more than loopback");
  command->add_option("--rate", flags->rate, "Rate of the link, each way: 100bps, 9.6kbps");
  command->callback([&context, flags] {
    context.action = [&context, flags] {
      auto config = config_of(*flags);
      if (!config) return fail(config.error());
      GatewayLog log;
      if (flags->debug_log) log.level = "debug";
      return run_gateway(context, std::move(*config), log, "coap-proxy");
    };
  });
}

}  // namespace ravine::cli
