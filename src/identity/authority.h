// The certificate authority: roots, intermediates, and the issuer that signs members and keeps the register
// of what it signed. Pure: the owner stores what `encode_register` returns before it hands a certificate out.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "identity/certificate.h"
#include "identity/network_trust.h"
#include "identity/revocation.h"

namespace ravine::identity {

inline constexpr std::chrono::seconds kRootLifetime = std::chrono::days(3653);          // 10 years
inline constexpr std::chrono::seconds kIntermediateLifetime = std::chrono::days(1096);  // 3 years
inline constexpr std::chrono::seconds kLeafLifetime = std::chrono::days(30);
inline constexpr std::chrono::seconds kRenewAfter = std::chrono::days(20);
inline constexpr std::chrono::seconds kMinLeafLifetime{10};
inline constexpr std::size_t kMaxIssued = 16384;  // entries of the register that are not yet forgotten

struct CertifiedKey {
  PrivateKey key;
  Certificate certificate;
};

// A network's first root. Its CN is the network's name. Errors: invalid_argument for a bad name.
Result<CertifiedKey> make_root(std::string_view network_name, UnixTime now, RandomSource& random,
                               std::chrono::seconds lifetime = kRootLifetime);

// A CA under `root` that may sign members but no further CA: the online issuer, so that the root's key can be
// kept away.
Result<CertifiedKey> make_intermediate(const PrivateKey& root_key, const Certificate& root, UnixTime now,
                                       RandomSource& random,
                                       std::chrono::seconds lifetime = kIntermediateLifetime);

// A root that takes over: the new self-signed root (which names the network hash) and the same key certified
// by the old root. Members adopt it by NetworkTrust::adopt_root; a new intermediate is then made under the
// new root, and nodes show leaf, intermediate, cross until every member has adopted.
struct RootSuccession {
  CertifiedKey root;
  Certificate cross;
};
Result<RootSuccession> replace_root(const PrivateKey& old_key, const Certificate& old_root,
                                    const NetworkHash& network, UnixTime now, RandomSource& random,
                                    std::chrono::seconds lifetime = kRootLifetime);

// When a member should renew: after 2/3 of the lifetime (20 days of 30).
UnixTime renew_at(const Certificate& leaf);

struct IssuedEntry {
  Bytes serial;
  PeerId id;
  std::string name;
  std::vector<std::string> groups;
  UnixTime not_before, not_after;
  bool is_ca = false;                              // a CA certificate, listed so that it can be revoked
  bool superseded = false;                         // a later certificate of the same holder replaced it
  std::optional<UnixTime> revoked = std::nullopt;  // when
};

struct IssueOptions {
  std::string name;
  std::vector<std::string> groups;
  std::optional<std::chrono::seconds> lifetime =
      std::nullopt;  // none: the authority's; cut to the issuer's own end
};

struct AuthorityOptions {
  PrivateKey key;  // of chain.front()
  std::vector<Certificate>
      chain;  // issuer first, up to but without a root; just the root when the root itself issues
  std::shared_ptr<NetworkTrust> trust;
  std::vector<Certificate> crosses;  // handed to members at join and renewal, see RootSuccession
  std::chrono::seconds leaf_lifetime = kLeafLifetime;  // of members, unless IssueOptions says otherwise
};

class Authority {
 public:
  // `encoded_register`: what encode_register returned last, empty for a new authority.
  // Errors: invalid_argument when key, chain, trust and register do not belong together.
  static Result<Authority> open(AuthorityOptions options, ByteView encoded_register, UnixTime now);

  // Signs `csr` (DER). Chain returned: leaf first, without root. A key may be issued again under its own
  // name: the new certificate supersedes the old. Errors: invalid_argument (request, name, groups),
  // already_exists (name or address in use by another live certificate), refused (revoked key),
  // limit_reached.
  Result<std::vector<Certificate>> issue(ByteView csr, const IssueOptions& options, UnixTime now,
                                         RandomSource& random);

  // A new certificate for the holder of `current`, which the session has verified: same name and groups as
  // the register says (as `current` says when the register does not know it). `csr` may be of a new key: then
  // the overlay address changes and the old certificate counts as superseded. Errors: refused (revoked), as
  // issue.
  Result<std::vector<Certificate>> renew(const Certificate& current, ByteView csr, UnixTime now,
                                         RandomSource& random);

  // Revokes every unexpired certificate that `which` means: a name, a 16-character peer ID or a serial in
  // hexadecimal. Signs the next list, puts it in force in `trust`, and returns it. The owner stores register
  // and list, rotates the network secret and spreads the list. Errors: not_found; already_exists when all of
  // them were revoked before; refused for the issuer's own.
  Result<RevocationList> revoke(std::string_view which, UnixTime now);
  // A list signed by this authority against any key, e.g. an intermediate by the root.
  Result<RevocationList> revoke_certificate(const Certificate& certificate, UnixTime now);

  // Groups that later certificates of `name` get. Takes effect at the next renewal.
  Result<> set_groups(std::string_view name, std::vector<std::string> groups);

  std::chrono::seconds leaf_lifetime() const { return options_.leaf_lifetime; }
  // Of certificates from now on; requires at least kMinLeafLifetime.
  void set_leaf_lifetime(std::chrono::seconds lifetime) { options_.leaf_lifetime = lifetime; }

  const std::vector<IssuedEntry>& issued() const { return issued_; }  // oldest first
  const IssuedEntry* find_live(std::string_view name, UnixTime now) const;
  Bytes encode_register() const;

  const Certificate& issuer() const { return options_.chain.front(); }
  const PrivateKey& key() const { return options_.key; }
  const std::vector<Certificate>& chain() const { return options_.chain; }
  const std::vector<Certificate>& crosses() const { return options_.crosses; }
  NetworkTrust& trust() const { return *options_.trust; }

 private:
  explicit Authority(AuthorityOptions options) : options_(std::move(options)) {}
  // `holder`: whose certificates do not count as conflicts.
  Result<> check_free(const PeerId& id, std::string_view name, const PeerId& holder, UnixTime now) const;
  Result<std::vector<Certificate>> sign_leaf(const PublicKey& key, const IssueOptions& options, UnixTime now,
                                             RandomSource& random);
  Result<RevocationList> sign_next_list(std::vector<RevokedEntry> additions, UnixTime now);
  void supersede(const PeerId& id, ByteView newest_serial);
  void forget_expired(UnixTime now);
  bool is_in_use(const IssuedEntry& entry, UnixTime now) const;  // some verifier may still accept it
  bool is_live(const IssuedEntry& entry, UnixTime now) const;    // in use and the newest of its holder
  AuthorityOptions options_;
  std::vector<IssuedEntry> issued_;
};

}  // namespace ravine::identity
