#include "node/ca_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "host/file.h"
#include "identity/fuse_name.h"

namespace ravine::node {

using identity::Certificate;
using identity::CertifiedKey;

namespace {

std::string in_ca(const StateDir& state, std::string_view file) {
  return fmt::format("{}/{}", state.ca(), file);
}

Result<> write_public(const std::string& path, std::string_view text) {
  return host::write_file(path, as_bytes(text), host::FileMode::world_readable);
}

Result<> save_key_with(const std::string& path, const identity::PrivateKey& key, std::string_view passphrase,
                       RandomSource& random) {
  if (passphrase.empty()) return save_key(path, key);
  auto pem = key.to_encrypted_pem(passphrase, random);
  if (!pem) return pem.error();
  return host::write_file(path, as_bytes(*pem), host::FileMode::owner_only);
}

Result<> save_issuer(const StateDir& state, const CertifiedKey& issuer) {
  if (auto saved = save_key(in_ca(state, "issuer.key"), issuer.key); !saved) return saved;
  return write_public(in_ca(state, "issuer.crt"), issuer.certificate.to_pem());
}

Result<> check_lifetime(std::chrono::seconds lifetime) {
  if (lifetime >= identity::kMinLeafLifetime && lifetime <= identity::kIntermediateLifetime) return {};
  return Error{ErrorKind::invalid_argument,
               fmt::format("certificates cannot be valid for {} s; give 10s to 1096d, for example 30d",
                           lifetime.count())};
}

Result<std::chrono::seconds> load_lifetime(const StateDir& state) {
  const std::string path = in_ca(state, "lifetime");
  if (!host::file_exists(path)) return identity::kLeafLifetime;
  auto text = host::read_file(path, 64);
  if (!text) return text.error();
  const auto lifetime = parse_duration(as_text(*text).substr(0, as_text(*text).find('\n')));
  if (!lifetime) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{}: is no duration; set it anew with \"ravine ca lifetime 30d\"", path)};
  }
  return std::chrono::duration_cast<std::chrono::seconds>(*lifetime);
}

Result<identity::PrivateKey> load_root_key(const StateDir& state, std::string_view passphrase) {
  auto key = load_key(in_ca(state, "root.key"), passphrase);
  if (key) return key;
  if (key.error().kind == ErrorKind::not_found) {
    return Error{ErrorKind::not_found,
                 fmt::format("{}: the root's key is not here; bring it back from where you keep it "
                             "for this one command",
                             in_ca(state, "root.key"))};
  }
  return key.error();
}

}  // namespace

bool CaStore::exists(const StateDir& state) {
  return host::file_exists(in_ca(state, "network"));
}

Result<> CaStore::make_keys(const StateDir& state, const CaInitOptions& options, UnixTime now,
                            RandomSource& random) {
  const std::string directory = state.network(options.network);
  for (const std::string& path : {state.ca(), directory}) {
    if (auto made = host::make_private_directory(path); !made) return made;
  }
  auto root = identity::make_root(options.network, now, random);
  if (!root) return root.error();
  auto issuer = identity::make_intermediate(root->key, root->certificate, now, random);
  if (!issuer) return issuer.error();
  Result<> saved = save_key_with(in_ca(state, "root.key"), root->key, options.passphrase, random);
  if (saved) saved = save_roots(directory, {root->certificate});
  if (saved) saved = write_public(in_ca(state, "root.crt"), root->certificate.to_pem());
  if (saved) saved = save_issuer(state, *issuer);
  if (saved) saved = host::remove_file(in_ca(state, "register"));
  identity::NetworkSecrets secrets;
  secrets.add(identity::NetworkSecret::make(1, random));
  if (saved) saved = save_secrets(directory, secrets);
  return saved;
}

Result<> CaStore::init(const StateDir& state, const CaInitOptions& options, UnixTime now,
                       RandomSource& random) {
  if (exists(state)) {
    return Error{
        ErrorKind::already_exists,
        fmt::format("{} holds an authority already; see \"ravine ca show\", or choose another directory "
                    "with --state DIR",
                    state.ca())};
  }
  // Authority files without the final "network" file are what a killed init left: made anew.
  const bool unfinished = host::file_exists(in_ca(state, "root.crt"));
  const std::string directory = state.network(options.network);
  if (!unfinished && host::file_exists(directory + "/cert.crt")) {
    return Error{
        ErrorKind::already_exists,
        fmt::format("this node is in a network \"{}\" already; choose another name with --network NAME",
                    options.network)};
  }
  for (const std::string& name : {options.network, options.node_name}) {
    if (identity::is_valid_node_name(name)) continue;
    return Error{ErrorKind::invalid_argument,
                 fmt::format("\"{}\" is no name; use at most 63 of a-z, 0-9 and hyphens", name)};
  }
  if (auto checked = check_lifetime(options.lifetime); !checked) return checked;
  if (auto made = state.make(); !made) return made;
  if (auto made = make_keys(state, options, now, random); !made) return made;
  const auto key = identity::PrivateKey::generate(random);
  if (auto saved = save_key(directory + "/key.pem", key); !saved) return saved;
  CaStore store(state, options.network);
  if (auto opened = store.reopen(nullptr, now); !opened) return opened;
  if (auto set = store.set_lifetime(options.lifetime); !set) return set;
  auto chain = store.issue(identity::make_signing_request(key, options.node_name),
                           {.name = options.node_name, .groups = options.groups}, now, random);
  if (!chain) return chain.error();
  if (auto saved = write_public(directory + "/cert.crt", identity::to_pem(*chain)); !saved) return saved;
  return write_public(in_ca(state, "network"), options.network + "\n");
}

Result<std::string> CaStore::network_of(const StateDir& state) {
  if (!exists(state)) {
    return Error{ErrorKind::not_found,
                 fmt::format("there is no authority in {}; make one with \"ravine ca init\", or run "
                             "this on the machine that has it",
                             state.ca())};
  }
  auto name = host::read_file(in_ca(state, "network"), 256);
  if (!name) return name.error();
  std::string network(as_text(*name));
  while (!network.empty() && network.back() == '\n') network.pop_back();
  if (!is_valid_name(network)) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{}: holds no network name", in_ca(state, "network"))};
  }
  return network;
}

Result<CaStore> CaStore::open(const StateDir& state, std::shared_ptr<identity::NetworkTrust> trust,
                              UnixTime now) {
  auto network = network_of(state);
  if (!network) return network.error();
  CaStore store(state, *network);
  if (auto opened = store.reopen(std::move(trust), now); !opened) return opened.error();
  return store;
}

Result<> CaStore::reopen(std::shared_ptr<identity::NetworkTrust> trust, UnixTime now) {
  if (!trust) {
    auto roots = load_certificates(member_directory() + "/ca.crt");
    if (!roots) return roots.error();
    auto made = identity::NetworkTrust::make(std::move(*roots));
    if (!made) return made.error();
    trust = std::move(*made);
    const std::string list_path = member_directory() + "/revocation.list";
    if (host::file_exists(list_path)) {
      auto list = host::read_file(list_path, identity::kMaxRevocationSize);
      if (!list) return list.error();
      if (auto taken = trust->accept_revocation(*list, now); !taken)
        return taken.error().with_context(list_path);
    }
  }
  auto key = load_key(in_ca(state_, "issuer.key"));
  if (!key) return key.error();
  auto chain = load_certificates(in_ca(state_, "issuer.crt"));
  if (!chain) return chain.error();
  std::vector<Certificate> crosses;
  if (host::file_exists(in_ca(state_, "crosses.crt"))) {
    auto loaded = load_certificates(in_ca(state_, "crosses.crt"));
    if (!loaded) return loaded.error();
    crosses = std::move(*loaded);
  }
  Bytes encoded;
  if (host::file_exists(in_ca(state_, "register"))) {
    auto loaded = host::read_secret_file(in_ca(state_, "register"), kMaxRegisterFile);
    if (!loaded) return loaded.error();
    encoded = std::move(*loaded);
  }
  auto lifetime = load_lifetime(state_);
  if (!lifetime) return lifetime.error();
  auto opened = identity::Authority::open({.key = std::move(*key),
                                           .chain = std::move(*chain),
                                           .trust = std::move(trust),
                                           .crosses = std::move(crosses),
                                           .leaf_lifetime = *lifetime},
                                          encoded, now);
  if (!opened) return opened.error().with_context(state_.ca());
  authority_ = std::make_unique<identity::Authority>(std::move(*opened));
  return {};
}

Result<> CaStore::save_register() const {
  return host::write_file(in_ca(state_, "register"), authority_->encode_register(),
                          host::FileMode::owner_only);
}

Result<> CaStore::set_lifetime(std::chrono::seconds lifetime) {
  if (auto checked = check_lifetime(lifetime); !checked) return checked;
  auto written = write_public(in_ca(state_, "lifetime"), fmt::format("{}s\n", lifetime.count()));
  if (written) authority_->set_leaf_lifetime(lifetime);
  return written;
}

Result<std::vector<Certificate>> CaStore::issue(ByteView csr, const identity::IssueOptions& options,
                                                UnixTime now, RandomSource& random) {
  auto chain = authority_->issue(csr, options, now, random);
  if (!chain) return chain;
  if (auto saved = save_register(); !saved) return saved.error();
  return chain;
}

Result<> CaStore::issue_to(const std::string& directory, const identity::IssueOptions& options, UnixTime now,
                           RandomSource& random) {
  if (host::file_exists(directory + "/key.pem")) {
    return Error{ErrorKind::already_exists,
                 fmt::format("{}/key.pem exists; choose another directory with --out DIR", directory)};
  }
  auto secrets = host::read_secret_file(member_directory() + "/network.secret", kMaxSmallFile);
  if (!secrets) return secrets.error();
  const auto key = identity::PrivateKey::generate(random);
  auto chain = issue(identity::make_signing_request(key, options.name), options, now, random);
  if (!chain) return chain.error();
  if (auto made = host::make_private_directory(directory); !made) return made;
  if (auto saved = save_key(directory + "/key.pem", key); !saved) return saved;
  auto written = host::write_file(directory + "/network.secret", *secrets, host::FileMode::owner_only);
  wipe(*secrets);
  if (!written) return written;
  if (auto saved = save_roots(directory, authority_->trust().roots()); !saved) return saved;
  if (auto saved = save_revocations(directory, authority_->trust().revocations()); !saved) return saved;
  auto own = load_certificates(member_directory() + "/cert.crt");
  if (!own) return own.error();
  Member member;
  member.directory = directory;
  member.issuer = own->front().id;
  member.known.push_back({own->front().id, own->front().name, {}});
  if (auto saved = save_known(member); !saved) return saved;
  return write_public(directory + "/cert.crt", identity::to_pem(*chain));
}

Result<> CaStore::renew_own(UnixTime now, RandomSource& random) {
  auto key = load_key(member_directory() + "/key.pem");
  if (!key) return key.error();
  auto current = load_certificates(member_directory() + "/cert.crt");
  if (!current) return current.error();
  auto chain = authority_->renew(current->front(),
                                 identity::make_signing_request(*key, current->front().name), now, random);
  if (!chain) return chain.error();
  if (auto saved = save_register(); !saved) return saved;
  if (!authority_->crosses().empty()) {
    auto saved = write_public(member_directory() + "/crosses.crt", identity::to_pem(authority_->crosses()));
    if (!saved) return saved;
  }
  return write_public(member_directory() + "/cert.crt", identity::to_pem(*chain));
}

Result<identity::RevocationList> CaStore::revoke(std::string_view which, UnixTime now, RandomSource& random) {
  auto list = authority_->revoke(which, now);
  if (!list) return list;
  // The list first: it is what shuts the revoked out. Killed after it, the register lacks only the mark.
  if (auto saved = save_revocations(member_directory(), *list); !saved) return saved.error();
  if (auto saved = save_register(); !saved) return saved.error();
  auto stored = host::read_secret_file(member_directory() + "/network.secret", kMaxSmallFile);
  if (!stored) return stored.error();
  auto secrets = identity::NetworkSecrets::decode(*stored);
  wipe(*stored);
  if (!secrets) return secrets.error();
  secrets->add(identity::NetworkSecret::make(secrets->newest().version + 1, random));
  if (auto saved = save_secrets(member_directory(), *secrets); !saved) return saved.error();
  return list;
}

Result<> CaStore::rotate_issuer(std::string_view passphrase, UnixTime now, RandomSource& random) {
  auto key = load_root_key(state_, passphrase);
  if (!key) return key.error();
  auto root = load_certificates(in_ca(state_, "root.crt"));
  if (!root) return root.error();
  auto issuer = identity::make_intermediate(*key, root->front(), now, random);
  if (!issuer) return issuer.error();
  if (auto saved = save_issuer(state_, *issuer); !saved) return saved;
  return reopen(nullptr, now);
}

Result<> CaStore::rotate_root(std::string_view passphrase, std::string_view new_passphrase, UnixTime now,
                              RandomSource& random) {
  auto key = load_root_key(state_, passphrase);
  if (!key) return key.error();
  auto root = load_certificates(in_ca(state_, "root.crt"));
  if (!root) return root.error();
  auto succession = identity::replace_root(*key, root->front(), authority_->trust().network(), now, random);
  if (!succession) return succession.error();
  auto issuer = identity::make_intermediate(succession->root.key, succession->root.certificate, now, random);
  if (!issuer) return issuer.error();
  // Members that know only the old root need the cross certificate; so it and the roots go first.
  std::vector<Certificate> crosses{succession->cross};
  crosses.insert(crosses.end(), authority_->crosses().begin(), authority_->crosses().end());
  if (auto saved = write_public(in_ca(state_, "crosses.crt"), identity::to_pem(crosses)); !saved) {
    return saved;
  }
  std::vector<Certificate> roots = authority_->trust().roots();
  roots.push_back(succession->root.certificate);
  if (auto saved = save_roots(member_directory(), roots); !saved) return saved;
  const std::string old_name = fmt::format("root-{}", root->front().id.to_text());
  if (auto saved = save_key_with(in_ca(state_, old_name + ".key"), *key, passphrase, random); !saved)
    return saved;
  if (auto saved = save_key_with(in_ca(state_, "root.key"), succession->root.key, new_passphrase, random);
      !saved) {
    return saved;
  }
  if (auto saved = write_public(in_ca(state_, "root.crt"), succession->root.certificate.to_pem()); !saved) {
    return saved;
  }
  if (auto saved = save_issuer(state_, *issuer); !saved) return saved;
  if (auto opened = reopen(nullptr, now); !opened) return opened;
  return renew_own(now, random);
}

Result<identity::InviteRegister> load_invites(const StateDir& state) {
  if (!host::file_exists(state.invites())) return identity::InviteRegister();
  auto bytes = host::read_secret_file(state.invites(), kMaxRegisterFile);
  if (!bytes) return bytes.error();
  auto decoded = identity::InviteRegister::decode(*bytes);
  if (!decoded) return decoded.error().with_context(state.invites());
  return std::move(*decoded);
}

Result<> save_invites(const StateDir& state, const identity::InviteRegister& invites) {
  return host::write_file(state.invites(), invites.encode(), host::FileMode::owner_only);
}

}  // namespace ravine::node
