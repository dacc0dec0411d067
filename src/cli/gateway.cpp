// ravine gateway: HTTP over links of 100 bit/s.
#include "cli/context.h"

namespace ravine::cli {

void add_gateway_commands(CLI::App& app, Context& context) {
  CLI::App* gateway = add_command(app, "gateway", "Carry HTTP over links of 100 bit/s and up",
                                  "ravine gateway train --in corpus/*.json* --out model.bin\n"
                                  "ravine gateway bench --bodies bodies.jsonl");
  gateway->require_subcommand(1);
  add_gateway_model_commands(*gateway, context);
  add_gateway_bench_command(*gateway, context);
}

}  // namespace ravine::cli
