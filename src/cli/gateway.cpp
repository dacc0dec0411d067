// ravine gateway: HTTP over links of 100 bit/s.
#include "cli/context.h"

namespace ravine::cli {

void add_gateway_commands(CLI::App& app, Context& context) {
  CLI::App* gateway = add_command(app, "gateway", "Carry HTTP over links of 100 bit/s and up",
                                  "ravine gateway bench --trace session.json --link rate=100bps,delay=2s");
  gateway->require_subcommand(1);
  add_gateway_bench_command(*gateway, context);
}

}  // namespace ravine::cli
