// What the services count, under its metric names. docs/metrics.md explains each.
#pragma once

#include <functional>

#include "services/expose.h"
#include "services/join.h"
#include "services/metrics.h"
#include "services/proxy.h"
#include "services/tunnel.h"

namespace ravine::services {

// The services to read; all outlive the metrics.
struct MetricSources {
  // The proxy may come and go with the configuration; null, or a null answer: none, which counts 0.
  std::function<const ProxyServer*()> proxy;
  Tunnels* tunnels = nullptr;
  ExposeService* exposes = nullptr;
  std::function<const JoinService*()> join;  // likewise
};

void add_service_metrics(Metrics& metrics, MetricSources sources);

}  // namespace ravine::services
