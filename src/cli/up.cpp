// ravine up, down, reload: a node's life.
#include <fmt/format.h>

#include <memory>
#include <thread>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/launch.h"
#include "cli/output.h"

namespace ravine::cli {

namespace json = boost::json;

namespace {

int run_up(const Context& context, const UpFlags& flags) {
  if (!flags.detach) return run_in_foreground(context, flags);
  auto started = start_in_background(context, flags);
  if (!started) return fail(started.error());
  if (context.json) {
    print_json(json::object{{"pid", *started}});
  } else {
    print_line(fmt::format(
        "the node runs in the background (pid {}); \"ravine status\" shows it, \"ravine down\" stops it",
        *started));
  }
  return kOk;
}

int run_down(const Context& context) {
  int code = kOk;
  {
    auto daemon = Daemon::open(context, code);
    if (!daemon) return code;
    if (!daemon->call("shutdown", {}, code)) return code;
  }
  // The socket's file goes last, so its end is the node's.
  for (int i = 0; i < 500 && is_running(context); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  if (is_running(context))
    return fail({ErrorKind::timed_out, "the node did not stop within 5 s; see its log"});
  if (context.json) {
    print_json(json::object{{"stopped", true}});
  } else {
    print_line("the node has stopped");
  }
  return kOk;
}

int run_reload(const Context& context) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto report = daemon->call("reload", {}, code);
  if (!report) return code;
  if (context.json) {
    print_json(*report);
    return kOk;
  }
  const json::array& changed = list_of(*report, "changed");
  print_line(changed.empty() ? "nothing changed" : "taken over: " + joined(changed));
  const json::array& waiting = list_of(*report, "needs_restart");
  if (!waiting.empty()) print_line("needs a restart (ravine down; ravine up): " + joined(waiting));
  return kOk;
}

void add_up_options(CLI::App& up, UpFlags& flags) {
  up.add_option("-c,--config", flags.config,
                "Configuration file; without it STATE/ravine.toml, if that exists");
  up.add_option("--port", flags.port, "UDP port for peers; 0 takes any free one (default 4717)");
  up.add_option("--name", flags.name, "Name to tell peers (default: the certificate's)");
  up.add_option("--listen", flags.listen, "IP address to listen on; repeat (default: all)")
      ->allow_extra_args(false);
  up.add_option("--network", flags.networks, "NAME=DIRECTORY of a network's files; repeat")
      ->allow_extra_args(false);
  up.add_option("--peer", flags.peers, "NAME=ADDRESS:PORT[,ADDRESS:PORT]; repeat")->allow_extra_args(false);
  up.add_flag("--keep", flags.keep, "Hold the sessions with --peer open all the time");
  up.add_option("--expose", flags.exposes, "PORT[/udp]=HOST:PORT[=ALLOW[,ALLOW]]; repeat")
      ->allow_extra_args(false);
  up.add_option("--forward", flags.forwards, "[udp:]LISTEN:PORT=PEER:PORT; repeat")->allow_extra_args(false);
  up.add_option("--proxy", flags.proxy,
                "Address of the SOCKS5 and HTTP CONNECT proxy (default 127.0.0.1:1080)");
  up.add_flag("--no-proxy", flags.no_proxy, "Run no proxy");
  up.add_option("--metrics", flags.metrics, "Address for Prometheus, for example 127.0.0.1:9464");
  up.add_option("--log-level", flags.log_level, "trace, debug, info, warning, error or off");
  up.add_option("--log-format", flags.log_format, "text or json");
  up.add_option("--log-file", flags.log_file, "Append the log to this file instead of standard error");
  up.add_option("--congestion", flags.congestion, "cubic or bbr");
  up.add_option("--protection", flags.protection, "auto, ipsec-mb or gnutls");
  up.add_flag("-d,--detach", flags.detach, "Return once the node serves; it goes on in the background");
}

}  // namespace

void add_node_commands(CLI::App& app, Context& context) {
  auto flags = std::make_shared<UpFlags>();
  CLI::App* up =
      add_command(app, "up", "Run this machine's node",
                  "ravine up\n"
                  "ravine up -c /etc/ravine/ravine.toml\n"
                  "ravine up --detach --port 5000 --expose '80=127.0.0.1:8080=group:ops'\n"
                  "ravine --state /tmp/a up --network home=/tmp/a/networks/home --peer box=192.0.2.1:4717");
  add_up_options(*up, *flags);
  up->callback([&context, flags] { context.action = [&context, flags] { return run_up(context, *flags); }; });
  CLI::App* down = add_command(app, "down", "Stop the running node; peers are told", "ravine down");
  down->callback([&context] { context.action = [&context] { return run_down(context); }; });
  CLI::App* reload = add_command(app, "reload", "Read configuration and certificates again; sessions stay",
                                 "ravine reload\nkill -HUP $(pidof ravine)    # the same");
  reload->callback([&context] { context.action = [&context] { return run_reload(context); }; });
}

}  // namespace ravine::cli
