#include "lab/replay.h"

#include <gtest/gtest.h>

#include "lab/test_session.h"

namespace ravine::lab {
namespace {

using What = Disturbance::What;

ReplayOptions options_of(LinkProfile link, std::uint64_t seed = 1) {
  ReplayOptions options;
  options.gateway.link = link;
  options.gateway.seed = seed;
  options.gateway.make_coders = [] { return gateway::link::Coders(); };
  return options;
}

ReplayFigures run(const Trace& trace, ReplayOptions options) {
  auto figures = replay(trace, std::move(options));
  EXPECT_TRUE(figures.ok()) << figures.error().message;
  return figures ? std::move(*figures) : ReplayFigures{};
}

void expect_each_send_once(const Trace& trace, const ReplayFigures& figures, const std::string& when) {
  ASSERT_EQ(figures.made.size(), trace.size()) << when;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    if (trace[i].kind == "send") {
      EXPECT_EQ(figures.made[i], 1u) << when << ", exchange " << i + 1;
    }
  }
}

TEST(Replay, gives_every_response_byte_for_byte_and_accounts_for_every_byte) {
  const Trace trace = session_of(5);
  const ReplayFigures figures = run(trace, options_of({.rate_bps = 1200, .delay = 1s}));
  EXPECT_EQ(figures.faults, std::vector<std::string>{});
  EXPECT_EQ(figures.made, std::vector<unsigned>(trace.size(), 1));
  const auto total = figures.total();
  EXPECT_EQ(total.up_bytes, figures.near.bytes_out + 28 * figures.up_datagrams);
  EXPECT_EQ(total.down_bytes, figures.far.bytes_out + 28 * figures.down_datagrams);
  EXPECT_EQ(total.exchanges, trace.size());
  EXPECT_EQ(total.made_once, trace.size());
  EXPECT_EQ(figures.near.copies_out + figures.far.copies_out, 0u);
  std::uint64_t by_kind = 0;
  for (const auto& part : figures.by_kind()) by_kind += part.up_bytes + part.down_bytes;
  EXPECT_EQ(by_kind, total.up_bytes + total.down_bytes);
}

TEST(Replay, is_the_same_from_the_same_seed_and_another_from_another) {
  const Trace trace = session_of(5);
  const auto bytes = [&](std::uint64_t seed) {
    const auto total = run(trace, options_of({.rate_bps = 1200, .delay = 1s, .loss = 0.3}, seed)).total();
    return std::pair(total.up_bytes + total.down_bytes, total.elapsed);
  };
  EXPECT_EQ(bytes(1), bytes(1));
  EXPECT_NE(bytes(1), bytes(2));
}

TEST(Replay, sends_once_each_through_loss_duplicates_and_reordering) {
  const Trace trace = session_of(10);
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const LinkProfile link{.rate_bps = 1200, .delay = 1s, .loss = 0.3, .duplicate = 0.1, .reorder = 0.1};
    const ReplayFigures figures = run(trace, options_of(link, seed));
    expect_each_send_once(trace, figures, fmt::format("seed {}", seed));
    EXPECT_EQ(figures.faults, std::vector<std::string>{}) << seed;
  }
}

TEST(Replay, sends_once_each_when_either_side_is_killed_and_begins_again) {
  const Trace trace = session_of(10);
  for (const What what : {What::restart_near, What::restart_far}) {
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
      ReplayOptions options = options_of({.rate_bps = 1200, .delay = 1s, .loss = 0.3}, seed);
      // Within sends, at all points of their way.
      for (std::size_t i = 2; i < trace.size(); i += 4)
        options.disturbances.push_back({i, Duration{500ms} * static_cast<std::int64_t>(i + seed), what});
      expect_each_send_once(trace, run(trace, std::move(options)),
                            fmt::format("seed {}, {}", seed, what == What::restart_near ? "near" : "far"));
    }
  }
}

TEST(Replay, a_new_address_of_the_near_side_costs_no_datagram) {
  const Trace trace = session_of(6);
  const LinkProfile link{.rate_bps = 1200, .delay = 1s};
  const ReplayFigures still = run(trace, options_of(link));
  ReplayOptions options = options_of(link);
  for (const std::size_t i : {4u, 8u, 12u}) options.disturbances.push_back({i, 0s, What::rebind_near});
  const ReplayFigures moved = run(trace, std::move(options));
  EXPECT_EQ(moved.faults, std::vector<std::string>{});
  EXPECT_EQ(moved.up_datagrams + moved.down_datagrams, still.up_datagrams + still.down_datagrams);
}

TEST(Replay, goes_on_after_an_outage) {
  const Trace trace = session_of(10);
  const LinkProfile link{.rate_bps = 1200, .delay = 1s, .outage = 60s, .outage_period = 120s};
  const ReplayFigures figures = run(trace, options_of(link));
  expect_each_send_once(trace, figures, "outage");
  EXPECT_EQ(figures.faults, std::vector<std::string>{});
  EXPECT_GT(figures.elapsed, 60s);
}

TEST(Replay, a_minute_of_polls_without_news_costs_nothing) {
  const ReplayFigures figures = run(session_of(2), options_of({.rate_bps = 1200, .delay = 1s}));
  EXPECT_EQ(figures.idle_minute_bytes, 0u);
  EXPECT_EQ(figures.total().made_once, 6u);
}

TEST(Replay, tells_of_a_response_that_is_not_the_one_of_the_trace) {
  ReplayOptions dead = options_of({.loss = 1});
  dead.patience = 60s;
  const ReplayFigures figures = run(session_of(0), std::move(dead));
  ASSERT_EQ(figures.faults.size(), 2u);
  EXPECT_NE(figures.faults.front().find("exchange 1 (login): status 504 in place of 200"), std::string::npos);
  EXPECT_EQ(figures.total().made_once, 0u);
}

}  // namespace
}  // namespace ravine::lab
