// `ravine gateway bench --trace`: replays a trace through both gateways and prints what it cost.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "cli/context.h"
#include "gateway/link/thin_link.h"

namespace ravine::cli {

struct ReplayFlags {
  std::string trace;
  std::string link;
  std::string transport = "udp";
  std::string think = "0s";
  std::uint64_t seed = 1;
  unsigned rounds = 1;
  bool alias_events = false, real_time = false, throughput = false, each = false, no_https = false;
};

using CoderMaker = std::function<gateway::link::Coders()>;
int run_replay(const Context& context, const ReplayFlags& flags, const CoderMaker& make_coders);

}  // namespace ravine::cli
