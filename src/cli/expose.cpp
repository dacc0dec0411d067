// ravine expose, unexpose, forwards: what this node offers to peers and takes from them, changed while it
// runs.
#include <fmt/format.h>

#include <memory>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/output.h"

namespace ravine::cli {

namespace json = boost::json;

namespace {

struct ExposeOptions {
  std::uint16_t port = 0;
  std::string to;
  std::vector<std::string> allow;
  bool udp = false;
};

int list_exposures(const Context& context, Daemon& daemon) {
  int code = kOk;
  const auto answer = daemon.call("exposes", {}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  Table table({"PORT", "PROTOCOL", "TO", "ALLOWED"});
  for (const json::value& entry : list_of(*answer, "exposures")) {
    const std::string allow = joined(list_of(entry, "allow"));
    table.add({std::to_string(number_of(entry, "port")), text_of(entry, "protocol"), text_of(entry, "to"),
               allow.empty() ? "nobody" : allow});
  }
  if (table.empty()) {
    print_line("nothing is exposed; for example: ravine expose 80 127.0.0.1:8080 --allow '*'");
  } else {
    print(table.to_text());
  }
  return kOk;
}

int run_expose(const Context& context, const ExposeOptions& options) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  if (options.port == 0) return list_exposures(context, *daemon);
  if (options.to.empty()) {
    return fail(
        {ErrorKind::invalid_argument,
         fmt::format("what should port {} lead to? Write: ravine expose {} 127.0.0.1:8080 --allow '*'",
                     options.port, options.port)});
  }
  json::array allow;
  for (const std::string& rule : options.allow) allow.emplace_back(rule);
  const auto answer = daemon->call(
      "expose", {{"port", options.port}, {"to", options.to}, {"allow", allow}, {"udp", options.udp}}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  print_line(fmt::format(
      "{} port {} leads to {} until the node stops; put [[expose]] in the configuration to keep it",
      options.udp ? "UDP" : "TCP", options.port, options.to));
  if (options.allow.empty())
    print_note("nobody may use it yet: add --allow NAME, --allow group:NAME or --allow '*'");
  return kOk;
}

int run_unexpose(const Context& context, const ExposeOptions& options) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call("unexpose", {{"port", options.port}, {"udp", options.udp}}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else {
    print_line(fmt::format("{} port {} is not exposed any more", options.udp ? "UDP" : "TCP", options.port));
  }
  return kOk;
}

int run_forwards(const Context& context) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call("forwards", {}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  Table table({"LISTEN", "PROTOCOL", "TO"});
  for (const json::value& entry : list_of(*answer, "forwards")) {
    table.add({text_of(entry, "listen"), text_of(entry, "protocol"), text_of(entry, "to")});
  }
  if (table.empty()) {
    print_line("no forwards; add [[forward]] to the configuration and run \"ravine reload\"");
  } else {
    print(table.to_text());
  }
  return kOk;
}

}  // namespace

void add_expose_commands(CLI::App& app, Context& context) {
  auto options = std::make_shared<ExposeOptions>();
  CLI::App* expose = add_command(app, "expose", "Let peers reach a local port; without arguments: list",
                                 "ravine expose 80 127.0.0.1:8080 --allow laptop --allow group:ops\n"
                                 "ravine expose 53 127.0.0.1:53 --udp --allow '*'\n"
                                 "ravine expose --json");
  expose->add_option("PORT", options->port, "As peers see it")->check(CLI::Range(1, 65535));
  expose->add_option("TO", options->to, "Where it leads on this machine: HOST:PORT");
  expose
      ->add_option("--allow", options->allow,
                   "Who may use it: NAME, 16-character ID, group:NAME or '*'; repeat")
      ->allow_extra_args(false);
  expose->add_flag("--udp", options->udp, "UDP instead of TCP");
  expose->callback([&context, options] {
    context.action = [&context, options] { return run_expose(context, *options); };
  });

  CLI::App* unexpose =
      add_command(app, "unexpose", "Close an exposed port; its connections end", "ravine unexpose 80");
  unexpose->add_option("PORT", options->port, "As peers see it")->required()->check(CLI::Range(1, 65535));
  unexpose->add_flag("--udp", options->udp, "UDP instead of TCP");
  unexpose->callback([&context, options] {
    context.action = [&context, options] { return run_unexpose(context, *options); };
  });

  CLI::App* forwards =
      add_command(app, "forwards", "List local ports that lead to peers", "ravine forwards --json");
  forwards->callback([&context] { context.action = [&context] { return run_forwards(context); }; });
}

}  // namespace ravine::cli
