// CaStore: the authority of a network as files below STATE/ca, and what people do with it: init, issue,
// renew, revoke, replace the root. The root's key is needed for init, rotate_root and nothing else; an
// intermediate signs members, so the root's key may be kept away and may have a passphrase. Every change is
// on disk before its result is handed out. Thread rule: one thread; the owner holds the state lock.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "identity/authority.h"
#include "identity/invite.h"
#include "identity/network_secret.h"
#include "node/member.h"
#include "node/state_dir.h"

namespace ravine::node {

struct CaInitOptions {
  std::string network = "home";
  std::string node_name;                                    // of this machine
  std::vector<std::string> groups;                          // of this machine
  std::string passphrase;                                   // of the root's key; empty: none
  std::chrono::seconds lifetime = identity::kLeafLifetime;  // of members' certificates
};

class CaStore {
 public:
  static bool exists(const StateDir& state);
  // The network's name. Errors: not_found when there is no authority here.
  static Result<std::string> network_of(const StateDir& state);
  // Makes root, intermediate, network secret and this machine's own membership. Errors: already_exists, io.
  static Result<> init(const StateDir& state, const CaInitOptions& options, UnixTime now,
                       RandomSource& random);
  // `trust`: the one of this node's own membership, so that what is revoked holds there at once; null: a new
  // one. Errors: not_found when there is no authority here.
  static Result<CaStore> open(const StateDir& state, std::shared_ptr<identity::NetworkTrust> trust,
                              UnixTime now);

  identity::Authority& authority() { return *authority_; }
  const std::string& network_name() const { return network_name_; }
  // The directory of this node's own membership in the network.
  std::string member_directory() const { return state_.network(network_name_); }

  // Signs a request. The chain, leaf first.
  Result<std::vector<identity::Certificate>> issue(ByteView csr, const identity::IssueOptions& options,
                                                   UnixTime now, RandomSource& random);
  // For somebody else's machine, the long way: makes the key here and writes key.pem cert.crt ca.crt
  // network.secret (and revocation.list), and member.json, which names this machine as the one to renew at,
  // to `directory`.
  Result<> issue_to(const std::string& directory, const identity::IssueOptions& options, UnixTime now,
                    RandomSource& random);
  // How long certificates are valid from now on; renewals keep to it too. Errors: invalid_argument, io.
  Result<> set_lifetime(std::chrono::seconds lifetime);
  // A new certificate for this machine's own key.
  Result<> renew_own(UnixTime now, RandomSource& random);
  // Revokes, stores register and list, rotates the network secret and stores it.
  Result<identity::RevocationList> revoke(std::string_view which, UnixTime now, RandomSource& random);
  // Replaces the root and the intermediate; members adopt the new root at their renewal. `passphrase` of the
  // old key, `new_passphrase` of the new one.
  Result<> rotate_root(std::string_view passphrase, std::string_view new_passphrase, UnixTime now,
                       RandomSource& random);
  // A new intermediate under the present root.
  Result<> rotate_issuer(std::string_view passphrase, UnixTime now, RandomSource& random);

  Result<> save_register() const;

 private:
  CaStore(StateDir state, std::string network_name)
      : state_(std::move(state)), network_name_(std::move(network_name)) {}
  static Result<> make_keys(const StateDir& state, const CaInitOptions& options, UnixTime now,
                            RandomSource& random);
  Result<> reopen(std::shared_ptr<identity::NetworkTrust> trust, UnixTime now);
  StateDir state_;
  std::string network_name_;
  std::unique_ptr<identity::Authority> authority_;
};

Result<identity::InviteRegister> load_invites(const StateDir& state);
Result<> save_invites(const StateDir& state, const identity::InviteRegister& invites);

}  // namespace ravine::node
