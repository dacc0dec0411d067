// Node: the composition root. It loads what the state directory and the configuration say, joins the
// endpoint, the driver and the services, and keeps them right over time: renewals, daily server names,
// revocations, reloads. It makes no decision of protocol and prints nothing. Thread rule: everything on the
// loop's one thread. The loop, the log and the random source outlive the node.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "node/config.h"

namespace ravine::node {

struct NodeOptions {
  Config config;
  std::string state;                            // directory; empty: config.node.state, else the default
  bool control = true;                          // serve the control socket
  std::function<Result<Config>()> read_config;  // for reload(); empty: reload keeps the configuration
  std::function<void(const Config&)> apply_log_levels;
  // A component's level, or everything's when it is empty; no level: the component follows everything again.
  std::function<Result<>(std::string_view component, std::optional<LogLevel>)> set_log_level;
  std::function<std::map<std::string, LogLevel, std::less<>>()> log_levels;  // by component; "" is everything
  std::function<void()> on_shutdown_request;  // somebody called shutdown over the control socket
};

struct ReloadReport {
  std::vector<std::string> changed;        // what was taken over, for people
  std::vector<std::string> needs_restart;  // keys that differ and wait for a restart
};

class Node {
 public:
  Node(boost::asio::io_context& loop, NodeOptions options, RandomSource& random, Log log);
  ~Node();

  // Loads, binds and listens. Errors keep their kind: already_exists (port, state directory or control socket
  // in use), refused (file rights), unauthenticated (certificate), invalid_argument (configuration). After an
  // error only destruction is allowed.
  Result<> start();
  // Reads the configuration again and takes over what can change; sessions stay. An error changes nothing.
  Result<ReloadReport> reload();
  // Says good-bye to peers and calls `done` when they know, after 2 s at the latest. start() cannot follow.
  void stop(std::function<void()> done);

  std::uint16_t port() const;
  const std::string& state_directory() const;
  const std::string& control_path() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::node
