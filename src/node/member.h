// Member: one network that this node is in, as its files say it: key, certificate chain, trust, secrets.
// Loading checks everything that a peer would check, so that a wrong file is an error at start and not a
// riddle at the first session. Thread rule: the loop's thread (the trust caches signatures).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "identity/join.h"
#include "identity/network_secret.h"
#include "identity/network_trust.h"
#include "node/config.h"
#include "node/state_dir.h"

namespace ravine::node {

inline constexpr std::size_t kMaxCertificateFile = 256 * 1024;  // bytes
inline constexpr std::size_t kMaxSmallFile = 64 * 1024;
inline constexpr std::size_t kMaxRegisterFile = 64u << 20;

struct Member {
  std::string name;  // of the network, for people
  std::string directory;
  std::optional<identity::PrivateKey> key;
  std::vector<identity::Certificate> chain;    // leaf first, without root
  std::vector<identity::Certificate> crosses;  // of later roots, shown behind the chain
  identity::NetworkHash network;
  identity::NetworkSecrets secrets;
  std::shared_ptr<identity::NetworkTrust> trust;  // CA networks
  std::shared_ptr<identity::PinnedPeers> pinned;  // networks without CA
  std::optional<identity::PeerId> issuer;         // whom to ask for renewal
  std::vector<identity::KnownPeer> known;         // where members may be found
  std::string unusable;  // why this certificate is good for nobody now (not yet valid, or past its grace)

  bool is_pinned() const { return pinned != nullptr; }
  const identity::Certificate& leaf() const { return chain.front(); }
  identity::PeerId id() const { return key->id(); }
  IpAddress overlay() const { return identity::overlay_address(network, id()); }
  std::shared_ptr<const identity::VerifyPolicy> policy() const;
  Result<identity::LocalIdentity> local_identity() const;  // chain and crosses
  // What a peer with our clock and trust would say of the dates in our chain; empty: good.
  std::string date_fault(UnixTime now) const;
};

// The directory that a network's configuration means.
std::string network_directory(const StateDir& state, const NetworkConfig& network);
// The configured networks, or one per directory of STATE/networks when none is configured.
Result<std::vector<NetworkConfig>> configured_networks(const StateDir& state, const Config& config);

// Errors name the file and the way out: not_found (missing CA, certificate, key), refused (key readable by
// others), unauthenticated (certificate of another CA, key or network). A certificate whose dates do not fit
// loads, with `unusable` set: time may put it right, and other networks go on.
Result<Member> load_member(const StateDir& state, const NetworkConfig& network, UnixTime now);

// Writes a membership as it came from a join or renewal; the key first, so that a kill leaves no certificate
// without one.
Result<> save_member(const std::string& directory, const identity::PrivateKey& key,
                     const identity::Membership& membership);
// The parts that change while a node runs.
Result<> save_secrets(const std::string& directory, const identity::NetworkSecrets& secrets);
Result<> save_revocations(const std::string& directory, const identity::RevocationList& list);
Result<> save_roots(const std::string& directory, const std::vector<identity::Certificate>& roots);
Result<> save_known(const Member& member);

// Networks without CA.
Result<> save_pinned(const Member& member);
// Makes key and self-signed certificate where there are none yet; `name` may be empty.
Result<> make_pinned_member(const std::string& directory, std::string_view name, UnixTime now,
                            RandomSource& random);
Result<> save_paired(const std::string& directory, const identity::Paired& paired);

// Reads text files of certificates and keys.
Result<std::vector<identity::Certificate>> load_certificates(const std::string& path);
Result<identity::PrivateKey> load_key(const std::string& path, std::string_view passphrase = {});
Result<> save_key(const std::string& path, const identity::PrivateKey& key);

}  // namespace ravine::node
