// Overlay addresses and network hashes: `fdcc` ‖ first 4 bytes of the network hash ‖ first 10 bytes of the
// peer ID.
#pragma once

#include <array>

#include "base/address.h"
#include "identity/peer_id.h"

namespace ravine::identity {

// SHA-256 of the SPKI of the network's first root. It stays when the root is replaced, so addresses stay too.
struct NetworkHash {
  std::array<std::uint8_t, 32> bytes{};
  std::string to_text() const;  // 52 base32 characters
  static std::optional<NetworkHash> parse(std::string_view text);
  ByteView view() const { return bytes; }
  friend auto operator<=>(const NetworkHash&, const NetworkHash&) = default;
};

inline constexpr int kOverlayPrefixBits = 48;

IpAddress overlay_address(const NetworkHash& network, const PeerId& peer);
// The /48 of a network: its address with the lower 80 bits zero.
IpAddress overlay_prefix(const NetworkHash& network);
bool is_overlay_of(const NetworkHash& network, const IpAddress& address);

}  // namespace ravine::identity
