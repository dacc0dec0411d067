#include "identity/peer_id.h"

#include <algorithm>

#include "identity/crypto.h"
#include "identity/overlay.h"

namespace ravine::identity {
namespace {

constexpr std::size_t kNetworkHashTextSize = 52;

}  // namespace

PeerId PeerId::of_spki(ByteView spki) {
  return {sha256(spki)};
}

std::string PeerId::to_text() const {
  return encode_base32(view().first(kShortPeerIdSize));
}

bool PeerId::matches_text(std::string_view text) const {
  const auto id = parse_peer_id_text(text);
  return id && std::equal(id->begin(), id->end(), bytes.begin());
}

std::optional<std::array<std::uint8_t, kShortPeerIdSize>> parse_peer_id_text(std::string_view text) {
  if (text.size() != kPeerIdTextSize) return std::nullopt;
  const std::optional<Bytes> decoded = decode_base32(text);
  if (!decoded || decoded->size() != kShortPeerIdSize) return std::nullopt;
  std::array<std::uint8_t, kShortPeerIdSize> id;
  std::copy(decoded->begin(), decoded->end(), id.begin());
  return id;
}

std::string NetworkHash::to_text() const {
  return encode_base32(bytes);
}

std::optional<NetworkHash> NetworkHash::parse(std::string_view text) {
  if (text.size() != kNetworkHashTextSize) return std::nullopt;
  const std::optional<Bytes> decoded = decode_base32(text);
  if (!decoded || decoded->size() != sizeof(NetworkHash::bytes)) return std::nullopt;
  NetworkHash hash;
  std::copy(decoded->begin(), decoded->end(), hash.bytes.begin());
  return hash;
}

IpAddress overlay_address(const NetworkHash& network, const PeerId& peer) {
  std::array<std::uint8_t, 16> bytes{0xfd, 0xcc};
  std::copy_n(network.bytes.begin(), 4, bytes.begin() + 2);
  std::copy_n(peer.bytes.begin(), kShortPeerIdSize, bytes.begin() + 6);
  return IpAddress::v6(bytes);
}

IpAddress overlay_prefix(const NetworkHash& network) {
  std::array<std::uint8_t, 16> bytes{0xfd, 0xcc};
  std::copy_n(network.bytes.begin(), 4, bytes.begin() + 2);
  return IpAddress::v6(bytes);
}

bool is_overlay_of(const NetworkHash& network, const IpAddress& address) {
  const IpAddress prefix = overlay_prefix(network);
  return address.is_v6() && std::equal(prefix.data(), prefix.data() + kOverlayPrefixBits / 8, address.data());
}

}  // namespace ravine::identity
