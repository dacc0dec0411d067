// ravine lab: tools to try things out on one machine. `lab link` is a slow, bad link.
#include <fmt/format.h>

#include <CLI/Error.hpp>
#include <array>
#include <boost/asio/io_context.hpp>
#include <memory>

#include "cli/context.h"
#include "cli/output.h"
#include "host/clock.h"
#include "host/resolver.h"
#include "host/signals.h"
#include "lab/link_words.h"
#include "services/lab/link_relay.h"

namespace ravine::cli {

namespace json = boost::json;
using services::RelayTally;

namespace {

struct Field {
  std::string_view name, help;
};
constexpr std::array<Field, 11> kFields{{
    {"rate", "Bits per second each way: 100bps, 9.6kbps, 1Mbps"},
    {"delay", "Of propagation: 2s, 150ms"},
    {"jitter", "Up to so much more delay"},
    {"loss", "Share of the datagrams: 10%"},
    {"burst", "Mean length of a run of losses, in datagrams"},
    {"duplicate", "Share that arrives twice"},
    {"reorder", "Share that is overtaken by others"},
    {"corrupt", "Share that arrives with a flipped bit"},
    {"outage", "LENGTH/PERIOD: dead for so long at the end of each period, 30s/10m"},
    {"queue", "Bytes that may wait for the line (default 65536)"},
    {"overhead", "Bytes counted per datagram (default 28: UDP and IPv4; 0 with --pty)"},
}};

struct LinkFlags {
  std::string listen = "127.0.0.1:0", to, up, down, capture, rebind;
  std::array<std::string, kFields.size()> fields;
  std::uint64_t seed = 1;
  bool pty = false, verbose = false;
};

json::object tally_json(const lab::LinkTally& tally) {
  return {{"datagrams", tally.datagrams},
          {"ip_bytes", tally.bytes},
          {"delivered", tally.delivered},
          {"delivered_ip_bytes", tally.delivered_bytes},
          {"lost", tally.lost},
          {"queue_full", tally.queue_full},
          {"outage", tally.outage},
          {"duplicated", tally.duplicated},
          {"reordered", tally.reordered},
          {"corrupted", tally.corrupted},
          {"busy_seconds", static_cast<double>(tally.busy.count()) / 1e9}};
}

void print_summary(const Context& context, const RelayTally& tally, Duration span) {
  if (context.json) {
    print_json(json::object{{"up", tally_json(tally.up)},
                            {"down", tally_json(tally.down)},
                            {"clients", tally.clients},
                            {"rebindings", tally.rebindings},
                            {"send_failures", tally.send_failures},
                            {"seconds", static_cast<double>(span.count()) / 1e9}});
    return;
  }
  Table table({"", "datagrams", "IP bytes", "delivered", "lost", "queue full", "outage", "doubled", "late",
               "corrupt", "busy"});
  for (const auto& [name, side] : {std::pair{"up", &tally.up}, {"down", &tally.down}})
    table.add({name, fmt::format("{}", side->datagrams), fmt::format("{}", side->bytes),
               fmt::format("{}", side->delivered), fmt::format("{}", side->lost),
               fmt::format("{}", side->queue_full), fmt::format("{}", side->outage),
               fmt::format("{}", side->duplicated), fmt::format("{}", side->reordered),
               fmt::format("{}", side->corrupted), duration_text(side->busy)});
  print(table.to_text());
  print_line(fmt::format("{} clients in {}", tally.clients, duration_text(span)));
}

void print_parcel(const Context& context, Duration after, bool up, std::size_t size, lab::Fate fate) {
  const std::string_view way = up ? "up" : "down";
  const double seconds = static_cast<double>(after.count()) / 1e9;
  if (context.json) {
    print_json(json::object{{"at", seconds}, {"way", way}, {"ip_bytes", size}, {"fate", lab::to_text(fate)}});
  } else {
    print_line(fmt::format("{:9.3f} s  {:<4}  {:>5} B  {}", seconds, way, size, lab::to_text(fate)));
  }
  std::fflush(stdout);
}

// "HOST:PORT" or ":PORT", by the system's resolver; waits.
Result<SocketAddress> resolve(const std::string& text, std::string_view option) {
  const auto parsed = HostPort::parse(text);
  if (!parsed)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{} \"{}\" is no HOST:PORT; write for example 127.0.0.1:5683", option, text)};
  boost::asio::io_context loop;
  host::Resolver resolver(loop);
  Result<SocketAddress> found = Error{ErrorKind::not_found, ""};
  resolver.resolve(parsed->host.empty() ? "127.0.0.1" : parsed->host, parsed->port, [&](auto addresses) {
    found = addresses ? Result<SocketAddress>(addresses->front()) : Result<SocketAddress>(addresses.error());
  });
  loop.run();
  return found;
}

Result<std::pair<lab::LinkProfile, lab::LinkProfile>> read_profiles(const LinkFlags& flags) {
  lab::LinkProfile base;
  if (flags.pty) base.overhead_bytes = 0;
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    if (flags.fields[i].empty()) continue;
    if (auto set = lab::set_field(base, kFields[i].name, flags.fields[i]); !set) return set.error();
  }
  auto up = lab::parse_profile(flags.up, base);
  if (!up) return up.error();
  auto down = lab::parse_profile(flags.down, base);
  if (!down) return down.error();
  return std::pair(*up, *down);
}

void announce(const Context& context, json::object facts, std::string_view sentence) {
  if (context.json) {
    print_json(facts);
  } else {
    print_line(sentence);
  }
  std::fflush(stdout);
}

int run_link(const Context& context, const LinkFlags& flags) {
  auto profiles = read_profiles(flags);
  if (!profiles) return fail(profiles.error());
  const auto& [up, down] = *profiles;
  boost::asio::io_context loop;
  const Instant start = host::monotonic_now();
  services::OnParcel on_parcel;
  if (flags.verbose)
    on_parcel = [&context, start](const services::ParcelEvent& parcel) {
      print_parcel(context, parcel.at - start, parcel.up, parcel.size, parcel.fate);
    };
  const host::SignalWatch watch(loop, [&loop](host::Signal) { loop.stop(); });
  const std::string words = lab::to_text(up) == lab::to_text(down)
                                ? lab::to_text(up)
                                : fmt::format("up {}, down {}", lab::to_text(up), lab::to_text(down));
  if (flags.pty) {
    auto relay = services::SerialRelay::start(loop, up, down, flags.seed, std::move(on_parcel));
    if (!relay) return fail(relay.error());
    announce(context, {{"near", (*relay)->near_path()}, {"far", (*relay)->far_path()}, {"link", words}},
             fmt::format("near {} far {}  {}; Ctrl-C ends it", (*relay)->near_path(), (*relay)->far_path(),
                         words));
    loop.run();
    print_summary(context, (*relay)->tally(), host::monotonic_now() - start);
    return kOk;
  }
  auto listen = resolve(flags.listen, "--listen");
  if (!listen) return fail(listen.error());
  auto to = resolve(flags.to, "--to");
  if (!to) return fail(to.error());
  const auto rebind = lab::parse_span(flags.rebind.empty() ? "0s" : flags.rebind);
  if (!rebind)
    return fail({ErrorKind::invalid_argument,
                 fmt::format("--rebind \"{}\" is not understood; write for example 30s", flags.rebind)});
  auto relay = services::LinkRelay::start(loop,
                                          {.listen = *listen,
                                           .to = *to,
                                           .up = up,
                                           .down = down,
                                           .seed = flags.seed,
                                           .rebind = *rebind,
                                           .capture = flags.capture},
                                          std::move(on_parcel));
  if (!relay) return fail(relay.error());
  const std::string bound = (*relay)->address().to_text();
  announce(context, {{"listen", bound}, {"to", to->to_text()}, {"link", words}},
           fmt::format("{} → {}  {}; Ctrl-C ends it", bound, to->to_text(), words));
  loop.run();
  print_summary(context, (*relay)->tally(), host::monotonic_now() - start);
  return kOk;
}

constexpr const char* kExamples =
    "ravine lab link --listen 127.0.0.1:5684 --to 127.0.0.1:5683 --rate 100bps --loss 10% --delay 2s\n"
    "ravine lab link --to far.example:5683 --rate 9.6kbps --burst 3 --outage 30s/10m --capture link.pcap\n"
    "ravine lab link --to :5683 --rate 1kbps --up rate=100bps,loss=20%\n"
    "ravine lab link --pty --rate 300bps --corrupt 1%";

}  // namespace

void add_lab_commands(CLI::App& app, Context& context) {
  CLI::App* lab = add_command(app, "lab", "Try things out on one machine", kExamples);
  lab->require_subcommand(1);
  auto flags = std::make_shared<LinkFlags>();
  CLI::App* link =
      add_command(*lab, "link", "A slow, bad link between two programs that speak UDP", kExamples);
  link->add_option("--listen", flags->listen, "Where the near side sends to (port 0: any)")
      ->capture_default_str();
  link->add_option("--to", flags->to, "The far side, HOST:PORT");
  for (std::size_t i = 0; i < kFields.size(); ++i)
    link->add_option(fmt::format("--{}", kFields[i].name), flags->fields[i], std::string(kFields[i].help));
  link->add_option("--up", flags->up, "Another link towards the far side: rate=…,loss=…,…");
  link->add_option("--down", flags->down, "Another link towards the near side");
  link->add_option("--seed", flags->seed, "Of the chances: the same again from the same seed")
      ->capture_default_str();
  link->add_option("--rebind", flags->rebind,
                   "Another port towards the far side every so often, as behind a NAT: 30s");
  link->add_option("--capture", flags->capture, "Write what enters the link to this pcap file");
  link->add_flag("--pty", flags->pty, "Between two pseudo terminals, for serial gateways, in place of UDP");
  link->add_flag("--verbose,-v", flags->verbose, "A line per datagram");
  link->callback([&context, flags] {
    if (!flags->pty && flags->to.empty()) throw CLI::RequiredError("--to HOST:PORT (or --pty)");
    context.action = [&context, flags] { return run_link(context, *flags); };
  });
}

}  // namespace ravine::cli
