// What every command shares: the options that all of them take, and the action that parsing chose. One file
// per command group registers its sub-commands here, because CLI11 is heavy to compile.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <string>

namespace ravine::cli {

struct Context {
  std::string state;    // --state or RAVINE_STATE; empty: the default
  std::string control;  // --control; empty: the one that belongs to the state directory
  bool json = false;
  bool no_colour = false;
  std::function<int()> action;  // set by the sub-command that was named
  const CLI::App* root = nullptr;
};

// Adds a sub-command whose help ends with `examples` (without indentation, one per line).
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                      const std::string& examples);

void add_node_commands(CLI::App& app, Context& context);     // up, down, reload
void add_listing_commands(CLI::App& app, Context& context);  // status, peers, sessions
void add_peer_commands(CLI::App& app, Context& context);     // ping, connect
void add_bench_commands(CLI::App& app, Context& context);
void add_expose_commands(CLI::App& app, Context& context);    // expose, unexpose, forwards
void add_settings_commands(CLI::App& app, Context& context);  // log, config, completion, version
void add_doctor_command(CLI::App& app, Context& context);
void add_ca_commands(CLI::App& app, Context& context);
void add_gateway_commands(CLI::App& app, Context& context);
void add_gateway_bench_command(CLI::App& gateway, Context& context);
void add_lab_commands(CLI::App& app, Context& context);
void add_coap_proxy_command(CLI::App& app, Context& context);
void add_join_commands(CLI::App& app, Context& context);               // id, invite, join, pair
void add_gateway_model_commands(CLI::App& gateway, Context& context);  // train

}  // namespace ravine::cli
