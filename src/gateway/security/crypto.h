// The primitives of the gateway's security, as thin calls into OpenSSL's EVP: AES-CCM, ChaCha20-Poly1305,
// HKDF, SHA-256 and X25519. Nothing here chooses randomness. Thread rule: functions without shared mutable
// state.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "identity/crypto.h"

namespace ravine::gateway::security {

using identity::Secret;
using Hash = std::array<std::uint8_t, 32>;

inline constexpr std::size_t kKeySize = 16;    // bytes, AES-128
inline constexpr std::size_t kNonceSize = 13;  // bytes, AES-CCM-16-64-128 (RFC 9053 §4.2)
inline constexpr std::size_t kTagSize = 8;     // bytes, likewise
inline constexpr std::size_t kPolyTagSize = 16;
inline constexpr std::size_t kMaxPlaintext = 65535;  // bytes: what CCM with a 13-byte nonce can count

using Nonce = std::array<std::uint8_t, kNonceSize>;

// Returns ciphertext ‖ tag. `key` of 16 or 32 bytes, `nonce` of 7 to 13, `tag_size` of 4, 6, … 16.
// Errors: invalid_argument for other sizes, or a plaintext that the nonce's size leaves no count for.
Result<Bytes> seal_ccm(ByteView key, ByteView nonce, ByteView aad, ByteView plaintext,
                       std::size_t tag_size = kTagSize);
// Opens ciphertext ‖ tag. Errors: invalid_argument for sizes, unauthenticated when the tag does not match.
Result<Bytes> open_ccm(ByteView key, ByteView nonce, ByteView aad, ByteView sealed,
                       std::size_t tag_size = kTagSize);

// ChaCha20-Poly1305 (RFC 8439): key 32, nonce 12, tag 16 bytes, never truncated. Errors as above.
Result<Bytes> seal_chacha(ByteView key, ByteView nonce, ByteView aad, ByteView plaintext);
Result<Bytes> open_chacha(ByteView key, ByteView nonce, ByteView aad, ByteView sealed);

Hash sha256(ByteView data);
Hash hmac_sha256(ByteView key, ByteView data);

// RFC 5869 with SHA-256. hkdf_expand's errors: invalid_argument when size is 0 or above 255·32.
Hash hkdf_extract(ByteView salt, ByteView input);
Result<Bytes> hkdf_expand(ByteView key, ByteView info, std::size_t size);
// N bytes of expand with a text as info. Requires N ≤ 255·32.
template <std::size_t N>
Secret<N> expand_secret(ByteView key, ByteView info) {
  Result<Bytes> bytes = hkdf_expand(key, info, N);
  ensure(bytes.ok());
  Secret<N> secret = Secret<N>::copy_of(*bytes);
  wipe(*bytes);
  return secret;
}

using X25519Public = std::array<std::uint8_t, 32>;
using X25519Private = Secret<32>;

X25519Public x25519_public(const X25519Private& key);
// Errors: unauthenticated when the result is zero, which only a public key of low order brings (RFC 7748
// §6.1).
Result<Secret<32>> x25519_shared(const X25519Private& key, const X25519Public& peer);

}  // namespace ravine::gateway::security
