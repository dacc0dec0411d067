#include "gateway/security/channel_generation.h"

#include <algorithm>

namespace ravine::gateway::security {
namespace {

// The base nonce with the number added in its last bytes: one number, one nonce.
Nonce nonce_of(const FrameKeys& keys, std::uint64_t number) {
  Nonce nonce{};
  std::copy(keys.iv.view().begin(), keys.iv.view().end(), nonce.begin());
  for (std::size_t i = 0; i < sizeof number; ++i)
    nonce[kNonceSize - 1 - i] ^= static_cast<std::uint8_t>(number >> (8 * i));
  return nonce;
}

}  // namespace

Generation::Generation(std::uint32_t id_, const GatewaySecret& secret_, Role role, std::uint64_t max_sends)
    : id(id_),
      secret(secret_),
      send_message(derive_frame_keys(secret, role, FrameKind::message)),
      send_answer(derive_frame_keys(secret, role, FrameKind::answer)),
      open_message(derive_frame_keys(secret, other(role), FrameKind::message)),
      open_answer(derive_frame_keys(secret, other(role), FrameKind::answer)),
      numbers(0, max_sends) {}

std::uint64_t Generation::expected() const {
  return received.empty() ? fresh_floor : std::max(fresh_floor, received.highest() + 1);
}

void Generation::encode(ByteWriter& out) const {
  out.write_u32(id);
  out.write(secret.view());
  out.write_u64(numbers.limit());
  out.write_u64(confirmed_end);
  out.write_u64(receive_limit);
  out.write_u64(failed_limit);
}

std::optional<Generation> Generation::decode(ByteReader& in, Role role, std::uint64_t max_sends) {
  const std::uint32_t id = in.read_u32();
  Bytes raw(GatewaySecret().view().size());
  const bool complete = in.read_into(raw);
  Generation generation(id, GatewaySecret::copy_of(raw), role, max_sends);
  wipe(raw);
  const std::uint64_t send_limit = in.read_u64();
  generation.confirmed_end = in.read_u64();
  generation.receive_limit = in.read_u64();
  generation.failed_limit = in.read_u64();
  const std::uint64_t most = kMaxSends + kSequenceBlock;
  if (!complete || !in.ok() || send_limit > kMaxSends || generation.confirmed_end > send_limit ||
      generation.receive_limit > most || generation.failed_limit > 2 * kMaxFailedOpens)
    return std::nullopt;
  generation.numbers = NumberBlock(std::min(send_limit, max_sends), max_sends);
  generation.first_number = generation.numbers.next();
  generation.fresh_floor = generation.receive_limit;
  generation.failed_opens = generation.failed_limit;
  return generation;
}

Result<Bytes> seal_body(const FrameKeys& keys, std::uint64_t number, ByteView aad, ByteView plaintext,
                        const UframeProtection& protection) {
  if (!protection.encrypted()) return to_bytes(plaintext);
  return seal_ccm(keys.key.view(), nonce_of(keys, number), aad, plaintext, protection.tag_size());
}

std::optional<Bytes> open_body(const FrameKeys& keys, std::uint64_t number, ByteView aad, ByteView body,
                               const UframeProtection& protection) {
  if (!protection.encrypted()) return to_bytes(body);
  Result<Bytes> plaintext =
      open_ccm(keys.key.view(), nonce_of(keys, number), aad, body, protection.tag_size());
  if (!plaintext) return std::nullopt;
  return std::move(plaintext).value();
}

}  // namespace ravine::gateway::security
