// Ed25519 keys: the only kind that Ravine knows (RFC 8032; X.509 forms in RFC 8410).
// Values; no file access. Private halves are wiped when they die.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/machine.h"
#include "base/result.h"
#include "identity/crypto.h"
#include "identity/peer_id.h"

namespace ravine::identity {

inline constexpr std::size_t kSignatureSize = 64;
inline constexpr std::size_t kMinPassphrase =
    8;  // characters; shorter ones are refused when a key is written

class PublicKey {
 public:
  PublicKey() = default;
  explicit PublicKey(const std::array<std::uint8_t, 32>& raw) : raw_(raw) {}
  // Strict: the 44 bytes of RFC 8410 §4 and nothing else.
  static std::optional<PublicKey> from_spki(ByteView spki);

  const std::array<std::uint8_t, 32>& raw() const { return raw_; }
  Bytes spki() const;  // DER SubjectPublicKeyInfo, 44 bytes
  PeerId id() const;   // SHA-256 of spki()
  // About 100 µs. False for anything but a valid 64-byte signature.
  bool verify(ByteView message, ByteView signature) const;

  friend auto operator<=>(const PublicKey&, const PublicKey&) = default;

 private:
  std::array<std::uint8_t, 32> raw_{};
};

class PrivateKey {
 public:
  // The 32-byte seed comes from `random`, so a seeded source gives the same key again.
  static PrivateKey generate(RandomSource& random);
  static PrivateKey from_seed(const Secret<32>& seed);
  // "PRIVATE KEY" or "ENCRYPTED PRIVATE KEY" PEM. Errors: unauthenticated when the passphrase is missing or
  // wrong, invalid_argument for everything else that is not one Ed25519 key.
  static Result<PrivateKey> from_pem(std::string_view pem, std::string_view passphrase = {});
  static Result<PrivateKey> from_pkcs8(ByteView der);  // strict RFC 8410 §7, without attributes or public key

  PrivateKey(PrivateKey&&) noexcept;
  PrivateKey& operator=(PrivateKey&&) noexcept;
  ~PrivateKey();
  PrivateKey clone() const;

  Bytes pkcs8() const;         // 48 bytes DER; the caller wipes them
  std::string to_pem() const;  // unencrypted; the caller wipes it
  // PBES2 (RFC 8018): PBKDF2-HMAC-SHA256 with 600,000 rounds, AES-256-CBC; `openssl pkey` reads it. About 0.5
  // s. Errors: invalid_argument for a passphrase shorter than kMinPassphrase.
  Result<std::string> to_encrypted_pem(std::string_view passphrase, RandomSource& random) const;

  const PublicKey& public_key() const { return public_; }
  PeerId id() const { return public_.id(); }
  std::array<std::uint8_t, kSignatureSize> sign(ByteView message) const;  // deterministic (RFC 8032 §5.1.6)

 private:
  struct Handle;
  PrivateKey();
  Secret<32> seed_;
  PublicKey public_;
  std::unique_ptr<Handle> handle_;
};

// Whether the text needs a passphrase.
bool is_encrypted_pem(std::string_view pem);

}  // namespace ravine::identity
