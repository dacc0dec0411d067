#include "session/retry.h"

#include <netinet/in.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include <algorithm>

#include "session/connection_impl.h"

namespace ravine::session {
namespace {

constexpr Duration kTokenLife = 10s;
constexpr std::size_t kBuckets = 4096;
constexpr double kBurstSeconds = 1;
constexpr std::size_t kMinReset = 21;  // RFC 9000 §10.3

ngtcp2_cid cid_of(ByteView bytes) {
  ngtcp2_cid cid;
  ngtcp2_cid_init(&cid, bytes.data(), std::min<std::size_t>(bytes.size(), NGTCP2_MAX_CIDLEN));
  return cid;
}

// ngtcp2 binds tokens to a sockaddr; the label is bound through the Retry's connection ID.
struct TokenAddress {
  explicit TokenAddress(const SocketAddress& source) {
    if (source.ip.is_v4()) {
      sockaddr_in* v4 = reinterpret_cast<sockaddr_in*>(&storage);
      v4->sin_family = AF_INET;
      std::memcpy(&v4->sin_addr, source.ip.data(), 4);
      store_big_endian(reinterpret_cast<std::uint8_t*>(&v4->sin_port), source.port);
      size = sizeof *v4;
    } else {
      storage.sin6_family = AF_INET6;
      std::memcpy(&storage.sin6_addr, source.ip.data(), 16);
      store_big_endian(reinterpret_cast<std::uint8_t*>(&storage.sin6_port), source.port);
      size = sizeof storage;
    }
  }
  const ngtcp2_sockaddr* address() const { return reinterpret_cast<const ngtcp2_sockaddr*>(&storage); }
  sockaddr_in6 storage{};
  ngtcp2_socklen size = 0;
};

}  // namespace

std::uint64_t address_prefix(const IpAddress& address) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < (address.is_v4() ? 3u : 7u); ++i) value = (value << 8) | address.data()[i];
  return value | (address.is_v4() ? std::uint64_t{1} << 63 : 0);
}

Bytes make_retry(Instant now, ByteView secret, const SocketAddress& source, const wire::LongHeader& initial,
                 RandomSource& random) {
  std::array<std::uint8_t, kConnectionIdSize> id{};
  random.fill(id);
  std::memcpy(id.data(), initial.dcid.data(), kLabelSize);
  const ngtcp2_cid scid = cid_of(id), odcid = cid_of(initial.dcid), dcid = cid_of(initial.scid);
  const TokenAddress address(source);
  std::array<std::uint8_t, NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2> token{};
  const auto token_size =
      ngtcp2_crypto_generate_retry_token2(token.data(), secret.data(), secret.size(), initial.version,
                                          address.address(), address.size, &scid, &odcid, now.nanoseconds);
  if (token_size < 0) return {};
  Bytes packet(512);
  const auto size = ngtcp2_crypto_write_retry(packet.data(), packet.size(), initial.version, &dcid, &scid,
                                              &odcid, token.data(), static_cast<std::size_t>(token_size));
  packet.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return packet;
}

std::optional<Bytes> verify_retry(Instant now, ByteView secret, const SocketAddress& source,
                                  const wire::LongHeader& initial, ByteView token) {
  if (token.empty() || token[0] != NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) return std::nullopt;
  const TokenAddress address(source);
  const ngtcp2_cid dcid = cid_of(initial.dcid);
  ngtcp2_cid original;
  if (ngtcp2_crypto_verify_retry_token2(&original, token.data(), token.size(), secret.data(), secret.size(),
                                        initial.version, address.address(), address.size, &dcid,
                                        static_cast<ngtcp2_duration>(kTokenLife.count()),
                                        now.nanoseconds) != 0) {
    return std::nullopt;
  }
  return Bytes(original.data, original.data + original.datalen);
}

Bytes make_version_negotiation(const wire::LongHeader& packet, RandomSource& random) {
  Bytes out(256);
  const std::uint32_t versions[] = {NGTCP2_PROTO_VER_V1};
  std::uint8_t unused = 0;
  random.fill({&unused, 1});
  const auto size = ngtcp2_pkt_write_version_negotiation(out.data(), out.size(), unused, packet.scid.data(),
                                                         packet.scid.size(), packet.dcid.data(),
                                                         packet.dcid.size(), versions, 1);
  out.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return out;
}

Bytes make_stateless_reset(ByteView secret, ByteView packet, RandomSource& random) {
  constexpr std::size_t kHead = wire::kShortHeaderDcidOffset + kConnectionIdSize;
  if (packet.size() <= std::max(kMinReset + 1, kHead + NGTCP2_STATELESS_RESET_TOKENLEN)) return {};
  // Always smaller than the packet, so that two endpoints without state do not answer each other for ever.
  Bytes reset(std::min<std::size_t>(packet.size() - 1, 43));
  random.fill(reset);
  reset[0] = static_cast<std::uint8_t>(0x40 | (reset[0] & 0x3f));
  std::memcpy(reset.data() + wire::kShortHeaderDcidOffset, packet.data() + wire::kShortHeaderDcidOffset,
              kLabelSize);
  const auto token =
      make_reset_token(secret, packet.subspan(wire::kShortHeaderDcidOffset, kConnectionIdSize));
  std::copy(token.begin(), token.end(), reset.end() - NGTCP2_STATELESS_RESET_TOKENLEN);
  return reset;
}

PrefixLimits::PrefixLimits(std::uint64_t seed, std::uint32_t replies_per_second)
    : seed_(seed | 1),
      rate_(replies_per_second),
      buckets_(kBuckets, Bucket{rate_ * kBurstSeconds, Instant{}}) {}

bool PrefixLimits::take_reply(Instant now, std::uint64_t prefix) {
  const std::uint64_t mixed = (prefix ^ (prefix >> 29)) * seed_;
  Bucket& bucket = buckets_[(mixed >> 40) % kBuckets];
  const double elapsed = std::chrono::duration<double>(now - bucket.filled_at).count();
  bucket.tokens = std::min(bucket.tokens + elapsed * rate_, rate_ * kBurstSeconds);
  bucket.filled_at = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

std::size_t PrefixLimits::half_open(std::uint64_t prefix) const {
  const auto known = counts_.find(prefix);
  return known == counts_.end() ? 0 : known->second;
}

void PrefixLimits::remove_half_open(std::uint64_t prefix) {
  if (const auto known = counts_.find(prefix); known != counts_.end() && --known->second == 0)
    counts_.erase(known);
}

}  // namespace ravine::session
