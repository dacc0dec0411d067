#include "gateway/security/sequence.h"

#include <gtest/gtest.h>

#include <set>

#include "base/machine.h"

namespace ravine::gateway::security {
namespace {

using Verdict = ReplayWindow::Verdict;

TEST(ReplayWindow, agrees_with_a_plain_set) {
  SeededRandom random(7);
  for (int round = 0; round < 20; ++round) {
    ReplayWindow window;
    std::set<std::uint64_t> seen;
    std::uint64_t base = 0;
    for (int i = 0; i < 2000; ++i) {
      base += random.below(random.below(50) == 0 ? 300 : 3);
      const std::uint64_t back = random.below(200);
      const std::uint64_t number = base > back ? base - back : 0;
      const bool stale = !seen.empty() && number + ReplayWindow::kSpan <= *seen.rbegin();
      const Verdict expected = stale                   ? Verdict::stale
                               : seen.contains(number) ? Verdict::duplicate
                                                       : Verdict::fresh;
      ASSERT_EQ(window.judge(number), expected) << number;
      if (expected == Verdict::fresh) {
        window.accept(number);
        seen.insert(number);
      }
    }
  }
}

TEST(ReplayWindow, judging_alone_changes_nothing) {
  ReplayWindow window;
  window.accept(5);
  EXPECT_EQ(window.judge(1000), Verdict::fresh);
  EXPECT_EQ(window.judge(6), Verdict::fresh);
  EXPECT_EQ(window.judge(5), Verdict::duplicate);
  EXPECT_EQ(window.highest(), 5U);
}

TEST(ReplayWindow, starting_after_a_number_refuses_all_up_to_it) {
  ReplayWindow window;
  window.start_after(200);
  for (std::uint64_t number = 0; number <= 200; ++number) EXPECT_NE(window.judge(number), Verdict::fresh);
  EXPECT_EQ(window.judge(201), Verdict::fresh);
}

TEST(NumberBlock, gives_out_only_what_is_reserved_and_ends) {
  NumberBlock block(0, 100);
  EXPECT_TRUE(block.needs_reservation());
  std::uint64_t given = 0;
  while (!block.exhausted()) {
    if (block.needs_reservation()) block.reserve();
    EXPECT_EQ(block.take(), given++);
    EXPECT_LE(block.next(), block.limit());
  }
  EXPECT_EQ(given, 100U);
  EXPECT_EQ(block.limit(), 100U);
}

TEST(NumberBlock, skips_forward_only) {
  NumberBlock block(10, 100);
  block.skip_to(5);
  EXPECT_EQ(block.next(), 10U);
  block.skip_to(50);
  EXPECT_TRUE(block.needs_reservation());
  block.reserve();
  EXPECT_EQ(block.take(), 50U);
  block.skip_to(1000);
  EXPECT_TRUE(block.exhausted());
}

}  // namespace
}  // namespace ravine::gateway::security
