#include "gateway/security/crypto.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <memory>

namespace ravine::gateway::security {
namespace {

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeKeyContext {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeKeyContext>;

Error wrong_size(std::string_view what, std::size_t size) {
  return {ErrorKind::invalid_argument, fmt::format("{} of {} bytes does not fit the algorithm", what, size)};
}

Error not_authentic() {
  return {ErrorKind::unauthenticated, "the tag does not match: forged, damaged, or sealed under another key"};
}

Error library_failed() {
  return {ErrorKind::internal, "OpenSSL could not run the algorithm; is a FIPS policy in the way?"};
}

int as_int(std::size_t size) {
  return static_cast<int>(size);
}

// OpenSSL takes null for "no data" as another request than an empty buffer.
const std::uint8_t* data_or_dummy(ByteView view) {
  static constexpr std::uint8_t kNothing = 0;
  return view.empty() ? &kNothing : view.data();
}

Result<> check_ccm(ByteView key, ByteView nonce, std::size_t plaintext_size, std::size_t tag_size) {
  if (key.size() != 16 && key.size() != 32) return wrong_size("key", key.size());
  if (nonce.size() < 7 || nonce.size() > 13) return wrong_size("nonce", nonce.size());
  if (tag_size < 4 || tag_size > 16 || tag_size % 2 != 0) return wrong_size("tag", tag_size);
  if (plaintext_size > kMaxPlaintext) return wrong_size("plaintext", plaintext_size);
  return {};
}

// A context that has key, nonce, tag size, total length and AAD. `tag` is given for opening alone.
Cipher start_ccm(ByteView key, ByteView nonce, ByteView aad, std::size_t size, std::size_t tag_size,
                 const std::uint8_t* tag) {
  static EVP_CIPHER* const aes128 = EVP_CIPHER_fetch(nullptr, "AES-128-CCM", nullptr);
  static EVP_CIPHER* const aes256 = EVP_CIPHER_fetch(nullptr, "AES-256-CCM", nullptr);
  Cipher cipher(EVP_CIPHER_CTX_new());
  const int sealing = tag == nullptr ? 1 : 0;
  // OpenSSL's interface takes the expected tag without const and does not write to it.
  void* const expected = const_cast<std::uint8_t*>(tag);
  const EVP_CIPHER* algorithm = key.size() == 16 ? aes128 : aes256;
  int written = 0;
  const bool ready =
      cipher != nullptr && algorithm != nullptr &&
      EVP_CipherInit_ex(cipher.get(), algorithm, nullptr, nullptr, nullptr, sealing) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_SET_IVLEN, as_int(nonce.size()), nullptr) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_SET_TAG, as_int(tag_size), expected) == 1 &&
      EVP_CipherInit_ex(cipher.get(), nullptr, nullptr, key.data(), nonce.data(), sealing) == 1 &&
      EVP_CipherUpdate(cipher.get(), nullptr, &written, nullptr, as_int(size)) == 1 &&
      (aad.empty() || EVP_CipherUpdate(cipher.get(), nullptr, &written, aad.data(), as_int(aad.size())) == 1);
  return ready ? std::move(cipher) : nullptr;
}

Cipher start_chacha(ByteView key, ByteView nonce, ByteView aad, bool sealing) {
  static EVP_CIPHER* const algorithm = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
  Cipher cipher(EVP_CIPHER_CTX_new());
  int written = 0;
  const bool ready =
      cipher != nullptr && algorithm != nullptr &&
      EVP_CipherInit_ex(cipher.get(), algorithm, nullptr, key.data(), nonce.data(), sealing ? 1 : 0) == 1 &&
      (aad.empty() || EVP_CipherUpdate(cipher.get(), nullptr, &written, aad.data(), as_int(aad.size())) == 1);
  return ready ? std::move(cipher) : nullptr;
}

Result<> check_chacha(ByteView key, ByteView nonce, ByteView text) {
  if (key.size() != 32) return wrong_size("key", key.size());
  if (nonce.size() != 12) return wrong_size("nonce", nonce.size());
  if (text.size() > kMaxPlaintext + kPolyTagSize) return wrong_size("text", text.size());
  return {};
}

}  // namespace

Result<Bytes> seal_ccm(ByteView key, ByteView nonce, ByteView aad, ByteView plaintext, std::size_t tag_size) {
  if (auto sizes = check_ccm(key, nonce, plaintext.size(), tag_size); !sizes) return sizes.error();
  const Cipher cipher = start_ccm(key, nonce, aad, plaintext.size(), tag_size, nullptr);
  if (!cipher) return library_failed();
  Bytes out(plaintext.size() + tag_size);
  int written = 0;
  if (EVP_CipherUpdate(cipher.get(), out.data(), &written, data_or_dummy(plaintext),
                       as_int(plaintext.size())) != 1 ||
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_GET_TAG, as_int(tag_size),
                          out.data() + plaintext.size()) != 1)
    return library_failed();
  return out;
}

Result<Bytes> open_ccm(ByteView key, ByteView nonce, ByteView aad, ByteView sealed, std::size_t tag_size) {
  if (sealed.size() < tag_size) return not_authentic();
  const ByteView ciphertext = sealed.first(sealed.size() - tag_size);
  if (auto sizes = check_ccm(key, nonce, ciphertext.size(), tag_size); !sizes) return sizes.error();
  const Cipher cipher =
      start_ccm(key, nonce, aad, ciphertext.size(), tag_size, sealed.data() + ciphertext.size());
  if (!cipher) return library_failed();
  Bytes out(ciphertext.size() + 1);  // never empty, so that data() is not null
  int written = 0;
  if (EVP_CipherUpdate(cipher.get(), out.data(), &written, data_or_dummy(ciphertext),
                       as_int(ciphertext.size())) != 1)
    return not_authentic();
  out.resize(ciphertext.size());
  return out;
}

Result<Bytes> seal_chacha(ByteView key, ByteView nonce, ByteView aad, ByteView plaintext) {
  if (auto sizes = check_chacha(key, nonce, plaintext); !sizes) return sizes.error();
  const Cipher cipher = start_chacha(key, nonce, aad, true);
  if (!cipher) return library_failed();
  Bytes out(plaintext.size() + kPolyTagSize);
  int written = 0;
  const bool done =
      (plaintext.empty() || EVP_CipherUpdate(cipher.get(), out.data(), &written, plaintext.data(),
                                             as_int(plaintext.size())) == 1) &&
      EVP_CipherFinal_ex(cipher.get(), out.data() + plaintext.size(), &written) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_GET_TAG, as_int(kPolyTagSize),
                          out.data() + plaintext.size()) == 1;
  if (!done) return library_failed();
  return out;
}

Result<Bytes> open_chacha(ByteView key, ByteView nonce, ByteView aad, ByteView sealed) {
  if (auto sizes = check_chacha(key, nonce, sealed); !sizes) return sizes.error();
  if (sealed.size() < kPolyTagSize) return not_authentic();
  const ByteView ciphertext = sealed.first(sealed.size() - kPolyTagSize);
  Bytes tag = to_bytes(sealed.last(kPolyTagSize));
  const Cipher cipher = start_chacha(key, nonce, aad, false);
  if (!cipher) return library_failed();
  Bytes out(ciphertext.size() + 1);
  int written = 0;
  const bool authentic =
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_SET_TAG, as_int(kPolyTagSize), tag.data()) == 1 &&
      (ciphertext.empty() || EVP_CipherUpdate(cipher.get(), out.data(), &written, ciphertext.data(),
                                              as_int(ciphertext.size())) == 1) &&
      EVP_CipherFinal_ex(cipher.get(), out.data() + ciphertext.size(), &written) == 1;
  if (!authentic) {
    wipe(out);
    return not_authentic();
  }
  out.resize(ciphertext.size());
  return out;
}

Hash sha256(ByteView data) {
  Hash hash{};
  unsigned size = 0;
  ensure(EVP_Digest(data_or_dummy(data), data.size(), hash.data(), &size, EVP_sha256(), nullptr) == 1);
  return hash;
}

Hash hmac_sha256(ByteView key, ByteView data) {
  Hash hash{};
  unsigned size = 0;
  ensure(HMAC(EVP_sha256(), data_or_dummy(key), as_int(key.size()), data_or_dummy(data), data.size(),
              hash.data(), &size) != nullptr);
  return hash;
}

Hash hkdf_extract(ByteView salt, ByteView input) {
  return hmac_sha256(salt, input);
}

Result<Bytes> hkdf_expand(ByteView key, ByteView info, std::size_t size) {
  if (size == 0 || size > 255 * sizeof(Hash)) return wrong_size("derived key", size);
  Bytes out;
  Bytes block;
  for (std::uint8_t counter = 1; out.size() < size; ++counter) {
    block.insert(block.end(), info.begin(), info.end());
    block.push_back(counter);
    const Hash hash = hmac_sha256(key, block);
    out.insert(out.end(), hash.begin(), hash.end());
    block.assign(hash.begin(), hash.end());
  }
  wipe(block);
  wipe(MutableBytes(out).subspan(size));
  out.resize(size);
  return out;
}

X25519Public x25519_public(const X25519Private& key) {
  const Key own(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, key.view().data(), key.view().size()));
  X25519Public out{};
  std::size_t size = out.size();
  ensure(own != nullptr && EVP_PKEY_get_raw_public_key(own.get(), out.data(), &size) == 1);
  return out;
}

Result<Secret<32>> x25519_shared(const X25519Private& key, const X25519Public& peer) {
  const Key own(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, key.view().data(), key.view().size()));
  const Key other(EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, peer.data(), peer.size()));
  if (!own || !other) return library_failed();
  const KeyContext context(EVP_PKEY_CTX_new(own.get(), nullptr));
  std::array<std::uint8_t, 32> shared{};
  std::size_t size = shared.size();
  if (!context || EVP_PKEY_derive_init(context.get()) != 1 ||
      EVP_PKEY_derive_set_peer(context.get(), other.get()) != 1 ||
      EVP_PKEY_derive(context.get(), shared.data(), &size) != 1 || size != shared.size())
    return Error{ErrorKind::unauthenticated,
                 "the public key is of low order: not one that a peer would make"};
  Secret<32> secret(shared);
  wipe(shared);
  return secret;
}

}  // namespace ravine::gateway::security
