#include "gateway/coap/send_queue.h"

#include <gtest/gtest.h>

#include "gateway/coap/rto.h"

namespace ravine::gateway::coap {
namespace {

constexpr Instant kStart{1'000'000'000};

QueueItem item(std::size_t size, std::uint8_t priority = 4, std::string key = {}, std::uint64_t group = 0) {
  QueueItem made;
  made.bytes = Bytes(size, static_cast<std::uint8_t>(size));
  made.priority = priority;
  made.replace_key = std::move(key);
  made.merge_group = group;
  return made;
}

TEST(SendQueue, datagrams_leave_at_the_rate_of_the_link) {
  SendQueue queue({.rate_bps = 100, .overhead_bytes = 28});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(queue.push(kStart, item(22)).ok());
  std::vector<Instant> left;
  Instant now = kStart;
  while (!queue.empty()) {
    now = std::max(now, queue.next_departure());
    const auto popped = queue.pop(now);
    ASSERT_TRUE(popped);
    queue.charge(now, popped->bytes.size());
    EXPECT_FALSE(queue.pop(now + 3999ms));
    left.push_back(now);
  }
  EXPECT_EQ(left, (std::vector<Instant>{kStart, kStart + 4s, kStart + 8s}));  // 50 bytes at 100 bit/s
  EXPECT_EQ(queue.pacer().charged_bytes(), 150u);
}

TEST(SendQueue, priority_goes_before_arrival) {
  SendQueue queue;
  (void)queue.push(kStart, item(1, 4)).ok();
  (void)queue.push(kStart, item(2, 4)).ok();
  (void)queue.push(kStart, item(3, 0)).ok();
  EXPECT_EQ(queue.pop(kStart)->bytes.size(), 3u);
  EXPECT_EQ(queue.pop(kStart)->bytes.size(), 1u);
  EXPECT_EQ(queue.pop(kStart)->bytes.size(), 2u);
  EXPECT_FALSE(queue.pop(kStart).has_value());
}

TEST(SendQueue, a_newer_item_takes_the_waiting_ones_place) {
  SendQueue queue;
  const QueueItemId typing = *queue.push(kStart, item(10, 4, "typing"));
  (void)queue.push(kStart, item(20)).ok();
  EXPECT_EQ(*queue.push(kStart, item(30, 4, "typing")), typing);
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue.bytes(), 50u);
  EXPECT_EQ(queue.pop(kStart)->bytes.size(), 30u);
  EXPECT_NE(*queue.push(kStart, item(40, 4, "typing")), typing) << "what has left is not replaced";
}

TEST(SendQueue, waiting_items_can_be_cancelled_and_rewritten_but_not_those_that_left) {
  SendQueue queue;
  const QueueItemId first = *queue.push(kStart, item(10));
  const QueueItemId second = *queue.push(kStart, item(20));
  EXPECT_TRUE(queue.rewrite(second, Bytes(25)));
  EXPECT_TRUE(queue.cancel(first));
  EXPECT_FALSE(queue.cancel(first));
  EXPECT_EQ(queue.pop(kStart)->bytes.size(), 25u);
  EXPECT_FALSE(queue.rewrite(second, Bytes(1)));
  EXPECT_EQ(queue.bytes(), 0u);
}

TEST(SendQueue, a_group_leaves_together_as_far_as_it_fits_in_order) {
  SendQueue queue;
  for (const std::size_t size : {10u, 20u, 50u, 5u}) (void)queue.push(kStart, item(size, 4, {}, 7)).ok();
  (void)queue.push(kStart, item(1)).ok();
  const auto head = queue.pop(kStart);
  const std::vector<QueueItem> rest = queue.take_group(head->to, 7, 40);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].bytes.size(), 20u);
  EXPECT_EQ(queue.size(), 3u);
}

TEST(SendQueue, is_bounded_and_drops_what_expired) {
  SendQueue queue({}, {.items = 2, .bytes = 100});
  EXPECT_FALSE(queue.push(kStart, item(101)).ok());
  QueueItem short_lived = item(10);
  short_lived.expires_at = kStart + 1s;
  EXPECT_TRUE(queue.push(kStart, short_lived).ok());
  EXPECT_TRUE(queue.push(kStart, item(20)).ok());
  EXPECT_FALSE(queue.push(kStart, item(1)).ok());
  EXPECT_EQ(queue.expire(kStart + 1s).size(), 1u);
  EXPECT_EQ(queue.pop(kStart + 1s)->bytes.size(), 20u);
}

TEST(Rto, starts_at_the_initial_value_plus_serialisation) {
  RtoEstimator rto({.initial = 30s, .rate_bps = 100, .overhead_bytes = 28});
  // 26 + 12 + 2 · 28 bytes at 100 bit/s are 7.52 s.
  EXPECT_EQ(rto.timeout(26, 12, 0), 30s + 7520ms);
}

TEST(Rto, is_never_capped_below_the_serialisation_time) {
  RtoEstimator rto({.initial = 1s, .minimum = 1s, .maximum = 5s, .rate_bps = 100, .overhead_bytes = 0});
  EXPECT_GE(rto.timeout(1000, 0, 0), 80s);
  EXPECT_LE(rto.timeout(1000, 0, 4), 85s + 1ms);
}

TEST(Rto, learns_the_rate_from_sizes_and_times) {
  RtoEstimator rto({.initial = 30s, .overhead_bytes = 28});
  for (int round = 0; round < 6; ++round) {
    for (const std::size_t size : {20u, 120u, 300u}) {
      rto.handle_sample(2s + serialisation_time(size + 10 + 56, 1000), size, 10);
    }
  }
  EXPECT_NEAR(rto.rate_bps(), 1000, 20);
  EXPECT_NEAR(std::chrono::duration<double>(*rto.smoothed()).count(), 2.0, 0.5);
}

TEST(Rto, converges_to_what_is_measured) {
  RtoEstimator rto({.initial = 30s, .minimum = 1s, .rate_bps = 1e6});
  for (int round = 0; round < 30; ++round) rto.handle_sample(3s, 50, 50);
  EXPECT_LT(rto.timeout(50, 50, 0), 3500ms);
  EXPECT_GE(rto.timeout(50, 50, 0), 3s);
}

TEST(Rto, waits_longer_after_an_ambiguous_answer_and_forgets_that_after_a_clean_one) {
  RtoEstimator rto({.initial = 2s, .minimum = 1s, .maximum = 60s, .rate_bps = 1e6});
  for (int round = 0; round < 30; ++round) rto.handle_sample(2s, 50, 50);
  const Duration fast = rto.timeout(50, 50, 0);
  rto.handle_ambiguous(10s, 50, 50);
  EXPECT_EQ(rto.timeout(50, 50, 0), fast) << "one ambiguous answer: fast first, then slow";
  EXPECT_NEAR(std::chrono::duration<double>(rto.timeout(50, 50, 1)).count(), 15.0, 0.1);
  rto.handle_ambiguous(10s, 50, 50);
  EXPECT_NEAR(std::chrono::duration<double>(rto.timeout(50, 50, 0)).count(), 15.0, 0.1);
  rto.handle_sample(2s, 50, 50);
  EXPECT_LT(rto.timeout(50, 50, 0), 5s);
}

}  // namespace
}  // namespace ravine::gateway::coap
