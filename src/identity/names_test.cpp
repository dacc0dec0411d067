#include <gtest/gtest.h>

#include "identity/allow_list.h"
#include "identity/clock_floor.h"
#include "identity/fuse_name.h"
#include "identity/network_secret.h"
#include "identity/test_network.h"

namespace ravine::identity {
namespace {

TEST(NodeName, follows_the_rule_of_dns_labels_and_never_looks_like_an_id) {
  for (const char* good :
       {"a", "web", "web-1", "0", "abcdefghijklmnop1", "abcdefghijklmno1", "abc-efghijklmnop"})
    EXPECT_TRUE(is_valid_node_name(good)) << good;
  EXPECT_TRUE(is_valid_node_name(std::string(63, 'a')));
  for (const char* bad :
       {"", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", "abcdefghijklmnop", "a234567a234567aa"})
    EXPECT_FALSE(is_valid_node_name(bad)) << bad;
  EXPECT_FALSE(is_valid_node_name(std::string(64, 'a')));
  EXPECT_FALSE(is_valid_node_name(std::string_view("a\0b", 3)));
}

TEST(FuseName, knows_its_four_forms) {
  const auto name = FuseName::parse("Web.FUSE.");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->kind, FuseName::Kind::name);
  EXPECT_EQ(name->peer, "web");
  EXPECT_EQ(name->network, "");
  const auto in_network = FuseName::parse("web.home.fuse");
  ASSERT_TRUE(in_network);
  EXPECT_EQ(in_network->network, "home");
  EXPECT_EQ(in_network->to_text(), "web.home.fuse");
  const auto id = FuseName::parse("ABCDEFGHIJKLMNOP.fuse");
  ASSERT_TRUE(id);
  EXPECT_EQ(id->kind, FuseName::Kind::peer_id);
  EXPECT_EQ(id->peer, "abcdefghijklmnop");
  EXPECT_EQ(FuseName::parse("abcdefghijklmnop.home.fuse")->kind, FuseName::Kind::peer_id);
}

TEST(FuseName, refuses_everything_else) {
  for (const char* bad :
       {"", "fuse", ".fuse", "web", "web.fusee", "webfuse", "a.b.c.fuse", "-web.fuse", "web..fuse",
        "web.-home.fuse", "web.fuse..", "we b.fuse", ".web.fuse", "web.abcdefghijklmnop.fuse"})
    EXPECT_FALSE(FuseName::parse(bad)) << bad;
  EXPECT_FALSE(FuseName::parse(std::string(300, 'a') + ".fuse"));
  EXPECT_TRUE(is_under_fuse("a.b.c.Fuse."));
  EXPECT_TRUE(is_under_fuse("-web.fuse"));
  EXPECT_FALSE(is_under_fuse("web.fuse.org"));
}

VerifiedPeer peer_named(std::string name, std::vector<std::string> groups) {
  SeededRandom random(9);
  VerifiedPeer peer;
  peer.id = PrivateKey::generate(random).id();
  peer.name = std::move(name);
  peer.groups = std::move(groups);
  return peer;
}

bool allows(std::vector<std::string> entries, const VerifiedPeer& peer) {
  return take(AllowList::parse(entries)).allows(peer);
}

TEST(AllowList, denies_by_default_and_matches_name_id_group_and_everyone) {
  const VerifiedPeer peer = peer_named("web", {"ops"});
  EXPECT_FALSE(AllowList().allows(peer));
  EXPECT_FALSE(allows({}, peer));
  EXPECT_TRUE(allows({"db", "Web"}, peer));
  EXPECT_FALSE(allows({"db"}, peer));
  EXPECT_TRUE(allows({"group:ops"}, peer));
  EXPECT_FALSE(allows({"group:web", "ops"}, peer));
  EXPECT_TRUE(allows({peer.id.to_text()}, peer));
  EXPECT_FALSE(allows({PeerId{}.to_text()}, peer));
  EXPECT_TRUE(allows({"*"}, peer));
}

TEST(AllowList, knows_a_peer_by_a_former_key_and_ignores_an_empty_name) {
  VerifiedPeer peer = peer_named("", {});
  const PeerId former = peer.id;
  peer.id = PeerId{};
  EXPECT_FALSE(allows({former.to_text()}, peer));
  peer.former_ids.push_back(former);
  EXPECT_TRUE(allows({former.to_text()}, peer));
}

TEST(AllowList, names_the_entry_that_is_wrong) {
  const std::vector<std::string> bad{"web", "group:"};
  expect_error(AllowList::parse(bad), ErrorKind::invalid_argument, "\"group:\"");
  const std::vector<std::string> dotted{"web.fuse"};
  expect_error(AllowList::parse(dotted), ErrorKind::invalid_argument, "web.fuse");
  const std::vector<std::string> many(kMaxAllowEntries + 1, "web");
  expect_error(AllowList::parse(many), ErrorKind::limit_reached, "1024");
}

TEST(ClockFloor, follows_signed_times_and_never_the_local_clock) {
  ClockFloor floor;
  EXPECT_EQ(floor.apply(UnixTime{0}), kBuildClockFloor);
  EXPECT_EQ(floor.apply(kTestNow), kTestNow);
  floor.raise(kTestNow);
  EXPECT_EQ(floor.apply(kBuildClockFloor), kTestNow);
  EXPECT_EQ(floor.apply(kTestNow + std::chrono::days(3650)), kTestNow + std::chrono::days(3650));
  EXPECT_EQ(floor.value(), kTestNow);  // ten years ahead left no trace
  EXPECT_EQ(ClockFloor(UnixTime{5}).value(), kBuildClockFloor);
}

NetworkSecret secret_of(std::uint32_t version, std::uint64_t seed) {
  SeededRandom random(seed);
  return NetworkSecret::make(version, random);
}

TEST(NetworkSecret, names_change_daily_and_are_one_dns_label) {
  const NetworkSecret secret = secret_of(1, 1);
  const UnixTime midnight{kTestNow.seconds / 86400 * 86400};
  EXPECT_EQ(secret.server_name(midnight), secret.server_name(midnight + std::chrono::seconds(86399)));
  EXPECT_NE(secret.server_name(midnight), secret.server_name(midnight + kDay));
  EXPECT_NE(secret.server_name(midnight), secret_of(1, 2).server_name(midnight));
  EXPECT_EQ(secret.server_name(midnight).size(), 26u);
  EXPECT_EQ(secret.server_name(midnight).find_first_not_of("abcdefghijklmnopqrstuvwxyz234567"),
            std::string::npos);
}

TEST(NetworkSecret, server_name_matches_a_vector_of_an_independent_implementation) {
  const NetworkSecret secret{1, Secret<32>()};
  // Python: base32(hmac.new(bytes(32), b"ravine server name\0" + (0x5161).to_bytes(8, "big"),
  // "sha256").digest()[:16])
  EXPECT_EQ(secret.server_name(UnixTime{std::int64_t{0x5161} * 86400 + 5}), "723ymbii37oxo2um6juus2i5hu");
}

TEST(NetworkSecrets, lists_today_of_the_newest_first) {
  NetworkSecrets secrets;
  EXPECT_TRUE(secrets.add(secret_of(1, 1)));
  EXPECT_TRUE(secrets.add(secret_of(2, 2)));
  EXPECT_FALSE(secrets.add(secret_of(2, 2)));
  const auto names = secrets.server_names(kTestNow);
  ASSERT_EQ(names.size(), 6u);
  EXPECT_EQ(names[0], secret_of(2, 2).server_name(kTestNow));
  EXPECT_EQ(names[1], secret_of(2, 2).server_name(kTestNow - kDay));
  EXPECT_EQ(names[2], secret_of(2, 2).server_name(kTestNow + kDay));
  EXPECT_EQ(names[3], secret_of(1, 1).server_name(kTestNow));
}

TEST(NetworkSecrets, keeps_the_newest_four_and_survives_storage) {
  NetworkSecrets secrets;
  for (std::uint32_t version = 1; version <= 6; ++version) secrets.add(secret_of(version, version));
  EXPECT_FALSE(secrets.add(secret_of(1, 1)));
  ASSERT_EQ(secrets.all().size(), kMaxSecretVersions);
  EXPECT_EQ(secrets.all().back().version, 3u);
  const Bytes encoded = secrets.encode();
  EXPECT_EQ(take(NetworkSecrets::decode(encoded)).server_names(kTestNow), secrets.server_names(kTestNow));
  for (std::size_t size = 0; size < encoded.size(); ++size)
    EXPECT_FALSE(NetworkSecrets::decode(ByteView(encoded).first(size)).ok());
}

TEST(PinnedNetwork, both_sides_derive_the_same_from_the_code) {
  const Secret<16> secret(std::array<std::uint8_t, 16>{1, 2, 3});
  EXPECT_EQ(PinnedNetwork::derive_from(secret).network, PinnedNetwork::derive_from(secret).network);
  EXPECT_NE(PinnedNetwork::derive_from(secret).network, PinnedNetwork::derive_from(Secret<16>()).network);
  EXPECT_NE(join_server_name(secret), PinnedNetwork::derive_from(secret).secret.server_name(kTestNow));
}

}  // namespace
}  // namespace ravine::identity
