// Packet protection of QUIC v1: AEAD keys, header protection keys, and their derivation (RFC 9001 §5), by
// intel-ipsec-mb or by GnuTLS. Knows bytes, not connections. Thread rule: a key belongs to its connection's
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/bytes.h"
#include "session/connection.h"

namespace ravine::session {

class OpenedPackets;
class StopScanner;

enum class AeadAlgorithm : std::uint8_t { aes_128_gcm, chacha20_poly1305 };

inline constexpr std::size_t kTagSize = 16;
inline constexpr std::size_t kNonceSize = 12;
inline constexpr std::size_t kSampleSize = 16;
inline constexpr std::size_t kHeaderMaskSize = 5;
inline constexpr std::size_t kSecretSize = 32;  // both cipher suites use SHA-256

constexpr std::size_t key_size(AeadAlgorithm algorithm) {
  return algorithm == AeadAlgorithm::aes_128_gcm ? 16 : 32;
}

// The backend that runs on this machine for `wanted`: ipsec-mb when it was built in, the CPU has AES and
// carry-less multiplication, and the library initialised itself; else GnuTLS.
ProtectionBackend resolve_protection(ProtectionBackend wanted);
std::string_view to_text(ProtectionBackend backend);  // "ipsec-mb" or "gnutls"

class AeadKey {
 public:
  // Requires a resolved backend and key_size(algorithm) bytes. Key tables (up to 2 KiB) are made at first
  // use.
  AeadKey(ProtectionBackend backend, AeadAlgorithm algorithm, const std::uint8_t* key);
  ~AeadKey();
  AeadKey(const AeadKey&) = delete;
  AeadKey& operator=(const AeadKey&) = delete;

  // Writes plain.size() + kTagSize bytes to `out`, which may be plain's place. False: the backend failed.
  bool seal(std::uint8_t* out, ByteView plain, const std::uint8_t* nonce, ByteView associated);
  // Writes cipher.size() - kTagSize bytes to `out`. False: not authentic; `out` then holds nothing to use.
  bool open(std::uint8_t* out, ByteView cipher, const std::uint8_t* nonce, ByteView associated);

  ProtectionBackend backend() const { return backend_; }
  AeadAlgorithm algorithm() const { return algorithm_; }
  OpenedPackets* opened = nullptr;  // hears of what open() accepts; set on receive keys
  StopScanner* scanner = nullptr;   // sees what open() yields; set on 1-RTT receive keys

 private:
  struct Tables;
  bool prepare();
  bool seal_ipsec_mb(std::uint8_t* out, ByteView plain, const std::uint8_t* nonce, ByteView associated);
  bool open_ipsec_mb(std::uint8_t* out, ByteView cipher, const std::uint8_t* nonce, ByteView associated);

  ProtectionBackend backend_;
  AeadAlgorithm algorithm_;
  std::array<std::uint8_t, 32> key_{};
  Tables* tables_ = nullptr;
};

class HeaderKey {
 public:
  HeaderKey(ProtectionBackend backend, AeadAlgorithm algorithm, const std::uint8_t* key);
  ~HeaderKey();
  HeaderKey(const HeaderKey&) = delete;
  HeaderKey& operator=(const HeaderKey&) = delete;
  // The mask of RFC 9001 §5.4 for a 16-byte sample. False: the backend failed.
  bool mask(std::uint8_t* out5, const std::uint8_t* sample);

 private:
  ProtectionBackend backend_;
  AeadAlgorithm algorithm_;
  alignas(16) std::array<std::uint8_t, 16 * 11> round_keys_{};  // ipsec-mb, AES
  void* cipher_ = nullptr;                                      // gnutls_cipher_hd_t
};

// HKDF-Expand-Label of TLS 1.3 with SHA-256 and an empty context (RFC 8446 §7.1); fills `out`.
bool expand_label(MutableBytes out, ByteView secret, std::string_view label);

struct PacketKeys {
  std::array<std::uint8_t, 32> key;  // key_size(algorithm) bytes are used, also of header
  std::array<std::uint8_t, kNonceSize> iv;
  std::array<std::uint8_t, 32> header;
  ~PacketKeys() { wipe({reinterpret_cast<std::uint8_t*>(this), sizeof *this}); }
};
bool derive_packet_keys(PacketKeys& keys, AeadAlgorithm algorithm, ByteView secret);

struct InitialSecrets {
  std::array<std::uint8_t, kSecretSize> client, server;
};
bool derive_initial_secrets(InitialSecrets& secrets, ByteView client_dcid);  // RFC 9001 §5.2

}  // namespace ravine::session
