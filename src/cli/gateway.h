// The gateway commands' shared parts: where their state is, and running what a configuration says.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "gateway/link/thin_link.h"
#include "node/gateway_config.h"

namespace ravine::cli {

struct Context;

// STATE/gateway: pairings and control sockets.
std::string gateway_directory(const Context& context);

struct GatewayLog {
  std::string level = "info", format = "text", file;
};

// Makes the coders that a link may use, the best one first: that of this name ("" is the default) and those
// that it falls back to. Errors: invalid_argument, and what reading its tables says.
Result<std::function<gateway::link::Coders()>> gateway_coders(const std::string& name);

// Runs until it is told to stop; returns the exit code. `role` names the control socket.
int run_gateway(const Context& context, node::GatewayConfig config, const GatewayLog& log,
                const std::string& role);

// Flags as a line of TOML.
std::string toml_quoted(std::string_view text);

void add_gateway_pair_command(CLI::App& gateway, Context& context);
void add_gateway_stats_command(CLI::App& gateway, Context& context);

}  // namespace ravine::cli
