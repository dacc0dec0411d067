// ravine status, peers, sessions: what the running node knows, for people and as JSON.
#include <fmt/format.h>

#include <memory>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/output.h"

namespace ravine::cli {

namespace json = boost::json;

namespace {

Duration nanoseconds_of(const json::value& object, std::string_view key) {
  return Duration(number_of(object, key));
}

std::string peer_text(const json::value& entry) {
  const std::string name = text_of(entry, "name");
  return name.empty() ? text_of(entry, "id") : name;
}

std::string since_text(const json::value& entry, std::string_view key) {
  return duration_text(std::chrono::seconds(number_of(entry, key)));
}

std::string certificate_text(const json::value& network) {
  const json::value& certificate = value_of(network, "certificate");
  const std::string state = text_of(certificate, "state");
  const Colour colour = state == "valid" ? Colour::green : state == "expired" ? Colour::red : Colour::yellow;
  std::string out = fmt::format("certificate {} until {}", paint(colour, state),
                                date_text({number_of(certificate, "not_after_unix")}));
  if (text_of(network, "mode") == "pinned") return out;
  out +=
      fmt::format(", grace until {}, renews from {}", date_text({number_of(certificate, "grace_until_unix")}),
                  date_text({number_of(certificate, "renew_at_unix")}));
  if (const std::string off = text_of(network, "fault"); !off.empty()) {
    out += fmt::format("\n            {}: {}; check this machine's time, or join again",
                       paint(Colour::red, "off"), off);
  }
  const std::string fault = text_of(certificate, "renewal_error");
  if (!fault.empty()) out += fmt::format("\n            last renewal failed: {}", fault);
  return out;
}

void print_networks(const json::value& status) {
  for (const json::value& network : list_of(status, "networks")) {
    print_line(fmt::format("network     {} ({}){}: this is {} {}, address {}",
                           paint(Colour::bold, text_of(network, "name")), text_of(network, "mode"),
                           flag_of(network, "issuer") ? ", issued here" : "", text_of(network, "peer_name"),
                           text_of(network, "id"), text_of(network, "address")));
    if (const auto& groups = list_of(network, "groups"); !groups.empty()) {
      print_line("            groups " + joined(groups));
    }
    print_line("            " + certificate_text(network));
  }
  if (list_of(status, "networks").empty()) {
    print_line("network     none: run \"ravine ca init\" to start one or \"ravine join CODE\" to enter one");
  }
}

void print_sessions(const json::value& answer) {
  const json::array& sessions = list_of(answer, "sessions");
  if (sessions.empty()) return print_line("sessions    none; they open when they are used");
  Table table({"PEER", "NETWORK", "PATH", "ROUTE", "RTT", "HANDSHAKE", "SINCE", "SENT", "RECEIVED", "WHY"});
  for (const json::value& session : sessions) {
    const json::value& path = value_of(session, "path");
    table.add({peer_text(session), text_of(session, "network"), text_of(path, "kind"),
               text_of(path, "remote"), duration_text(nanoseconds_of(path, "rtt_ns")),
               duration_text(nanoseconds_of(session, "handshake_ns")), since_text(session, "age_s"),
               bytes_text(static_cast<std::uint64_t>(number_of(session, "bytes_sent"))),
               bytes_text(static_cast<std::uint64_t>(number_of(session, "bytes_received"))),
               text_of(path, "why")});
  }
  print(table.to_text());
}

void print_services(const json::value& status) {
  const json::value& proxy = value_of(status, "proxy");
  print_line(proxy.is_object() ? fmt::format("proxy       {} (SOCKS5 and HTTP CONNECT), {} clients now",
                                             text_of(proxy, "listen"), number_of(proxy, "active"))
                               : "proxy       off");
  for (const json::value& forward : list_of(status, "forwards")) {
    print_line(fmt::format("forward     {} {} -> {}", text_of(forward, "protocol"),
                           text_of(forward, "listen"), text_of(forward, "to")));
  }
  for (const json::value& exposure : list_of(status, "exposures")) {
    const std::string allow = joined(list_of(exposure, "allow"));
    print_line(fmt::format("exposed     {} port {} -> {}, allowed: {}", text_of(exposure, "protocol"),
                           number_of(exposure, "port"), text_of(exposure, "to"),
                           allow.empty() ? "nobody" : allow));
  }
}

int run_status(const Context& context) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto status = daemon->call("status", {}, code);
  if (!status) return code;
  if (context.json) {
    print_json(*status);
    return kOk;
  }
  print_line(fmt::format("node        {}, version {}, pid {}, up {}", paint(Colour::green, "running"),
                         text_of(*status, "version"), number_of(*status, "pid"),
                         since_text(*status, "uptime_s")));
  print_line(fmt::format("listens     UDP port {}: {}", number_of(*status, "port"),
                         joined(list_of(*status, "addresses"))));
  print_networks(*status);
  print_services(*status);
  print_sessions(*status);
  for (const json::value& warning : list_of(*status, "warnings")) {
    if (const auto* text = warning.if_string())
      print_line(paint(Colour::yellow, "warning     ") + std::string(*text));
  }
  return kOk;
}

int run_sessions(const Context& context) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call("sessions", {}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else {
    print_sessions(*answer);
  }
  return kOk;
}

int run_peers(const Context& context) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call("peers", {}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  Table table({"NAME", "ID", "NETWORK", "OVERLAY", "STATE", "ADDRESSES", "LAST ERROR"});
  for (const json::value& peer : list_of(*answer, "peers")) {
    const std::string state = text_of(peer, "state");
    table.add({text_of(peer, "name"), text_of(peer, "id"), text_of(peer, "network"), text_of(peer, "overlay"),
               paint(state == "connected" ? Colour::green : Colour::dim, state),
               joined(list_of(peer, "addresses")), text_of(peer, "last_error")});
  }
  if (table.empty()) {
    print_line(
        "no peers known; add [[peer]] to the configuration, or let one join with \"ravine invite NAME\"");
  } else {
    print(table.to_text());
  }
  return kOk;
}

}  // namespace

void add_listing_commands(CLI::App& app, Context& context) {
  CLI::App* status = add_command(app, "status", "Show this node, its networks, sessions and services",
                                 "ravine status\n"
                                 "ravine status --json | jq '.sessions[] | {name, rtt: .path.rtt_ns}'");
  status->callback([&context] { context.action = [&context] { return run_status(context); }; });
  CLI::App* peers = add_command(app, "peers", "List the peers that this node knows, connected or not",
                                "ravine peers\nravine peers --json");
  peers->callback([&context] { context.action = [&context] { return run_peers(context); }; });
  CLI::App* sessions =
      add_command(app, "sessions", "List the live sessions with their paths", "ravine sessions --json");
  sessions->callback([&context] { context.action = [&context] { return run_sessions(context); }; });
}

}  // namespace ravine::cli
