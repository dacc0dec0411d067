// ravine gateway bench: the bytes that coding costs.
#include "cli/gateway_bench.h"

#include <memory>

#include "cli/context.h"

namespace ravine::cli {

void add_gateway_bench_command(CLI::App& gateway, Context& context) {
  auto bodies = std::make_shared<BodiesFlags>();
  CLI::App* bench = add_command(gateway, "bench", "Measure what messages cost",
                                "ravine gateway bench --bodies bodies.jsonl --json\n"
                                "ravine gateway bench --bodies bodies.jsonl --coder zstd");
  add_bodies_options(*bench, *bodies);
  bench->get_option("--bodies")->required();
  bench->callback([&context, bodies] {
    context.action = [&context, bodies] { return run_bodies_bench(context, *bodies); };
  });
}

}  // namespace ravine::cli
