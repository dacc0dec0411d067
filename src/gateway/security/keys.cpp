#include "gateway/security/keys.h"

namespace ravine::gateway::security {
namespace {

// What a derived value is for; `detail` tells directions and the like apart.
Bytes label(std::string_view purpose, std::initializer_list<std::uint8_t> detail = {}) {
  ByteWriter info;
  info.write(as_bytes("ravine gateway "));
  info.write(as_bytes(purpose));
  info.write_u8(0);
  for (const std::uint8_t value : detail) info.write_u8(value);
  return info.take();
}

}  // namespace

FrameKeys derive_frame_keys(const GatewaySecret& secret, Role sender, FrameKind kind) {
  const auto direction = static_cast<std::uint8_t>(sender);
  const auto use = static_cast<std::uint8_t>(kind);
  return {expand_secret<kKeySize>(secret.view(), label("uframe key", {direction, use})),
          expand_secret<kNonceSize>(secret.view(), label("uframe iv", {direction, use}))};
}

ConnectionId derive_connection_id(const GatewaySecret& secret) {
  const auto bytes = expand_secret<kConnectionIdBytes>(secret.view(), label("connection id"));
  ConnectionId id{};
  std::copy(bytes.view().begin(), bytes.view().end(), id.begin());
  return id;
}

OscoreParameters derive_oscore(const GatewaySecret& secret, Role role, const ConnectionId& id,
                               std::uint32_t generation) {
  OscoreParameters parameters;
  parameters.master_secret = to_bytes(expand_secret<16>(secret.view(), label("oscore secret")).view());
  parameters.master_salt = to_bytes(expand_secret<8>(secret.view(), label("oscore salt")).view());
  Bytes& near = role == Role::near ? parameters.sender_id : parameters.recipient_id;
  near.assign(id.begin(), id.end());
  for (int shift = 24; shift >= 0; shift -= 8) {
    const auto byte = static_cast<std::uint8_t>(generation >> shift);
    if (byte == 0 && !parameters.id_context) continue;
    if (!parameters.id_context) parameters.id_context.emplace();
    parameters.id_context->push_back(byte);
  }
  return parameters;
}

Result<GatewaySecret> secret_from_exporter(ByteView exported, ByteView near_peer, ByteView far_peer) {
  if (exported.size() < 32)
    return Error{ErrorKind::invalid_argument, "the session's exporter must give 32 bytes or more"};
  ByteWriter peers;
  peers.write(label("mesh"));
  peers.write_varint(near_peer.size());
  peers.write(near_peer);
  peers.write_varint(far_peer.size());
  peers.write(far_peer);
  const Hash extracted = hkdf_extract(as_bytes(kExporterLabel), exported);
  return expand_secret<32>(extracted, peers.view());
}

GatewaySecret next_secret(const GatewaySecret& secret, ByteView near_nonce, ByteView far_nonce) {
  ByteWriter nonces;
  nonces.write_varint(near_nonce.size());
  nonces.write(near_nonce);
  nonces.write_varint(far_nonce.size());
  nonces.write(far_nonce);
  const Hash extracted = hkdf_extract(nonces.view(), secret.view());
  return expand_secret<32>(extracted, label("rekey"));
}

}  // namespace ravine::gateway::security
