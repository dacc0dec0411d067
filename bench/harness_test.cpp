#include "bench/harness.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

#include "bench/ceilings.h"

namespace ravine::bench {
namespace {

using namespace std::chrono_literals;

TEST(Histogram, quantiles_lie_within_two_percent_of_the_value) {
  for (const std::uint64_t value : {1u, 63u, 64u, 1000u, 53'000u, 7'000'000u}) {
    Histogram histogram;
    for (int i = 0; i < 10; ++i) histogram.add(value);
    EXPECT_NEAR(quantile(histogram.counts(), 0.5), static_cast<double>(value),
                0.02 * static_cast<double>(value) + 0.5);
  }
}

TEST(Histogram, orders_values_and_finds_the_tail) {
  Histogram histogram;
  for (std::uint64_t i = 1; i <= 1000; ++i) histogram.add(i * 1000);
  EXPECT_NEAR(quantile(histogram.counts(), 0.5), 500e3, 10e3);
  EXPECT_NEAR(quantile(histogram.counts(), 0.99), 990e3, 20e3);
  EXPECT_EQ(quantile(Histogram{}.counts(), 0.5), 0);
}

TEST(Histogram, keeps_values_beyond_its_range_in_the_last_bucket) {
  Histogram histogram;
  histogram.add(UINT64_MAX);
  EXPECT_GT(quantile(histogram.counts(), 0.5), 1e9);
}

TEST(Median, of_odd_even_and_none) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median({}), 0);
}

TEST(SideGroup, counts_what_a_side_does_in_the_window_and_what_cpu_it_takes) {
  SideGroup group;
  const auto spin = [](SharedState& shared, SideState& mine) -> Result<> {
    mine.ready = true;
    while (!shared.stop) mine.operations.fetch_add(1, std::memory_order_relaxed);
    return {};
  };
  ASSERT_TRUE(group.start("spinner", kAnyCore, spin, 5s).ok());
  const Result<Window> window = group.measure(0.1);
  ASSERT_TRUE(window.ok());
  EXPECT_GT(window->sides[0].operations, 1000);
  EXPECT_GT(window->sides[0].cpu_seconds, 0);
  EXPECT_LE(window->sides[0].cpu_seconds, window->seconds * 1.5);
  const Result<double> memory = group.anonymous_memory(0);
  ASSERT_TRUE(memory.ok());
  EXPECT_GT(*memory, 0);
}

TEST(SideGroup, tells_the_error_of_a_side_that_fails_before_it_is_ready) {
  SideGroup group;
  const auto fail = [](SharedState&, SideState&) -> Result<> { return Error{ErrorKind::io, "no such luck"}; };
  const Result<> started = group.start("unlucky", kAnyCore, fail, 5s);
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().message.find("no such luck"), std::string::npos);
}

TEST(SideGroup, fails_a_window_in_which_a_side_dies) {
  SideGroup group;
  const auto die = [](SharedState&, SideState& mine) -> Result<> {
    mine.ready = true;
    std::this_thread::sleep_for(20ms);
    std::abort();
  };
  ASSERT_TRUE(group.start("mortal", kAnyCore, die, 5s).ok());
  const Result<Window> window = group.measure(2);
  ASSERT_FALSE(window.ok());
  EXPECT_NE(window.error().message.find("signal"), std::string::npos);
}

bool has_two_cores() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_ISSET(0, &cores) && CPU_ISSET(1, &cores);
}

class Ceilings : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_two_cores()) GTEST_SKIP() << "needs cores 0 and 1";
  }
};

TEST_F(Ceilings, move_bytes_over_tls_and_tell_both_sides_cpu) {
  const Result<StreamCeiling> found = measure_tls_stream(0.2);
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_GT(found->gigabits, 0.01);
  EXPECT_GT(found->send_ns_per_packet, 10);
  EXPECT_GT(found->receive_ns_per_packet, 10);
}

TEST_F(Ceilings, complete_full_and_resumed_handshakes_the_resumed_ones_cheaper) {
  const Result<double> full = measure_tls_handshakes(0.3, false), resumed = measure_tls_handshakes(0.3, true);
  ASSERT_TRUE(full.ok()) << full.error().message;
  ASSERT_TRUE(resumed.ok()) << resumed.error().message;
  EXPECT_GT(*full, 10);
  EXPECT_GT(*resumed, *full);
}

TEST_F(Ceilings, move_datagrams_there_and_back) {
  const Result<DatagramCeiling> trains = measure_udp_gso(1236, 0.2);
  ASSERT_TRUE(trains.ok()) << trains.error().message;
  EXPECT_GT(trains->million_packets, 0.01);
  const Result<double> round_trip = measure_udp_round_trip(64, 0.2);
  ASSERT_TRUE(round_trip.ok()) << round_trip.error().message;
  EXPECT_GT(*round_trip, 0.5);
  const Result<double> echoes = measure_udp_echoes(64, 64, 0.2);
  ASSERT_TRUE(echoes.ok()) << echoes.error().message;
  EXPECT_GT(*echoes, 1000);
}

}  // namespace
}  // namespace ravine::bench
