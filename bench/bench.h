// Benchmarks: each target of docs/performance.md as a program that prints its figure, and beside it the
// ceiling that the machine allows, measured in the same run. A benchmark forks itself into sides that are
// pinned to one core each and talk over loopback; nothing else is touched. Figures are reported, never
// judged: a missed target is not a failure.
//
// To add one: write a `Result<Report> run_…(const RunOptions&)` in the file of its family and a row in
// registry.cpp.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace ravine::bench {

enum class Better : std::uint8_t { higher, lower };

struct RunOptions {
  double seconds = 3;  // of each measured window; 0.1 … 600
  unsigned runs = 3;   // windows per figure, whose median is reported; 1 … 100
  // Told what is being measured now, for a person who waits. May be empty.
  std::function<void(std::string_view)> progress;
};

// A condition that the project promises, on one of the report's figures.
struct Gate {
  std::string name;
  double value = 0;
  double target = 0;
  Better better = Better::higher;
  bool met() const { return better == Better::higher ? value >= target : value <= target; }
};

// What a benchmark found. Figures are medians over the runs.
struct Report {
  std::string name;
  double value = 0;
  std::string unit;
  Better better = Better::higher;
  double target = 0;             // in `unit`
  std::string ceiling_name;      // empty: none could be measured, `notes` says why
  double ceiling = 0;            // in `unit`
  double cpu_ns_per_op = 0;      // of the side that spends more
  std::vector<double> values;    // `value` of each run
  std::vector<double> ceilings;  // likewise
  std::vector<Gate> gates;
  std::vector<std::pair<std::string, double>> figures;  // further figures, their unit in their name
  std::vector<std::pair<std::string, std::string>> notes;

  // value ÷ ceiling, or ceiling ÷ value when lower is better: 1 is as good as the ceiling. 0 without a
  // ceiling.
  double ratio() const;
};

struct Benchmark {
  std::string_view name;
  std::string_view summary;
  std::string_view unit;
  Better better;
  double target;
  Result<Report> (*run)(const RunOptions& options);
};

std::span<const Benchmark> benchmarks();
const Benchmark* find_benchmark(std::string_view name);

// Runs one. Fails when it could not be measured at all (no second core, no loopback); invalid options are
// refused. Requires that the process has one thread, since it forks.
Result<Report> run(const Benchmark& benchmark, const RunOptions& options);

// One JSON object on one line, without a newline.
std::string to_json(const Report& report);
// A few lines for people, with a newline at the end.
std::string to_text(const Report& report);
// The list of benchmarks, for `--list`: text, or a JSON array.
std::string list_text();
std::string list_json();

// Everything behind `ravine bench [NAME…] [--list] [--json] [--seconds S] [--runs N]`: prints to stdout,
// progress to stderr when that is a terminal. No names: all of them. Returns the exit code: 0 whatever the
// figures, 1 when a benchmark could not run, 2 for an unknown name or bad options.
struct CommandOptions {
  std::vector<std::string> names;
  bool list = false;
  bool json = false;
  double seconds = 3;
  unsigned runs = 3;
};
int run_command(const CommandOptions& options);

}  // namespace ravine::bench
