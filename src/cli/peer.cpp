// ravine ping, ravine connect: one peer at a time.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "base/address.h"
#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/output.h"

namespace ravine::cli {

namespace {

struct PingOptions {
  std::string peer;
  std::uint32_t count = 4;
  std::uint32_t interval_ms = 1000;
};

void print_ping_summary(const Context& context, const PingOptions& options,
                        const std::vector<double>& times) {
  if (context.json || times.empty()) return;
  const auto [low, high] = std::ranges::minmax(times);
  double sum = 0;
  for (const double time : times) sum += time;
  print_line(fmt::format("{} of {} answered, {:.2f}/{:.2f}/{:.2f} ms least/mean/most", times.size(),
                         options.count, low, sum / static_cast<double>(times.size()), high));
}

int run_ping(const Context& context, const PingOptions& options) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  std::vector<double> times;
  for (std::uint32_t i = 0; i < options.count; ++i) {
    if (i > 0) std::this_thread::sleep_for(std::chrono::milliseconds(options.interval_ms));
    const auto answer = daemon->call("ping", {{"peer", options.peer}}, code);
    if (!answer) {
      if (times.empty() && i == 0) return code;
      continue;
    }
    const double milliseconds = real_of(*answer, "rtt_ns") / 1e6;
    times.push_back(milliseconds);
    if (context.json) {
      print_json(*answer);
    } else {
      print_line(fmt::format("{} ({}) answered in {:.2f} ms over {} {}", text_of(*answer, "name"),
                             text_of(*answer, "id"), milliseconds, text_of(*answer, "path"),
                             text_of(*answer, "remote")));
    }
    std::fflush(stdout);
  }
  print_ping_summary(context, options, times);
  return times.empty() ? code : static_cast<int>(kOk);
}

int run_connect(const Context& context, const std::string& target) {
  const auto parsed = HostPort::parse(target);
  if (!parsed || parsed->host.empty() || parsed->port == 0) {
    return fail({ErrorKind::invalid_argument,
                 fmt::format("\"{}\" is no PEER:PORT; write for example: box.fuse:22", target)});
  }
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto opened = daemon->call("connect", {{"host", parsed->host}, {"port", parsed->port}}, code);
  if (!opened) return code;
  const auto piped = daemon->client().pipe(STDIN_FILENO, STDOUT_FILENO);
  return piped ? static_cast<int>(kOk) : fail(piped.error());
}

}  // namespace

void add_peer_commands(CLI::App& app, Context& context) {
  auto ping = std::make_shared<PingOptions>();
  CLI::App* command = add_command(app, "ping", "Measure the round trip to a peer over its session",
                                  "ravine ping box\nravine ping --count 1 --json abcdefghijklmnop");
  command->add_option("PEER", ping->peer, "Name, NAME.fuse, 16-character ID or overlay address")->required();
  command->add_option("-n,-c,--count", ping->count, "How many")
      ->check(CLI::Range(1u, 1000000u))
      ->capture_default_str();
  command->add_option("-i,--interval", ping->interval_ms, "Milliseconds between two")
      ->check(CLI::Range(10u, 60000u))
      ->capture_default_str();
  command->callback(
      [&context, ping] { context.action = [&context, ping] { return run_ping(context, *ping); }; });

  auto target = std::make_shared<std::string>();
  CLI::App* connect =
      add_command(app, "connect", "Join standard input and output to a port that a peer exposes",
                  "ravine connect box:22\n"
                  "ssh -o ProxyCommand='ravine connect %h:%p' me@box.fuse\n"
                  "tar c . | ravine connect store.fuse:9000");
  connect->add_option("TARGET", *target, "PEER:PORT, the peer and the port that it exposes")->required();
  connect->callback(
      [&context, target] { context.action = [&context, target] { return run_connect(context, *target); }; });
}

}  // namespace ravine::cli
