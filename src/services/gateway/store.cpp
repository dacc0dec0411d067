#include "services/gateway/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace ravine::services {
namespace {

namespace json = boost::json;
namespace security = gateway::security;

constexpr std::size_t kMaxPairingFile = 4096;
constexpr std::size_t kMaxChannelFile = 1u << 20;
constexpr std::size_t kMaxUsedFile = 1u << 20;
constexpr std::string_view kPairingSuffix = ".pairing";

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 63 && name.front() != '-' && name.back() != '-' &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

std::string_view role_text(security::Role role) {
  return role == security::Role::near ? "near" : "far";
}

std::string encode_pairing(const StoredPairing& pairing) {
  json::object out{{"role", json::string(role_text(pairing.role))},
                   {"code", pairing.code.to_text()},
                   {"keys", pairing.keys == KeySource::pinned ? "pinned" : "handshake"},
                   {"made_here", pairing.made_here},
                   {"begun", pairing.begun}};
  if (pairing.local_static) out["static"] = encode_hex(pairing.local_static->view());
  if (!pairing.peer.empty()) out["peer"] = pairing.peer;
  return json::serialize(out) + "\n";
}

std::string text_field(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

bool flag_field(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

Result<StoredPairing> decode_pairing(std::string_view name, std::string_view path, std::string_view text) {
  const Error damaged{ErrorKind::invalid_argument,
                      fmt::format("{} is damaged: restore it, or remove it and pair again", path)};
  boost::system::error_code fault;
  const json::value value = json::parse(text, fault);
  if (fault || !value.is_object()) return damaged;
  const json::object& object = value.get_object();
  auto code = security::Pairing::parse(text_field(object, "code"));
  const std::string role = text_field(object, "role");
  if (!code || (role != "near" && role != "far")) return damaged;
  StoredPairing out;
  out.name = name;
  out.role = role == "near" ? security::Role::near : security::Role::far;
  out.code = std::move(*code);
  out.keys = text_field(object, "keys") == "pinned" ? KeySource::pinned : KeySource::handshake;
  out.made_here = flag_field(object, "made_here");
  out.begun = flag_field(object, "begun");
  out.peer = text_field(object, "peer");
  if (const std::string hex = text_field(object, "static"); !hex.empty()) {
    auto bytes = decode_hex(hex);
    if (!bytes || bytes->size() != 32) return damaged;
    out.local_static = security::X25519Private::copy_of(*bytes);
    wipe(*bytes);
  }
  return out;
}

// Names a code and the role that it was used for, without telling the code.
std::string digest_of(const StoredPairing& pairing) {
  Bytes input = to_bytes(as_bytes(fmt::format("ravine gateway used {} ", role_text(pairing.role))));
  const ByteView secret = pairing.code.secret.view();
  input.insert(input.end(), secret.begin(), secret.end());
  const security::Hash hash = security::sha256(input);
  wipe(input);
  return encode_hex(ByteView(hash).first(16));
}

}  // namespace

Result<> FileSequenceStore::persist(ByteView state) {
  return host::write_file(path_, state, host::FileMode::owner_only);
}

Result<std::optional<Bytes>> FileSequenceStore::load() const {
  if (!host::file_exists(path_)) return std::optional<Bytes>();
  auto read = host::read_secret_file(path_, kMaxChannelFile);
  if (!read) return read.error();
  return std::optional(std::move(*read));
}

Result<> FileSequenceStore::remove() {
  return host::remove_file(path_);
}

PairingState::PairingState(host::FileLock lock, std::string path, StoredPairing pairing)
    : lock_(std::move(lock)),
      path_(std::move(path)),
      pairing_(std::move(pairing)),
      channel_(std::make_unique<FileSequenceStore>(path_ + ".channel")) {}

Result<> PairingState::mark_begun() {
  if (pairing_.begun) return {};
  StoredPairing begun = pairing_;
  begun.begun = true;
  const std::string text = encode_pairing(begun);
  auto written =
      host::write_file(path_ + std::string(kPairingSuffix), as_bytes(text), host::FileMode::owner_only);
  if (written) pairing_.begun = true;
  return written;
}

Result<> PairingState::forget_channel() {
  if (auto removed = channel_->remove(); !removed) return removed;
  return journal_->clear();
}

Result<std::vector<std::string>> PairingStore::used() const {
  std::vector<std::string> lines;
  if (!host::file_exists(path("used"))) return lines;
  auto read = host::read_secret_file(path("used"), kMaxUsedFile);
  if (!read) return read.error();
  std::string_view text = as_text(*read);
  for (std::size_t end = 0; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1))
    lines.emplace_back(text.substr(0, end));
  return lines;
}

Result<> PairingStore::add(const StoredPairing& pairing, bool again) {
  ensure(!again || pairing.keys == KeySource::handshake);
  if (!is_name(pairing.name))
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("\"{}\" is no pairing name; use at most 63 of a-z, 0-9 and inner hyphens", pairing.name)};
  if (auto made = host::make_private_directory(directory_); !made) return made;
  const std::string file = path(pairing.name) + std::string(kPairingSuffix);
  if (host::file_exists(file))
    return Error{
        ErrorKind::already_exists,
        fmt::format("a pairing \"{}\" exists; choose another --name, or ravine gateway pair --remove {}",
                    pairing.name, pairing.name)};
  auto names = list();
  if (!names) return names.error();
  if (names->size() >= kMaxPairings)
    return Error{ErrorKind::limit_reached,
                 fmt::format("{} pairings is all that one gateway keeps", kMaxPairings)};
  auto before = used();
  if (!before) return before.error();
  const std::string digest = digest_of(pairing);
  if (std::find(before->begin(), before->end(), digest) != before->end() && !again)
    return Error{
        ErrorKind::already_exists,
        "this code was used here before; make a new one on the other side, or give --again when this "
        "side lost its state and the other did not"};
  if (std::find(before->begin(), before->end(), digest) == before->end()) {
    std::string text;
    for (const std::string& line : *before) text += line + "\n";
    text += digest + "\n";
    if (auto written = host::write_file(path("used"), as_bytes(text), host::FileMode::owner_only); !written)
      return written;
  }
  const std::string text = encode_pairing(pairing);
  return host::write_file(file, as_bytes(text), host::FileMode::owner_only);
}

Result<> PairingStore::remove(std::string_view name) {
  auto state = open(name);
  if (!state) return state.error();
  for (const std::string_view suffix : {".channel", ".journal", ".pairing"})
    if (auto removed = host::remove_file(path(name) + std::string(suffix)); !removed) return removed;
  return {};
}

Result<std::vector<StoredPairing>> PairingStore::list() const {
  std::vector<StoredPairing> all;
  if (!host::file_exists(directory_)) return all;
  auto files = host::list_files(directory_);
  if (!files) {
    if (files.error().kind == ErrorKind::not_found) return all;
    return files.error();
  }
  for (const std::string& file : *files) {
    if (!file.ends_with(kPairingSuffix)) continue;
    auto found = find(std::string_view(file).substr(0, file.size() - kPairingSuffix.size()));
    if (!found) return found.error();
    all.push_back(std::move(*found));
  }
  return all;
}

Result<StoredPairing> PairingStore::find(std::string_view name) const {
  const std::string file = path(name) + std::string(kPairingSuffix);
  if (!is_name(name) || !host::file_exists(file))
    return Error{
        ErrorKind::not_found,
        fmt::format("there is no pairing \"{}\"; \"ravine gateway pair --list\" shows those that are", name)};
  auto read = host::read_secret_file(file, kMaxPairingFile);
  if (!read) return read.error();
  auto pairing = decode_pairing(name, file, as_text(*read));
  wipe(*read);
  return pairing;
}

Result<PairingState> PairingStore::open(std::string_view name) const {
  auto pairing = find(name);
  if (!pairing) return pairing.error();
  auto lock = host::FileLock::acquire(path(name) + ".lock");
  if (!lock) return lock.error().with_context(fmt::format("the pairing \"{}\" is in use", name));
  PairingState state(std::move(*lock), path(name), std::move(*pairing));
  auto journal = FileJournal::open(path(name) + ".journal");
  if (!journal) return journal.error();
  state.journal_ = std::move(*journal);
  return state;
}

}  // namespace ravine::services
