// The verify policy: one function over the presented certificate chain that returns the verified peer or a
// TLS alert. It runs inside the TLS handshake, before any stream opens, and again after a resumption (which
// carries no chain check).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/time.h"
#include "identity/peer_id.h"

namespace ravine::identity {

// TLS 1.3 alerts that a policy may answer (RFC 8446 §6.2).
enum class TlsAlert : std::uint8_t {
  bad_certificate = 42,
  certificate_revoked = 44,
  certificate_expired = 45,
  certificate_unknown = 46,
  unknown_ca = 48,
  access_denied = 49,
  certificate_required = 116,
};

struct VerifyRequest {
  std::span<const Bytes> chain;  // DER, leaf first; may be empty
  UnixTime now;                  // floored wall clock
  bool peer_dials = false;       // we are the acceptor
  std::optional<PeerId>
      expected;  // the dialler wants exactly this peer (or one whose rotated key chain leads back to it)
};

// What the certificate of an accepted peer says.
struct VerifiedPeer {
  PeerId id;
  std::string name;                 // empty in pinned mode without a name
  IpAddress overlay;                // signed address, or the derived one in pinned mode
  std::vector<std::string> groups;  // signed groups, without "group:" prefix
  Bytes serial;                     // of the leaf
  UnixTime not_before;
  UnixTime not_after;              // without grace
  bool in_grace = false;           // expired, but within the network's grace period
  std::vector<PeerId> former_ids;  // pinned mode: earlier keys that vouch for this one, newest first
};

struct Rejection {
  TlsAlert alert = TlsAlert::bad_certificate;
  std::string reason;  // for the log: what is wrong and with which certificate
};

using VerifyOutcome = std::variant<VerifiedPeer, Rejection>;

class VerifyPolicy {
 public:
  virtual ~VerifyPolicy() = default;
  virtual VerifyOutcome verify(const VerifyRequest& request) const = 0;
};

// What a node shows to others in one network. The key is PKCS#8 DER; owners wipe it.
struct LocalIdentity {
  PeerId id;
  std::vector<Bytes> chain;  // DER, leaf first, without the root
  Bytes private_key;         // PKCS#8 DER, Ed25519
};

}  // namespace ravine::identity
