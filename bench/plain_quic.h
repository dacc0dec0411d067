// The ceiling of idle_memory: ngtcp2 and GnuTLS with nothing of ours around them.
#pragma once

#include "base/result.h"
#include "identity/verify.h"

namespace ravine::bench {

// KiB of anonymous memory per connection end, for pairs of connections that completed mutual handshakes in
// memory and keep their TLS state. Certificates are shown, not judged.
Result<double> measure_plain_quic_memory(const identity::LocalIdentity& server,
                                         const identity::LocalIdentity& client);

}  // namespace ravine::bench
