#include "gateway/security/crypto.h"

#include <gtest/gtest.h>

#include "gateway/security/crypto_vectors.h"

namespace ravine::gateway::security {
namespace {

Bytes hex(std::string_view text) {
  return decode_hex(text).value();
}

using Seal = Result<Bytes> (*)(ByteView, ByteView, ByteView, ByteView, std::size_t);

void check_aead(const AeadVector& vector, Seal seal, Seal open) {
  SCOPED_TRACE(vector.id);
  const Bytes key = hex(vector.key), nonce = hex(vector.nonce), aad = hex(vector.aad);
  const auto opened = open(key, nonce, aad, hex(vector.sealed), vector.tag_size);
  EXPECT_EQ(opened.ok(), vector.valid);
  if (!vector.valid) return;
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(*opened, hex(vector.plaintext));
  const auto sealed = seal(key, nonce, aad, hex(vector.plaintext), vector.tag_size);
  ASSERT_TRUE(sealed.ok());
  EXPECT_EQ(*sealed, hex(vector.sealed));
}

TEST(Ccm, known_answers) {
  for (const AeadVector& vector : kCcmVectors) check_aead(vector, seal_ccm, open_ccm);
}

TEST(ChaChaPoly, known_answers) {
  for (const AeadVector& vector : kChaChaVectors)
    check_aead(
        vector,
        [](ByteView k, ByteView n, ByteView a, ByteView t, std::size_t) { return seal_chacha(k, n, a, t); },
        [](ByteView k, ByteView n, ByteView a, ByteView t, std::size_t) { return open_chacha(k, n, a, t); });
}

TEST(Hkdf, known_answers) {
  for (const HkdfVector& vector : kHkdfVectors) {
    SCOPED_TRACE(vector.id);
    const Bytes output = hex(vector.output);
    const auto derived =
        hkdf_expand(hkdf_extract(hex(vector.salt), hex(vector.input)), hex(vector.info), output.size());
    ASSERT_TRUE(derived.ok());
    EXPECT_EQ(*derived, output);
  }
}

TEST(Hkdf, refuses_more_than_255_blocks) {
  EXPECT_TRUE(hkdf_expand(Bytes(32), {}, 255 * 32).ok());
  EXPECT_FALSE(hkdf_expand(Bytes(32), {}, 255 * 32 + 1).ok());
  EXPECT_FALSE(hkdf_expand(Bytes(32), {}, 0).ok());
}

TEST(X25519, known_answers_and_refusal_of_zero_results) {
  int refused = 0;
  for (const X25519Vector& vector : kX25519Vectors) {
    SCOPED_TRACE(vector.id);
    X25519Public peer{};
    const Bytes raw = hex(vector.public_key);
    std::copy(raw.begin(), raw.end(), peer.begin());
    const auto shared = x25519_shared(X25519Private::copy_of(hex(vector.private_key)), peer);
    const Bytes expected = hex(vector.shared);
    if (expected == Bytes(32)) {
      EXPECT_FALSE(shared.ok());
      ++refused;
      continue;
    }
    ASSERT_TRUE(shared.ok());
    EXPECT_EQ(to_bytes(shared->view()), expected);
  }
  EXPECT_GT(refused, 0);
}

TEST(Ccm, a_changed_bit_anywhere_is_refused_for_every_size) {
  const Bytes key(16, 7), nonce(13, 9), aad{1, 2, 3};
  for (std::size_t size : {0U, 1U, 15U, 16U, 17U, 100U}) {
    const Bytes sealed = seal_ccm(key, nonce, aad, Bytes(size, 0x5a)).value();
    ASSERT_EQ(sealed.size(), size + kTagSize);
    EXPECT_TRUE(open_ccm(key, nonce, aad, sealed).ok());
    for (std::size_t bit = 0; bit < sealed.size() * 8; ++bit) {
      Bytes forged = sealed;
      forged[bit / 8] = static_cast<std::uint8_t>(forged[bit / 8] ^ (1U << (bit % 8)));
      EXPECT_FALSE(open_ccm(key, nonce, aad, forged).ok()) << size << ' ' << bit;
    }
    EXPECT_FALSE(open_ccm(key, nonce, Bytes{1, 2, 4}, sealed).ok());
    EXPECT_FALSE(open_ccm(key, nonce, {}, sealed).ok());
    for (std::size_t cut = 0; cut < sealed.size(); ++cut)
      EXPECT_FALSE(open_ccm(key, nonce, aad, ByteView(sealed).first(cut)).ok());
  }
}

TEST(Aead, sizes_outside_the_algorithm_are_refused) {
  EXPECT_FALSE(seal_ccm(Bytes(15), Bytes(13), {}, {}).ok());
  EXPECT_FALSE(seal_ccm(Bytes(16), Bytes(14), {}, {}).ok());
  EXPECT_FALSE(seal_ccm(Bytes(16), Bytes(6), {}, {}).ok());
  EXPECT_FALSE(seal_ccm(Bytes(16), Bytes(13), {}, {}, 2).ok());
  EXPECT_FALSE(seal_ccm(Bytes(16), Bytes(13), {}, {}, 5).ok());
  EXPECT_FALSE(seal_ccm(Bytes(16), Bytes(13), {}, Bytes(kMaxPlaintext + 1)).ok());
  EXPECT_TRUE(seal_ccm(Bytes(16), Bytes(13), {}, Bytes(kMaxPlaintext)).ok());
  EXPECT_FALSE(seal_chacha(Bytes(16), Bytes(12), {}, {}).ok());
  EXPECT_FALSE(seal_chacha(Bytes(32), Bytes(13), {}, {}).ok());
}

}  // namespace
}  // namespace ravine::gateway::security
