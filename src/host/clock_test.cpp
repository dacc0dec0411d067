#include "host/clock.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "host/file.h"
#include "host/random.h"

namespace ravine::host {
namespace {

UnixTime wall;
Instant monotonic;
bool synchronised = false;
const FlooredClock::Source kFakeSource{[] { return wall; }, [] { return monotonic; },
                                       [] { return synchronised; }};

class ClockFloor : public testing::Test {
 protected:
  void SetUp() override {
    path_ =
        (std::filesystem::temp_directory_path() / ("ravine-floor-" + std::to_string(::getpid()))).string();
    std::filesystem::remove(path_);
    wall = build_time() + 1000s;
    monotonic = {1'000'000'000};
    synchronised = true;
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::unique_ptr<FlooredClock> open() {
    auto clock = FlooredClock::open(path_, kFakeSource);
    EXPECT_TRUE(clock.ok());
    return std::move(*clock);
  }
  std::string path_;
};

TEST_F(ClockFloor, a_right_clock_passes_through) {
  const auto clock = open();
  EXPECT_EQ(clock->unix_time(), wall);
  EXPECT_FALSE(clock->is_behind_floor());
}

TEST_F(ClockFloor, never_shows_a_time_before_the_build) {
  wall = {0};
  const auto clock = open();
  EXPECT_EQ(clock->unix_time(), build_time());
  EXPECT_TRUE(clock->is_behind_floor());
}

TEST_F(ClockFloor, the_last_recorded_time_survives_a_restart_in_1970_and_goes_on) {
  wall = build_time() + std::chrono::hours(1000);
  ASSERT_TRUE(open()->record().ok());
  wall = {5};
  const auto clock = open();
  EXPECT_EQ(clock->unix_time(), build_time() + std::chrono::hours(1000));
  monotonic = monotonic + 60s;
  EXPECT_EQ(clock->unix_time(), build_time() + std::chrono::hours(1000) + 60s);
}

TEST_F(ClockFloor, an_undisciplined_clock_cannot_push_the_floor) {
  wall = build_time() + std::chrono::hours(24 * 365 * 20);
  synchronised = false;
  ASSERT_TRUE(open()->record().ok());
  wall = build_time() + 1000s;
  EXPECT_EQ(open()->unix_time(), wall);
}

TEST_F(ClockFloor, a_damaged_file_is_named) {
  ASSERT_TRUE(write_file(path_, as_bytes("12x\n"), FileMode::owner_only).ok());
  const auto clock = FlooredClock::open(path_, kFakeSource);
  ASSERT_FALSE(clock.ok());
  EXPECT_NE(clock.error().message.find(path_), std::string::npos);
}

TEST(Clock, monotonic_time_grows_and_the_build_is_in_the_past) {
  const Instant before = monotonic_now();
  EXPECT_LE(before, monotonic_now());
  EXPECT_LE(build_time(), system_time());
  EXPECT_GE(time_suspended().count(), 0);
}

TEST(Random, fills_every_size_and_does_not_repeat) {
  SystemRandom random;
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 5000; ++i) seen.insert(random.next_u64());
  EXPECT_EQ(seen.size(), 5000u);
  Bytes large(10000, 0);
  random.fill(large);
  EXPECT_GT(std::set<std::uint8_t>(large.begin(), large.end()).size(), 200u);
}

}  // namespace
}  // namespace ravine::host
