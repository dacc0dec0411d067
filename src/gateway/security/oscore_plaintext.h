// The inner CoAP message that OSCORE encrypts (RFC 8613 §5.3): code, options, payload. Internal to OSCORE.
#pragma once

#include <optional>
#include <vector>

#include "gateway/security/oscore.h"

namespace ravine::gateway::security {

// Requires options in ascending order of number, values below 65804 bytes.
Bytes encode_inner(std::uint8_t code, const std::vector<CoapOption>& options, ByteView payload);
std::optional<CoapContent> decode_inner(ByteView plaintext);

}  // namespace ravine::gateway::security
