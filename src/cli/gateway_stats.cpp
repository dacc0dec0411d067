// ravine gateway stats, stop, well-known: questions to running gateways.
#include <fmt/format.h>

#include <memory>
#include <thread>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/gateway.h"
#include "cli/output.h"
#include "services/control_client.h"

namespace ravine::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kRoles[] = {"near", "far", "both", "coap-proxy"};

// Every gateway that answers on this state directory.
Result<json::array> ask_all(const Context& context, std::string_view method) {
  json::array answers;
  for (const std::string_view role : kRoles) {
    auto client =
        services::ControlClient::connect(fmt::format("{}/{}.sock", gateway_directory(context), role));
    if (!client) {
      if (client.error().kind == ErrorKind::refused) return client.error();
      continue;
    }
    auto answer = client->call(method, {});
    if (answer) answers.push_back(std::move(*answer));
  }
  return answers;
}

int not_running(const Context& context) {
  (void)fail(
      {ErrorKind::unreachable,
       fmt::format("no gateway runs on {}; start one with \"ravine gateway near\" or \"ravine gateway far\"",
                   gateway_directory(context))});
  return kNotRunning;
}

std::string seconds_text(const json::value& value) {
  if (value.is_null()) return "-";
  const double seconds =
      value.is_double() ? value.get_double() : static_cast<double>(value.to_number<std::int64_t>());
  return duration_text(Duration{static_cast<std::int64_t>(seconds * 1e9)});
}

std::string bytes_of(const json::value& object, std::string_view key) {
  return bytes_text(static_cast<std::uint64_t>(number_of(object, key)));
}

void print_pairing(const json::value& pairing) {
  const json::value& link = value_of(pairing, "link");
  const std::string address = text_of(pairing, "peer_address");
  const std::string coder = text_of(link, "coder");
  print_line(fmt::format("  {} {}  {}{}", paint(Colour::bold, text_of(pairing, "name")),
                         address.empty() ? "(address not known yet)" : address,
                         text_of(pairing, "protection"), coder.empty() ? "" : ", coder " + coder));
  print_line(fmt::format("    {} exchanges ({} failed), HTTP {} up, {} down", number_of(pairing, "exchanges"),
                         number_of(pairing, "failed"), bytes_of(pairing, "request_bytes"),
                         bytes_of(pairing, "response_bytes")));
  if (flag_of(link, "keys")) {
    const json::value& ratio = value_of(link, "ratio");
    print_line(fmt::format(
        "    air: {} out, {} in{}{}", bytes_of(link, "air_bytes_out"), bytes_of(link, "air_bytes_in"),
        ratio.is_null() ? "" : fmt::format(", ratio {:.1f}", real_of(link, "ratio")),
        value_of(link, "air_seconds").is_null()
            ? ""
            : fmt::format(", {} on the air", seconds_text(value_of(link, "air_seconds")))));
    print_line(fmt::format("    frames {} out ({} again), {} in; {} waiting, {} in flight, round trip {}",
                           number_of(link, "frames_out"), number_of(link, "retransmissions"),
                           number_of(link, "frames_in"), number_of(link, "waiting"),
                           number_of(link, "in_flight"), seconds_text(value_of(link, "rtt_seconds"))));
    if (number_of(link, "dropped_in") != 0)
      print_line(paint(Colour::yellow, fmt::format("    {} frames dropped as forged or of another pairing",
                                                   number_of(link, "dropped_in"))));
  }
  for (const json::value& transfer : list_of(link, "transfers")) {
    const auto total = number_of(transfer, "total");
    print_line(
        fmt::format("    transfer {}: {}{}", text_of(transfer, "direction"), bytes_of(transfer, "bytes"),
                    total == 0 ? "" : fmt::format(" of {}", bytes_text(static_cast<std::uint64_t>(total)))));
  }
  if (number_of(pairing, "fallback_requests") != 0 || flag_of(pairing, "fallback_active"))
    print_line(
        paint(Colour::yellow, fmt::format("    fallback {}: {} requests went past the link",
                                          flag_of(pairing, "fallback_active") ? "in use" : "not in use",
                                          number_of(pairing, "fallback_requests"))));
  if (const std::string trouble = text_of(pairing, "trouble"); !trouble.empty())
    print_line(paint(Colour::red, "    " + trouble));
  Table table({"    KIND", "EXCHANGES", "LOCAL", "FAILED", "HTTP UP", "HTTP DOWN", "LINK OUT", "LINK IN",
               "RATIO", "AGAIN", "ON AIR", "MEAN TIME"});
  for (const json::value& kind : list_of(pairing, "routes"))
    table.add(
        {"    " + text_of(kind, "kind"), std::to_string(number_of(kind, "exchanges")),
         std::to_string(number_of(kind, "local")), std::to_string(number_of(kind, "failed")),
         bytes_of(kind, "request_bytes"), bytes_of(kind, "response_bytes"), bytes_of(kind, "link_bytes_out"),
         bytes_of(kind, "link_bytes_in"),
         value_of(kind, "link_ratio").is_null() ? "-" : fmt::format("{:.1f}", real_of(kind, "link_ratio")),
         std::to_string(number_of(kind, "retransmissions")), seconds_text(value_of(kind, "link_seconds")),
         seconds_text(value_of(kind, "mean_seconds"))});
  if (!table.empty()) print(table.to_text());
}

void print_gateway(const json::value& gateway) {
  const std::string role = text_of(gateway, "role");
  if (role == "near") {
    print_line(fmt::format("near gateway, HTTP on {}", joined(list_of(gateway, "listen"))));
  } else {
    const json::value& upstream = value_of(gateway, "upstream");
    print_line(fmt::format("{} gateway, {}, to {}{}", role, text_of(value_of(gateway, "transport"), "name"),
                           text_of(upstream, "base"),
                           flag_of(upstream, "verified") ? "" : " (certificate not checked)"));
    if (const std::string fault = text_of(upstream, "last_error"); !fault.empty())
      print_line(paint(Colour::red, "  upstream: " + fault));
  }
  for (const json::value& pairing : list_of(gateway, "pairings")) print_pairing(pairing);
}

int show_stats(const Context& context) {
  auto answers = ask_all(context, "stats");
  if (!answers) return fail(answers.error());
  if (answers->empty()) return not_running(context);
  json::array gateways;
  for (const json::value& answer : *answers)
    for (const json::value& gateway : list_of(answer, "gateways")) gateways.push_back(gateway);
  if (context.json) {
    print_json(json::object{{"gateways", std::move(gateways)}});
  } else {
    for (const json::value& gateway : gateways) print_gateway(gateway);
  }
  return kOk;
}

int run_stats(const Context& context, bool watch) {
  if (!watch) return show_stats(context);
  for (;;) {
    if (!context.json && is_terminal(1)) print("\x1b[H\x1b[2J");
    if (const int code = show_stats(context); code != kOk) return code;
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

int run_stop(const Context& context) {
  auto answers = ask_all(context, "shutdown");
  if (!answers) return fail(answers.error());
  if (answers->empty()) return not_running(context);
  for (int i = 0; i < 500; ++i) {
    auto left = ask_all(context, "stats");
    if (left && left->empty()) {
      print_line("the gateway has stopped");
      return kOk;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return fail({ErrorKind::timed_out, "the gateway did not stop within 5 s; see its log"});
}

int run_well_known(const Context& context) {
  auto answers = ask_all(context, "well-known");
  if (!answers) return fail(answers.error());
  if (answers->empty()) return not_running(context);
  print_json(answers->front());
  if (!context.json)
    print_note(
        "put this at https://YOUR-SERVER/.well-known/ravine-gateway, or let the far gateway serve it with "
        "--well-known");
  return kOk;
}

}  // namespace

void add_gateway_stats_command(CLI::App& gateway, Context& context) {
  auto watch = std::make_shared<bool>(false);
  CLI::App* stats =
      add_command(gateway, "stats", "Show what running gateways carry",
                  "ravine gateway stats\nravine gateway stats --watch\nravine gateway stats --json");
  stats->add_flag("-w,--watch", *watch, "Again every second");
  stats->callback(
      [&context, watch] { context.action = [&context, watch] { return run_stats(context, *watch); }; });
  CLI::App* stop = add_command(gateway, "stop", "Stop the gateways that run on this state directory",
                               "ravine gateway stop");
  stop->callback([&context] { context.action = [&context] { return run_stop(context); }; });
  CLI::App* known = add_command(gateway, "well-known", "Print the document with which a far gateway is found",
                                "ravine gateway well-known > ravine-gateway");
  known->callback([&context] { context.action = [&context] { return run_well_known(context); }; });
}

}  // namespace ravine::cli
