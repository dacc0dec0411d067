// Replays a trace through both gateways as they run in life: HTTP on loopback at both ends, UDP or serial
// lines between them, and the emulated link in real time. Everything is in this process, in one loop; state
// is in a directory of its own that goes afterwards.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "lab/replay.h"

namespace ravine::services {

struct RigOptions {
  lab::LinkProfile link;
  std::uint64_t seed = 1;
  bool alias_events = false;
  bool serial = false;  // pseudo terminals in place of UDP
  Duration think{0};
  std::function<gateway::link::Coders()> make_coders = [] { return gateway::link::Coders(); };
  // After each response: how many exchanges are done.
  std::function<void(std::size_t done)> on_progress;
};

struct RigFigures {
  lab::ReplayFigures replay;
  std::string counted_by;  // how the totals were counted
};

// Blocks until the trace is done. Errors: timed_out when an exchange has no response, and what the parts say.
Result<RigFigures> replay_in_real_time(const lab::Trace& trace, RigOptions options);

}  // namespace ravine::services
