#include "gateway/security/pairing.h"

#include <fmt/format.h>

#include <algorithm>

namespace ravine::gateway::security {
namespace {

constexpr std::string_view kPrefix = "RVG1";
constexpr std::size_t kChecksumSize = 4;
constexpr std::size_t kMaxHostName = 253;
constexpr std::uint8_t kRoleFar = 1, kHasStatic = 2, kHasAddress = 4, kKnownFlags = 7;

Error invalid(std::string message) {
  return {ErrorKind::invalid_argument, std::move(message)};
}

// The text without separators, in upper case, look-alikes mapped behind the prefix; an error names the first
// character that cannot be.
Result<std::string> normalise(std::string_view text) {
  std::string clean;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == ' ' || c == '-' || c == '\n' || c == '\r' || c == '\t') continue;
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    const bool in_prefix = clean.size() < kPrefix.size();
    if (!in_prefix) c = c == '0' ? 'O' : c == '1' ? 'I' : c == '8' ? 'B' : c;
    const bool base32 = (c >= 'A' && c <= 'Z') || (c >= '2' && c <= '7');
    if (!base32 && !(in_prefix && c == '1'))
      return invalid(fmt::format("pairing code: character {} cannot be part of a code", i + 1));
    clean.push_back(c);
  }
  return clean;
}

bool is_host(std::string_view host) {
  return !host.empty() && host.size() <= kMaxHostName &&
         std::all_of(host.begin(), host.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

Secret<32> purpose_secret(const GatewaySecret& secret, std::string_view purpose) {
  return expand_secret<32>(secret.view(), as_bytes(fmt::format("ravine gateway pairing {}", purpose)));
}

}  // namespace

Pairing Pairing::make(Role role_of_reader, std::optional<HostPort> address, RandomSource& random) {
  Pairing pairing;
  pairing.role = role_of_reader;
  pairing.secret = GatewaySecret::random(random);
  pairing.address = std::move(address);
  return pairing;
}

std::string Pairing::to_text() const {
  ByteWriter out;
  unsigned flags = role == Role::far ? kRoleFar : 0U;
  if (remote_static) flags |= kHasStatic;
  if (address) flags |= kHasAddress;
  out.write_u8(static_cast<std::uint8_t>(flags));
  out.write(secret.view());
  if (remote_static) out.write(*remote_static);
  if (address) {
    ensure(is_host(address->host));
    out.write_u8(static_cast<std::uint8_t>(address->host.size()));
    out.write(as_bytes(address->host));
    out.write_u16(address->port);
  }
  const Hash checksum = sha256(out.view());
  out.write(ByteView(checksum).first(kChecksumSize));
  std::string text(kPrefix);
  for (const char c : encode_base32(out.view()))
    text.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  return text;
}

Result<Pairing> Pairing::parse(std::string_view text) {
  if (text.size() > kMaxPairingText) return invalid("pairing code: too long to be one; paste the code alone");
  const Result<std::string> clean = normalise(text);
  if (!clean) return clean.error();
  const std::string_view code = *clean;
  if (!code.starts_with(kPrefix))
    return invalid("not a pairing code: those of `ravine gateway pair` begin with RVG1");
  const std::optional<Bytes> bytes = decode_base32(code.substr(kPrefix.size()));
  constexpr std::size_t kShortest = 1 + 32 + kChecksumSize;
  if ((code.size() - kPrefix.size()) * 5 / 8 < kShortest)
    return invalid("pairing code: cut off; copy all of it");
  if (!bytes) return invalid("pairing code: mistyped or cut off; compare it with the original");
  const ByteView body = ByteView(*bytes).first(bytes->size() - kChecksumSize);
  const Hash checksum = sha256(body);
  if (!std::equal(checksum.begin(), checksum.begin() + kChecksumSize, bytes->end() - kChecksumSize))
    return invalid(
        "pairing code: mistyped or cut off; its checksum does not match, compare it with the original");
  ByteReader in(body);
  const std::uint8_t flags = in.read_u8();
  if ((flags & ~unsigned{kKnownFlags}) != 0)
    return invalid("pairing code: more in it than this version knows; update Ravine");
  Pairing pairing;
  pairing.role = (flags & kRoleFar) != 0 ? Role::far : Role::near;
  pairing.secret = GatewaySecret::copy_of(in.read_view(32));
  if ((flags & kHasStatic) != 0) {
    pairing.remote_static.emplace();
    in.read_into(*pairing.remote_static);
  }
  if ((flags & kHasAddress) != 0) {
    const std::size_t size = in.read_u8();
    HostPort address;
    address.host = as_text(in.read_view(size));
    address.port = in.read_u16();
    if (!in.ok() || !is_host(address.host) || address.port == 0)
      return invalid("pairing code: the address in it is malformed; make a new code");
    pairing.address = std::move(address);
  }
  if (!in.ok() || in.remaining() != 0) return invalid("pairing code: malformed; make a new code");
  return pairing;
}

GatewaySecret Pairing::channel_secret() const {
  return purpose_secret(secret, "channel");
}

Secret<32> Pairing::noise_psk() const {
  return purpose_secret(secret, "psk");
}

StaticKey Pairing::recovery_key(Role of) const {
  return StaticKey::from_private(purpose_secret(secret, of == Role::near ? "static near" : "static far"));
}

}  // namespace ravine::gateway::security
