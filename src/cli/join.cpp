// ravine id, invite, join, pair: who this machine is, and how others come in.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/launch.h"
#include "cli/output.h"
#include "host/clock.h"
#include "host/file.h"
#include "host/logging.h"
#include "host/process.h"
#include "host/random.h"
#include "node/ca_store.h"
#include "node/join_client.h"
#include "node/member.h"

namespace ravine::cli {

namespace json = boost::json;

namespace {

struct JoinFlags {
  std::string name, code, network, expires = "1h", out;
  std::vector<std::string> groups;
  std::string withdraw, request;
  bool list = false, no_up = false;
};

// The node that invitations need. True when it runs, started here if need be.
bool ensure_running(const Context& context, bool may_start, int& code) {
  if (is_running(context)) return true;
  if (!may_start) {
    code = kNotRunning;
    fail({ErrorKind::unreachable, "no node runs here; start it with \"ravine up\", others join through it"});
    return false;
  }
  auto started = start_in_background(context, {});
  if (!started) {
    code = fail(started.error());
    return false;
  }
  print_note(fmt::format(
      "started the node in the background (pid {}): others join through it; \"ravine down\" stops it",
      *started));
  return true;
}

void print_code(const json::value& answer, std::string_view command) {
  const std::string code = text_of(answer, "code");
  if (is_terminal(STDOUT_FILENO)) print_line(qr_text(code));
  print_line(
      fmt::format("On the other machine, until {}:\n", date_text({number_of(answer, "expires_unix")})));
  print_line(fmt::format("  ravine {} {}\n", command, code));
  print_line(fmt::format("It reaches this machine at {} (UDP). The code works once.",
                         joined(list_of(answer, "addresses"))));
}

int list_invites(const Context& context) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call("invite.list", {}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  Table table({"NAME", "KIND", "STATE", "UNTIL", "GROUPS"});
  for (const json::value& row : list_of(*answer, "invites")) {
    table.add({text_of(row, "name"), text_of(row, "kind"), flag_of(row, "used") ? "used" : "open",
               date_text({number_of(row, "expires_unix")}), joined(list_of(row, "groups"))});
  }
  if (table.empty()) {
    print_line("no invitations are open");
  } else {
    print(table.to_text());
  }
  return kOk;
}

int withdraw_invite(const Context& context, const std::string& name) {
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call("invite.delete", {{"name", name}}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else {
    print_line(fmt::format("the invitation of \"{}\" does not work any more", name));
  }
  return kOk;
}

Result<std::int64_t> lifetime_of(const JoinFlags& flags) {
  const auto lifetime = node::parse_duration(flags.expires);
  if (!lifetime || *lifetime < 1min || *lifetime > 30 * 24h) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("--expires \"{}\" is wrong; give 1m to 30d, for example 1h", flags.expires)};
  }
  return std::chrono::duration_cast<std::chrono::seconds>(*lifetime).count();
}

int make_code(const Context& context, const JoinFlags& flags, std::string_view method,
              std::string_view command) {
  auto lifetime = lifetime_of(flags);
  if (!lifetime) return fail(lifetime.error());
  int code = kOk;
  if (!ensure_running(context, !flags.no_up, code)) return code;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call(method,
                                   {{"name", flags.name},
                                    {"groups", json::array(flags.groups.begin(), flags.groups.end())},
                                    {"lifetime_s", *lifetime}},
                                   code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else {
    print_code(*answer, command);
  }
  return kOk;
}

int run_invite(const Context& context, const JoinFlags& flags) {
  if (flags.list) return list_invites(context);
  if (!flags.withdraw.empty()) return withdraw_invite(context, flags.withdraw);
  if (flags.name.empty()) {
    return fail({ErrorKind::invalid_argument, "whom do you invite? Write: ravine invite NAME"});
  }
  if (!node::CaStore::exists(node::StateDir(state_directory(context))) && !is_running(context)) {
    return fail({ErrorKind::not_found,
                 "there is no authority here; found a network with \"ravine ca init\", or run this "
                 "on the machine that has it"});
  }
  return make_code(context, flags, "invite.create", "join");
}

// Has the running node take up what is new on disk. True when it is in `network` now.
bool enter_running(const Context& context, const std::string& network, int& code) {
  auto daemon = Daemon::open(context, code);
  if (!daemon || !daemon->call("reload", {}, code)) return false;
  const auto answer = daemon->call("networks", {}, code);
  if (!answer) return false;
  for (const json::value& entry : list_of(*answer, "networks")) {
    if (text_of(entry, "name") == network) return true;
  }
  print_note(
      fmt::format("the running node's configuration lists its networks; add [[network]] name = \"{}\" and "
                  "run \"ravine reload\"",
                  network));
  return false;
}

int finish_entry(const Context& context, const JoinFlags& flags, const node::JoinOutcome& outcome) {
  const node::StateDir state(state_directory(context));
  if (!host::file_exists(state.config())) {
    auto written =
        host::write_file(state.config(), as_bytes(node::default_config_text()), host::FileMode::owner_only);
    if (!written) return fail(written.error());
  }
  const bool was_running = is_running(context);
  std::optional<int> pid;
  int code = kOk;
  const bool entered = was_running && enter_running(context, outcome.network, code);
  if (code != kOk) return code;
  if (!flags.no_up && !was_running) {
    auto started = start_in_background(context, {});
    if (!started)
      return fail(started.error().with_context("the membership is stored, but the node did not start"));
    pid = *started;
  }
  if (context.json) {
    json::object out{{"network", outcome.network},
                     {"name", outcome.name},
                     {"id", outcome.id},
                     {"address", outcome.address},
                     {"directory", outcome.directory},
                     {"not_after_unix", outcome.not_after.seconds},
                     {"running", pid || entered}};
    if (pid) out["pid"] = *pid;
    print_json(out);
    return kOk;
  }
  print_line(fmt::format("this machine is {}{} in network \"{}\", address {}",
                         paint(Colour::bold, outcome.name),
                         outcome.name.empty() ? outcome.id : fmt::format(" ({})", outcome.id),
                         outcome.network, outcome.address));
  if (pid) {
    print_line(fmt::format(
        "the node runs in the background (pid {}); \"ravine status\" shows it, \"ravine down\" stops it",
        *pid));
  } else if (was_running) {
    if (entered) print_line("the running node is in the network now");
  } else {
    print_line("start it with \"ravine up\"");
  }
  return kOk;
}

int enter(const Context& context, const JoinFlags& flags, identity::CodeKind kind) {
  auto code = identity::Invite::parse(flags.code);
  if (!code) return fail(code.error());
  if (code->kind != kind) {
    return fail({ErrorKind::invalid_argument,
                 kind == identity::CodeKind::invite
                     ? "this is a code of \"ravine pair\"; use it with: ravine pair CODE"
                     : "this is a code of \"ravine invite\"; use it with: ravine join CODE"});
  }
  auto config = make_config(context, {});
  if (!config) return fail(config.error());
  auto logger = host::Logger::open({.level = LogLevel::off});
  if (!logger) return fail(logger.error());
  host::SystemRandom random;
  node::JoinOptions options;
  options.directory_name = flags.network;
  options.pair_name = flags.name;
  options.pair_port = config->node.port.value_or(node::kDefaultPort);
  if (!context.json) options.progress = [](std::string_view what) { print_note(fmt::format("{} …", what)); };
  const node::StateDir state(state_directory(context));
  auto outcome = kind == identity::CodeKind::invite
                     ? node::join_by_code(state, *code, options, random, Log(logger->get(), "join"))
                     : node::pair_by_code(state, *code, options, random, Log(logger->get(), "pair"));
  if (!outcome) return fail(outcome.error());
  return finish_entry(context, flags, *outcome);
}

int run_pair(const Context& context, JoinFlags flags) {
  if (flags.name.empty()) flags.name = node::name_of_machine(host::host_name());
  if (!flags.code.empty()) return enter(context, flags, identity::CodeKind::pair);
  const node::StateDir state(state_directory(context));
  const bool fresh = !host::file_exists(state.network(node::kPinnedNetworkName) + "/network.secret");
  if (fresh) {
    host::SystemRandom random;
    auto founded = node::found_pinned_network(state, flags.name, host::system_time(), random);
    if (!founded) return fail(founded.error());
    int code = kOk;
    if (is_running(context) && !enter_running(context, std::string(node::kPinnedNetworkName), code))
      return code != kOk ? code : static_cast<int>(kFailed);
  }
  flags.name.clear();  // the other machine names itself
  return make_code(context, flags, "pair.create", "pair");
}

int write_request(const Context& context, const JoinFlags& flags) {
  const std::string directory = flags.out.empty() ? flags.request : flags.out;
  if (auto made = host::make_private_directory(directory); !made) return fail(made.error());
  const std::string key_path = directory + "/key.pem";
  host::SystemRandom random;
  if (!host::file_exists(key_path)) {
    if (auto saved = node::save_key(key_path, identity::PrivateKey::generate(random)); !saved)
      return fail(saved.error());
  }
  auto key = node::load_key(key_path);
  if (!key) return fail(key.error());
  const std::string pem =
      identity::signing_request_to_pem(identity::make_signing_request(*key, flags.request));
  const std::string path = directory + "/request.csr";
  if (auto written = host::write_file(path, as_bytes(pem), host::FileMode::world_readable); !written) {
    return fail(written.error());
  }
  if (context.json) {
    print_json(json::object{{"id", key->id().to_text()}, {"request", path}, {"key", key_path}});
  } else {
    print_line(
        fmt::format("key and request are in {}; have {} signed with \"ravine ca issue {} --csr request.csr\"",
                    directory, path, flags.request));
  }
  return kOk;
}

int run_id(const Context& context, const JoinFlags& flags) {
  if (!flags.request.empty()) return write_request(context, flags);
  const node::StateDir state(state_directory(context));
  auto config = make_config(context, {});
  if (!config) return fail(config.error());
  auto networks = node::configured_networks(state, *config);
  if (!networks) return fail(networks.error());
  json::array rows;
  for (const node::NetworkConfig& network : *networks) {
    auto member = node::load_member(state, network, host::system_time());
    if (!member) return fail(member.error());
    rows.push_back({{"network", member->name},
                    {"name", member->leaf().name},
                    {"id", member->id().to_text()},
                    {"full_id", encode_hex(member->id().view())},
                    {"address", member->overlay().to_text()},
                    {"directory", member->directory}});
  }
  if (context.json) {
    print_json(json::object{{"identities", std::move(rows)}});
    return kOk;
  }
  if (rows.empty()) {
    return fail(
        {ErrorKind::not_found,
         fmt::format("{} holds no identity; run \"ravine ca init\" or \"ravine join CODE\"", state.path())});
  }
  for (const json::value& row : rows) {
    print_line(fmt::format("{}  {}\n  network {}\n  address {}\n  full ID {}",
                           paint(Colour::bold, text_of(row, "id")), text_of(row, "name"),
                           text_of(row, "network"), text_of(row, "address"), text_of(row, "full_id")));
  }
  return kOk;
}

template <class Run>
void on_run(CLI::App* command, Context& context, std::shared_ptr<JoinFlags> flags, Run run) {
  command->callback([&context, flags = std::move(flags), run] {
    context.action = [&context, flags, run] { return run(context, *flags); };
  });
}

}  // namespace

void add_join_commands(CLI::App& app, Context& context) {
  auto id = std::make_shared<JoinFlags>();
  CLI::App* command =
      add_command(app, "id", "Show who this machine is in each network",
                  "ravine id\nravine id --request box --out /tmp/box    # key and signing request");
  command->add_option("--request", id->request,
                      "Make a key and a signing request for this name (the long way)");
  command->add_option("--out", id->out, "Directory for key and request (default: the name)");
  on_run(command, context, id, [](const Context& c, const JoinFlags& f) { return run_id(c, f); });

  auto invite = std::make_shared<JoinFlags>();
  command = add_command(
      app, "invite", "Make a one-time code with which another machine joins",
      "ravine invite laptop\nravine invite box --groups ops,backup --expires 10m\nravine invite --list");
  command->add_option("NAME", invite->name, "Name of the new member");
  command->add_option("--groups", invite->groups, "Groups to sign into its certificate")->delimiter(',');
  command->add_option("--expires", invite->expires, "How long the code works")->capture_default_str();
  command->add_flag("--list", invite->list, "List the open invitations");
  command->add_option("--withdraw", invite->withdraw, "Withdraw the invitation of this name");
  command->add_flag("--no-up", invite->no_up, "Do not start the node when none runs");
  on_run(command, context, invite, [](const Context& c, const JoinFlags& f) { return run_invite(c, f); });

  auto join = std::make_shared<JoinFlags>();
  command = add_command(app, "join", "Join a network with a code of ravine invite, and start the node",
                        "ravine join RV1…\nravine join RV1… --network lab --no-up");
  command->add_option("CODE", join->code, "The code; line breaks, spaces and case do not matter")->required();
  command->add_option("--network", join->network, "Call the network so here (default: its own name)");
  command->add_flag("--no-up", join->no_up, "Do not start the node");
  on_run(command, context, join,
         [](const Context& c, const JoinFlags& f) { return enter(c, f, identity::CodeKind::invite); });

  auto pair = std::make_shared<JoinFlags>();
  command = add_command(app, "pair",
                        "Join two machines without an authority: run it here, then with the code there",
                        "ravine pair\nravine pair RV1…");
  command->add_option("CODE", pair->code, "The code that ravine pair printed on the other machine");
  command->add_option("--name", pair->name,
                      "What the other machine may call this one (default: its host name)");
  command->add_option("--network", pair->network, "Keep this pairing as a network of this name");
  command->add_option("--expires", pair->expires, "How long the code works")->capture_default_str();
  command->add_flag("--no-up", pair->no_up, "Do not start the node");
  on_run(command, context, pair, [](const Context& c, const JoinFlags& f) { return run_pair(c, f); });
}

}  // namespace ravine::cli
