// The benchmarks without the rest of the command line, for work on them: the same options as `ravine bench`.
#include <CLI/CLI.hpp>

#include "bench/bench.h"

int main(int count, char** arguments) {
  ravine::bench::CommandOptions options;
  CLI::App app("Measures Ravine on this machine, beside what the machine allows");
  app.add_option("name", options.names, "benchmarks to run; none: all");
  app.add_flag("--list", options.list, "name the benchmarks and their targets");
  app.add_flag("--json", options.json, "one JSON object per line");
  app.add_option("--seconds", options.seconds, "length of a measured window");
  app.add_option("--runs", options.runs, "windows per figure");
  CLI11_PARSE(app, count, arguments);
  return ravine::bench::run_command(options);
}
