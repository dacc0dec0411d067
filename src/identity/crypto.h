// SHA-256, HMAC-SHA256 and fixed-size secrets, as thin calls into GnuTLS. Nothing here chooses randomness by
// itself.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/ensure.h"
#include "base/machine.h"

namespace ravine::identity {

using Digest = std::array<std::uint8_t, 32>;

Digest sha256(ByteView data);
Digest hmac_sha256(ByteView key, ByteView data);

// HMAC-SHA256 over purpose ‖ 0 ‖ data. `purpose` separates the uses of one key and holds no zero byte.
Digest derive(ByteView key, std::string_view purpose, ByteView data = {});

// N secret bytes that are overwritten when they die. Copies are deliberate: each is wiped on its own.
template <std::size_t N>
class Secret {
 public:
  Secret() = default;
  explicit Secret(const std::array<std::uint8_t, N>& bytes) : bytes_(bytes) {}
  static Secret random(RandomSource& source) {
    Secret secret;
    source.fill(secret.bytes_);
    return secret;
  }
  // Requires exactly N bytes.
  static Secret copy_of(ByteView bytes) {
    ensure(bytes.size() == N);
    Secret secret;
    std::copy(bytes.begin(), bytes.end(), secret.bytes_.begin());
    return secret;
  }
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret() { wipe(bytes_); }

  ByteView view() const { return bytes_; }
  bool equals(const Secret& other) const { return equal_constant_time(bytes_, other.bytes_); }

 private:
  std::array<std::uint8_t, N> bytes_{};
};

}  // namespace ravine::identity
