#include "identity/key.h"

#include <gtest/gtest.h>

#include "identity/openssl_fixture.h"
#include "identity/test_network.h"

namespace ravine::identity {
namespace {

TEST(Key, matches_the_published_ed25519_vector) {  // RFC 8032 §7.1, test 3
  const Bytes seed = *decode_hex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7");
  const PrivateKey key = PrivateKey::from_seed(Secret<32>::copy_of(seed));
  EXPECT_EQ(encode_hex(key.public_key().raw()),
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
  const Bytes message = *decode_hex("af82");
  EXPECT_EQ(encode_hex(key.sign(message)),
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a");
  EXPECT_TRUE(key.public_key().verify(message, key.sign(message)));
  EXPECT_FALSE(key.public_key().verify(as_bytes("other"), key.sign(message)));
  EXPECT_FALSE(key.public_key().verify(message, ByteView(key.sign(message)).first(63)));
}

TEST(Key, derives_the_same_key_from_the_same_seed_and_none_twice) {
  SeededRandom first(7), second(7);
  const PrivateKey a = PrivateKey::generate(first), b = PrivateKey::generate(second);
  EXPECT_EQ(a.id(), b.id());
  EXPECT_NE(PrivateKey::generate(first).id(), a.id());
}

TEST(Key, reads_keys_that_openssl_wrote) {
  const PrivateKey plain = take(PrivateKey::from_pem(fixture::kKey));
  EXPECT_EQ(encode_hex(plain.id().view()), fixture::kLeafHash);
  const PrivateKey opened = take(PrivateKey::from_pem(fixture::kEncryptedKey, "correct-horse"));
  EXPECT_EQ(opened.id(), plain.id());
  EXPECT_TRUE(is_encrypted_pem(fixture::kEncryptedKey));
  EXPECT_FALSE(is_encrypted_pem(fixture::kKey));
}

TEST(Key, tells_a_missing_and_a_wrong_passphrase_apart_from_damage) {
  expect_error(PrivateKey::from_pem(fixture::kEncryptedKey), ErrorKind::unauthenticated, "no passphrase");
  expect_error(PrivateKey::from_pem(fixture::kEncryptedKey, "wrong-horse"), ErrorKind::unauthenticated,
               "passphrase");
  expect_error(PrivateKey::from_pem(fixture::kKey.substr(0, 60)), ErrorKind::invalid_argument, "is missing");
  expect_error(PrivateKey::from_pem("hello"), ErrorKind::invalid_argument, "exactly one");
  expect_error(PrivateKey::from_pem(fixture::kLeaf), ErrorKind::invalid_argument, "exactly one");
  const std::string twice = std::string(fixture::kKey) + std::string(fixture::kKey);
  expect_error(PrivateKey::from_pem(twice), ErrorKind::invalid_argument, "exactly one");
}

TEST(Key, survives_a_round_trip_with_and_without_passphrase) {
  SeededRandom random(3);
  const PrivateKey key = PrivateKey::generate(random);
  EXPECT_EQ(take(PrivateKey::from_pem(key.to_pem())).id(), key.id());
  const std::string pem = take(key.to_encrypted_pem("a long enough one", random));
  EXPECT_EQ(pem.find(encode_hex(key.pkcs8())), pem.npos);
  EXPECT_EQ(take(PrivateKey::from_pem(pem, "a long enough one")).id(), key.id());
  expect_error(PrivateKey::from_pem(pem, "a long enough two"), ErrorKind::unauthenticated, "passphrase");
  expect_error(key.to_encrypted_pem("short", random), ErrorKind::invalid_argument, "fewer than 8");
}

TEST(Key, takes_only_the_one_encoding_of_a_public_key) {
  SeededRandom random(3);
  const PublicKey key = PrivateKey::generate(random).public_key();
  Bytes spki = key.spki();
  EXPECT_EQ(PublicKey::from_spki(spki), key);
  for (std::size_t size = 0; size < spki.size(); ++size)
    EXPECT_FALSE(PublicKey::from_spki(ByteView(spki).first(size)));
  spki.push_back(0);
  EXPECT_FALSE(PublicKey::from_spki(spki));
}

TEST(PeerId, has_a_text_form_of_16_characters_in_either_case) {
  SeededRandom random(3);
  const PeerId id = PrivateKey::generate(random).id();
  const std::string text = id.to_text();
  EXPECT_EQ(text.size(), kPeerIdTextSize);
  std::string upper = text;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  EXPECT_TRUE(id.matches_text(text));
  EXPECT_TRUE(id.matches_text(upper));
  EXPECT_FALSE(id.matches_text(text.substr(1)));
  EXPECT_FALSE(PeerId{}.matches_text(text));
  EXPECT_EQ(encode_base32(*parse_peer_id_text(text)), text);
}

TEST(Overlay, address_is_prefix_network_and_peer) {
  NetworkHash network;
  PeerId peer;
  for (std::size_t i = 0; i < 32; ++i) {
    network.bytes[i] = static_cast<std::uint8_t>(0x10 + i);
    peer.bytes[i] = static_cast<std::uint8_t>(0xa0 + i);
  }
  EXPECT_EQ(overlay_address(network, peer).to_text(), "fdcc:1011:1213:a0a1:a2a3:a4a5:a6a7:a8a9");
  EXPECT_EQ(overlay_prefix(network).to_text(), "fdcc:1011:1213::");
  EXPECT_TRUE(is_overlay_of(network, overlay_address(network, peer)));
  EXPECT_FALSE(is_overlay_of(NetworkHash{}, overlay_address(network, peer)));
  EXPECT_EQ(NetworkHash::parse(network.to_text()), network);
  EXPECT_FALSE(NetworkHash::parse("abc"));
}

}  // namespace
}  // namespace ravine::identity
