// Metrics: counters of all layers in Prometheus' text format (version 0.0.4), and the small HTTP server for
// it. Values are read when they are asked for: nothing is counted twice.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "services/context.h"

namespace ravine::services {

class Metrics {
 public:
  Metrics();
  ~Metrics();
  using Labels = std::vector<std::pair<std::string, std::string>>;
  // `read` is called on every scrape, on the loop's thread. Names as Prometheus wants them (ravine_…_total
  // for counters).
  void add_counter(std::string name, std::string text, std::function<double()> read, Labels labels = {});
  void add_gauge(std::string name, std::string text, std::function<double()> read, Labels labels = {});
  // Driver, endpoint and session figures under their usual names.
  void add_driver(runtime::Driver& driver);
  std::string serialize() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct MetricsServerOptions {
  SocketAddress listen;  // loopback, unless allow_remote
  bool allow_remote = false;
  std::vector<std::string> hosts;  // further Host names that may be asked for
};

// GET /metrics. Checks Host (DNS rebinding); one request per connection; at most 16 connections.
class MetricsServer {
 public:
  MetricsServer(ServiceContext context, const Metrics& metrics, MetricsServerOptions options);
  ~MetricsServer();
  Result<> start();
  void stop();
  SocketAddress address() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
