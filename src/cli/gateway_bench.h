// `ravine gateway bench`: what each kind of input to it needs. A kind has its own option, and runs when that
// was given.
#pragma once

#include "cli/context.h"
#include "cli/gateway_bodies.h"
#include "cli/gateway_replay.h"

namespace ravine::cli {

void add_replay_options(CLI::App& bench, ReplayFlags& flags);
int run_replay_bench(const Context& context, const ReplayFlags& flags, const std::string& coder);

void add_bodies_options(CLI::App& bench, BodiesFlags& flags);
int run_bodies_bench(const Context& context, const BodiesFlags& flags);

}  // namespace ravine::cli
