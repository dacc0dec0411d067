// Revocation list: which keys and serials of a network are no longer good. Signed by a CA of the network,
// numbered; a node only ever moves to a newer one. A certificate is revoked when its key hash OR its serial
// is listed, so another encoding of the same certificate, or a new certificate for the same key, does not
// escape. Bytes: docs/protocol.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "identity/certificate.h"

namespace ravine::identity {

inline constexpr std::size_t kMaxRevoked = 16384;                            // entries
inline constexpr std::size_t kMaxRevocationSize = std::size_t{1024} * 1024;  // bytes of the encoding
inline constexpr std::size_t kRevocationPartSize =
    std::size_t{48} * 1024;  // bytes of one part, header included
inline constexpr std::size_t kMaxRevocationParts = 22;

struct RevokedEntry {
  PeerId key;    // SHA-256 of the SPKI
  Bytes serial;  // 1–20 bytes
  friend auto operator<=>(const RevokedEntry&, const RevokedEntry&) = default;
};

class RevocationList {
 public:
  RevocationList() = default;  // number 0, revokes nothing
  // Strict (one encoding per list). Does not judge the signer: NetworkTrust::accept_revocation does.
  static Result<RevocationList> decode(ByteView encoded);
  // `signer_chain`: the signer's certificate first, without the root unless the root signs. Requires number >
  // 0. Errors: limit_reached above kMaxRevoked, invalid_argument when the chain is empty or not of `signer`.
  static Result<RevocationList> sign(std::uint64_t number, UnixTime issued_at, const NetworkHash& network,
                                     std::vector<RevokedEntry> entries, const PrivateKey& signer,
                                     std::span<const Certificate> signer_chain);

  std::uint64_t number() const { return number_; }
  UnixTime issued_at() const { return issued_at_; }
  const NetworkHash& network() const { return network_; }
  std::size_t size() const { return entries_.size(); }
  const std::vector<RevokedEntry>& entries() const { return entries_; }  // sorted
  const std::vector<Certificate>& signer_chain() const { return signer_chain_; }
  const Bytes& encoded() const { return encoded_; }  // empty for the default list

  bool revokes_key(const PeerId& key) const;
  bool revokes_serial(ByteView serial) const;
  bool revokes(const Certificate& certificate) const;
  bool has_valid_signature() const;  // by signer_chain().front()

 private:
  void index();
  std::uint64_t number_ = 0;
  UnixTime issued_at_;
  NetworkHash network_;
  std::vector<RevokedEntry> entries_;
  std::vector<Bytes> serials_;  // sorted
  std::vector<Certificate> signer_chain_;
  Bytes encoded_;
  std::size_t signed_size_ = 0;
};

// A list as control messages carry it: parts of at most kRevocationPartSize bytes, each naming list number,
// index, count.
std::vector<Bytes> split_revocation(const RevocationList& list);

// Puts parts together again, in any order; a part of a newer list drops what was gathered of an older one.
// One per session: holds at most kMaxRevocationSize bytes.
class RevocationAssembler {
 public:
  // The whole encoding once the last part is in. nullopt: more to come, or the part was malformed.
  std::optional<Bytes> feed(ByteView part);

 private:
  std::uint64_t number_ = 0;
  std::size_t count_ = 0;
  std::map<std::size_t, Bytes> parts_;
};

}  // namespace ravine::identity
