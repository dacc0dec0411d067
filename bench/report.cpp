// The texts of the benchmarks: JSON, human lines, the list, and the command.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdio>

#include "bench/bench.h"
#include "bench/harness.h"

namespace ravine::bench {

namespace {

namespace json = boost::json;

std::string_view to_text(Better better) {
  return better == Better::higher ? "higher" : "lower";
}

// Four significant digits: more would be noise, and diffs of results stay readable.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double scale = std::pow(10.0, 3 - std::floor(std::log10(std::abs(value))));
  return std::round(value * scale) / scale;
}

std::string number(double value) {
  return fmt::format("{:g}", rounded(value));
}

json::array numbers(const std::vector<double>& values) {
  json::array out;
  for (double value : values) out.emplace_back(rounded(value));
  return out;
}

std::string joined(const std::vector<double>& values) {
  std::string out;
  for (double value : values) out += (out.empty() ? "" : ", ") + number(value);
  return out;
}

}  // namespace

double Report::ratio() const {
  if (ceiling == 0 || value == 0) return 0;
  return better == Better::higher ? value / ceiling : ceiling / value;
}

std::string to_json(const Report& report) {
  json::object out;
  out["name"] = report.name;
  out["value"] = rounded(report.value);
  out["unit"] = report.unit;
  out["better"] = to_text(report.better);
  out["target"] = report.target;
  out["ceiling_name"] = report.ceiling_name.empty() ? json::value(nullptr) : json::value(report.ceiling_name);
  out["ceiling"] = report.ceiling_name.empty() ? json::value(nullptr) : json::value(rounded(report.ceiling));
  out["ratio"] = report.ceiling_name.empty() ? json::value(nullptr) : json::value(rounded(report.ratio()));
  out["cpu_ns_per_op"] = rounded(report.cpu_ns_per_op);
  out["runs"] = report.values.size();
  out["values"] = numbers(report.values);
  out["min"] =
      report.values.empty() ? 0 : rounded(*std::min_element(report.values.begin(), report.values.end()));
  out["median"] = rounded(median(report.values));
  out["max"] =
      report.values.empty() ? 0 : rounded(*std::max_element(report.values.begin(), report.values.end()));
  out["ceilings"] = numbers(report.ceilings);
  json::array gates;
  for (const Gate& gate : report.gates) {
    gates.push_back(json::object{{"name", gate.name},
                                 {"value", rounded(gate.value)},
                                 {"target", gate.target},
                                 {"better", to_text(gate.better)},
                                 {"met", gate.met()}});
  }
  out["gates"] = std::move(gates);
  for (const auto& [name, value] : report.figures) out[name] = rounded(value);
  for (const auto& [name, text] : report.notes) out[name] = text;
  return json::serialize(out);
}

std::string to_text(const Report& report) {
  std::string out = fmt::format("{}: {} {}   (target {} {}; runs: {})\n", report.name, number(report.value),
                                report.unit, report.target, report.unit, joined(report.values));
  if (!report.ceiling_name.empty()) {
    out += fmt::format("  {}: {} {} (ratio {})\n", report.ceiling_name, number(report.ceiling), report.unit,
                       number(report.ratio()));
  }
  for (const Gate& gate : report.gates) {
    out +=
        fmt::format("  {} {}: {} ({} {})\n", gate.met() ? "met   " : "missed", gate.name, number(gate.value),
                    gate.better == Better::higher ? "at least" : "at most", gate.target);
  }
  for (const auto& [name, value] : report.figures) out += fmt::format("  {}: {}\n", name, number(value));
  for (const auto& [name, text] : report.notes) out += fmt::format("  {}: {}\n", name, text);
  return out;
}

std::string list_text() {
  std::string out;
  for (const Benchmark& benchmark : benchmarks()) {
    out += fmt::format("{:<14} {}; {}, {} is better, target {}\n", benchmark.name, benchmark.summary,
                       benchmark.unit, to_text(benchmark.better), benchmark.target);
  }
  return out;
}

std::string list_json() {
  json::array out;
  for (const Benchmark& benchmark : benchmarks()) {
    out.push_back(json::object{{"name", std::string(benchmark.name)},
                               {"summary", std::string(benchmark.summary)},
                               {"unit", std::string(benchmark.unit)},
                               {"better", to_text(benchmark.better)},
                               {"target", benchmark.target}});
  }
  return json::serialize(out);
}

int run_command(const CommandOptions& options) {
  if (options.list) {
    std::fputs(options.json ? (list_json() + "\n").c_str() : list_text().c_str(), stdout);
    return 0;
  }
  std::vector<const Benchmark*> chosen;
  for (const std::string& name : options.names) {
    const Benchmark* found = find_benchmark(name);
    if (found == nullptr) {
      std::fputs(fmt::format("no benchmark is called {}; `ravine bench --list` names them\n", name).c_str(),
                 stderr);
      return 2;
    }
    chosen.push_back(found);
  }
  if (chosen.empty()) {
    for (const Benchmark& benchmark : benchmarks()) chosen.push_back(&benchmark);
  }
  const bool terminal = isatty(STDERR_FILENO) != 0;
  RunOptions run_options{.seconds = options.seconds, .runs = options.runs, .progress = {}};
  int code = 0;
  for (const Benchmark* benchmark : chosen) {
    if (terminal) {
      run_options.progress = [&](std::string_view what) {
        std::fputs(fmt::format("\r\x1b[K{}: {} …", benchmark->name, what).c_str(), stderr);
      };
    }
    const Result<Report> report = run(*benchmark, run_options);
    if (terminal) std::fputs("\r\x1b[K", stderr);
    if (!report.ok()) {
      std::fputs(fmt::format("{}: {}\n", benchmark->name, report.error().message).c_str(), stderr);
      code = std::max(code, report.error().kind == ErrorKind::invalid_argument ? 2 : 1);
      continue;
    }
    std::fputs(options.json ? (to_json(*report) + "\n").c_str() : to_text(*report).c_str(), stdout);
    std::fflush(stdout);
  }
  return code;
}

}  // namespace ravine::bench
