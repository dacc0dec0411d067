// ravine gateway bench: the bytes that HTTP traffic costs.
#include "cli/gateway_bench.h"

#include <CLI/Error.hpp>
#include <memory>

#include "cli/context.h"

namespace ravine::cli {

void add_gateway_bench_command(CLI::App& gateway, Context& context) {
  auto replay = std::make_shared<ReplayFlags>();
  auto coder = std::make_shared<std::string>();
  CLI::App* bench = add_command(gateway, "bench", "Measure what messages cost",
                                "ravine gateway bench --trace session.json --link rate=100bps,delay=2s\n"
                                "ravine gateway bench --trace session.json --transport pipe --json\n"
                                "ravine gateway bench --throughput --coder none\n"
                                "ravine gateway bench --trace session.json --link rate=9600bps,loss=5% "
                                "--rounds 9");
  add_replay_options(*bench, *replay);
  bench->add_flag("--throughput", replay->throughput,
                  "Exchanges per second through both gateways on loopback, without a trace");
  bench->add_option("--coder", *coder, "Coder of texts, as the gateways have it");
  bench->callback([&context, replay, coder] {
    if (replay->trace.empty() && !replay->throughput)
      throw CLI::RequiredError("--trace FILE or --throughput");
    context.action = [&context, replay, coder] { return run_replay_bench(context, *replay, *coder); };
  });
}

}  // namespace ravine::cli
