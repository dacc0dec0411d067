// ravine gateway bench: what the gateways make of given HTTP traffic.
#include <memory>

#include "cli/context.h"
#include "cli/gateway.h"
#include "cli/gateway_replay.h"
#include "cli/output.h"

namespace ravine::cli {

void add_gateway_bench_command(CLI::App& gateway, Context& context) {
  auto flags = std::make_shared<ReplayFlags>();
  auto coder = std::make_shared<std::string>();
  CLI::App* bench =
      add_command(gateway, "bench", "Replay recorded HTTP traffic through both gateways and count the bytes",
                  "ravine gateway bench --trace session.json --virtual --alias-events\n"
                  "ravine gateway bench --trace session.json --link rate=9.6kbps,loss=5%,delay=300ms --json\n"
                  "ravine gateway bench --trace session.json --transport pipe --coder none");
  add_replay_options(*bench, *flags);
  bench->add_option("--coder", *coder, "Coder of texts, as the gateways have it");
  bench->callback([&context, flags, coder] {
    context.action = [&context, flags, coder] {
      if (flags->trace.empty())
        return fail({ErrorKind::invalid_argument, "what shall be replayed? Give --trace FILE"});
      auto make_coder = gateway_coder(*coder);
      if (!make_coder) return fail(make_coder.error());
      return run_replay(context, *flags, *make_coder);
    };
  });
}

}  // namespace ravine::cli
