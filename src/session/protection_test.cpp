// Packet protection against RFC 9001 appendix A, for every backend that this machine has.
#include <gtest/gtest.h>

#include <memory>

#include "base/machine.h"
#include "session/packet_protection.h"

namespace ravine::session {
namespace {

Bytes hex(std::string_view text) {
  return *decode_hex(text);
}

class Protection : public testing::TestWithParam<ProtectionBackend> {
 protected:
  void SetUp() override {
    if (resolve_protection(GetParam()) != GetParam()) GTEST_SKIP() << "this CPU or build lacks the backend";
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, Protection,
                         testing::Values(ProtectionBackend::ipsec_mb, ProtectionBackend::gnutls),
                         [](const auto& parameter) {
                           return parameter.param == ProtectionBackend::gnutls ? "gnutls" : "ipsec_mb";
                         });

TEST(KeyDerivation, matches_appendix_a1) {
  InitialSecrets secrets;
  ASSERT_TRUE(derive_initial_secrets(secrets, hex("8394c8f03e515708")));
  EXPECT_EQ(encode_hex(secrets.client), "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea");
  EXPECT_EQ(encode_hex(secrets.server), "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b");
  PacketKeys client, server;
  ASSERT_TRUE(derive_packet_keys(client, AeadAlgorithm::aes_128_gcm, secrets.client));
  ASSERT_TRUE(derive_packet_keys(server, AeadAlgorithm::aes_128_gcm, secrets.server));
  EXPECT_EQ(encode_hex(ByteView(client.key).first(16)), "1f369613dd76d5467730efcbe3b1a22d");
  EXPECT_EQ(encode_hex(client.iv), "fa044b2f42a3fd3b46fb255c");
  EXPECT_EQ(encode_hex(ByteView(client.header).first(16)), "9f50449e04a0e810283a1e9933adedd2");
  EXPECT_EQ(encode_hex(ByteView(server.key).first(16)), "cf3a5331653c364c88f0f379b6067e37");
  EXPECT_EQ(encode_hex(server.iv), "0ac1493ca1905853b0bba03e");
  EXPECT_EQ(encode_hex(ByteView(server.header).first(16)), "c206b8d9b9f0f37644430b490eeaa314");
}

// Appendix A.3: the server's Initial, whole.
TEST_P(Protection, seals_and_opens_the_servers_initial_of_appendix_a3) {
  const Bytes key = hex("cf3a5331653c364c88f0f379b6067e37"), iv = hex("0ac1493ca1905853b0bba03e");
  const Bytes header = hex("c1000000010008f067a5502a4262b50040750001");
  const Bytes plain =
      hex("02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a120013"
          "0100002e003"
          "3"
          "00240000001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00020304");
  Bytes nonce = iv;
  nonce[11] ^= 1;  // packet number 1
  AeadKey aead(GetParam(), AeadAlgorithm::aes_128_gcm, key.data());
  Bytes sealed(plain.size() + kTagSize), opened(plain.size());
  ASSERT_TRUE(aead.seal(sealed.data(), plain, nonce.data(), header));
  ASSERT_TRUE(aead.open(opened.data(), sealed, nonce.data(), header));
  EXPECT_EQ(opened, plain);

  // The protected packet of the RFC: its sample starts 4 bytes after the packet number's place.
  const Bytes header_key = hex("c206b8d9b9f0f37644430b490eeaa314");
  HeaderKey mask_key(GetParam(), AeadAlgorithm::aes_128_gcm, header_key.data());
  std::array<std::uint8_t, kHeaderMaskSize> mask;
  ASSERT_TRUE(mask_key.mask(mask.data(), sealed.data() + 2));
  EXPECT_EQ(encode_hex(ByteView(sealed).subspan(2, 16)), "2cd0991cd25b0aac406a5816b6394100");
  EXPECT_EQ(encode_hex(mask), "2ec0d8356a");
  EXPECT_EQ(header[0] ^ (mask[0] & 0x0f), 0xcf);
  EXPECT_EQ(header[18] ^ mask[1], 0xc0);
  EXPECT_EQ(header[19] ^ mask[2], 0xd9);
}

// Appendix A.5: a packet with a short header under ChaCha20-Poly1305.
TEST_P(Protection, seals_and_opens_the_short_header_packet_of_appendix_a5) {
  PacketKeys keys;
  const Bytes secret = hex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b");
  ASSERT_TRUE(derive_packet_keys(keys, AeadAlgorithm::chacha20_poly1305, secret));
  EXPECT_EQ(encode_hex(keys.key), "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8");
  EXPECT_EQ(encode_hex(keys.iv), "e0459b3474bdd0e44a41c144");
  Bytes nonce(keys.iv.begin(), keys.iv.end());
  const std::uint32_t number = 654360564;
  for (int i = 0; i < 4; ++i)
    nonce[8 + static_cast<std::size_t>(i)] ^= static_cast<std::uint8_t>(number >> (24 - 8 * i));
  const Bytes header = hex("4200bff4"), plain = hex("01");
  AeadKey aead(GetParam(), AeadAlgorithm::chacha20_poly1305, keys.key.data());
  Bytes sealed(plain.size() + kTagSize), opened(plain.size());
  ASSERT_TRUE(aead.seal(sealed.data(), plain, nonce.data(), header));
  EXPECT_EQ(encode_hex(sealed), "655e5cd55c41f69080575d7999c25a5bfb");
  ASSERT_TRUE(aead.open(opened.data(), sealed, nonce.data(), header));
  EXPECT_EQ(opened, plain);
  HeaderKey mask_key(GetParam(), AeadAlgorithm::chacha20_poly1305, keys.header.data());
  std::array<std::uint8_t, kHeaderMaskSize> mask;
  ASSERT_TRUE(mask_key.mask(mask.data(), sealed.data() + 1));
  EXPECT_EQ(encode_hex(mask), "aefefe7d03");
  EXPECT_EQ(header[0] ^ (mask[0] & 0x1f), 0x4c);
}

TEST_P(Protection, refuses_every_altered_byte) {
  for (const auto algorithm : {AeadAlgorithm::aes_128_gcm, AeadAlgorithm::chacha20_poly1305}) {
    const Bytes key(32, 1), nonce(12, 2), associated(20, 3), plain(100, 4);
    AeadKey aead(GetParam(), algorithm, key.data());
    Bytes sealed(plain.size() + kTagSize), opened(sealed.size());
    ASSERT_TRUE(aead.seal(sealed.data(), plain, nonce.data(), associated));
    for (std::size_t i = 0; i < sealed.size(); ++i) {
      Bytes altered = sealed;
      altered[i] ^= 0x10;
      EXPECT_FALSE(aead.open(opened.data(), altered, nonce.data(), associated)) << i;
    }
    EXPECT_FALSE(aead.open(opened.data(), ByteView(sealed).first(15), nonce.data(), associated));
    EXPECT_FALSE(aead.open(opened.data(), sealed, nonce.data(), ByteView(associated).first(19)));
    EXPECT_TRUE(aead.open(opened.data(), sealed, nonce.data(), associated));
  }
}

TEST_P(Protection, agrees_with_the_other_backend_at_every_size) {
  SeededRandom random(1);
  for (const auto algorithm : {AeadAlgorithm::aes_128_gcm, AeadAlgorithm::chacha20_poly1305}) {
    Bytes key(32), nonce(12), associated(20), plain(2000);
    for (Bytes* bytes : {&key, &nonce, &associated, &plain}) random.fill(*bytes);
    AeadKey ours(GetParam(), algorithm, key.data()),
        reference(ProtectionBackend::gnutls, algorithm, key.data());
    for (std::size_t size = 0; size <= plain.size(); size += size < 70 ? 1 : 97) {
      const ByteView part = ByteView(plain).first(size);
      Bytes in_place(plain);
      Bytes expected(size + kTagSize);
      in_place.resize(std::max(in_place.size(), size + kTagSize));
      ASSERT_TRUE(ours.seal(in_place.data(), ByteView(in_place).first(size), nonce.data(), associated));
      ASSERT_TRUE(reference.seal(expected.data(), part, nonce.data(), associated));
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), in_place.begin())) << size;
    }
  }
}

// Trap 18: key tables need 64-byte alignment, wherever the allocator puts them.
TEST(ProtectionTraps, no_18_key_tables_are_aligned_at_any_address) {
  std::vector<std::unique_ptr<AeadKey>> keys;
  std::vector<std::unique_ptr<char[]>> spacers;
  const Bytes key(16, 1), nonce(12, 2), plain(64, 3);
  Bytes sealed(plain.size() + kTagSize);
  for (std::size_t i = 0; i < 200; ++i) {
    keys.push_back(std::make_unique<AeadKey>(resolve_protection(ProtectionBackend::automatic),
                                             AeadAlgorithm::aes_128_gcm, key.data()));
    spacers.push_back(std::make_unique<char[]>(8 + i * 8));
    ASSERT_TRUE(keys.back()->seal(sealed.data(), plain, nonce.data(), {}));
  }
}

}  // namespace
}  // namespace ravine::session
