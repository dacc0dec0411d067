// One-time codes: an invitation into a CA network (`ravine invite`, `ravine join`) or the pairing of two
// pinned peers
// (`ravine pair`), and the issuer's register of those outstanding.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/machine.h"
#include "base/result.h"
#include "base/time.h"
#include "identity/crypto.h"
#include "identity/key.h"
#include "identity/peer_id.h"

namespace ravine::identity {

inline constexpr std::size_t kPinSize = 16;  // bytes of the issuer's SPKI hash in a code
inline constexpr std::size_t kMaxInviteAddresses = 8;
inline constexpr std::size_t kMaxInviteText = 1024;  // characters, separators included
inline constexpr std::size_t kMaxPendingInvites = 1024;
inline constexpr std::chrono::seconds kInviteLifetime = std::chrono::hours(24);
inline constexpr unsigned kMaxJoinFailures = 10;  // per minute and source (/24 or /56)

enum class CodeKind : std::uint8_t { invite = 1, pair = 2 };

// What the text carries. Text form: "RV1" ‖ base32 (upper case) of kind, pin, secret, addresses, 4 bytes of
// checksum. Only letters and digits, so it fits QR's alphanumeric mode and one double click.
struct Invite {
  CodeKind kind = CodeKind::invite;
  std::array<std::uint8_t, kPinSize> pin{};  // of the issuer's key (invite), of the peer's key (pair)
  Secret<16> secret;
  std::vector<HostPort> addresses;  // where to join, best first; 1 to kMaxInviteAddresses

  static Invite make(CodeKind kind, const PeerId& pinned, std::vector<HostPort> addresses,
                     RandomSource& random);
  // Spaces, hyphens and line ends are ignored, case too, and the look-alikes 0, 1, 8 mean O, I, B. Errors
  // (invalid_argument) tell "not a code", "bad character at N", "cut off" and "mistyped" apart.
  static Result<Invite> parse(std::string_view text);
  std::string to_text() const;
  std::string server_name() const;  // TLS server name of the exchange
  PrivateKey proof_key() const;     // the key that proves knowledge of `secret`
};

struct PendingInvite {
  CodeKind kind = CodeKind::invite;
  PeerId proof_key;  // hash of Invite::proof_key's public half: all that is kept of the secret
  std::string server_name;
  std::string name;  // the future member's; may be empty for a pairing
  std::vector<std::string> groups;
  UnixTime expires;
  std::optional<PeerId>
      used_by;  // consumed by this key; the same key may repeat a lost answer until `expires`
};

// Thread rule: the thread of the issuer's node, so that consuming is atomic. The owner stores encode() before
// it sends an answer that consumed an invite.
class InviteRegister {
 public:
  // Errors: limit_reached; already_exists when an unused invite for this name is pending; invalid_argument
  // for a bad name.
  Result<> add(const Invite& invite, std::string name, std::vector<std::string> groups, UnixTime expires,
               UnixTime now);
  // Withdraws the pending invites of `name`; returns how many.
  std::size_t withdraw(std::string_view name);

  // The pending invite that this proof key opens. Errors: refused for unknown, expired or used by another
  // key.
  Result<PendingInvite> find(const PeerId& proof_key, const PeerId& joiner, UnixTime now) const;
  // Marks it used by `joiner`, exactly once: false when another key was faster or it is gone.
  bool consume(const PeerId& proof_key, const PeerId& joiner, UnixTime now);

  // Guess limit: whether `source` may try now; note_failure counts.
  bool may_try(const IpAddress& source, UnixTime now) const;
  void note_failure(const IpAddress& source, UnixTime now);

  void forget_expired(UnixTime now);
  const std::vector<PendingInvite>& pending() const { return pending_; }
  // For NetworkOptions::join_server_names: those of unused or repeatable invites.
  std::vector<std::string> server_names(UnixTime now) const;

  Bytes encode() const;
  static Result<InviteRegister> decode(ByteView encoded);

 private:
  struct Failures {
    std::int64_t window = 0;  // minute since 1970
    unsigned count = 0;
  };
  std::vector<PendingInvite> pending_;
  std::map<IpAddress, Failures> failures_;  // by prefix, at most 4096
};

}  // namespace ravine::identity
