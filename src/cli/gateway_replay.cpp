#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cli/gateway.h"
#include "cli/gateway_bench.h"
#include "cli/output.h"
#include "host/file.h"
#include "lab/link_words.h"
#include "lab/replay.h"
#include "services/lab/gateway_load.h"
#include "services/lab/gateway_rig.h"
#include "services/lab/https_meter.h"

namespace ravine::cli {

namespace json = boost::json;
using lab::ReplayFigures;
using services::HttpsFigures;

namespace {

constexpr std::size_t kMaxTrace = std::size_t{256} << 20;
constexpr const char* kSlowLink = "rate=100bps,delay=2s";
constexpr const char* kFastLink = "rate=1Mbps,delay=5ms";  // some seconds of real time
constexpr std::uint32_t kPipeOverhead = 4;                 // COBS, CRC and the zero that ends a frame

double seconds_of(Duration span) {
  return static_cast<double>(span.count()) / 1e9;
}

HttpsFigures::Part https_of(const HttpsFigures& https, std::string_view kind) {
  HttpsFigures::Part sum{.kind = std::string(kind)};
  for (const auto& part : https.exchanges) {
    if (part.kind != kind) continue;
    sum.up_bytes += part.up_bytes;
    sum.down_bytes += part.down_bytes;
  }
  return sum;
}

json::object part_json(const ReplayFigures::Part& part) {
  return {{"exchanges", part.exchanges},
          {"up_bytes", part.up_bytes},
          {"down_bytes", part.down_bytes},
          {"ip_bytes", part.up_bytes + part.down_bytes},
          {"http_bytes", part.http_bytes},
          {"seconds", seconds_of(part.elapsed)},
          {"median_seconds", seconds_of(part.median)},
          {"made_once", part.made_once}};
}

// Where the bytes went, over both directions.
json::object layers_json(const ReplayFigures& figures, std::uint32_t overhead) {
  const auto& near = figures.near;
  const auto& far = figures.far;
  const std::uint64_t datagrams = figures.up_datagrams + figures.down_datagrams;
  const std::uint64_t frames = near.bytes_out + far.bytes_out;
  const std::uint64_t coded = near.coded_bytes_out + far.coded_bytes_out;
  return {{"datagrams", datagrams},
          {"below_frames", datagrams * overhead},
          {"coded_texts", coded},
          {"frame_headers_tags_and_secrets", frames - std::min(frames, coded)},
          {"texts", near.text_bytes_out + far.text_bytes_out},
          {"bare_acknowledgements", near.acks_out + far.acks_out},
          {"repetitions", near.copies_out + far.copies_out}};
}

struct Report {
  std::string link;
  std::string counted_by = "the emulated link";
  std::uint32_t overhead = 28;
  std::vector<ReplayFigures> rounds;
  std::size_t median = 0;
  std::optional<HttpsFigures> https;
  const ReplayFigures& figures() const { return rounds[median]; }
};

json::object https_json(const HttpsFigures& https, const ReplayFigures& figures) {
  json::object kinds;
  std::uint64_t up = https.handshake_up, down = https.handshake_down;
  for (const auto& part : figures.by_kind()) {
    const HttpsFigures::Part sum = https_of(https, part.kind);
    kinds[part.kind] = json::object{{"up_bytes", sum.up_bytes}, {"down_bytes", sum.down_bytes}};
    up += sum.up_bytes;
    down += sum.down_bytes;
  }
  return {{"ip_bytes", https.ip_bytes()},
          {"up_bytes", up},
          {"down_bytes", down},
          {"handshake_bytes", https.handshake_up + https.handshake_down},
          {"kinds", kinds},
          {"counted_by", "the kernel's segment counters of the connection (TCP_INFO), 1500-byte Ethernet"}};
}

void print_report_json(const ReplayFlags& flags, const Report& report) {
  const ReplayFigures& figures = report.figures();
  json::object total = part_json(figures.total());
  total["datagrams"] = figures.up_datagrams + figures.down_datagrams;
  json::object kinds, out;
  for (const auto& part : figures.by_kind()) kinds[part.kind] = part_json(part);
  json::array rounds, faults, exchanges;
  for (const auto& round : report.rounds)
    rounds.push_back(json::value(round.total().up_bytes + round.total().down_bytes));
  for (const auto& fault : figures.faults) faults.emplace_back(fault);
  out["trace"] = flags.trace;
  out["time"] = flags.real_time ? "real" : "virtual";
  out["transport"] = flags.transport;
  out["link"] = report.link;
  out["coder"] = report.figures().coder;
  out["alias_events"] = flags.alias_events;
  out["counted_by"] = report.counted_by;
  out["total"] = std::move(total);
  out["kinds"] = std::move(kinds);
  out["seconds"] = seconds_of(figures.elapsed);
  out["air_seconds"] =
      json::object{{"up", seconds_of(figures.air_up)}, {"down", seconds_of(figures.air_down)}};
  if (figures.idle_minute_bytes) out["idle_minute_bytes"] = *figures.idle_minute_bytes;
  out["layers"] = layers_json(figures, report.overhead);
  out["rounds"] = std::move(rounds);
  if (report.https) {
    out["https"] = https_json(*report.https, figures);
    const auto all = figures.total();
    out["ratio"] =
        static_cast<double>(report.https->ip_bytes()) / static_cast<double>(all.up_bytes + all.down_bytes);
  }
  if (flags.each) {
    for (const auto& part : figures.exchanges) {
      json::object one = part_json(part);
      one["kind"] = part.kind;
      exchanges.push_back(std::move(one));
    }
    out["each"] = std::move(exchanges);
  }
  out["faults"] = std::move(faults);
  print_json(out);
}

std::vector<std::string> cells_of(const ReplayFigures::Part& part, std::uint64_t https) {
  const std::uint64_t bytes = part.up_bytes + part.down_bytes;
  std::vector<std::string> cells{part.kind,
                                 fmt::format("{}", part.exchanges),
                                 fmt::format("{}", part.http_bytes),
                                 fmt::format("{}", part.up_bytes),
                                 fmt::format("{}", part.down_bytes),
                                 fmt::format("{}", bytes),
                                 fmt::format("{:.1f} s", seconds_of(part.elapsed)),
                                 fmt::format("{:.1f} s", seconds_of(part.median)),
                                 fmt::format("{}", part.made_once)};
  if (https > 0) {
    cells.push_back(fmt::format("{}", https));
    cells.push_back(bytes > 0 ? fmt::format("{:.1f}", static_cast<double>(https) / static_cast<double>(bytes))
                              : "");
  }
  return cells;
}

void print_report(const ReplayFlags& flags, const Report& report) {
  const ReplayFigures& figures = report.figures();
  std::vector<std::string> titles{"kind",     "exchanges", "HTTP",   "up",  "down",
                                  "IP bytes", "time",      "median", "once"};
  if (report.https) titles.insert(titles.end(), {"HTTPS", "ratio"});
  Table table(titles);
  const auto https_bytes = [&](std::string_view kind) -> std::uint64_t {
    if (!report.https) return 0;
    const auto sum = https_of(*report.https, kind);
    return sum.up_bytes + sum.down_bytes;
  };
  if (flags.each)
    for (const auto& part : figures.exchanges) table.add(cells_of(part, 0));
  for (const auto& part : figures.by_kind()) table.add(cells_of(part, https_bytes(part.kind)));
  table.add(cells_of(figures.total(), report.https ? report.https->ip_bytes() : 0));
  print(table.to_text());
  const auto layers = layers_json(figures, report.overhead);
  print_line(fmt::format(
      "{} datagrams: {} B below the frames, {} B coded texts (of {}), {} B frame headers, tags and secrets",
      layers.at("datagrams").to_number<std::uint64_t>(), layers.at("below_frames").to_number<std::uint64_t>(),
      layers.at("coded_texts").to_number<std::uint64_t>(), layers.at("texts").to_number<std::uint64_t>(),
      layers.at("frame_headers_tags_and_secrets").to_number<std::uint64_t>()));
  print_line(fmt::format("{} repetitions, {} bare acknowledgements; {:.0f} s on the air up, {:.0f} s down",
                         layers.at("repetitions").to_number<std::uint64_t>(),
                         layers.at("bare_acknowledgements").to_number<std::uint64_t>(),
                         seconds_of(figures.air_up), seconds_of(figures.air_down)));
  if (figures.idle_minute_bytes)
    print_line(fmt::format("{} B in a minute of polls without news", *figures.idle_minute_bytes));
  print_line(fmt::format("{}, {} time, coder {}, {}", report.link, flags.real_time ? "real" : "virtual",
                         report.figures().coder,
                         flags.alias_events ? "event IDs aliased" : "real event IDs"));
  print_line("counted by " + report.counted_by);
  if (report.https)
    print_line(fmt::format("HTTPS: one kept connection, counted by the kernel; {} B of it the handshake",
                           report.https->handshake_up + report.https->handshake_down));
  for (const auto& fault : figures.faults) print_note("fault: " + fault);
}

// Progress on a terminal: real time on a slow link takes minutes.
std::function<void(std::size_t)> progress_of(const Context& context, std::size_t exchanges) {
  if (context.json || !is_terminal(STDERR_FILENO)) return {};
  return [exchanges](std::size_t done) {
    fmt::print(stderr, "\r\x1b[K{} of {} exchanges{}", done, exchanges, done == exchanges ? "\r\x1b[K" : "");
  };
}

struct Setting {
  lab::LinkProfile link;
  Duration think{0};
  CoderMaker make_coders;
};

Result<ReplayFigures> run_in_real_time(const Context& context, const lab::Trace& trace,
                                       const ReplayFlags& flags, const Setting& setting, std::uint64_t seed,
                                       std::string& counted_by) {
  services::RigOptions rig{.link = setting.link,
                           .seed = seed,
                           .alias_events = flags.alias_events,
                           .serial = flags.transport == "pipe",
                           .think = setting.think,
                           .make_coders = setting.make_coders,
                           .on_progress = progress_of(context, trace.size())};
  if (rig.serial) rig.link.overhead_bytes = 0;  // the line's framing is in what is counted
  auto figures = services::replay_in_real_time(trace, std::move(rig));
  if (!figures) return figures.error();
  counted_by = figures->counted_by;
  return std::move(figures->replay);
}

Result<ReplayFigures> run_in_virtual_time(const lab::Trace& trace, const ReplayFlags& flags,
                                          const Setting& setting, std::uint64_t seed) {
  lab::ReplayOptions options;
  options.gateway.link = setting.link;
  options.gateway.seed = seed;
  options.gateway.near.alias_events = flags.alias_events;
  options.gateway.make_coders = setting.make_coders;
  options.think = setting.think;
  return lab::replay(trace, std::move(options));
}

}  // namespace

void add_replay_options(CLI::App& bench, ReplayFlags& flags) {
  bench.add_option(
      "--trace", flags.trace,
      "Replay these exchanges through both gateways: JSON, as tools/gateway_trace/build makes it");
  bench.add_option("--link", flags.link,
                   "The link: rate=…,loss=…,delay=…, as \"ravine lab link\" has it (default "
                   "rate=100bps,delay=2s; rate=1Mbps,delay=5ms with --real)");
  bench.add_flag("--real", flags.real_time,
                 "In real time over sockets, counted by a capture, in place of virtual time");
  bench.add_option("--transport", flags.transport, "What carries the frames")
      ->check(CLI::IsMember({"udp", "pipe"}))
      ->capture_default_str();
  bench.add_flag("--alias-events", flags.alias_events, "Real event IDs come with the sync alone");
  bench.add_option("--think", flags.think, "Pause before each request: 5s")->capture_default_str();
  bench.add_option("--rounds", flags.rounds, "Repeat with other seeds; the median counts")
      ->check(CLI::Range(1u, 1000u))
      ->capture_default_str();
  bench.add_option("--seed", flags.seed, "Of the link's chances")->capture_default_str();
  bench.add_flag("--each", flags.each, "A line per exchange too");
  bench.add_flag("--no-https", flags.no_https, "Leave out the comparison with HTTPS");
}

int run_replay(const Context& context, const ReplayFlags& flags, const CoderMaker& make_coders) {
  auto file = host::read_file(flags.trace, kMaxTrace);
  if (!file) return fail(file.error());
  auto trace = lab::parse_trace(as_text(*file));
  if (!trace) return fail(trace.error().with_context(flags.trace));
  lab::LinkProfile base;
  if (flags.transport == "pipe") base.overhead_bytes = kPipeOverhead;
  const std::string words = !flags.link.empty() ? flags.link : flags.real_time ? kFastLink : kSlowLink;
  auto link = lab::parse_profile(words, base);
  if (!link) return fail(link.error());
  const auto think = lab::parse_span(flags.think);
  if (!think)
    return fail({ErrorKind::invalid_argument,
                 fmt::format("--think \"{}\" is not understood; write for example 5s", flags.think)});
  Report report;
  report.link = lab::to_text(*link);
  report.overhead = link->overhead_bytes;
  const Setting setting{*link, *think, make_coders};
  for (unsigned round = 0; round < flags.rounds; ++round) {
    auto figures = flags.real_time ? run_in_real_time(context, *trace, flags, setting, flags.seed + round,
                                                      report.counted_by)
                                   : run_in_virtual_time(*trace, flags, setting, flags.seed + round);
    if (!figures) return fail(figures.error());
    report.rounds.push_back(std::move(*figures));
  }
  std::sort(report.rounds.begin(), report.rounds.end(), [](const auto& a, const auto& b) {
    return a.total().up_bytes + a.total().down_bytes < b.total().up_bytes + b.total().down_bytes;
  });
  report.median = report.rounds.size() / 2;
  if (!flags.no_https) {
    auto https = services::measure_https(*trace);
    if (!https) return fail(https.error());
    report.https = std::move(*https);
  }
  if (context.json) {
    print_report_json(flags, report);
  } else {
    print_report(flags, report);
  }
  return report.figures().faults.empty() ? kOk : kFailed;
}

int run_load(const Context& context, const ReplayFlags& flags, const CoderMaker& make_coders) {
  std::vector<services::LoadFigures> runs;
  for (unsigned round = 0; round < flags.rounds; ++round) {
    auto figures = services::measure_load({.make_coders = make_coders});
    if (!figures) return fail(figures.error());
    runs.push_back(*figures);
  }
  std::sort(runs.begin(), runs.end(),
            [](const auto& a, const auto& b) { return a.exchanges_per_second < b.exchanges_per_second; });
  const services::LoadFigures& median = runs[runs.size() / 2];
  if (!context.json) {
    print_line(fmt::format("{:.0f} exchanges/s, {:.0f} µs of CPU each, coder {}; {} failed",
                           median.exchanges_per_second, median.cpu_us_per_exchange, median.coder,
                           median.failed));
    return median.failed == 0 ? kOk : kFailed;
  }
  json::array values;
  for (const auto& run : runs) values.emplace_back(run.exchanges_per_second);
  print_json(json::object{{"name", "gateway"},
                          {"value", median.exchanges_per_second},
                          {"unit", "exchanges/s"},
                          {"better", "higher"},
                          {"target", median.coder == "none" ? 2000 : 500},
                          {"coder", median.coder},
                          {"cpu_ns_per_op", median.cpu_us_per_exchange * 1000},
                          {"values", std::move(values)},
                          {"failed", median.failed}});
  return median.failed == 0 ? kOk : kFailed;
}

int run_replay_bench(const Context& context, const ReplayFlags& flags, const std::string& coder) {
  auto make_coders = gateway_coders(coder);
  if (!make_coders) return fail(make_coders.error());
  return flags.throughput ? run_load(context, flags, *make_coders) : run_replay(context, flags, *make_coders);
}

}  // namespace ravine::cli
