// What a member believes about its network: roots, network hash, the revocation list in force, grace.
// Policies share one through a pointer, so a new list or root takes effect at the next verification without
// making a new policy. Thread rule: one thread (it caches signatures that it verified).
#pragma once

#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "identity/certificate.h"
#include "identity/revocation.h"
#include "identity/verify.h"

namespace ravine::identity {

inline constexpr std::chrono::seconds kClockSkew = std::chrono::minutes(10);
inline constexpr std::chrono::seconds kGrace = std::chrono::days(60);
inline constexpr std::size_t kMaxRoots = 8;

struct NetworkTrustOptions {
  std::string network_name;             // empty: the first root's name
  std::chrono::seconds grace = kGrace;  // how long after its end a leaf or intermediate is still accepted
  std::chrono::seconds clock_skew = kClockSkew;
};

class NetworkTrust {
 public:
  // `roots`: self-signed CA certificates of one network, oldest first. Roots that replaced the first one name
  // the network hash; all must agree. Errors: invalid_argument.
  static Result<std::shared_ptr<NetworkTrust>> make(std::vector<Certificate> roots,
                                                    NetworkTrustOptions options = {});

  const std::string& network_name() const { return options_.network_name; }
  const NetworkHash& network() const { return network_; }
  const std::vector<Certificate>& roots() const { return roots_; }
  const NetworkTrustOptions& options() const { return options_; }
  const RevocationList& revocations() const { return revocations_; }

  // Takes a list when it is signed by a CA of this network that is not revoked, and newer than the one in
  // force, or signed by a root against the signer of the one in force. Returns whether it took it: false
  // means same or older. Errors: unauthenticated (and nothing changes) for a list that this network's CA did
  // not sign.
  Result<bool> accept_revocation(ByteView encoded, UnixTime now);

  // Adopts a new root: `root` self-signed, `cross` the same key certified by a root that is already trusted
  // and not revoked. Returns false when it was known. Errors: unauthenticated.
  Result<bool> adopt_root(const Certificate& root, const Certificate& cross, UnixTime now);
  // Stops trusting a root, by peer ID of its key. The last one stays: refused.
  Result<> drop_root(const PeerId& root);

  // Chain from `leaf first` up to a trusted root: signatures, names, CA rights, path lengths, validity with
  // grace, and revocation of every element. The root itself may be left out. nullopt: good.
  std::optional<Rejection> check_chain(std::span<const Certificate> chain, UnixTime now) const;

 private:
  NetworkTrust() = default;
  bool is_signed(const Certificate& certificate, const PublicKey& key) const;
  const Certificate* find_root(const Certificate& child) const;           // that signed `child`
  const Certificate* find_trusted(const Certificate& certificate) const;  // byte for byte
  std::size_t root_index(const PeerId& key) const;                        // roots_.size() when none
  std::optional<Rejection> check_one(const Certificate& certificate, UnixTime now) const;
  std::variant<const Certificate*, Rejection> find_anchor(std::span<const Certificate> chain,
                                                          UnixTime now) const;
  NetworkTrustOptions options_;
  NetworkHash network_;
  std::vector<Certificate> roots_;
  RevocationList revocations_;
  mutable std::set<Digest> verified_;  // (issuer key, certificate) pairs, bounded
};

// Members of a CA network. Accepts a chain that leads to a root, names one overlay address that matches key
// and network, is not revoked, and is the expected peer if one is expected. Alerts: certificate_required
// (none presented), unknown_ca, certificate_expired (also not yet valid), certificate_revoked,
// certificate_unknown (another peer than expected), bad_certificate (everything else).
std::shared_ptr<const VerifyPolicy> make_network_policy(std::shared_ptr<const NetworkTrust> trust);

// A peer known by its key alone. Name and groups are ours, for names and allow lists.
struct PinnedPeer {
  PeerId id;
  std::string name;
  std::vector<std::string> groups;
};
// Shared with the policy and changeable at run time by its owner, on the policy's thread.
struct PinnedPeers {
  NetworkHash network;            // from the pairing secret: PinnedNetwork in network_secret.h
  std::vector<PinnedPeer> peers;  // at most 4096 are looked at
};
// Peers without a CA: the leaf's key is pinned, or is reached from a pinned key by a chain in which each key
// signed the next (at most kMaxChain). Self-signed certificates; the overlay address is derived. An expected
// peer may be the leaf or any key of the chain that leads to it.
std::shared_ptr<const VerifyPolicy> make_pinned_policy(std::shared_ptr<const PinnedPeers> pinned);

// For a joiner: accepts whoever shows a chain in which the key with this hash (first 16 bytes or more of the
// SPKI's SHA-256) is the leaf's or signed down to the leaf. Nothing else is known yet; answers are checked by
// accept_join_response. Requires 16 ≤ pin.size() ≤ 32.
std::shared_ptr<const VerifyPolicy> make_issuer_pin_policy(ByteView pin);

// For an acceptor of joiners: everybody without a certificate.
std::shared_ptr<const VerifyPolicy> make_guest_policy();

}  // namespace ravine::identity
