// How many exchanges per second both gateways carry on loopback: HTTP clients, near, far and an HTTP server,
// all in one loop of this process.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "gateway/link/thin_link.h"

namespace ravine::services {

struct LoadOptions {
  Duration span = 3s;     // that is measured, after a tenth of it
  unsigned clients = 32;  // that ask at the same time
  std::function<gateway::link::Coders()> make_coders;
};

struct LoadFigures {
  double exchanges_per_second = 0;
  std::uint64_t exchanges = 0, failed = 0;
  double cpu_us_per_exchange = 0;  // of the whole process: clients and server too
  std::string coder;
};

// Blocks. Errors: what the services say; timed_out when nothing was answered.
Result<LoadFigures> measure_load(const LoadOptions& options);

}  // namespace ravine::services
