// First flights of diallers that are not ours: a well-formed, protected QUIC Initial with connection IDs of
// any length. It holds the beginning of a ClientHello, so the acceptor takes it and waits for the rest.
#pragma once

#include <cstring>

#include "base/bytes.h"
#include "session/packet_protection.h"

namespace ravine::sim {

inline Bytes foreign_initial(ByteView dcid, ByteView scid) {
  using namespace ravine::session;
  constexpr std::size_t kSize = 1200, kNumberSize = 4;
  Bytes packet{0xc3, 0, 0, 0, 1, static_cast<std::uint8_t>(dcid.size())};
  packet.insert(packet.end(), dcid.begin(), dcid.end());
  packet.push_back(static_cast<std::uint8_t>(scid.size()));
  packet.insert(packet.end(), scid.begin(), scid.end());
  packet.push_back(0);  // no token
  const std::size_t length = kSize - packet.size() - 2;
  packet.push_back(static_cast<std::uint8_t>(0x40 | length >> 8));
  packet.push_back(static_cast<std::uint8_t>(length));
  const std::size_t number_at = packet.size();
  packet.resize(number_at + kNumberSize);
  const std::size_t header = packet.size();
  Bytes plain(kSize - header - kTagSize);
  // CRYPTO, offset 0, 8 bytes: the head of a ClientHello of 512 bytes.
  const std::uint8_t hello[] = {0x06, 0x00, 0x08, 0x01, 0x00, 0x02, 0x00, 0x03, 0x03, 0x00, 0x00};
  std::memcpy(plain.data(), hello, sizeof hello);
  packet.resize(kSize);
  InitialSecrets secrets;
  PacketKeys keys;
  if (!derive_initial_secrets(secrets, dcid) ||
      !derive_packet_keys(keys, AeadAlgorithm::aes_128_gcm, secrets.client)) {
    return {};
  }
  AeadKey aead(ProtectionBackend::gnutls, AeadAlgorithm::aes_128_gcm, keys.key.data());
  HeaderKey mask_key(ProtectionBackend::gnutls, AeadAlgorithm::aes_128_gcm, keys.header.data());
  std::uint8_t mask[kHeaderMaskSize];
  if (!aead.seal(packet.data() + header, plain, keys.iv.data(), ByteView(packet).first(header)) ||
      !mask_key.mask(mask, packet.data() + number_at + 4)) {
    return {};
  }
  packet[0] ^= mask[0] & 0x0f;
  for (std::size_t i = 0; i < kNumberSize; ++i) packet[number_at + i] ^= mask[i + 1];
  return packet;
}

}  // namespace ravine::sim
