#include "session/retry.h"

#include <gtest/gtest.h>

namespace ravine::session {
namespace {

struct Retry : testing::Test {
  Retry() {
    packet.resize(1200);
    packet[0] = 0xc0;
    packet[4] = 1;
    packet[5] = 12;
    for (std::size_t i = 6; i < 18; ++i) packet[i] = static_cast<std::uint8_t>(i);
    packet[18] = 8;
    for (std::size_t i = 19; i < 27; ++i) packet[i] = static_cast<std::uint8_t>(100 + i);
  }
  // The Initial that answers a Retry: its DCID is the Retry's SCID, its token the Retry's.
  struct Second {
    Bytes packet, token;
  };
  Second answer_to(const Bytes& retry) {
    const auto header = wire::decode_long_header(retry);
    Second second;
    second.packet = packet;
    std::copy(header->scid.begin(), header->scid.end(), second.packet.begin() + 6);
    const std::size_t head = 7 + header->dcid.size() + header->scid.size();
    second.token.assign(retry.begin() + static_cast<std::ptrdiff_t>(head), retry.end() - 16);
    return second;
  }
  std::optional<Bytes> verify(const Second& second, const SocketAddress& from, Instant at) {
    return verify_retry(at, secret, from, *wire::decode_long_header(second.packet), second.token);
  }
  Bytes packet;
  Bytes secret = Bytes(32, 7);
  SeededRandom random{1};
  Instant now{5'000'000'000};
  SocketAddress source{IpAddress::v4({192, 0, 2, 1}), 1000};
};

TEST_F(Retry, keeps_the_label_and_gives_back_the_original_connection_id) {
  const Bytes retry = make_retry(now, secret, source, *wire::decode_long_header(packet), random);
  ASSERT_FALSE(retry.empty());
  EXPECT_LT(retry.size(), packet.size());
  const Second second = answer_to(retry);
  EXPECT_TRUE(std::equal(second.packet.begin() + 6, second.packet.begin() + 14, packet.begin() + 6));
  const auto original = verify(second, source, now + 1s);
  ASSERT_TRUE(original);
  EXPECT_EQ(*original, Bytes(packet.begin() + 6, packet.begin() + 18));
}

TEST_F(Retry, a_token_serves_one_address_one_label_and_ten_seconds) {
  const Second good = answer_to(make_retry(now, secret, source, *wire::decode_long_header(packet), random));
  EXPECT_FALSE(verify(good, {source.ip, 1001}, now));
  EXPECT_FALSE(verify(good, {IpAddress::v4({192, 0, 2, 2}), source.port}, now));
  EXPECT_FALSE(verify(good, source, now + 11s));
  Second other_label = good;
  other_label.packet[6] ^= 1;
  EXPECT_FALSE(verify(other_label, source, now));
  Second damaged = good;
  damaged.token[10] ^= 1;
  EXPECT_FALSE(verify(damaged, source, now));
  damaged.token.resize(3);
  EXPECT_FALSE(verify(damaged, source, now));
  EXPECT_TRUE(verify(good, source, now));
}

TEST_F(Retry, a_reset_is_smaller_than_what_it_answers_and_keeps_the_label) {
  Bytes shorter(200, 0x41);
  const Bytes reset = make_stateless_reset(secret, shorter, random);
  ASSERT_FALSE(reset.empty());
  EXPECT_LT(reset.size(), shorter.size());
  EXPECT_EQ(Label::load(reset.data() + 1), Label::load(shorter.data() + 1));
  EXPECT_TRUE(make_stateless_reset(secret, Bytes(29, 0x41), random).empty());
}

TEST(PrefixLimits, replies_are_limited_per_prefix_and_come_back_with_time) {
  PrefixLimits limits(3, 10);
  const std::uint64_t prefix = address_prefix(IpAddress::v4({192, 0, 2, 1}));
  EXPECT_EQ(prefix, address_prefix(IpAddress::v4({192, 0, 2, 200})));
  EXPECT_NE(prefix, address_prefix(IpAddress::v4({192, 0, 3, 1})));
  Instant now{1'000'000'000};
  int given = 0;
  for (int i = 0; i < 100; ++i) given += limits.take_reply(now, prefix);
  EXPECT_EQ(given, 10);
  EXPECT_TRUE(limits.take_reply(now + 1s, prefix));
}

}  // namespace
}  // namespace ravine::session
