// `ravine gateway bench`: what each kind of input to it needs. A kind has its own option, and runs when that
// was given.
#pragma once

#include "cli/context.h"
#include "cli/gateway_replay.h"

namespace ravine::cli {

void add_replay_options(CLI::App& bench, ReplayFlags& flags);
int run_replay_bench(const Context& context, const ReplayFlags& flags, const std::string& coder);

}  // namespace ravine::cli
