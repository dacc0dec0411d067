// Every benchmark that exists, in the order of `ravine bench --list`.
#include <fmt/format.h>
#include <sched.h>

#include <array>

#include "bench/bench.h"
#include "bench/families.h"
#include "bench/harness.h"

namespace ravine::bench {

namespace {

constexpr auto kBenchmarks = std::to_array<Benchmark>({
    {"bulk", "one stream, 1452-byte packets", "Gbit/s", Better::higher, 20, run_bulk},
    {"bulk_gnutls", "one stream, packets protected by GnuTLS", "Gbit/s", Better::higher, 13, run_bulk_gnutls},
    {"datagram", "datagrams of 1200 bytes", "Mpps", Better::higher, 1.8, run_datagram},
    {"rr1", "64-byte request and response on a new stream, one at a time, p50", "µs", Better::lower, 55,
     run_rr1},
    {"rr64", "64-byte requests on new streams, 64 at a time", "requests/s", Better::higher, 650000, run_rr64},
    {"handshake", "full mutual handshakes per second of one core's CPU", "1/s", Better::higher, 2500,
     run_handshake},
    {"resume", "resumed handshakes per second of one core's CPU", "1/s", Better::higher, 7000, run_resume},
    {"idle_memory", "anonymous memory per idle session and side", "KiB", Better::lower, 36, run_idle_memory},
    {"socks_bulk", "TCP through SOCKS5 and a session to TCP", "Gbit/s", Better::higher, 8, run_socks_bulk},
});

}  // namespace

std::span<const Benchmark> benchmarks() {
  return kBenchmarks;
}

const Benchmark* find_benchmark(std::string_view name) {
  for (const Benchmark& benchmark : kBenchmarks) {
    if (benchmark.name == name) return &benchmark;
  }
  return nullptr;
}

Result<Report> run(const Benchmark& benchmark, const RunOptions& options) {
  if (!(options.seconds >= 0.1 && options.seconds <= 600) || options.runs < 1 || options.runs > 100) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("cannot measure {} runs of {} s: choose 1 to 100 runs of "
                             "0.1 to 600 seconds",
                             options.runs, options.seconds)};
  }
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0 || CPU_COUNT(&cores) < 2) {
    return Error{ErrorKind::unsupported, "a benchmark needs two cores, one per side"};
  }
  Result<Report> report = benchmark.run(options);
  if (!report.ok()) return report;
  report->name = benchmark.name;
  report->unit = benchmark.unit;
  report->better = benchmark.better;
  report->target = benchmark.target;
  report->value = median(report->values);
  report->ceiling = median(report->ceilings);
  return report;
}

}  // namespace ravine::bench
