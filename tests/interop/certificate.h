// A self-signed Ed25519 certificate that strangers' QUIC stacks accept: quiche because it is told to accept
// any, quinn as libp2p uses it because it carries libp2p's host key extension (libp2p TLS specification,
// "Certificates").
#pragma once

#include "identity/verify.h"

namespace ravine::interop {

// Valid for a day around `now`. Aborts with a message when GnuTLS fails: a test cannot go on.
identity::LocalIdentity make_identity(UnixTime now);

// Accepts whoever shows a certificate; the peer ID is the SHA-256 of its SPKI, whatever its algorithm.
class AcceptAnyone final : public identity::VerifyPolicy {
 public:
  identity::VerifyOutcome verify(const identity::VerifyRequest& request) const override;
};

}  // namespace ravine::interop
