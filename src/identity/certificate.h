// Certificates: the profile of X.509 v3 (RFC 5280) that Ravine accepts, as plain values.
// Parsing is strict: one encoding per certificate. It refuses everything that is not DER in canonical form
// (definite and shortest lengths, minimal integers, no defaults spelled out), trailing bytes, other versions
// than v3, other keys and signatures than Ed25519 (RFC 8410), repeated extensions and unknown critical ones.
// docs/protocol.md lists it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "identity/key.h"
#include "identity/overlay.h"
#include "identity/verify.h"

namespace ravine::identity {

inline constexpr std::size_t kMaxCertificateSize = 4096;  // bytes of DER
inline constexpr std::size_t kMaxChain = 8;               // certificates presented by a peer
inline constexpr std::size_t kMaxGroups = 32;             // per certificate
inline constexpr std::size_t kMaxSerialSize = 20;         // bytes, RFC 5280 §4.1.2.2

struct Certificate {
  Bytes der;
  PublicKey key;
  PeerId id;                           // SHA-256 of the SPKI
  Bytes serial;                        // content octets of the INTEGER, positive, minimal
  Bytes subject, issuer;               // DER Names, compared byte for byte
  std::string common_name;             // last CN of the subject; may be empty
  std::string name;                    // node or network name: the CN when it is valid as one, else empty
  std::optional<IpAddress> overlay;    // SAN iPAddress; a second one is refused
  std::vector<std::string> groups;     // SAN URI "ravine:group:<name>"
  std::optional<NetworkHash> network;  // SAN URI "ravine:network:<52 base32>": a later root of that network
  UnixTime not_before, not_after;      // both inclusive
  bool is_ca = false;
  bool may_sign_certificates = false;  // CA, and keyUsage absent or with keyCertSign
  bool may_authenticate = true;        // keyUsage absent or with digitalSignature
  std::optional<std::uint32_t> path_length;
  Bytes subject_key_id, authority_key_id;  // empty when absent

  static Result<Certificate> parse(ByteView der);
  // One or more "CERTIFICATE" blocks, at most 16; text between blocks is ignored, other blocks are refused.
  static Result<std::vector<Certificate>> parse_pem(std::string_view pem);
  std::string to_pem() const;

  // The part that is signed, and the signature; views into `der`.
  ByteView to_be_signed() const;
  ByteView signature() const;
  bool is_signed_by(const PublicKey& issuer_key) const;
  bool is_self_signed() const { return subject == issuer && is_signed_by(key); }
  std::string describe() const;  // for messages: name, peer ID and serial

 private:
  std::size_t tbs_begin_ = 0, tbs_size_ = 0, signature_begin_ = 0;
  friend class CertificateParser;
};

std::string to_pem(std::span<const Certificate> chain);  // concatenated, in order
std::vector<Bytes> to_der(std::span<const Certificate> chain);

// A certificate to be made. Requires: valid names, groups within kMaxGroups, a non-empty serial.
struct CertificateTemplate {
  PublicKey key;
  Bytes serial;  // positive, minimal, ≤ kMaxSerialSize
  std::string common_name;
  Bytes issuer;          // DER Name of the signer; empty: self-signed
  PublicKey issuer_key;  // for authorityKeyIdentifier; ignored when self-signed
  UnixTime not_before, not_after;
  bool is_ca = false;
  std::optional<std::uint32_t> path_length;
  std::optional<IpAddress> overlay;
  std::vector<std::string> groups;
  std::optional<NetworkHash> network;
};
Certificate sign_certificate(const CertificateTemplate& wanted, const PrivateKey& signer);

// 16 random bytes with the top two bits 01: positive, minimal, unique.
Bytes make_serial(RandomSource& random);
std::string serial_to_text(ByteView serial);  // hexadecimal

// Certificate signing request (PKCS#10, RFC 2986), as strict as certificates; attributes are ignored.
struct SigningRequest {
  PublicKey key;
  std::string common_name;  // what the requester would like to be called; nothing binding

  // Verifies the proof of possession too.
  static Result<SigningRequest> parse(ByteView der);
  // The DER inside a "CERTIFICATE REQUEST" block.
  static Result<Bytes> der_from_pem(std::string_view pem);
};
Bytes make_signing_request(const PrivateKey& key, std::string_view common_name);
std::string signing_request_to_pem(ByteView der);

// What a node shows: its chain (leaf first, without the root) and key. The leaf must be of this key.
Result<LocalIdentity> make_local_identity(const PrivateKey& key, std::span<const Certificate> chain);

// --- pinned mode
// A self-signed certificate without expiry (RFC 5280 §4.1.2.5) for a peer that no CA knows. `name` may be
// empty.
Certificate make_pinned_certificate(const PrivateKey& key, std::string_view name, UnixTime now,
                                    RandomSource& random);
// The chain to present after a key was replaced: new leaf signed by the old key, then the old chain, cut to
// kMaxChain.
Result<std::vector<Certificate>> rotate_pinned_key(const PrivateKey& old_key,
                                                   std::span<const Certificate> old_chain,
                                                   const PrivateKey& new_key, UnixTime now,
                                                   RandomSource& random);

}  // namespace ravine::identity
