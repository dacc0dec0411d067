// ravine log level, config check, version.
#include <fmt/format.h>

#include <memory>

#include "cli/completion.h"
#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/launch.h"
#include "cli/output.h"
#include "ravine/version.h"

namespace ravine::cli {

namespace json = boost::json;

namespace {

int run_log_level(const Context& context, const std::string& level, const std::string& component) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  json::object params{{"component", component}};
  if (!level.empty()) params["level"] = level;
  const auto answer = daemon->call("log.level", params, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  if (!level.empty()) {
    print_line(level == "default" ? fmt::format("{} logs like everything else", component)
                                  : fmt::format("{} logs at level {} until the node stops",
                                                component.empty() ? "everything" : component, level));
    return kOk;
  }
  const json::object& levels = answer->as_object();
  print_line(fmt::format("everything: {}", text_of(levels, "level")));
  for (const auto& [name, value] : levels.at("components").as_object()) {
    print_line(fmt::format("{}: {}", std::string_view(name), std::string_view(value.as_string())));
  }
  return kOk;
}

int run_config_check(const Context& context, const std::string& file) {
  UpFlags flags;
  flags.config = file;
  auto config = make_config(context, flags);
  if (context.json) {
    json::object out{{"ok", config.ok()}};
    if (!config) out["error"] = config.error().message;
    print_json(out);
    return config ? static_cast<int>(kOk) : exit_code(config.error().kind);
  }
  if (!config) return fail(config.error());
  print_line(config->file.empty()
                 ? "no configuration file; the defaults hold"
                 : fmt::format("{} is good: {} networks, {} peers, {} forwards, {} exposed ports",
                               config->file, config->networks.size(), config->peers.size(),
                               config->forwards.size(), config->exposes.size()));
  return kOk;
}

int run_version(const Context& context) {
  if (context.json) {
    print_json(json::object{{"version", RAVINE_VERSION}});
  } else {
    print_line("ravine " RAVINE_VERSION);
  }
  return kOk;
}

}  // namespace

void add_settings_commands(CLI::App& app, Context& context) {
  CLI::App* log = add_command(app, "log", "Show or change what the running node logs",
                              "ravine log level\n"
                              "ravine log level debug\n"
                              "ravine log level trace --component session");
  log->require_subcommand(1);
  auto level = std::make_shared<std::string>();
  auto component = std::make_shared<std::string>();
  CLI::App* set = add_command(*log, "level", "Show the log levels, or set one until the node stops",
                              "ravine log level\n"
                              "ravine log level debug\n"
                              "ravine log level trace --component session\n"
                              "ravine log level default --component session");
  set->add_option(
      "LEVEL", *level,
      "trace, debug, info, warning, error or off; for a component also default: as everything else");
  set->add_option("--component", *component, "Only this part: node, driver, session, …");
  set->callback([&context, level, component] {
    context.action = [&context, level, component] { return run_log_level(context, *level, *component); };
  });

  CLI::App* config = add_command(app, "config", "Work with configuration files", "ravine config check");
  config->require_subcommand(1);
  auto file = std::make_shared<std::string>();
  CLI::App* check =
      add_command(*config, "check", "Say what is wrong in a configuration, with line and remedy",
                  "ravine config check\nravine config check /etc/ravine/ravine.toml");
  check->add_option("FILE", *file, "The file (default: STATE/ravine.toml)");
  check->callback(
      [&context, file] { context.action = [&context, file] { return run_config_check(context, *file); }; });

  auto shell = std::make_shared<std::string>();
  CLI::App* completion = add_command(app, "completion", "Print the completion script of a shell",
                                     "ravine completion bash > /etc/bash_completion.d/ravine\n"
                                     "ravine completion zsh > ~/.zfunc/_ravine\n"
                                     "ravine completion fish > ~/.config/fish/completions/ravine.fish");
  completion->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([&context, shell] {
    context.action = [&context, shell] {
      print(completion_script(*context.root, *shell));
      return static_cast<int>(kOk);
    };
  });

  CLI::App* version = add_command(app, "version", "Print the version", "ravine version --json");
  version->callback([&context] { context.action = [&context] { return run_version(context); }; });
}

}  // namespace ravine::cli
