#include "session/path_echo.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "base/ensure.h"
#include "wire/quic_packet.h"

namespace ravine::session {
namespace {

constexpr std::size_t kSuffixOffset = wire::kShortHeaderDcidOffset + kLabelSize;
constexpr std::size_t kNonceOffset = wire::kShortHeaderDcidOffset + kConnectionIdSize;
constexpr std::size_t kBodyOffset = kNonceOffset + 8;
constexpr std::size_t kTagSize = 16;

// AES-128-GCM made for one packet: echoes are rare, and idle sessions should not hold key schedules for them.
class Aead {
 public:
  explicit Aead(const std::array<std::uint8_t, 16>& key) {
    gnutls_datum_t datum{const_cast<unsigned char*>(key.data()), static_cast<unsigned>(key.size())};
    if (gnutls_aead_cipher_init(&handle_, GNUTLS_CIPHER_AES_128_GCM, &datum) != 0) handle_ = nullptr;
  }
  ~Aead() {
    if (handle_ != nullptr) gnutls_aead_cipher_deinit(handle_);
  }
  Aead(const Aead&) = delete;
  Aead& operator=(const Aead&) = delete;

  bool seal(const std::array<std::uint8_t, 12>& iv, ByteView associated, ByteView plain, std::uint8_t* out) {
    std::size_t size = plain.size() + kTagSize;
    return handle_ != nullptr &&
           gnutls_aead_cipher_encrypt(handle_, iv.data(), iv.size(), associated.data(), associated.size(),
                                      kTagSize, plain.data(), plain.size(), out, &size) == 0;
  }
  bool open(const std::array<std::uint8_t, 12>& iv, ByteView associated, ByteView sealed, std::uint8_t* out) {
    std::size_t size = sealed.size() - kTagSize;
    return handle_ != nullptr &&
           gnutls_aead_cipher_decrypt(handle_, iv.data(), iv.size(), associated.data(), associated.size(),
                                      kTagSize, sealed.data(), sealed.size(), out, &size) == 0;
  }

 private:
  gnutls_aead_cipher_hd_t handle_ = nullptr;
};

std::array<std::uint8_t, 12> iv_of(std::uint64_t nonce) {
  std::array<std::uint8_t, 12> iv{};
  store_big_endian(iv.data() + 4, nonce);
  return iv;
}

ByteView associated_data(const std::uint8_t* packet) {
  return {packet + wire::kShortHeaderDcidOffset, kConnectionIdSize + 8};
}

}  // namespace

bool is_echo(ByteView packet) {
  return packet.size() >= kMinEchoSize && !wire::is_long_header(packet) &&
         load_big_endian<std::uint32_t>(packet.data() + kSuffixOffset) == kEchoSuffix;
}

EchoCodec::EchoCodec(const std::array<std::uint8_t, 32>& key_material, Role role) {
  const bool dials = role == Role::dialler;
  std::memcpy(send_key_.data(), key_material.data() + (dials ? 0 : 16), 16);
  std::memcpy(receive_key_.data(), key_material.data() + (dials ? 16 : 0), 16);
}

bool EchoCodec::encode(Label label, const Echo& echo, std::size_t size, MutableBytes out) const {
  ensure(size >= kMinEchoSize && size <= out.size());
  // Fixed bit of a short header; the other six bits look like protected ones.
  out[0] = static_cast<std::uint8_t>(0x40 | ((echo.nonce * 0x9e3779b97f4a7c15u) >> 58));
  label.store(out.data() + wire::kShortHeaderDcidOffset);
  store_big_endian(out.data() + kSuffixOffset, kEchoSuffix);
  store_big_endian(out.data() + kNonceOffset, echo.nonce);
  Bytes body(size - kBodyOffset - kTagSize);
  body[0] = static_cast<std::uint8_t>(echo.type);
  body[1] = echo.path;
  store_big_endian(body.data() + 2, echo.value);
  return Aead(send_key_).seal(iv_of(echo.nonce), associated_data(out.data()), body, out.data() + kBodyOffset);
}

std::optional<Echo> EchoCodec::decode(ByteView packet) {
  if (!is_echo(packet) || packet.size() > 65535) return std::nullopt;
  Echo echo;
  echo.nonce = load_big_endian<std::uint64_t>(packet.data() + kNonceOffset);
  // Replays are refused before any cryptography, and recorded only after it.
  if (echo.nonce + 64 <= newest_) return std::nullopt;
  if (echo.nonce <= newest_ && ((seen_ >> (newest_ - echo.nonce)) & 1) != 0) return std::nullopt;
  const ByteView sealed = packet.subspan(kBodyOffset);
  Bytes body(sealed.size() - kTagSize);
  if (!Aead(receive_key_).open(iv_of(echo.nonce), associated_data(packet.data()), sealed, body.data())) {
    return std::nullopt;
  }
  const std::uint8_t type = body[0];
  if (type < 1 || type > 3) return std::nullopt;
  echo.type = static_cast<EchoType>(type);
  echo.path = body[1];
  echo.value = load_big_endian<std::uint64_t>(body.data() + 2);
  if (echo.nonce > newest_) {
    const std::uint64_t ahead = echo.nonce - newest_;
    seen_ = ahead < 64 ? (seen_ << ahead) | 1 : 1;
    newest_ = echo.nonce;
  } else {
    seen_ |= std::uint64_t{1} << (newest_ - echo.nonce);
  }
  return echo;
}

}  // namespace ravine::session
