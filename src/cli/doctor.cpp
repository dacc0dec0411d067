// ravine doctor: what is wrong with this machine's set-up.
#include <fmt/format.h>

#include <memory>

#include "cli/context.h"
#include "cli/doctor_checks.h"
#include "cli/output.h"
#include "host/file.h"

namespace ravine::cli {

namespace json = boost::json;

namespace {

std::string_view health_text(Health health) {
  return health == Health::good ? "ok" : health == Health::warning ? "warning" : "bad";
}

int run_doctor(const Context& context, const std::string& report) {
  const std::vector<Finding> findings = run_checks(context);
  if (!report.empty()) {
    auto written =
        host::write_file(report, as_bytes(redacted_report(findings)), host::FileMode::world_readable);
    if (!written) return fail(written.error());
  }
  bool bad = false;
  json::array rows;
  for (const Finding& finding : findings) {
    bad = bad || finding.health == Health::bad;
    if (context.json) {
      rows.push_back({{"check", finding.check},
                      {"health", health_text(finding.health)},
                      {"found", finding.found},
                      {"remedy", finding.remedy}});
      continue;
    }
    const Colour colour = finding.health == Health::good      ? Colour::green
                          : finding.health == Health::warning ? Colour::yellow
                                                              : Colour::red;
    print_line(fmt::format("{:<12} {}  {}", finding.check,
                           paint(colour, fmt::format("{:<7}", health_text(finding.health))), finding.found));
    if (!finding.remedy.empty()) print_line(fmt::format("{:<21}-> {}", "", finding.remedy));
  }
  if (context.json) print_json(json::object{{"findings", std::move(rows)}, {"ok", !bad}});
  if (!report.empty() && !context.json) {
    print_line(fmt::format("report without names, addresses and IDs: {}", report));
  }
  return bad ? kFailed : kOk;
}

}  // namespace

void add_doctor_command(CLI::App& app, Context& context) {
  auto report = std::make_shared<std::string>();
  CLI::App* doctor = add_command(app, "doctor", "Say what is wrong with this machine's set-up",
                                 "ravine doctor\nravine doctor --report report.txt    # to show to others");
  doctor->add_option("--report", *report, "Write a report without names, addresses and IDs to this file");
  doctor->callback(
      [&context, report] { context.action = [&context, report] { return run_doctor(context, *report); }; });
}

}  // namespace ravine::cli
