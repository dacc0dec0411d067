#include "gateway/security/pairing.h"

#include <gtest/gtest.h>

#include <cctype>
#include <set>

#include "gateway/security/channel.h"
#include "gateway/security/test_store.h"

namespace ravine::gateway::security {
namespace {

Pairing sample(bool with_static, bool with_address) {
  SeededRandom random(21);
  Pairing pairing = Pairing::make(Role::far, std::nullopt, random);
  if (with_static) pairing.remote_static = StaticKey::random(random).public_key;
  if (with_address) pairing.address = HostPort{"far.example", 5683};
  return pairing;
}

TEST(Pairing, text_round_trips_in_every_shape_and_fits_a_qr_code) {
  for (const bool with_static : {false, true})
    for (const bool with_address : {false, true})
      for (const Role role : {Role::near, Role::far}) {
        Pairing pairing = sample(with_static, with_address);
        pairing.role = role;
        const std::string text = pairing.to_text();
        EXPECT_LE(text.size(), 160U);
        for (const char c : text) EXPECT_TRUE((c >= 'A' && c <= 'Z') || (c >= '1' && c <= '7')) << c;
        const auto parsed = Pairing::parse(text);
        ASSERT_TRUE(parsed.ok()) << parsed.error().message;
        EXPECT_EQ(parsed->role, role);
        EXPECT_TRUE(parsed->secret.equals(pairing.secret));
        EXPECT_EQ(parsed->remote_static, pairing.remote_static);
        ASSERT_EQ(parsed->address.has_value(), with_address);
        if (with_address) {
          EXPECT_EQ(parsed->address->host, "far.example");
          EXPECT_EQ(parsed->address->port, 5683);
        }
      }
}

TEST(Pairing, text_survives_people) {
  const Pairing pairing = sample(false, true);
  std::string sloppy;
  for (const char c : pairing.to_text()) {
    sloppy.push_back(c == 'O' && sloppy.size() > 8   ? '0'
                     : c == 'B' && sloppy.size() > 8 ? '8'
                                                     : static_cast<char>(std::tolower(c)));
    if (sloppy.size() % 7 == 0) sloppy += sloppy.size() % 2 == 0 ? " " : "-\n";
  }
  const auto parsed = Pairing::parse(sloppy);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_TRUE(parsed->secret.equals(pairing.secret));
}

TEST(Pairing, mistakes_are_named) {
  const std::string text = sample(true, true).to_text();
  for (std::size_t cut = 0; cut < text.size(); ++cut) EXPECT_FALSE(Pairing::parse(text.substr(0, cut)).ok());
  for (std::size_t i = 4; i < text.size(); ++i) {
    std::string mistyped = text;
    mistyped[i] = mistyped[i] == 'A' ? 'C' : 'A';
    EXPECT_FALSE(Pairing::parse(mistyped).ok()) << i;
  }
  EXPECT_NE(Pairing::parse("RV1ABC").error().message.find("not a pairing code"), std::string::npos);
  EXPECT_NE(Pairing::parse("RVG1AB*C").error().message.find("character 7"), std::string::npos);
  EXPECT_NE(Pairing::parse("RVG1ABC").error().message.find("cut off"), std::string::npos);
  EXPECT_FALSE(Pairing::parse(std::string(100000, 'A')).ok());
}

TEST(Pairing, gives_both_sides_a_channel_with_nothing_on_the_air) {
  SeededRandom random(4);
  const Pairing made = Pairing::make(Role::far, std::nullopt, random);
  const Pairing read = Pairing::parse(made.to_text()).value();
  TestStore near_store, far_store;
  SecureChannel near =
      SecureChannel::make(made.channel_secret(), other(made.role), near_store, random, {}).value();
  SecureChannel far = SecureChannel::make(read.channel_secret(), read.role, far_store, random, {}).value();
  EXPECT_EQ(near.connection_id(), far.connection_id());
  const auto opened = far.open(near.seal_message(as_bytes("first")).value().bytes);
  ASSERT_TRUE(opened);
  EXPECT_EQ(as_text(opened->plaintext), "first");
}

TEST(Pairing, brings_back_a_side_that_lost_its_state_by_noise) {
  SeededRandom random(6);
  const Pairing pairing = Pairing::make(Role::near, std::nullopt, random);
  const auto side = [&](Role role) {
    NoiseOptions options;
    options.pattern = NoisePattern::kk_psk0;
    options.initiator = role == Role::near;
    options.prologue = to_bytes(as_bytes(kNoisePrologue));
    options.local = pairing.recovery_key(role);
    options.remote = pairing.recovery_key(other(role)).public_key;
    options.psk = pairing.noise_psk();
    return NoiseHandshake::make(std::move(options), random).value();
  };
  NoiseHandshake near = side(Role::near), far = side(Role::far);
  ASSERT_TRUE(far.read_message(near.write_message(as_bytes("request")).value()).ok());
  ASSERT_TRUE(near.read_message(far.write_message({}).value()).ok());
  EXPECT_TRUE(near.gateway_secret().equals(far.gateway_secret()));
  EXPECT_FALSE(near.gateway_secret().equals(pairing.channel_secret()));
}

TEST(Keys, every_use_has_its_own_key) {
  SeededRandom random(8);
  const GatewaySecret secret = GatewaySecret::random(random);
  std::set<Bytes> keys;
  for (const Role role : {Role::near, Role::far})
    for (const FrameKind kind : {FrameKind::message, FrameKind::answer}) {
      const FrameKeys frame_keys = derive_frame_keys(secret, role, kind);
      EXPECT_TRUE(keys.insert(to_bytes(frame_keys.key.view())).second);
      EXPECT_TRUE(keys.insert(to_bytes(frame_keys.iv.view())).second);
    }
  TestStore store;
  const auto near =
      OscoreContext::make(derive_oscore(secret, Role::near, derive_connection_id(secret), 0), store);
  const auto far =
      OscoreContext::make(derive_oscore(secret, Role::far, derive_connection_id(secret), 0), store);
  ASSERT_TRUE(near.ok() && far.ok());
  EXPECT_TRUE(keys.insert(to_bytes(near->sender_key())).second);
  EXPECT_TRUE(keys.insert(to_bytes(far->sender_key())).second);
  EXPECT_EQ(to_bytes(near->sender_key()), to_bytes(far->recipient_key()));
}

TEST(Keys, from_a_mesh_session_depend_on_exporter_and_both_peers_in_order) {
  const Bytes exported(32, 1), other_exported(32, 2);
  const Bytes a(32, 3), b(32, 4);
  const auto secret = secret_from_exporter(exported, a, b);
  ASSERT_TRUE(secret.ok());
  EXPECT_TRUE(secret->equals(secret_from_exporter(exported, a, b).value()));
  EXPECT_FALSE(secret->equals(secret_from_exporter(exported, b, a).value()));
  EXPECT_FALSE(secret->equals(secret_from_exporter(other_exported, a, b).value()));
  EXPECT_FALSE(secret_from_exporter(Bytes(31), a, b).ok());
}

}  // namespace
}  // namespace ravine::gateway::security
