#include "services/gateway/oscore_keys.h"

#include <fmt/format.h>

#include <boost/json.hpp>

namespace ravine::services {
namespace {

namespace json = boost::json;
namespace security = gateway::security;

constexpr std::size_t kMaxFile = 4096;  // bytes

Error wrong(std::string_view name, std::string_view why) {
  return Error{ErrorKind::invalid_argument, fmt::format("{}: {}", name, why)};
}

// The value of key_hex or key_ascii; nullopt when neither is there.
Result<std::optional<Bytes>> read_key(const json::object& object, std::string_view key,
                                      std::string_view name) {
  for (const std::string_view suffix : {"_hex", "_ascii"}) {
    const std::string full = std::string(key) + std::string(suffix);
    const json::value* value = object.if_contains(full);
    if (value == nullptr) continue;
    if (!value->is_string()) return wrong(name, fmt::format("\"{}\" is no text", full));
    const std::string text(value->get_string());
    if (suffix == "_ascii") return std::optional(to_bytes(as_bytes(text)));
    auto bytes = decode_hex(text);
    if (!bytes) return wrong(name, fmt::format("\"{}\" is not hexadecimal", full));
    return bytes;
  }
  return std::optional<Bytes>();
}

}  // namespace

Result<security::OscoreParameters> parse_oscore_file(std::string_view text, std::string_view name) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object())
    return wrong(
        name,
        R"(no JSON object; write {"secret_hex": "…", "sender-id_hex": "01", "recipient-id_hex": "02"})");
  const json::object& object = value.get_object();
  security::OscoreParameters out;
  for (const auto& [key, usual] :
       {std::pair{"algorithm", "AES-CCM-16-64-128"}, std::pair{"kdf-hashfun", "sha256"}}) {
    const json::value* given = object.if_contains(key);
    if (given != nullptr && !(given->is_string() && given->get_string() == usual))
      return wrong(name, fmt::format("\"{}\": only {} is spoken", key, usual));
  }
  for (const auto& [key, target, needed] :
       {std::tuple{"secret", &out.master_secret, true}, std::tuple{"salt", &out.master_salt, false},
        std::tuple{"sender-id", &out.sender_id, true}, std::tuple{"recipient-id", &out.recipient_id, true}}) {
    auto read = read_key(object, key, name);
    if (!read) return read.error();
    if (!*read && needed) return wrong(name, fmt::format("\"{}_hex\" is missing", key));
    if (*read) *target = std::move(**read);
  }
  auto id_context = read_key(object, "id-context", name);
  if (!id_context) return id_context.error();
  out.id_context = std::move(*id_context);
  if (out.master_secret.size() < 16) return wrong(name, "the secret is below 16 bytes");
  return out;
}

Result<std::unique_ptr<OscoreKeys>> OscoreKeys::open(const std::string& file, const std::string& directory) {
  auto read = host::read_secret_file(file, kMaxFile);
  if (!read) return read.error();
  auto parameters = parse_oscore_file(as_text(*read), file);
  wipe(*read);
  if (!parameters) return parameters.error();
  Bytes identity;
  for (const Bytes& part : {parameters->master_secret, parameters->master_salt, parameters->sender_id,
                            parameters->recipient_id, parameters->id_context.value_or(Bytes{})}) {
    identity.push_back(static_cast<std::uint8_t>(part.size()));
    identity.insert(identity.end(), part.begin(), part.end());
  }
  const security::Hash hash = security::sha256(identity);
  wipe(identity);
  if (auto made = host::make_private_directory(directory); !made) return made.error();
  const std::string path = directory + "/" + encode_hex(ByteView(hash).first(8));
  auto lock = host::FileLock::acquire(path + ".lock");
  if (!lock) return lock.error().with_context(file);
  std::unique_ptr<OscoreKeys> keys(new OscoreKeys(file, std::move(*lock), path + ".oscore"));
  auto state = keys->store_.load();
  if (!state) return state.error();
  auto context = *state ? security::OscoreContext::restore(std::move(*parameters), **state, keys->store_)
                        : security::OscoreContext::make(std::move(*parameters), keys->store_);
  if (!context) return context.error().with_context(file);
  keys->context_.emplace(std::move(*context));
  // From now on a start is a restart: what was received before must be proved fresh.
  if (auto kept = keys->store_.persist(keys->context_->encode()); !kept) return kept.error();
  return keys;
}

}  // namespace ravine::services
