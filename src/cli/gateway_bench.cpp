// ravine gateway bench: the bytes that HTTP traffic costs, and those of its coding alone.
#include "cli/gateway_bench.h"

#include <CLI/Error.hpp>
#include <memory>

#include "cli/context.h"

namespace ravine::cli {
namespace {

struct BenchFlags {
  ReplayFlags replay;
  BodiesFlags bodies;
  std::string coder;
};

int run_bench(const Context& context, const BenchFlags& flags) {
  if (flags.bodies.bodies.empty()) return run_replay_bench(context, flags.replay, flags.coder);
  BodiesFlags bodies = flags.bodies;
  if (!flags.coder.empty()) bodies.coder = flags.coder;
  return run_bodies_bench(context, bodies);
}

}  // namespace

void add_gateway_bench_command(CLI::App& gateway, Context& context) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* bench = add_command(gateway, "bench", "Measure what messages cost",
                                "ravine gateway bench --trace session.json --link rate=100bps,delay=2s\n"
                                "ravine gateway bench --trace session.json --transport pipe --json\n"
                                "ravine gateway bench --throughput --coder none\n"
                                "ravine gateway bench --trace session.json --link rate=9600bps,loss=5% "
                                "--rounds 9\n"
                                "ravine gateway bench --bodies bodies.jsonl --json\n"
                                "ravine gateway bench --bodies bodies.jsonl --coder zstd");
  add_replay_options(*bench, flags->replay);
  bench->add_flag("--throughput", flags->replay.throughput,
                  "Exchanges per second through both gateways on loopback, without a trace");
  add_bodies_options(*bench, flags->bodies);
  bench->add_option("--coder", flags->coder,
                    "Coder of texts, as the gateways have it: model, zstd, cbor-deflate, cbor or none "
                    "(default model)");
  bench->get_option("--bodies")->excludes("--trace")->excludes("--throughput");
  bench->callback([&context, flags] {
    if (flags->replay.trace.empty() && !flags->replay.throughput && flags->bodies.bodies.empty())
      throw CLI::RequiredError("--trace FILE, --bodies FILE or --throughput");
    context.action = [&context, flags] { return run_bench(context, *flags); };
  });
}

}  // namespace ravine::cli
