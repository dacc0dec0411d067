#include "session/packet_protection.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#ifdef RAVINE_HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

#include <algorithm>
#include <cstring>

namespace ravine::session {

#ifdef RAVINE_HAVE_IPSEC_MB
namespace {

// The library's dispatch table for this CPU. One per thread: the library documents no sharing.
class Dispatch {
 public:
  Dispatch() : table_(alloc_mb_mgr(0)) {
    if (table_ == nullptr) return;
    init_mb_mgr_auto(table_, nullptr);
    constexpr std::uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ;
    usable_ = imb_get_errno(table_) == 0 && (table_->features & needed) == needed;
  }
  ~Dispatch() {
    if (table_ != nullptr) free_mb_mgr(table_);
  }
  Dispatch(const Dispatch&) = delete;
  Dispatch& operator=(const Dispatch&) = delete;
  bool usable() const { return usable_; }
  IMB_MGR* table() { return table_; }

 private:
  IMB_MGR* table_;
  bool usable_ = false;
};

Dispatch& dispatch() {
  static thread_local Dispatch instance;
  return instance;
}

bool ipsec_mb_usable() {
  return dispatch().usable();
}

}  // namespace

// The library's own alignment of gcm_key_data depends on a macro (trap 18); ours does not.
struct AeadKey::Tables {
  alignas(64) gcm_key_data gcm;
  gnutls_aead_cipher_hd_t gnutls = nullptr;
};
#else
namespace {
bool ipsec_mb_usable() {
  return false;
}
}  // namespace

struct AeadKey::Tables {
  gnutls_aead_cipher_hd_t gnutls = nullptr;
};
#endif

ProtectionBackend resolve_protection(ProtectionBackend wanted) {
  if (wanted != ProtectionBackend::gnutls && ipsec_mb_usable()) return ProtectionBackend::ipsec_mb;
  return ProtectionBackend::gnutls;
}

std::string_view to_text(ProtectionBackend backend) {
  return backend == ProtectionBackend::ipsec_mb ? "ipsec-mb" : "gnutls";
}

AeadKey::AeadKey(ProtectionBackend backend, AeadAlgorithm algorithm, const std::uint8_t* key)
    : backend_(backend), algorithm_(algorithm) {
  std::memcpy(key_.data(), key, key_size(algorithm));
}

AeadKey::~AeadKey() {
  wipe(key_);
  if (tables_ == nullptr) return;
  if (tables_->gnutls != nullptr) gnutls_aead_cipher_deinit(tables_->gnutls);
#ifdef RAVINE_HAVE_IPSEC_MB
  wipe({reinterpret_cast<std::uint8_t*>(&tables_->gcm), sizeof tables_->gcm});
#endif
  delete tables_;
}

bool AeadKey::prepare() {
  tables_ = new Tables;
#ifdef RAVINE_HAVE_IPSEC_MB
  if (backend_ == ProtectionBackend::ipsec_mb) {
    if (algorithm_ == AeadAlgorithm::aes_128_gcm) {
      IMB_AES128_GCM_PRE(dispatch().table(), key_.data(), &tables_->gcm);
    }
    return true;
  }
#endif
  const gnutls_datum_t key{key_.data(), static_cast<unsigned>(key_size(algorithm_))};
  const auto cipher =
      algorithm_ == AeadAlgorithm::aes_128_gcm ? GNUTLS_CIPHER_AES_128_GCM : GNUTLS_CIPHER_CHACHA20_POLY1305;
  if (gnutls_aead_cipher_init(&tables_->gnutls, cipher, &key) == 0) return true;
  delete tables_;
  tables_ = nullptr;
  return false;
}

bool AeadKey::seal(std::uint8_t* out, ByteView plain, const std::uint8_t* nonce, ByteView associated) {
  if (tables_ == nullptr && !prepare()) return false;
  if (backend_ == ProtectionBackend::ipsec_mb) return seal_ipsec_mb(out, plain, nonce, associated);
  std::size_t size = plain.size() + kTagSize;
  return gnutls_aead_cipher_encrypt(tables_->gnutls, nonce, kNonceSize, associated.data(), associated.size(),
                                    kTagSize, plain.data(), plain.size(), out, &size) == 0;
}

bool AeadKey::open(std::uint8_t* out, ByteView cipher, const std::uint8_t* nonce, ByteView associated) {
  if (cipher.size() < kTagSize || (tables_ == nullptr && !prepare())) return false;
  if (backend_ == ProtectionBackend::ipsec_mb) return open_ipsec_mb(out, cipher, nonce, associated);
  std::size_t size = cipher.size() - kTagSize;
  return gnutls_aead_cipher_decrypt(tables_->gnutls, nonce, kNonceSize, associated.data(), associated.size(),
                                    kTagSize, cipher.data(), cipher.size(), out, &size) == 0;
}

#ifdef RAVINE_HAVE_IPSEC_MB
bool AeadKey::seal_ipsec_mb(std::uint8_t* out, ByteView plain, const std::uint8_t* nonce,
                            ByteView associated) {
  IMB_MGR* table = dispatch().table();
  std::uint8_t* tag = out + plain.size();
  if (algorithm_ == AeadAlgorithm::aes_128_gcm) {
    gcm_context_data context;
    IMB_AES128_GCM_ENC(table, &tables_->gcm, &context, out, plain.data(), plain.size(), nonce,
                       associated.data(), associated.size(), tag, kTagSize);
    return true;
  }
  chacha20_poly1305_context_data context;
  IMB_CHACHA20_POLY1305_INIT(table, key_.data(), &context, nonce, associated.data(), associated.size());
  IMB_CHACHA20_POLY1305_ENC_UPDATE(table, key_.data(), &context, out, plain.data(), plain.size());
  IMB_CHACHA20_POLY1305_ENC_FINALIZE(table, &context, tag, kTagSize);
  return true;
}

bool AeadKey::open_ipsec_mb(std::uint8_t* out, ByteView cipher, const std::uint8_t* nonce,
                            ByteView associated) {
  IMB_MGR* table = dispatch().table();
  const std::size_t size = cipher.size() - kTagSize;
  std::array<std::uint8_t, kTagSize> tag;
  if (algorithm_ == AeadAlgorithm::aes_128_gcm) {
    gcm_context_data context;
    IMB_AES128_GCM_DEC(table, &tables_->gcm, &context, out, cipher.data(), size, nonce, associated.data(),
                       associated.size(), tag.data(), kTagSize);
  } else {
    chacha20_poly1305_context_data context;
    IMB_CHACHA20_POLY1305_INIT(table, key_.data(), &context, nonce, associated.data(), associated.size());
    IMB_CHACHA20_POLY1305_DEC_UPDATE(table, key_.data(), &context, out, cipher.data(), size);
    IMB_CHACHA20_POLY1305_DEC_FINALIZE(table, &context, tag.data(), kTagSize);
  }
  return equal_constant_time(tag, cipher.subspan(size));
}
#else
bool AeadKey::seal_ipsec_mb(std::uint8_t*, ByteView, const std::uint8_t*, ByteView) {
  return false;
}
bool AeadKey::open_ipsec_mb(std::uint8_t*, ByteView, const std::uint8_t*, ByteView) {
  return false;
}
#endif

HeaderKey::HeaderKey(ProtectionBackend backend, AeadAlgorithm algorithm, const std::uint8_t* key)
    : backend_(backend), algorithm_(algorithm) {
#ifdef RAVINE_HAVE_IPSEC_MB
  if (backend_ == ProtectionBackend::ipsec_mb && algorithm == AeadAlgorithm::aes_128_gcm) {
    alignas(16) std::array<std::uint8_t, 16 * 11> decryption;
    IMB_AES_KEYEXP_128(dispatch().table(), key, round_keys_.data(), decryption.data());
    return;
  }
#endif
  // CBC over one block with a zero IV is the plain block cipher. The ipsec-mb of Debian 12 has no raw
  // ChaCha20.
  gnutls_datum_t datum{const_cast<std::uint8_t*>(key), static_cast<unsigned>(key_size(algorithm))};
  const auto cipher =
      algorithm == AeadAlgorithm::aes_128_gcm ? GNUTLS_CIPHER_AES_128_CBC : GNUTLS_CIPHER_CHACHA20_32;
  gnutls_cipher_hd_t handle = nullptr;
  if (gnutls_cipher_init(&handle, cipher, &datum, nullptr) == 0) cipher_ = handle;
}

HeaderKey::~HeaderKey() {
  wipe(round_keys_);
  if (cipher_ != nullptr) gnutls_cipher_deinit(static_cast<gnutls_cipher_hd_t>(cipher_));
}

bool HeaderKey::mask(std::uint8_t* out5, const std::uint8_t* sample) {
  std::array<std::uint8_t, kSampleSize> block{};
#ifdef RAVINE_HAVE_IPSEC_MB
  if (cipher_ == nullptr && backend_ == ProtectionBackend::ipsec_mb &&
      algorithm_ == AeadAlgorithm::aes_128_gcm) {
    constexpr std::array<std::uint8_t, kSampleSize> zero{};
    IMB_AES128_CFB_ONE(dispatch().table(), block.data(), zero.data(), sample, round_keys_.data(),
                       kSampleSize);
    std::memcpy(out5, block.data(), kHeaderMaskSize);
    return true;
  }
#endif
  const auto handle = static_cast<gnutls_cipher_hd_t>(cipher_);
  if (handle == nullptr) return false;
  std::array<std::uint8_t, kSampleSize> vector{};
  const bool aes = algorithm_ == AeadAlgorithm::aes_128_gcm;
  std::memcpy(aes ? block.data() : vector.data(), sample, kSampleSize);
  gnutls_cipher_set_iv(handle, vector.data(), vector.size());
  const std::size_t size = aes ? kSampleSize : kHeaderMaskSize;
  if (gnutls_cipher_encrypt2(handle, block.data(), size, block.data(), size) != 0) return false;
  std::memcpy(out5, block.data(), kHeaderMaskSize);
  return true;
}

bool expand_label(MutableBytes out, ByteView secret, std::string_view label) {
  constexpr std::string_view prefix = "tls13 ";
  std::array<std::uint8_t, 64> info;
  if (label.size() + prefix.size() + 4 > info.size() || out.size() > 255) return false;
  std::size_t size = 0;
  info[size++] = 0;
  info[size++] = static_cast<std::uint8_t>(out.size());
  info[size++] = static_cast<std::uint8_t>(prefix.size() + label.size());
  for (const std::string_view part : {prefix, label}) {
    std::memcpy(info.data() + size, part.data(), part.size());
    size += part.size();
  }
  info[size++] = 0;
  const gnutls_datum_t key{const_cast<std::uint8_t*>(secret.data()), static_cast<unsigned>(secret.size())};
  const gnutls_datum_t datum{info.data(), static_cast<unsigned>(size)};
  return gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &key, &datum, out.data(), out.size()) == 0;
}

bool derive_packet_keys(PacketKeys& keys, AeadAlgorithm algorithm, ByteView secret) {
  const std::size_t size = key_size(algorithm);
  return expand_label(MutableBytes(keys.key).first(size), secret, "quic key") &&
         expand_label(keys.iv, secret, "quic iv") &&
         expand_label(MutableBytes(keys.header).first(size), secret, "quic hp");
}

bool derive_initial_secrets(InitialSecrets& secrets, ByteView client_dcid) {
  static constexpr std::array<std::uint8_t, 20> kSalt = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34,
                                                         0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8,
                                                         0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
  const gnutls_datum_t salt{const_cast<std::uint8_t*>(kSalt.data()), kSalt.size()};
  const gnutls_datum_t key{const_cast<std::uint8_t*>(client_dcid.data()),
                           static_cast<unsigned>(client_dcid.size())};
  std::array<std::uint8_t, kSecretSize> initial;
  return gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &key, &salt, initial.data()) == 0 &&
         expand_label(secrets.client, initial, "client in") &&
         expand_label(secrets.server, initial, "server in");
}

}  // namespace ravine::session
