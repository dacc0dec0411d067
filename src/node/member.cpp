#include "node/member.h"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "host/file.h"

namespace ravine::node {

namespace json = boost::json;
using identity::Certificate;

namespace {

Result<json::value> load_json(const std::string& path) {
  auto bytes = host::read_file(path, kMaxSmallFile * 16);
  if (!bytes) return bytes.error();
  boost::system::error_code fault;
  json::value value = json::parse(as_text(*bytes), fault);
  if (fault) {
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("{}: is not JSON ({}); move it away, it will be made anew", path, fault.message())};
  }
  return value;
}

std::string string_at(const json::value& object, std::string_view key) {
  const auto* fields = object.if_object();
  const auto* found = fields != nullptr ? fields->if_contains(key) : nullptr;
  const auto* text = found != nullptr ? found->if_string() : nullptr;
  return text != nullptr ? std::string(*text) : std::string();
}

const json::array& array_at(const json::value& object, std::string_view key) {
  static const json::array kEmpty;
  const auto* fields = object.if_object();
  const auto* found = fields != nullptr ? fields->if_contains(key) : nullptr;
  const auto* list = found != nullptr ? found->if_array() : nullptr;
  return list != nullptr ? *list : kEmpty;
}

std::optional<identity::PeerId> parse_id(std::string_view hex) {
  const auto bytes = decode_hex(hex);
  identity::PeerId id;
  if (!bytes || bytes->size() != id.bytes.size()) return std::nullopt;
  std::ranges::copy(*bytes, id.bytes.begin());
  return id;
}

std::string host_port_text(const HostPort& address) {
  const bool bare_v6 = address.host.find(':') != std::string::npos;
  return bare_v6 ? fmt::format("[{}]:{}", address.host, address.port)
                 : fmt::format("{}:{}", address.host, address.port);
}

json::array known_to_json(const std::vector<identity::KnownPeer>& known) {
  json::array out;
  for (const auto& peer : known) {
    json::array addresses;
    for (const HostPort& address : peer.addresses) addresses.emplace_back(host_port_text(address));
    out.push_back(
        {{"id", encode_hex(peer.id.view())}, {"name", peer.name}, {"addresses", std::move(addresses)}});
  }
  return out;
}

std::vector<identity::KnownPeer> known_from_json(const json::array& list) {
  std::vector<identity::KnownPeer> out;
  for (const json::value& entry : list) {
    const auto id = parse_id(string_at(entry, "id"));
    if (!id || out.size() >= identity::kMaxKnownPeers) continue;
    identity::KnownPeer peer{*id, string_at(entry, "name"), {}};
    for (const json::value& address : array_at(entry, "addresses")) {
      const auto* text = address.if_string();
      if (const auto parsed = text != nullptr ? HostPort::parse(*text) : std::nullopt)
        peer.addresses.push_back(*parsed);
    }
    out.push_back(std::move(peer));
  }
  return out;
}

Result<> write_json(const std::string& path, const json::value& value) {
  return host::write_file(path, as_bytes(json::serialize(value) + "\n"), host::FileMode::owner_only);
}

Result<> load_trust(Member& member, std::chrono::seconds grace, UnixTime now) {
  auto roots = load_certificates(member.directory + "/ca.crt");
  if (!roots) return roots.error();
  auto trust = identity::NetworkTrust::make(std::move(*roots), {.grace = grace});
  if (!trust) return trust.error().with_context(member.directory + "/ca.crt");
  member.trust = std::move(*trust);
  member.network = member.trust->network();
  const std::string list_path = member.directory + "/revocation.list";
  if (!host::file_exists(list_path)) return {};
  auto list = host::read_file(list_path, identity::kMaxRevocationSize);
  if (!list) return list.error();
  if (auto taken = member.trust->accept_revocation(*list, now); !taken)
    return taken.error().with_context(list_path);
  return {};
}

Result<> check_chain(Member& member, UnixTime now) {
  const std::string path = member.directory + "/cert.crt";
  if (member.leaf().key != member.key->public_key()) {
    return Error{
        ErrorKind::unauthenticated,
        fmt::format(
            "{}: is not the certificate of {}/key.pem; put the two that belong together there, or join "
            "again with \"ravine join CODE\"",
            path, member.directory)};
  }
  if (member.is_pinned()) return {};
  member.unusable = member.date_fault(now);
  const auto rejection = member.trust->check_chain(member.chain, now);
  if (rejection && member.unusable.empty()) {
    return Error{
        ErrorKind::unauthenticated,
        fmt::format(
            "{}: peers would refuse it: {}; check this machine's time and {}/ca.crt, or join again with "
            "\"ravine join CODE\"",
            path, rejection->reason, member.directory)};
  }
  if (!member.leaf().overlay || *member.leaf().overlay != member.overlay()) {
    return Error{
        ErrorKind::unauthenticated,
        fmt::format(
            "{}: signs the address {} but its key has {} in this network; ask the issuer for a new one", path,
            member.leaf().overlay ? member.leaf().overlay->to_text() : "(none)", member.overlay().to_text())};
  }
  return {};
}

Result<> load_pinned(Member& member, const NetworkConfig& network) {
  member.pinned = std::make_shared<identity::PinnedPeers>();
  for (const std::string& text : network.pinned) {
    if (const auto id = parse_id(text)) member.pinned->peers.push_back({*id, "", {}});
  }
  const std::string path = member.directory + "/pinned.json";
  if (!host::file_exists(path)) return {};
  auto loaded = load_json(path);
  if (!loaded) return loaded.error();
  if (const auto hash = identity::NetworkHash::parse(string_at(*loaded, "network"))) member.network = *hash;
  member.pinned->network = member.network;
  for (const json::value& entry : array_at(*loaded, "peers")) {
    const auto id = parse_id(string_at(entry, "id"));
    if (!id) continue;
    identity::PinnedPeer peer{*id, string_at(entry, "name"), {}};
    for (const json::value& group : array_at(entry, "groups")) {
      if (const auto* name = group.if_string()) peer.groups.emplace_back(*name);
    }
    std::erase_if(member.pinned->peers, [&](const identity::PinnedPeer& known) { return known.id == *id; });
    member.pinned->peers.push_back(std::move(peer));
  }
  member.known = known_from_json(array_at(*loaded, "known"));
  return {};
}

Result<> load_details(Member& member) {
  const std::string crosses = member.directory + "/crosses.crt";
  if (host::file_exists(crosses)) {
    auto loaded = load_certificates(crosses);
    if (!loaded) return loaded.error();
    member.crosses = std::move(*loaded);
  }
  const std::string details = member.directory + "/member.json";
  if (!host::file_exists(details)) return {};
  auto loaded = load_json(details);
  if (!loaded) return loaded.error();
  member.issuer = parse_id(string_at(*loaded, "issuer"));
  member.known = known_from_json(array_at(*loaded, "known"));
  return {};
}

}  // namespace

std::shared_ptr<const identity::VerifyPolicy> Member::policy() const {
  return is_pinned() ? identity::make_pinned_policy(pinned) : identity::make_network_policy(trust);
}

Result<identity::LocalIdentity> Member::local_identity() const {
  std::vector<Certificate> shown = chain;
  shown.insert(shown.end(), crosses.begin(), crosses.end());
  return identity::make_local_identity(*key, shown);
}

std::string Member::date_fault(UnixTime now) const {
  if (is_pinned()) return {};
  const auto rejection = trust->check_chain(chain, now);
  return rejection && rejection->alert == identity::TlsAlert::certificate_expired ? rejection->reason
                                                                                  : std::string();
}

std::string network_directory(const StateDir& state, const NetworkConfig& network) {
  if (network.directory.empty()) return state.network(network.name);
  return network.directory.starts_with('/') ? network.directory : state.path() + "/" + network.directory;
}

Result<std::vector<NetworkConfig>> configured_networks(const StateDir& state, const Config& config) {
  if (!config.networks.empty()) return config.networks;
  std::vector<NetworkConfig> found;
  DIR* directory = ::opendir(state.networks().c_str());
  if (directory == nullptr) return found;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (is_valid_name(name) && host::file_exists(state.network(name) + "/cert.crt"))
      found.push_back({name, "", {}, config.node.grace});
  }
  ::closedir(directory);
  std::ranges::sort(found, {}, &NetworkConfig::name);
  return found;
}

Result<std::vector<Certificate>> load_certificates(const std::string& path) {
  auto bytes = host::read_file(path, kMaxCertificateFile);
  if (!bytes) {
    if (bytes.error().kind != ErrorKind::not_found) return bytes.error();
    return Error{ErrorKind::not_found,
                 fmt::format("{}: no such file; copy it from the issuer, or run \"ravine join CODE\" "
                             "with a code of \"ravine invite\"",
                             path)};
  }
  auto certificates = Certificate::parse_pem(as_text(*bytes));
  if (!certificates) return certificates.error().with_context(path);
  return std::move(*certificates);
}

Result<identity::PrivateKey> load_key(const std::string& path, std::string_view passphrase) {
  auto bytes = host::read_secret_file(path, kMaxSmallFile);
  if (!bytes) return bytes.error();
  auto key = identity::PrivateKey::from_pem(as_text(*bytes), passphrase);
  wipe(*bytes);
  if (!key) return key.error().with_context(path);
  return key;
}

Result<> save_key(const std::string& path, const identity::PrivateKey& key) {
  std::string pem = key.to_pem();
  auto written = host::write_file(path, as_bytes(pem), host::FileMode::owner_only);
  wipe({reinterpret_cast<std::uint8_t*>(pem.data()), pem.size()});
  return written;
}

Result<Member> load_member(const StateDir& state, const NetworkConfig& network, UnixTime now) {
  Member member;
  member.name = network.name;
  member.directory = network_directory(state, network);
  auto key = load_key(member.directory + "/key.pem");
  if (!key) return key.error().with_context(fmt::format("network {}", network.name));
  member.key = std::move(*key);
  auto chain = load_certificates(member.directory + "/cert.crt");
  if (!chain) return chain.error().with_context(fmt::format("network {}", network.name));
  member.chain = std::move(*chain);
  auto secrets = host::read_secret_file(member.directory + "/network.secret", kMaxSmallFile);
  if (!secrets) return secrets.error().with_context(fmt::format("network {}", network.name));
  auto decoded = identity::NetworkSecrets::decode(*secrets);
  wipe(*secrets);
  if (!decoded) return decoded.error().with_context(member.directory + "/network.secret");
  member.secrets = std::move(*decoded);
  const bool pinned = !network.pinned.empty() || host::file_exists(member.directory + "/pinned.json");
  if (pinned && host::file_exists(member.directory + "/ca.crt")) {
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("network {}: has both ca.crt and pinned peers; remove one of them", network.name)};
  }
  Result<> loaded = pinned ? load_pinned(member, network) : load_trust(member, network.grace, now);
  if (loaded && !pinned) loaded = load_details(member);
  if (loaded) loaded = check_chain(member, now);
  if (!loaded) return loaded.error().with_context(fmt::format("network {}", network.name));
  return member;
}

Result<> save_roots(const std::string& directory, const std::vector<Certificate>& roots) {
  return host::write_file(directory + "/ca.crt", as_bytes(identity::to_pem(roots)),
                          host::FileMode::world_readable);
}

Result<> save_secrets(const std::string& directory, const identity::NetworkSecrets& secrets) {
  Bytes encoded = secrets.encode();
  auto written = host::write_file(directory + "/network.secret", encoded, host::FileMode::owner_only);
  wipe(encoded);
  return written;
}

Result<> save_revocations(const std::string& directory, const identity::RevocationList& list) {
  if (list.number() == 0) return {};
  return host::write_file(directory + "/revocation.list", list.encoded(), host::FileMode::owner_only);
}

Result<> save_known(const Member& member) {
  if (member.is_pinned()) return save_pinned(member);
  json::object details{{"known", known_to_json(member.known)}};
  if (member.issuer) details["issuer"] = encode_hex(member.issuer->view());
  return write_json(member.directory + "/member.json", details);
}

Result<> save_member(const std::string& directory, const identity::PrivateKey& key,
                     const identity::Membership& membership) {
  if (auto made = host::make_private_directory(directory); !made) return made;
  if (auto saved = save_key(directory + "/key.pem", key); !saved) return saved;
  if (auto saved = save_secrets(directory, membership.secrets); !saved) return saved;
  if (auto saved = save_roots(directory, membership.roots); !saved) return saved;
  if (!membership.crosses.empty()) {
    auto saved = host::write_file(directory + "/crosses.crt", as_bytes(identity::to_pem(membership.crosses)),
                                  host::FileMode::world_readable);
    if (!saved) return saved;
  }
  if (!membership.revocations.empty()) {
    auto saved =
        host::write_file(directory + "/revocation.list", membership.revocations, host::FileMode::owner_only);
    if (!saved) return saved;
  }
  json::object details{{"issuer", encode_hex(membership.issuer_node.view())},
                       {"known", known_to_json(membership.peers)}};
  if (auto saved = write_json(directory + "/member.json", details); !saved) return saved;
  return host::write_file(directory + "/cert.crt", as_bytes(identity::to_pem(membership.chain)),
                          host::FileMode::world_readable);
}

Result<> save_pinned(const Member& member) {
  json::array peers;
  for (const auto& peer : member.pinned->peers) {
    peers.push_back({{"id", encode_hex(peer.id.view())},
                     {"name", peer.name},
                     {"groups", json::array(peer.groups.begin(), peer.groups.end())}});
  }
  return write_json(member.directory + "/pinned.json", {{"network", member.network.to_text()},
                                                        {"peers", std::move(peers)},
                                                        {"known", known_to_json(member.known)}});
}

Result<> make_pinned_member(const std::string& directory, std::string_view name, UnixTime now,
                            RandomSource& random) {
  if (auto made = host::make_private_directory(directory); !made) return made;
  const std::string key_path = directory + "/key.pem";
  if (!host::file_exists(key_path)) {
    if (auto saved = save_key(key_path, identity::PrivateKey::generate(random)); !saved) return saved;
  }
  if (host::file_exists(directory + "/cert.crt")) return {};
  auto key = load_key(key_path);
  if (!key) return key.error();
  const Certificate certificate = identity::make_pinned_certificate(*key, name, now, random);
  return host::write_file(directory + "/cert.crt", as_bytes(certificate.to_pem()),
                          host::FileMode::world_readable);
}

Result<> save_paired(const std::string& directory, const identity::Paired& paired) {
  Member member;
  member.directory = directory;
  member.network = paired.network;
  if (auto loaded = load_pinned(member, {}); !loaded) return loaded;
  member.network = paired.network;
  std::erase_if(member.pinned->peers,
                [&](const identity::PinnedPeer& known) { return known.id == paired.id; });
  member.pinned->peers.push_back({paired.id, paired.name, {}});
  std::erase_if(member.known, [&](const identity::KnownPeer& known) { return known.id == paired.id; });
  member.known.push_back({paired.id, paired.name, paired.addresses});
  if (auto saved = save_secrets(directory, paired.secrets); !saved) return saved;
  return save_pinned(member);
}

}  // namespace ravine::node
