// The `ravine` program: parses the command line and runs one command. Everything a command does is in its
// group's file.
#include <fmt/format.h>

#include <CLI/Error.hpp>
#include <csignal>
#include <cstdio>
#include <exception>

#include "cli/context.h"
#include "cli/output.h"
#include "ravine/version.h"

namespace ravine::cli {

namespace {

constexpr const char* kFooter = R"(Start a network and let a machine in:
  ravine ca init                 on the first machine
  ravine invite laptop           there too; prints a code
  ravine join CODE               on the other machine

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no node runs here, 4 refused (policy,
certificate, file rights), 5 peer or issuer unreachable or too slow, 6 not found, 7 exists already or port
taken.
"ravine COMMAND --help" shows a command's options and examples.)";

// Errors of usage are ours to word: exit code 2, what is wrong, where help is.
int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
  fmt::print(stderr, "ravine: {}\n", error.what());
  const CLI::App* at = &app;
  std::string command = "ravine";
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    command += " " + at->get_name();
  }
  fmt::print(stderr, "see: {} --help\n", command);
  return kUsage;
}

int run(int argc, char** argv) {
  CLI::App app("Ravine: a private network over whatever lies between its devices", "ravine");
  Context context;
  context.root = &app;
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(kFooter);
  app.get_formatter()->column_width(32);
  app.set_version_flag("-V,--version", "ravine " RAVINE_VERSION, "Print the version");
  app.add_option("--state", context.state, "State directory; another one is another node (RAVINE_STATE)")
      ->envname("RAVINE_STATE");
  app.add_option("--control", context.control, "Control socket (RAVINE_CONTROL)")->envname("RAVINE_CONTROL");
  app.add_flag("--json", context.json, "Answer in JSON, one value per line");
  app.add_flag("--no-colour,--no-color", context.no_colour, "No colours, even on a terminal (NO_COLOR)");
  add_node_commands(app, context);
  add_listing_commands(app, context);
  add_peer_commands(app, context);
  add_expose_commands(app, context);
  add_join_commands(app, context);
  add_ca_commands(app, context);
  add_gateway_commands(app, context);
  add_coap_proxy_command(app, context);
  add_settings_commands(app, context);
  add_doctor_command(app, context);
  add_bench_commands(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error);
  }
  if (context.no_colour) disable_colours();
  return context.action ? context.action() : static_cast<int>(kUsage);
}

}  // namespace

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& summary,
                      const std::string& examples) {
  CLI::App* command = parent.add_subcommand(name, summary);
  std::string footer = "Examples:\n  ";
  for (const char c : examples) {
    footer += c;
    if (c == '\n') footer += "  ";
  }
  command->footer(footer +
                  "\n\nOptions of every command: --state DIR, --control SOCKET, --json, --no-colour.");
  command->get_formatter()->column_width(32);
  return command;
}

}  // namespace ravine::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return ravine::cli::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "ravine: unexpected: {}\n", error.what());
    return ravine::cli::kFailed;
  }
}
