// PEM blocks (RFC 7468).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace ravine::identity {

struct PemBlock {
  std::string label;  // "CERTIFICATE"
  Bytes der;
};

// Blocks in order; text around them is ignored. Errors: invalid_argument for an unfinished block or bad
// base64; limit_reached above `limit` blocks or 256 KiB.
Result<std::vector<PemBlock>> parse_pem_blocks(std::string_view text, std::size_t limit);
std::string encode_pem(std::string_view label, ByteView der);

}  // namespace ravine::identity
