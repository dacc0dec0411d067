// PeerId: the name of a key. SHA-256 of the public key's SubjectPublicKeyInfo; people see the first 10 bytes
// in base32.
#pragma once

#include <array>
#include <compare>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace ravine::identity {

inline constexpr std::size_t kPeerIdSize = 32;
inline constexpr std::size_t kShortPeerIdSize = 10;  // bytes in the text form and in the overlay address
inline constexpr std::size_t kPeerIdTextSize = 16;   // characters of the text form

struct PeerId {
  std::array<std::uint8_t, kPeerIdSize> bytes{};

  // SHA-256 of a DER SubjectPublicKeyInfo.
  static PeerId of_spki(ByteView spki);
  std::string to_text() const;                     // 16 characters
  bool matches_text(std::string_view text) const;  // true for its 16 characters, either case
  ByteView view() const { return bytes; }
  friend auto operator<=>(const PeerId&, const PeerId&) = default;
};

struct PeerIdHash {
  std::size_t operator()(const PeerId& id) const {
    std::size_t value = 0;
    std::memcpy(&value, id.bytes.data(), sizeof value);
    return value;
  }
};

// The 10 bytes that a text form stands for, either case; nullopt unless it is 16 base32 characters.
std::optional<std::array<std::uint8_t, kShortPeerIdSize>> parse_peer_id_text(std::string_view text);

}  // namespace ravine::identity
