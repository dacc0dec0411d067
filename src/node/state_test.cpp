// What is on disk: the authority's files, memberships, the peer cache.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "host/file.h"
#include "node/ca_store.h"
#include "node/peer_cache.h"

namespace ravine::node {
namespace {

using testing::HasSubstr;

class State : public testing::Test {
 protected:
  State() : random_(7) {
    std::string pattern = testing::TempDir() + "rv-state-XXXXXX";
    state_ = StateDir(::mkdtemp(pattern.data()));
  }
  ~State() override { std::filesystem::remove_all(state_.path()); }
  void found() {
    const auto made = CaStore::init(state_, {.network = "home", .node_name = "alpha"}, kNow, random_);
    ASSERT_TRUE(made) << made.error().message;
  }
  Result<Member> load(UnixTime now = kNow) { return load_member(state_, {"home", "", {}}, now); }

  static constexpr UnixTime kNow{1795000000};
  SeededRandom random_;
  StateDir state_{""};
};

TEST_F(State, founding_gives_a_membership_that_loads) {
  found();
  const auto member = load();
  ASSERT_TRUE(member) << member.error().message;
  EXPECT_EQ(member->leaf().name, "alpha");
  EXPECT_EQ(member->leaf().overlay, member->overlay());
  EXPECT_EQ(configured_networks(state_, {})->size(), 1u);
}

TEST_F(State, founding_twice_is_refused_and_changes_nothing) {
  found();
  const auto before = load()->id();
  EXPECT_EQ(CaStore::init(state_, {.network = "home", .node_name = "b"}, kNow, random_).error().kind,
            ErrorKind::already_exists);
  EXPECT_EQ(load()->id(), before);
}

TEST_F(State, founding_that_was_killed_before_its_last_file_can_be_repeated) {
  found();
  std::filesystem::remove(state_.ca() + "/network");
  found();
  EXPECT_TRUE(load());
}

TEST_F(State, certificate_is_good_through_its_grace_and_no_longer) {
  found();
  const UnixTime end = load()->leaf().not_after;
  EXPECT_EQ(load(end + std::chrono::days(59))->unusable, "");
  EXPECT_NE(load(end + std::chrono::days(61))->unusable, "");
  EXPECT_NE(load(kNow - std::chrono::days(2))->unusable, "");
}

TEST_F(State, grace_is_as_long_as_the_configuration_says) {
  found();
  const UnixTime end = load()->leaf().not_after;
  const NetworkConfig strict{.name = "home", .directory = {}, .pinned = {}, .grace = std::chrono::hours(1)};
  EXPECT_EQ(load_member(state_, strict, end + std::chrono::minutes(59))->unusable, "");
  EXPECT_NE(load_member(state_, strict, end + std::chrono::minutes(61))->unusable, "");
}

TEST_F(State, lifetime_of_certificates_stays_as_it_was_set) {
  found();
  ASSERT_TRUE(CaStore::open(state_, nullptr, kNow)->set_lifetime(std::chrono::hours(12)));
  auto ca = CaStore::open(state_, nullptr, kNow);
  ASSERT_TRUE(ca);
  ASSERT_TRUE(ca->renew_own(kNow, random_));
  EXPECT_EQ(load()->leaf().not_after, kNow + std::chrono::hours(12));
  EXPECT_FALSE(ca->set_lifetime(std::chrono::seconds(9)));
}

TEST_F(State, certificate_of_another_key_is_refused) {
  found();
  ASSERT_TRUE(save_key(state_.network("home") + "/key.pem", identity::PrivateKey::generate(random_)));
  const auto member = load();
  ASSERT_FALSE(member);
  EXPECT_THAT(member.error().message, HasSubstr("is not the certificate of"));
}

TEST_F(State, key_that_others_can_read_is_refused_with_the_remedy) {
  found();
  ::chmod((state_.network("home") + "/key.pem").c_str(), 0640);
  const auto member = load();
  ASSERT_FALSE(member);
  EXPECT_EQ(member.error().kind, ErrorKind::refused);
  EXPECT_THAT(member.error().message, HasSubstr("chmod"));
}

TEST_F(State, revocation_survives_a_reopened_authority_and_replaces_the_secret) {
  found();
  const auto version = load()->secrets.newest().version;
  {
    auto ca = CaStore::open(state_, nullptr, kNow);
    ASSERT_TRUE(ca);
    ASSERT_TRUE(ca->issue_to(state_.path() + "/box", {.name = "box"}, kNow, random_));
    ASSERT_TRUE(ca->revoke("box", kNow, random_));
  }
  const auto member = load();
  ASSERT_TRUE(member);
  EXPECT_EQ(member->trust->revocations().number(), 1u);
  EXPECT_EQ(member->secrets.newest().version, version + 1);
  auto again = CaStore::open(state_, nullptr, kNow);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->authority().find_live("box", kNow), nullptr);
}

TEST_F(State, replaced_root_keeps_addresses_and_needs_the_passphrase) {
  const auto made = CaStore::init(
      state_, {.network = "home", .node_name = "alpha", .passphrase = "correct horse"}, kNow, random_);
  ASSERT_TRUE(made);
  const IpAddress address = load()->overlay();
  auto ca = CaStore::open(state_, nullptr, kNow);
  ASSERT_TRUE(ca);
  EXPECT_EQ(ca->rotate_root("", "", kNow, random_).error().kind, ErrorKind::unauthenticated);
  const auto rotated = ca->rotate_root("correct horse", "", kNow, random_);
  ASSERT_TRUE(rotated) << rotated.error().message;
  const auto member = load();
  ASSERT_TRUE(member) << member.error().message;
  EXPECT_EQ(member->overlay(), address);
  EXPECT_EQ(member->trust->roots().size(), 2u);
}

TEST_F(State, damaged_peer_cache_is_an_empty_one) {
  std::ofstream(state_.peers()) << "[{";
  std::string fault;
  EXPECT_TRUE(PeerCache::load(state_.peers(), &fault).peers().empty());
  EXPECT_THAT(fault, HasSubstr("damaged"));
}

TEST_F(State, peer_cache_returns_what_it_stored) {
  CachedPeer peer{.network = "home", .name = "box", .groups = {"ops"}};
  peer.id.bytes[0] = 9;
  peer.addresses = {{IpAddress::v4({192, 0, 2, 1}), 4717}};
  PeerCache cache;
  ASSERT_TRUE(cache.store(state_.peers(), {peer}));
  EXPECT_EQ(PeerCache::load(state_.peers(), nullptr).peers(), std::vector<CachedPeer>{peer});
}

}  // namespace
}  // namespace ravine::node
