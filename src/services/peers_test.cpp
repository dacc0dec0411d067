#include "services/peers.h"

#include <gtest/gtest.h>

#include "services/streams.h"

namespace ravine::services {
namespace {

constexpr session::NetworkId kHome{0}, kWork{1};

identity::PeerId id_of(std::uint8_t seed) {
  identity::PeerId id;
  id.bytes.fill(seed);
  return id;
}

identity::VerifiedPeer verified(std::string name, std::uint8_t seed) {
  identity::VerifiedPeer peer;
  peer.id = id_of(seed);
  peer.name = std::move(name);
  return peer;
}

class Directory : public testing::Test {
 protected:
  Directory() {
    directory_.add_network(kHome, "home", *IpAddress::parse("fdcc:1:1::"));
    directory_.add_network(kWork, "work", *IpAddress::parse("fdcc:2:2::"));
  }
  StaticPeer peer(session::NetworkId network, std::string name, std::string short_id = {}) {
    StaticPeer made;
    made.network = network;
    made.name = std::move(name);
    made.short_id = std::move(short_id);
    made.addresses = {{"192.0.2.1", 4717}};
    return made;
  }
  PeerDirectory directory_;
};

TEST_F(Directory, finds_a_peer_in_every_form_of_its_name) {
  ASSERT_TRUE(directory_.add_static(peer(kHome, "web")));
  for (const char* host : {"web.fuse", "web", "WEB.fuse", "web.home.fuse"}) {
    EXPECT_TRUE(directory_.find(host)) << host;
  }
  for (const char* host : {"other.fuse", "web.work.fuse", "web.nowhere.fuse", "a.b.c.fuse", ""}) {
    const auto found = directory_.find(host);
    ASSERT_FALSE(found) << host;
    EXPECT_EQ(found.error().kind, ErrorKind::not_found);
  }
}

TEST_F(Directory, asks_which_network_when_two_know_the_name) {
  ASSERT_TRUE(directory_.add_static(peer(kHome, "web")));
  ASSERT_TRUE(directory_.add_static(peer(kWork, "web")));
  const auto found = directory_.find("web.fuse");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ((*directory_.find("web.work.fuse"))->network, kWork);
}

TEST_F(Directory, refuses_peers_that_are_nobody_twice_or_misspelled) {
  EXPECT_FALSE(directory_.add_static(peer(kHome, "")));
  EXPECT_FALSE(directory_.add_static(peer(kHome, "", "tooshort")));
  ASSERT_TRUE(directory_.add_static(peer(kHome, "web")));
  EXPECT_EQ(directory_.add_static(peer(kHome, "web")).error().kind, ErrorKind::already_exists);
}

TEST_F(Directory, learns_who_a_static_name_is) {
  ASSERT_TRUE(directory_.add_static(peer(kHome, "web")));
  const SocketAddress from{*IpAddress::parse("198.51.100.7"), 999};
  const PeerHandle learned = directory_.learn({1}, kHome, verified("web", 9), from);
  EXPECT_EQ(directory_.peers().size(), 1u);
  EXPECT_EQ(*directory_.find(id_of(9).to_text() + ".fuse"), learned);
  EXPECT_EQ(learned->learned, std::vector{from});
  EXPECT_EQ(learned->addresses.size(), 1u);
}

TEST_F(Directory, gives_a_name_to_the_key_that_proved_it_last) {
  directory_.learn({1}, kHome, verified("web", 1), std::nullopt);
  const PeerHandle newer = directory_.learn({2}, kHome, verified("web", 2), std::nullopt);
  EXPECT_EQ(*directory_.find("web.fuse"), newer);
}

TEST_F(Directory, keeps_few_addresses_and_a_bounded_number_of_peers) {
  for (std::uint8_t i = 1; i < 20; ++i) {
    directory_.learn({i}, kHome, verified("web", 1), SocketAddress{IpAddress::v4({192, 0, 2, i}), 1});
  }
  EXPECT_EQ((*directory_.find("web"))->learned.size(), kMaxLearnedAddresses);
  EXPECT_EQ((*directory_.find("web"))->learned.front().ip, IpAddress::v4({192, 0, 2, 19}));
}

TEST_F(Directory, knows_any_overlay_address_of_its_networks) {
  const auto found = directory_.find("fdcc:2:2:101:101:101:101:101");
  ASSERT_TRUE(found);
  EXPECT_EQ((*found)->network, kWork);
  EXPECT_TRUE(id_of(1).matches_text((*found)->short_id));
  EXPECT_FALSE(directory_.find("fdcc:3:3::1"));
}

TEST_F(Directory, forgets_static_peers_that_a_reload_dropped) {
  ASSERT_TRUE(directory_.add_static(peer(kHome, "web")));
  ASSERT_TRUE(directory_.set_static({}));
  EXPECT_FALSE(directory_.find("web.fuse"));
}

TEST(HeadReader, reads_a_request_from_single_bytes_and_no_more) {
  StreamRequest request;
  request.set_service(StreamRequest::TCP);
  request.set_port(80);
  const Bytes head = encode_head(request);
  HeadReader reader;
  HeadOutcome outcome = HeadOutcome::need_more;
  for (std::size_t i = 0; i < head.size(); ++i) {
    ASSERT_EQ(outcome, HeadOutcome::need_more);
    ASSERT_GE(reader.wanted(), 1u);
    outcome = reader.feed(ByteView(head).subspan(i, 1));
  }
  ASSERT_EQ(outcome, HeadOutcome::ready);
  StreamRequest read;
  ASSERT_TRUE(read.ParseFromArray(reader.body().data(), static_cast<int>(reader.body().size())));
  EXPECT_EQ(read.port(), 80u);
}

TEST(HeadReader, refuses_a_length_above_the_limit_before_reading_on) {
  HeadReader reader;
  EXPECT_EQ(reader.feed(Bytes{0x80}), HeadOutcome::need_more);
  EXPECT_EQ(reader.feed(Bytes{0, 0x10, 1}), HeadOutcome::malformed);
}

TEST(HeadReader, takes_an_empty_message) {
  HeadReader reader;
  EXPECT_EQ(reader.feed(Bytes{0}), HeadOutcome::ready);
  EXPECT_TRUE(reader.body().empty());
}

}  // namespace
}  // namespace ravine::services
