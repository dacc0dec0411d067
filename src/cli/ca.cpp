// ravine ca: the authority of a network. With a running node the operations run there; without one they run
// here, on the same files.
#include <fmt/format.h>

#include <memory>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/output.h"
#include "cli/secrets.h"
#include "host/clock.h"
#include "host/file.h"
#include "host/process.h"
#include "host/random.h"
#include "node/ca_methods.h"

namespace ravine::cli {

namespace json = boost::json;

namespace {

struct CaOptions {
  std::string network = "home";
  std::string name;
  std::vector<std::string> groups;
  std::string lifetime, out, csr, which;  // lifetime: as in 30d
  PassphraseSource passphrase, new_passphrase;
  bool issuer_only = false;
};

Result<json::object> call_here(const Context& context, std::string_view method, const json::object& params) {
  const node::StateDir state(state_directory(context));
  if (!node::CaStore::exists(state)) {
    return Error{ErrorKind::not_found,
                 fmt::format("there is no authority in {}; make one with \"ravine ca init\", or run "
                             "this on the machine that has it",
                             state.ca())};
  }
  auto lock = host::FileLock::acquire(state.lock());
  if (!lock) return lock.error();
  auto clock = host::FlooredClock::open(state.clock());
  if (!clock) return clock.error();
  const UnixTime now = (*clock)->unix_time();
  auto ca = node::CaStore::open(state, nullptr, now);
  if (!ca) return ca.error();
  host::SystemRandom random;
  return node::call_ca(*ca, method, params, now, random);
}

// The answer, or nothing after the message was printed.
std::optional<json::value> call_authority(const Context& context, std::string_view method,
                                          json::object params, int& code) {
  if (is_running(context)) {
    auto daemon = Daemon::open(context, code);
    if (!daemon) return std::nullopt;
    return daemon->call(method, std::move(params), code);
  }
  auto result = call_here(context, method, params);
  if (result) return json::value(std::move(*result));
  code = fail(result.error());
  return std::nullopt;
}

Result<std::chrono::seconds> lifetime_of(const CaOptions& options, std::chrono::seconds otherwise) {
  if (options.lifetime.empty()) return otherwise;
  const auto lifetime = node::parse_duration(options.lifetime);
  if (lifetime) return std::chrono::duration_cast<std::chrono::seconds>(*lifetime);
  return Error{ErrorKind::invalid_argument,
               fmt::format("the lifetime \"{}\" is no duration; write 30d or 12h", options.lifetime)};
}

int run_init(const Context& context, const CaOptions& options) {
  auto lifetime = lifetime_of(options, identity::kLeafLifetime);
  if (!lifetime) return fail(lifetime.error());
  const node::StateDir state(state_directory(context));
  auto passphrase = read_passphrase(options.passphrase, "passphrase for the root's key", true);
  if (!passphrase) return fail(passphrase.error());
  if (auto made = state.make(); !made) return fail(made.error());
  auto lock = host::FileLock::acquire(state.lock());
  if (!lock) return fail(lock.error());
  host::SystemRandom random;
  auto clock = host::FlooredClock::open(state.clock());
  if (!clock) return fail(clock.error());
  const std::string name = options.name.empty() ? node::name_of_machine(host::host_name()) : options.name;
  auto made = node::CaStore::init(state,
                                  {.network = options.network,
                                   .node_name = name,
                                   .groups = options.groups,
                                   .passphrase = *passphrase,
                                   .lifetime = *lifetime},
                                  (*clock)->unix_time(), random);
  if (!made) return fail(made.error());
  if (!host::file_exists(state.config())) {
    auto written =
        host::write_file(state.config(), as_bytes(node::default_config_text()), host::FileMode::owner_only);
    if (!written) return fail(written.error());
  }
  if (context.json) {
    print_json(json::object{{"network", options.network}, {"name", name}, {"state", state.path()}});
    return kOk;
  }
  print_line(
      fmt::format("network \"{}\" is founded, and this machine is \"{}\" in it", options.network, name));
  print_line(fmt::format("  root key      {}/root.key{}", state.ca(),
                         passphrase->empty()
                             ? " (no passphrase; move it to a safe place, nothing needs it from now on)"
                             : " (locked by the passphrase; may be moved to a safe place)"));
  print_line(fmt::format("  configuration {}", state.config()));
  print_line("next: \"ravine invite NAME\" for each further machine (it starts the node if need be)");
  return kOk;
}

int run_issue(const Context& context, const CaOptions& options) {
  json::object params{{"name", options.name},
                      {"groups", json::array(options.groups.begin(), options.groups.end())}};
  if (!options.lifetime.empty()) {
    const auto lifetime = lifetime_of(options, {});
    if (!lifetime) return fail(lifetime.error());
    params["lifetime_s"] = lifetime->count();
  }
  if (!options.csr.empty()) {
    auto csr = host::read_file(options.csr, node::kMaxSmallFile);
    if (!csr) return fail(csr.error());
    params["csr_pem"] = as_text(*csr);
  } else {
    const std::string out = options.out.empty() ? options.name : options.out;
    char* absolute = ::realpath(".", nullptr);
    params["out"] = out.starts_with('/') || absolute == nullptr ? out : fmt::format("{}/{}", absolute, out);
    std::free(absolute);
  }
  int code = kOk;
  const auto answer = call_authority(context, "ca.issue", std::move(params), code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else if (!options.csr.empty()) {
    print(text_of(*answer, "chain_pem"));
  } else {
    print_line(
        fmt::format("certificate for \"{}\" ({}) and its key are in {}; copy that directory to the machine's "
                    "STATE/networks/, then delete it here",
                    text_of(*answer, "name"), text_of(*answer, "id"), text_of(*answer, "out")));
  }
  return kOk;
}

int run_list(const Context& context) {
  int code = kOk;
  const auto answer = call_authority(context, "ca.list", {}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  Table table({"NAME", "ID", "STATE", "UNTIL", "GROUPS", "SERIAL"});
  for (const json::value& row : list_of(*answer, "certificates")) {
    const std::string state = text_of(row, "state");
    table.add({text_of(row, "name"), text_of(row, "id"),
               paint(state == "valid"     ? Colour::green
                     : state == "revoked" ? Colour::red
                                          : Colour::dim,
                     state),
               date_text({number_of(row, "not_after_unix")}), joined(list_of(row, "groups")),
               text_of(row, "serial")});
  }
  print(table.to_text());
  return kOk;
}

void print_authority(const json::value& answer) {
  print_line(
      fmt::format("network     {}, addresses {}", text_of(answer, "network"), text_of(answer, "prefix")));
  for (const json::value& root : list_of(answer, "roots")) {
    print_line(fmt::format("root        {} until {}", text_of(root, "id"),
                           date_text({number_of(root, "not_after_unix")})));
  }
  const json::value& issuer = value_of(answer, "issuer");
  print_line(fmt::format("issuer      {} until {}", text_of(issuer, "id"),
                         date_text({number_of(issuer, "not_after_unix")})));
  print_line(fmt::format("lifetimes   certificates {}, renewed after {}, grace {}",
                         duration_text(std::chrono::seconds(number_of(answer, "leaf_lifetime_s"))),
                         duration_text(std::chrono::seconds(number_of(answer, "renew_after_s"))),
                         duration_text(std::chrono::seconds(number_of(answer, "grace_s")))));
  print_line(fmt::format("issued      {} certificates; {} revoked, list number {}",
                         number_of(answer, "issued"), number_of(answer, "revoked"),
                         number_of(answer, "revocation_number")));
}

int run_show(const Context& context, std::string_view method, json::object params) {
  int code = kOk;
  const auto answer = call_authority(context, method, std::move(params), code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else {
    print_authority(*answer);
  }
  return kOk;
}

int run_lifetime(const Context& context, const CaOptions& options) {
  const auto lifetime = lifetime_of(options, {});
  if (!lifetime) return fail(lifetime.error());
  return run_show(context, "ca.lifetime", {{"lifetime_s", lifetime->count()}});
}

int run_revoke(const Context& context, const CaOptions& options) {
  int code = kOk;
  const auto answer = call_authority(context, "ca.revoke", {{"which", options.which}}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
    return kOk;
  }
  print_line(fmt::format("{} is revoked; list {} is in force and the network secret was replaced",
                         options.which, number_of(*answer, "number")));
  if (!is_running(context)) print_note("no node runs here: peers learn of it when \"ravine up\" runs");
  return kOk;
}

// The node renews from wherever the authority is; without a node, only an authority in this state can.
int run_renew(const Context& context, const CaOptions& options) {
  int code = kOk;
  std::optional<json::value> answer;
  if (is_running(context)) {
    auto daemon = Daemon::open(context, code);
    if (!daemon) return code;
    json::object params;
    if (!options.network.empty()) params["network"] = options.network;
    answer = daemon->call("renew", std::move(params), code);
  } else {
    answer = call_authority(context, "ca.renew", {}, code);
    if (!answer) print_note("a member without the authority renews while its node runs: ravine up");
  }
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else {
    print_line(fmt::format("this machine's certificate in {} is new", text_of(*answer, "directory")));
  }
  return kOk;
}

int run_rotate(const Context& context, const CaOptions& options) {
  auto old_passphrase = read_passphrase(options.passphrase, "passphrase of the root's key", false);
  if (!old_passphrase) return fail(old_passphrase.error());
  if (options.issuer_only) return run_show(context, "ca.rotate-issuer", {{"passphrase", *old_passphrase}});
  auto new_passphrase = read_passphrase(options.new_passphrase, "passphrase for the new root's key", true);
  if (!new_passphrase) return fail(new_passphrase.error());
  const int code = run_show(context, "ca.rotate-root",
                            {{"passphrase", *old_passphrase}, {"new_passphrase", *new_passphrase}});
  if (code == kOk)
    print_note(
        "members adopt the new root when they renew, after two thirds of a certificate's lifetime; both "
        "hold until then");
  return code;
}

int run_groups(const Context& context, const CaOptions& options) {
  int code = kOk;
  const auto answer = call_authority(
      context, "ca.groups",
      {{"name", options.name}, {"groups", json::array(options.groups.begin(), options.groups.end())}}, code);
  if (!answer) return code;
  if (context.json) {
    print_json(*answer);
  } else {
    print_line(fmt::format("\"{}\" gets these groups with its next certificate", options.name));
  }
  return kOk;
}

void add_passphrase(CLI::App& command, PassphraseSource& source, const std::string& prefix,
                    const std::string& of) {
  command.add_flag("--" + prefix + "passphrase", source.ask,
                   "The key " + of + " has a passphrase: taken from RAVINE_PASSPHRASE or asked for");
  command.add_option("--" + prefix + "passphrase-file", source.file,
                     "Read it from this file (mode 0600), or - for standard input");
}

template <class Run>
void on_run(CLI::App* command, Context& context, std::shared_ptr<CaOptions> options, Run run) {
  command->callback([&context, options = std::move(options), run] {
    context.action = [&context, options, run] { return run(context, *options); };
  });
}

void add_making_commands(CLI::App& ca, Context& context) {
  auto init = std::make_shared<CaOptions>();
  CLI::App* command = add_command(ca, "init", "Found a network: its authority, and this machine's membership",
                                  "ravine ca init\nravine ca init --network lab --name gate --passphrase");
  command->add_option("--network", init->network, "Name of the network")->capture_default_str();
  command->add_option("--name", init->name, "Name of this machine in it (default: its host name)");
  command->add_option("--groups", init->groups, "Groups of this machine")->delimiter(',');
  command->add_option("--lifetime", init->lifetime, "How long members' certificates are valid (default 30d)");
  add_passphrase(*command, init->passphrase, "", "of the root");
  on_run(command, context, init, [](const Context& c, const CaOptions& o) { return run_init(c, o); });

  auto issue = std::make_shared<CaOptions>();
  command = add_command(ca, "issue", "Make a certificate the long way (invite and join do it for you)",
                        "ravine ca issue box --groups ops --out /tmp/box\n"
                        "ravine ca issue box --csr request.csr > cert.crt");
  command->add_option("NAME", issue->name, "Name of the member")->required();
  command->add_option("--groups", issue->groups, "Groups to sign into it")->delimiter(',');
  command->add_option("--lifetime", issue->lifetime, "How long this one is valid, for example 7d");
  auto* csr = command->add_option("--csr", issue->csr,
                                  "Sign this request (PEM, see ravine id --request); prints the chain");
  command->add_option("--out", issue->out, "Make the key here too, and write everything to this directory")
      ->excludes(csr);
  on_run(command, context, issue, [](const Context& c, const CaOptions& o) { return run_issue(c, o); });

  auto lifetime = std::make_shared<CaOptions>();
  command = add_command(ca, "lifetime", "Set how long certificates are valid from the next one on",
                        "ravine ca lifetime 30d");
  command->add_option("LIFETIME", lifetime->lifetime, "10s to 1096d; renewed after two thirds")->required();
  on_run(command, context, lifetime, [](const Context& c, const CaOptions& o) { return run_lifetime(c, o); });

  auto groups = std::make_shared<CaOptions>();
  command = add_command(ca, "groups", "Change the groups of a member, from its next certificate on",
                        "ravine ca groups box ops,backup");
  command->add_option("NAME", groups->name, "Name of the member")->required();
  command->add_option("GROUPS", groups->groups, "The groups, with commas; none: no groups")->delimiter(',');
  on_run(command, context, groups, [](const Context& c, const CaOptions& o) { return run_groups(c, o); });
}

}  // namespace

void add_ca_commands(CLI::App& app, Context& context) {
  CLI::App* ca = add_command(app, "ca", "Work with a network's certificate authority",
                             "ravine ca init\nravine ca list\nravine ca revoke box");
  ca->require_subcommand(1);
  add_making_commands(*ca, context);
  const auto none = std::make_shared<CaOptions>();
  CLI::App* list =
      add_command(*ca, "list", "List the certificates that were issued", "ravine ca list --json");
  on_run(list, context, none, [](const Context& c, const CaOptions&) { return run_list(c); });
  CLI::App* show = add_command(*ca, "show", "Show the authority: roots, issuer, lifetimes", "ravine ca show");
  on_run(show, context, none, [](const Context& c, const CaOptions&) { return run_show(c, "ca.show", {}); });
  auto renewal = std::make_shared<CaOptions>();
  renewal->network.clear();
  CLI::App* renew = add_command(*ca, "renew", "Renew this machine's own certificate now",
                                "ravine ca renew\nravine ca renew --network home");
  renew->add_option("--network", renewal->network, "Which one, on a node of several networks");
  on_run(renew, context, renewal, run_renew);

  auto revoke = std::make_shared<CaOptions>();
  CLI::App* command =
      add_command(*ca, "revoke", "Shut a member out: its certificates end, its sessions are cut",
                  "ravine ca revoke box\nravine ca revoke abcdefghijklmnop");
  command->add_option("WHICH", revoke->which, "Name, 16-character ID or serial")->required();
  on_run(command, context, revoke, [](const Context& c, const CaOptions& o) { return run_revoke(c, o); });

  auto rotate = std::make_shared<CaOptions>();
  command =
      add_command(*ca, "rotate-root", "Replace the root (needs ca/root.key for this one command)",
                  "ravine ca rotate-root --passphrase --new-passphrase\nravine ca rotate-root --issuer-only");
  command->add_flag("--issuer-only", rotate->issuer_only, "Keep the root, make a new intermediate");
  add_passphrase(*command, rotate->passphrase, "", "of the old root");
  add_passphrase(*command, rotate->new_passphrase, "new-", "of the new root");
  on_run(command, context, rotate, [](const Context& c, const CaOptions& o) { return run_rotate(c, o); });
}

}  // namespace ravine::cli
