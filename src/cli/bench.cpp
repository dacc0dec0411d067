// ravine bench: the benchmarks of this binary, and the measurement of a live peer.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/output.h"
#ifdef RAVINE_HAVE_BENCH
#include "bench/bench.h"
#endif

namespace ravine::cli {

namespace json = boost::json;

namespace {

struct BenchFlags {
  std::vector<std::string> names;
  std::string peer;
  bool list = false;
  double seconds = 3;
  unsigned runs = 3;
};

std::string rate_text(double bits_per_second) {
  return bits_per_second >= 1e9 ? fmt::format("{:.2f} Gbit/s", bits_per_second / 1e9)
                                : fmt::format("{:.1f} Mbit/s", bits_per_second / 1e6);
}

int run_peer(const Context& context, const BenchFlags& flags) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const bool show = !context.json && is_terminal(STDERR_FILENO);
  const auto on_progress = [show](std::string_view, const json::value& progress) {
    if (!show) return;
    fmt::print(stderr, "\r\x1b[K{:<9} {:>5.1f} s  {}", text_of(progress, "phase"),
               real_of(progress, "elapsed_ns") / 1e9, rate_text(real_of(progress, "bits_per_second")));
  };
  const auto seconds = static_cast<std::int64_t>(std::max(1.0, flags.seconds));
  const auto limit = std::chrono::seconds(2 * seconds + 30);
  const auto answer =
      daemon->call("bench", {{"peer", flags.peer}, {"seconds", seconds}}, code, limit, on_progress);
  if (show) fmt::print(stderr, "\r\x1b[K");
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  print_line(fmt::format("round trip  {} median, {} at 99 %, {} least",
                         duration_text(Duration(number_of(*answer, "latency_p50_ns"))),
                         duration_text(Duration(number_of(*answer, "latency_p99_ns"))),
                         duration_text(Duration(number_of(*answer, "latency_min_ns")))));
  print_line(fmt::format("upload      {}", rate_text(real_of(*answer, "upload_bits_per_second"))));
  print_line(fmt::format("download    {}", rate_text(real_of(*answer, "download_bits_per_second"))));
  return kOk;
}

int run_benchmarks(const Context& context, const BenchFlags& flags) {
#ifdef RAVINE_HAVE_BENCH
  return bench::run_command({.names = flags.names,
                             .list = flags.list,
                             .json = context.json,
                             .seconds = flags.seconds,
                             .runs = flags.runs});
#else
  (void)context;
  (void)flags;
  return fail({ErrorKind::unsupported, "this binary was built without benchmarks (RAVINE_BENCH=OFF)"});
#endif
}

}  // namespace

void add_bench_commands(CLI::App& app, Context& context) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* bench = add_command(app, "bench", "Measure this machine, or the way to a live peer",
                                "ravine bench --list\nravine bench bulk rr64 --json\nravine bench peer box");
  bench->add_option("NAME", flags->names, "Benchmarks to run; none: all (see --list)");
  bench->add_flag("--list", flags->list, "List the benchmarks");
  bench->add_option("--seconds", flags->seconds, "Length of each measurement")->capture_default_str();
  bench->add_option("--runs", flags->runs, "Measurements per figure; the median counts")
      ->capture_default_str();
  bench->callback([&context, flags, bench] {
    if (!bench->get_subcommands().empty()) return;
    context.action = [&context, flags] { return run_benchmarks(context, *flags); };
  });
  CLI::App* peer = add_command(*bench, "peer", "Measure round trip and throughput to a peer, with progress",
                               "ravine bench peer box\nravine bench peer box --seconds 10 --json");
  peer->add_option("NAME", flags->peer, "Name, NAME.fuse, 16-character ID or overlay address")->required();
  peer->add_option("--seconds", flags->seconds, "Length of each direction")->capture_default_str();
  peer->callback(
      [&context, flags] { context.action = [&context, flags] { return run_peer(context, *flags); }; });
}

}  // namespace ravine::cli
