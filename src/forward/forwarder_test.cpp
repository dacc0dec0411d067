#include "forward/forwarder.h"

#include <gtest/gtest.h>

namespace ravine::forward {
namespace {

Route route(std::uint8_t host, std::uint16_t port = 4433) {
  Route made;
  made.remote = {IpAddress::v4({192, 0, 2, host}), port};
  return made;
}

struct ForwarderTest : testing::Test {
  LabelTable table{1};
  Forwarder forwarder{table, {.entries = 4, .entries_per_owner = 2}};
  Instant now{1'000'000'000};

  EntryOptions entry(OwnerId owner = 1) { return {.ingress = route(1), .egress = route(2), .owner = owner}; }
  Forwarder::Outcome packet(Label label, const Route& from, std::size_t size = 1200) {
    return forwarder.check(now, table.find(label).index, from.remote, size);
  }
};

TEST_F(ForwarderTest, sends_packets_of_the_ingress_to_the_egress) {
  ASSERT_TRUE(forwarder.claim(Label{5}, entry()));
  const auto outcome = packet(Label{5}, route(1));
  ASSERT_EQ(outcome.verdict, Verdict::forward);
  EXPECT_EQ(*outcome.egress, route(2));
  EXPECT_EQ(forwarder.counters(Label{5})->packets, 1u);
  EXPECT_EQ(forwarder.counters(Label{5})->bytes, 1200u);
}

TEST_F(ForwarderTest, refuses_a_third_address_and_another_port_and_the_backward_direction) {
  ASSERT_TRUE(forwarder.claim(Label{5}, entry()));
  EXPECT_EQ(packet(Label{5}, route(3)).verdict, Verdict::wrong_source);
  EXPECT_EQ(packet(Label{5}, route(1, 4434)).verdict, Verdict::wrong_source);
  EXPECT_EQ(packet(Label{5}, route(2)).verdict, Verdict::wrong_source);
  EXPECT_EQ(forwarder.counters(Label{5})->wrong_source, 3u);
  EXPECT_EQ(forwarder.counters(Label{5})->packets, 0u);
}

TEST_F(ForwarderTest, first_claimant_keeps_the_label) {
  ASSERT_TRUE(forwarder.claim(Label{5}, entry(1)));
  const auto second = forwarder.claim(Label{5}, entry(2));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::already_exists);
  EXPECT_FALSE(forwarder.release(Label{5}, 2));
  EXPECT_FALSE(forwarder.renew(Label{5}, 2, Instant::never()));
  EXPECT_FALSE(forwarder.move_ingress(Label{5}, 2, route(9)));
  EXPECT_TRUE(forwarder.move_ingress(Label{5}, 1, route(9)));
  EXPECT_EQ(packet(Label{5}, route(9)).verdict, Verdict::forward);
}

TEST_F(ForwarderTest, a_local_label_cannot_be_claimed_for_forwarding) {
  ASSERT_TRUE(table.claim(Label{5}, {TargetKind::local, 0, 0}));
  EXPECT_FALSE(forwarder.claim(Label{5}, entry()));
}

TEST_F(ForwarderTest, caps_entries_of_an_owner_and_of_all) {
  ASSERT_TRUE(forwarder.claim(Label{1}, entry(1)));
  ASSERT_TRUE(forwarder.claim(Label{2}, entry(1)));
  EXPECT_EQ(forwarder.claim(Label{3}, entry(1)).error().kind, ErrorKind::limit_reached);
  ASSERT_TRUE(forwarder.claim(Label{3}, entry(2)));
  ASSERT_TRUE(forwarder.claim(Label{4}, entry(2)));
  EXPECT_EQ(forwarder.claim(Label{5}, entry(3)).error().kind, ErrorKind::limit_reached);
  forwarder.release_owner(1);
  EXPECT_EQ(forwarder.size(), 2u);
  EXPECT_EQ(table.find(Label{1}).kind, TargetKind::none);
  EXPECT_TRUE(forwarder.claim(Label{5}, entry(3)));
}

TEST_F(ForwarderTest, an_entry_ends_with_its_lease) {
  EntryOptions options = entry();
  options.lease_until = now + 10s;
  ASSERT_TRUE(forwarder.claim(Label{5}, options));
  EXPECT_EQ(forwarder.next_expiry(), now + 10s);
  now = now + 11s;
  EXPECT_EQ(packet(Label{5}, route(1)).verdict, Verdict::expired);
  forwarder.expire(now);
  EXPECT_EQ(table.find(Label{5}).kind, TargetKind::none);
  EXPECT_EQ(forwarder.size(), 0u);
}

TEST_F(ForwarderTest, polices_bytes_over_time) {
  EntryOptions options = entry();
  options.bytes_per_second = 10'000;
  options.burst_bytes = 2400;
  ASSERT_TRUE(forwarder.claim(Label{5}, options));
  EXPECT_EQ(packet(Label{5}, route(1)).verdict, Verdict::forward);
  EXPECT_EQ(packet(Label{5}, route(1)).verdict, Verdict::forward);
  EXPECT_EQ(packet(Label{5}, route(1)).verdict, Verdict::over_rate);
  now = now + 120ms;
  EXPECT_EQ(packet(Label{5}, route(1)).verdict, Verdict::forward);
  EXPECT_EQ(packet(Label{5}, route(1)).verdict, Verdict::over_rate);
  now = now + std::chrono::hours(24 * 365);
  EXPECT_EQ(packet(Label{5}, route(1)).verdict, Verdict::forward);
}

TEST_F(ForwarderTest, refuses_an_entry_that_would_loop) {
  EntryOptions options = entry();
  options.egress = options.ingress;
  EXPECT_EQ(forwarder.claim(Label{5}, options).error().kind, ErrorKind::refused);
}

}  // namespace
}  // namespace ravine::forward
