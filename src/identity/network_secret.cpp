#include "identity/network_secret.h"

#include <algorithm>

namespace ravine::identity {
namespace {

constexpr std::int64_t kDaySeconds = 86400;
constexpr std::size_t kPseudonymSize = 16;  // bytes: 26 characters of base32
constexpr std::uint8_t kFormat = 1;

std::string pseudonym(ByteView key, std::string_view purpose, ByteView data) {
  return encode_base32(ByteView(derive(key, purpose, data)).first(kPseudonymSize));
}

}  // namespace

NetworkSecret NetworkSecret::make(std::uint32_t version, RandomSource& random) {
  return {version, Secret<32>::random(random)};
}

std::string NetworkSecret::server_name(UnixTime day) const {
  std::array<std::uint8_t, 8> number;
  store_big_endian(number.data(),
                   static_cast<std::uint64_t>(std::max<std::int64_t>(day.seconds, 0) / kDaySeconds));
  return pseudonym(secret.view(), "ravine server name", number);
}

Secret<32> NetworkSecret::key_for(std::string_view purpose) const {
  return Secret<32>(derive(secret.view(), std::string("ravine key ") + std::string(purpose)));
}

bool NetworkSecrets::add(NetworkSecret secret) {
  for (const NetworkSecret& known : secrets_)
    if (known.version == secret.version && known.secret.equals(secret.secret)) return false;
  const auto newer = [](const NetworkSecret& a, const NetworkSecret& b) { return a.version > b.version; };
  const auto at = std::upper_bound(secrets_.begin(), secrets_.end(), secret, newer);
  if (secrets_.size() == kMaxSecretVersions && at == secrets_.end()) return false;
  secrets_.insert(at, std::move(secret));
  if (secrets_.size() > kMaxSecretVersions) secrets_.pop_back();
  return true;
}

std::vector<std::string> NetworkSecrets::server_names(UnixTime now) const {
  const std::chrono::seconds day(kDaySeconds);
  std::vector<std::string> names;
  for (const NetworkSecret& secret : secrets_)
    for (const UnixTime at : {now, now - day, now + day}) names.push_back(secret.server_name(at));
  return names;
}

Bytes NetworkSecrets::encode() const {
  ByteWriter writer;
  writer.write_u8(kFormat);
  writer.write_u8(static_cast<std::uint8_t>(secrets_.size()));
  for (const NetworkSecret& secret : secrets_) {
    writer.write_u32(secret.version);
    writer.write(secret.secret.view());
  }
  return writer.take();
}

Result<NetworkSecrets> NetworkSecrets::decode(ByteView encoded) {
  const Error malformed{ErrorKind::invalid_argument, "network secrets: not in the form that Ravine writes"};
  ByteReader reader(encoded);
  const std::uint8_t format = reader.read_u8();
  const std::size_t count = reader.read_u8();
  if (!reader.ok() || format != kFormat || count > kMaxSecretVersions) return malformed;
  NetworkSecrets secrets;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t version = reader.read_u32();
    const ByteView bytes = reader.read_view(32);
    if (!reader.ok()) return malformed;
    secrets.add({version, Secret<32>::copy_of(bytes)});
  }
  if (reader.remaining() != 0 || secrets.secrets_.size() != count) return malformed;
  return secrets;
}

PinnedNetwork PinnedNetwork::derive_from(const Secret<16>& pairing_secret) {
  PinnedNetwork pinned;
  pinned.network.bytes = derive(pairing_secret.view(), "ravine pinned network");
  pinned.secret = {1, Secret<32>(derive(pairing_secret.view(), "ravine pinned secret"))};
  return pinned;
}

std::string join_server_name(const Secret<16>& code_secret) {
  return pseudonym(code_secret.view(), "ravine join name", {});
}

}  // namespace ravine::identity
