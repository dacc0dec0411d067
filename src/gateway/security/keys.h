// One secret shared by two gateways, and everything derived from it. Sources: a pairing code, a Noise
// handshake, or the exporter of a Ravine session between peers whose certificates were checked. Pure values.
#pragma once

#include <cstdint>

#include "gateway/security/crypto.h"
#include "gateway/security/oscore.h"
#include "gateway/security/uframe.h"

namespace ravine::gateway::security {

// Which of the two ends this is: breaks symmetry, nothing else. The near gateway is `near` unless a pairing
// says so.
enum class Role : std::uint8_t { near = 1, far = 2 };
constexpr Role other(Role role) {
  return role == Role::near ? Role::far : Role::near;
}

using GatewaySecret = Secret<32>;

// Keys and base nonce of one stream of frames: one direction, messages or answers.
struct FrameKeys {
  Secret<kKeySize> key;
  Secret<kNonceSize> iv;
};
FrameKeys derive_frame_keys(const GatewaySecret& secret, Role sender, FrameKind kind);
// Names the context on the wire when the source address cannot.
ConnectionId derive_connection_id(const GatewaySecret& secret);

// An OSCORE context of these two, for CoAP between them: sender ID of `near` is the first generation's
// connection ID, of `far` empty. From the second generation of keys on, the generation is the ID context and
// travels in requests, so that both ends can hold two contexts while keys change.
OscoreParameters derive_oscore(const GatewaySecret& secret, Role role, const ConnectionId& id,
                               std::uint32_t generation);

// From 32 bytes or more of the session's keying material exporter, made with the label kExporterLabel, and
// both peers' IDs in the order near, far. Both must have been verified by certificate.
inline constexpr std::string_view kExporterLabel = "EXPORTER-ravine-gateway";
Result<GatewaySecret> secret_from_exporter(ByteView exported, ByteView near_peer, ByteView far_peer);

// The next generation's secret, from both sides' fresh nonces. One way: the new one does not tell the old.
GatewaySecret next_secret(const GatewaySecret& secret, ByteView near_nonce, ByteView far_nonce);

}  // namespace ravine::gateway::security
