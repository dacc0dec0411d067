// ravine gateway pair: makes, takes, lists and removes pairings.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/gateway.h"
#include "cli/output.h"
#include "host/random.h"
#include "services/gateway/store.h"

namespace ravine::cli {
namespace {

namespace json = boost::json;
namespace security = gateway::security;
using services::KeySource;
using services::PairingStore;
using services::StoredPairing;

struct PairFlags {
  std::string code, name, role, address, peer, remove;
  bool list = false, forward_secrecy = false, again = false, no_qr = false;
};

std::string_view role_name(security::Role role) {
  return role == security::Role::near ? "near" : "far";
}

Error usage(std::string message) {
  return {ErrorKind::invalid_argument, std::move(message)};
}

// The first of far, far-2, far-3 … that is free, after the side that the pairing leads to.
Result<std::string> free_name(const PairingStore& store, security::Role ours) {
  const std::string base(role_name(security::other(ours)));
  for (std::size_t i = 1; i <= services::kMaxPairings; ++i) {
    const std::string name = i == 1 ? base : fmt::format("{}-{}", base, i);
    const auto found = store.find(name);
    if (!found && found.error().kind == ErrorKind::not_found) return name;
    if (!found) return found.error();
  }
  return Error{ErrorKind::limit_reached, "too many pairings; remove some with --remove NAME"};
}

Result<security::Role> role_flag(const PairFlags& flags, security::Role otherwise) {
  if (flags.role.empty()) return otherwise;
  if (flags.role == "near") return security::Role::near;
  if (flags.role == "far") return security::Role::far;
  return usage(fmt::format("--role \"{}\" is wrong; use near or far", flags.role));
}

Result<std::string> code_text(const PairFlags& flags) {
  if (flags.code != "-") return flags.code;
  std::string text;
  char block[512];
  for (;;) {
    const ssize_t size = ::read(STDIN_FILENO, block, sizeof block);
    if (size <= 0) break;
    text.append(block, static_cast<std::size_t>(size));
    if (text.size() > security::kMaxPairingText) return usage("standard input has more than a pairing code");
  }
  return text;
}

int report(const Context& context, const StoredPairing& pairing, const std::string& next) {
  if (context.json) {
    print_json(json::object{{"name", pairing.name}, {"role", json::string(role_name(pairing.role))}});
  } else {
    print_line(
        fmt::format("paired as \"{}\": this is the {} gateway", pairing.name, role_name(pairing.role)));
    print_note(next);
  }
  return kOk;
}

int make_code(const Context& context, const PairFlags& flags) {
  PairingStore store(gateway_directory(context));
  auto role = role_flag(flags, security::Role::far);
  if (!role) return fail(role.error());
  std::optional<HostPort> address;
  if (!flags.address.empty()) {
    address = HostPort::parse(flags.address);
    if (!address || address->host.empty() || address->port == 0)
      return fail(usage(fmt::format(
          "--address \"{}\" is wrong; write HOST:PORT as the other side reaches this one", flags.address)));
  }
  if (flags.forward_secrecy && *role == security::Role::near)
    return fail(usage("--forward-secrecy needs a code made on the far side; run this there"));
  host::SystemRandom random;
  StoredPairing pairing;
  pairing.role = *role;
  pairing.code = security::Pairing::make(security::other(*role), address, random);
  pairing.made_here = true;
  if (flags.forward_secrecy) {
    const auto key = security::StaticKey::random(random);
    pairing.local_static = key.private_key;
    pairing.code.remote_static = key.public_key;
    pairing.keys = KeySource::handshake;
  }
  auto name = flags.name.empty() ? free_name(store, *role) : Result<std::string>(flags.name);
  if (!name) return fail(name.error());
  pairing.name = *name;
  if (auto added = store.add(pairing); !added) return fail(added.error());
  const std::string text = pairing.code.to_text();
  if (context.json) {
    print_json(json::object{
        {"name", pairing.name}, {"role", json::string(role_name(pairing.role))}, {"code", text}});
    return kOk;
  }
  print_line(text);
  if (!flags.no_qr && is_terminal(STDOUT_FILENO)) print(qr_text(text));
  print_note(
      fmt::format("paired as \"{}\": this is the {} gateway. Enter the code once, on the {} side:\n"
                  "  ravine gateway pair CODE    (or - to read it from standard input)\n"
                  "Whoever reads it can take that side's place: send it over a way that nobody else reads.",
                  pairing.name, role_name(pairing.role), role_name(pairing.code.role)));
  return kOk;
}

int take_code(const Context& context, const PairFlags& flags) {
  PairingStore store(gateway_directory(context));
  auto text = code_text(flags);
  if (!text) return fail(text.error());
  auto code = security::Pairing::parse(*text);
  wipe({reinterpret_cast<std::uint8_t*>(text->data()), text->size()});
  if (!code) return fail(code.error());
  if (!flags.role.empty()) {
    auto role = role_flag(flags, code->role);
    if (!role) return fail(role.error());
    if (*role != code->role)
      return fail(
          usage(fmt::format("this code is for the {} side; leave out --role", role_name(code->role))));
  }
  host::SystemRandom random;
  StoredPairing pairing;
  pairing.role = code->role;
  pairing.code = std::move(*code);
  if (pairing.code.remote_static) {
    pairing.local_static = security::StaticKey::random(random).private_key;
    pairing.keys = KeySource::handshake;
  }
  if (flags.again) pairing.keys = KeySource::handshake;
  if (flags.again && pairing.role == security::Role::far)
    print_note(
        "the near side asks for new keys when it notices: after a request that stays without an answer");
  auto name = flags.name.empty() ? free_name(store, pairing.role) : Result<std::string>(flags.name);
  if (!name) return fail(name.error());
  pairing.name = *name;
  if (auto added = store.add(pairing, flags.again); !added) return fail(added.error());
  return report(context, pairing,
                pairing.role == security::Role::near
                    ? "next: ravine gateway near --rate 100bps"
                    : "next: ravine gateway far --upstream https://matrix.example.org");
}

// Keys from the certificates of two nodes: their session's exporter, which only the two know.
int pair_with_peer(const Context& context, const PairFlags& flags) {
  auto role = role_flag(flags, security::Role::near);
  if (!role) return fail(role.error());
  if (flags.role.empty())
    return fail(
        usage("which side is this one? Give --role near here and --role far on the peer, or the other "
              "way round"));
  int code = kOk;
  auto daemon = Daemon::open(context, code);
  if (!daemon) return code;
  const auto answer = daemon->call("gateway.secret", {{"peer", flags.peer}}, code);
  if (!answer) return code;
  const auto exported = decode_hex(text_of(*answer, "exported"));
  const auto own = decode_hex(text_of(*answer, "own_id"));
  const auto peer = decode_hex(text_of(*answer, "peer_id"));
  if (!exported || !own || !peer) return fail({ErrorKind::internal, "the node's answer has no secret"});
  const bool near = *role == security::Role::near;
  auto secret = security::secret_from_exporter(*exported, near ? *own : *peer, near ? *peer : *own);
  if (!secret) return fail(secret.error());
  StoredPairing pairing;
  pairing.role = *role;
  pairing.code.role = *role;
  pairing.code.secret = *secret;
  pairing.peer = text_of(*answer, "peer_name");
  if (flags.again) pairing.keys = KeySource::handshake;
  PairingStore store(gateway_directory(context));
  auto name = flags.name.empty() ? free_name(store, *role) : Result<std::string>(flags.name);
  if (!name) return fail(name.error());
  pairing.name = *name;
  if (auto added = store.add(pairing, flags.again); !added) return fail(added.error());
  const std::string check =
      encode_base32(ByteView(security::sha256(pairing.code.noise_psk().view())).first(5));
  if (context.json) {
    print_json(json::object{{"name", pairing.name},
                            {"role", json::string(role_name(pairing.role))},
                            {"peer", pairing.peer},
                            {"check", check}});
    return kOk;
  }
  print_line(fmt::format("paired as \"{}\" with {}: this is the {} gateway; check {}", pairing.name,
                         pairing.peer, role_name(pairing.role), check));
  print_note(
      fmt::format("run \"ravine gateway pair --peer NAME.fuse --role {}\" on {} while the two nodes stay "
                  "connected; it must show the same check",
                  role_name(security::other(pairing.role)), pairing.peer));
  return kOk;
}

int list_pairings(const Context& context) {
  auto all = PairingStore(gateway_directory(context)).list();
  if (!all) return fail(all.error());
  json::array rows;
  Table table({"NAME", "THIS SIDE", "KEYS FROM", "USED", "CHECK", "ADDRESS"});
  for (const StoredPairing& one : *all) {
    const std::string address = one.code.address && !one.made_here
                                    ? fmt::format("{}:{}", one.code.address->host, one.code.address->port)
                                    : one.peer;
    const std::string keys = !one.peer.empty()                  ? "certificates"
                             : one.keys == KeySource::handshake ? "handshake"
                                                                : "code";
    const std::string check = encode_base32(ByteView(security::sha256(one.code.noise_psk().view())).first(5));
    table.add(
        {one.name, std::string(role_name(one.role)), keys, one.begun ? "yes" : "not yet", check, address});
    rows.push_back(json::object{{"name", one.name},
                                {"role", json::string(role_name(one.role))},
                                {"keys_from", keys},
                                {"used", one.begun},
                                {"check", check},
                                {"address", address}});
  }
  if (context.json) {
    print_json(json::object{{"pairings", std::move(rows)}});
  } else if (table.empty()) {
    print_line("no pairings; \"ravine gateway pair\" makes one");
  } else {
    print(table.to_text());
  }
  return kOk;
}

int remove_pairing(const Context& context, const std::string& name) {
  if (auto removed = PairingStore(gateway_directory(context)).remove(name); !removed)
    return fail(removed.error());
  if (context.json) {
    print_json(json::object{{"removed", name}});
  } else {
    print_line(fmt::format("the pairing \"{}\" is gone; remove it on the other side too", name));
  }
  return kOk;
}

int run_pair(const Context& context, const PairFlags& flags) {
  const int wishes = (flags.list ? 1 : 0) + (flags.remove.empty() ? 0 : 1) + (flags.code.empty() ? 0 : 1) +
                     (flags.peer.empty() ? 0 : 1);
  if (wishes > 1) return fail(usage("give one of CODE, --peer, --list and --remove"));
  if (flags.list) return list_pairings(context);
  if (!flags.remove.empty()) return remove_pairing(context, flags.remove);
  if (!flags.peer.empty()) return pair_with_peer(context, flags);
  return flags.code.empty() ? make_code(context, flags) : take_code(context, flags);
}

}  // namespace

void add_gateway_pair_command(CLI::App& gateway, Context& context) {
  auto flags = std::make_shared<PairFlags>();
  CLI::App* pair = add_command(gateway, "pair", "Give two gateways their keys: make a code, or enter one",
                               "ravine gateway pair --address far.example:5683    # on the far side\n"
                               "ravine gateway pair RVG1… --name hut              # on the near side\n"
                               "ravine gateway pair - < code.txt\n"
                               "ravine gateway pair --peer box.fuse --role near   # keys from certificates\n"
                               "ravine gateway pair --list\n"
                               "ravine gateway pair --remove hut");
  pair->add_option("CODE", flags->code, "The other side's code; - reads it from standard input");
  pair->add_option("--name", flags->name,
                   "What to call the pairing here (default: far, far-2, … or near, …)");
  pair->add_option("--role", flags->role, "This side: near or far (default: far when making a code)");
  pair->add_option("--address", flags->address, "HOST:PORT of this side, to go into the code");
  pair->add_flag("--forward-secrecy", flags->forward_secrecy,
                 "Make keys by a handshake (240 bytes, once): the code alone cannot open what was recorded");
  pair->add_option("--peer", flags->peer, "A peer of this machine's node: keys from the two certificates");
  pair->add_flag(
      "--again", flags->again,
      "Enter a code that was used before, after this side lost its state: new keys by a handshake");
  pair->add_flag("--no-qr", flags->no_qr, "Print no QR code");
  pair->add_flag("--list", flags->list, "Show the pairings");
  pair->add_option("--remove", flags->remove, "Forget a pairing and its keys");
  pair->callback(
      [&context, flags] { context.action = [&context, flags] { return run_pair(context, *flags); }; });
}

}  // namespace ravine::cli
