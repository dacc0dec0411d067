#include "session/path_set.h"

#include <gtest/gtest.h>

namespace ravine::session {
namespace {

Route route(std::uint8_t host) {
  Route made;
  made.remote = {IpAddress::v4({192, 0, 2, host}), 4433};
  return made;
}

struct Paths : testing::Test {
  Paths() {
    Path first;
    first.route = route(1);
    first.has_route = first.agreed = true;
    paths.add(first);
    paths.set_current(0);
    paths.start(now);
  }
  Path& add(PathId id, PathKind kind) {
    Path path;
    path.id = id;
    path.kind = kind;
    path.route = route(static_cast<std::uint8_t>(10 + id));
    path.has_route = path.agreed = true;
    path.next_echo = now;
    return paths.add(path);
  }
  std::vector<PathSet::Order> orders() {
    std::vector<PathSet::Order> all;
    while (const auto order = paths.poll_order()) all.push_back(*order);
    return all;
  }
  PathSet::EchoEffect answer(PathId path, const PathSet::Order& order, const Route& from) {
    return paths.handle_echo(now, *paths.find(path), {EchoType::answer, path, ++peer_nonce, order.echo.nonce},
                             from, kMinEchoSize);
  }
  void advance(Duration by) {
    now = now + by;
    paths.handle_timeout(now);
  }
  Instant now{10'000'000'000};
  PathSet paths{15s};
  std::uint64_t peer_nonce = 0;
};

TEST_F(Paths, a_new_path_is_echoed_at_once_and_validated_by_the_answer) {
  add(2, PathKind::relayed);
  advance(0s);
  const auto sent = orders();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].route, route(12));
  now = now + 20ms;
  EXPECT_EQ(answer(2, sent[0], route(12)), PathSet::EchoEffect::validated);
  EXPECT_EQ(paths.find(2)->state, PathState::validated);
  EXPECT_EQ(paths.find(2)->smoothed_rtt, Duration(20ms));
  EXPECT_EQ(paths.best_alive(now, 0, 1s), paths.find(2));
}

TEST_F(Paths, an_answer_counts_once_and_only_for_a_nonce_that_was_sent) {
  add(2, PathKind::relayed);
  advance(0s);
  const auto sent = orders();
  PathSet::Order forged = sent[0];
  forged.echo.nonce += 5;
  EXPECT_EQ(answer(2, forged, route(12)), PathSet::EchoEffect::none);
  EXPECT_EQ(answer(2, sent[0], route(12)), PathSet::EchoEffect::validated);
  EXPECT_EQ(answer(2, sent[0], route(12)), PathSet::EchoEffect::none);
}

TEST_F(Paths, three_lost_echoes_make_a_spare_silent_and_an_answer_revives_it) {
  add(2, PathKind::relayed);
  advance(0s);
  answer(2, orders()[0], route(12));
  for (int i = 0; i < 400 && paths.find(2)->state == PathState::validated; ++i) advance(100ms);
  EXPECT_EQ(paths.find(2)->state, PathState::silent);
  orders();
  for (int i = 0; i < 100; ++i) {
    advance(100ms);
    const auto sent = orders();
    if (sent.empty()) continue;
    EXPECT_EQ(answer(2, sent.back(), route(12)), PathSet::EchoEffect::validated);
    return;
  }
  FAIL() << "a silent path is probed no more";
}

TEST_F(Paths, a_wrong_source_is_refused_on_forwarded_paths_and_tested_on_direct_ones) {
  Path& relayed = add(2, PathKind::relayed);
  EXPECT_EQ(paths.note_packet(now, relayed, route(66), 1200), PathSet::Source::refused);
  orders();
  EXPECT_EQ(paths.note_packet(now, *paths.find(0), route(66), 1200), PathSet::Source::candidate);
  const auto sent = orders();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].route, route(66));
  EXPECT_EQ(sent[1].route, route(1));
}

TEST_F(Paths, a_candidate_is_adopted_when_the_old_address_stays_silent) {
  paths.find(0)->smoothed_rtt = 20ms;
  paths.note_packet(now, *paths.find(0), route(66), 1200);
  const auto sent = orders();
  now = now + 20ms;
  EXPECT_EQ(answer(0, sent[0], route(66)), PathSet::EchoEffect::none) << "not before the wait is over";
  advance(100ms);
  EXPECT_EQ(paths.find(0)->route, route(66));
  EXPECT_EQ(paths.rebindings, 1u);
}

TEST_F(Paths, a_candidate_is_refused_when_the_old_address_answers) {
  paths.find(0)->smoothed_rtt = 20ms;
  paths.note_packet(now, *paths.find(0), route(66), 1200);
  const auto sent = orders();
  now = now + 20ms;
  answer(0, sent[0], route(66));
  answer(0, sent[1], route(1));
  advance(5s);
  EXPECT_EQ(paths.find(0)->route, route(1));
  EXPECT_EQ(paths.rebindings, 0u);
}

TEST_F(Paths, a_candidate_is_asked_again_when_its_echo_is_lost) {
  paths.find(0)->smoothed_rtt = 20ms;
  paths.note_packet(now, *paths.find(0), route(66), 1200);
  orders();  // lost
  advance(60ms);
  const auto again = orders();
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].route, route(66));
  EXPECT_EQ(again[1].route, route(1));
  now = now + 20ms;
  EXPECT_EQ(answer(0, again[0], route(66)), PathSet::EchoEffect::rebound);
  EXPECT_EQ(paths.find(0)->route, route(66));
}

TEST_F(Paths, a_candidate_gets_less_than_three_times_what_came_from_it) {
  std::size_t received = 0, sent = 0;
  for (int i = 0; i < 3; ++i) {
    paths.note_packet(now, *paths.find(0), route(66), 40);
    received += 40;
    for (int turn = 0; turn < 20; ++turn) {
      for (const auto& order : orders()) sent += order.route == route(66) ? order.size : 0;
      EXPECT_LE(sent, 3 * received);
      advance(100ms);
    }
  }
  EXPECT_GT(sent, received);
}

TEST_F(Paths, a_candidate_waits_for_the_old_address_as_long_as_quic_says) {
  paths.find(0)->quic_rtt = 30ms;
  paths.note_packet(now, *paths.find(0), route(66), 1200);
  const auto sent = orders();
  now = now + 30ms;
  EXPECT_EQ(answer(0, sent[0], route(66)), PathSet::EchoEffect::none);
  advance(59ms);
  EXPECT_EQ(paths.find(0)->route, route(1));
  advance(1ms);
  EXPECT_EQ(paths.find(0)->route, route(66));
}

TEST_F(Paths, candidates_from_many_addresses_stay_bounded) {
  for (std::uint8_t host = 2; host < 200; ++host) {
    now = now + 25ms;
    paths.note_packet(now, *paths.find(0), route(host), 1200);
    orders();
  }
  EXPECT_LE(paths.find(0)->candidates.size(), PathSet::kMaxCandidates);
  EXPECT_LE(paths.find(0)->outstanding.size(), PathSet::kMaxOutstanding);
}

TEST_F(Paths, a_round_trip_that_grows_tenfold_leaves_the_path_alive) {
  add(2, PathKind::relayed);
  advance(0s);
  now = now + 20ms;
  const auto first = orders();
  ASSERT_EQ(answer(2, first[0], route(12)), PathSet::EchoEffect::validated);
  for (int i = 0; i < 3; ++i) {
    paths.ping(now, *paths.find(2));
    advance(110ms);
  }
  EXPECT_EQ(paths.find(2)->state, PathState::silent);
  const auto late = orders();
  now = now + 90ms;
  EXPECT_EQ(answer(2, late.back(), route(12)), PathSet::EchoEffect::validated);
  EXPECT_EQ(paths.find(2)->smoothed_rtt, Duration(200ms));
  paths.ping(now, *paths.find(2));
  const auto next = orders();
  advance(200ms);
  EXPECT_EQ(paths.find(2)->unanswered, 0u);
  EXPECT_EQ(answer(2, next.back(), route(12)), PathSet::EchoEffect::answered);
}

TEST_F(Paths, an_answer_after_ten_seconds_says_nothing) {
  paths.ping(now, *paths.find(0));
  const auto sent = orders();
  for (int i = 0; i < 11; ++i) advance(1s);
  EXPECT_EQ(answer(0, sent[0], route(1)), PathSet::EchoEffect::none);
}

TEST_F(Paths, answers_are_limited_and_never_larger_than_the_request) {
  std::size_t answered = 0;
  for (int i = 0; i < 1000; ++i) {
    paths.handle_echo(now, *paths.find(0), {EchoType::request, 0, ++peer_nonce, 0}, route(1), 1200);
    for (const auto& order : orders()) {
      EXPECT_EQ(order.size, kMinEchoSize);
      ++answered;
    }
  }
  EXPECT_EQ(answered, 64u);
  EXPECT_EQ(paths.answers_refused, 936u);
}

TEST_F(Paths, the_best_of_living_paths_is_direct_then_quick) {
  for (const auto& [id, kind] : {std::pair{PathId{2}, PathKind::circuit},
                                 {PathId{4}, PathKind::relayed},
                                 {PathId{6}, PathKind::relayed}}) {
    add(id, kind);
    advance(0s);
    const auto sent = orders();
    now = now + std::chrono::milliseconds(id == 4 ? 50 : 10);
    answer(id, sent.back(), route(static_cast<std::uint8_t>(10 + id)));
  }
  EXPECT_EQ(paths.best_alive(now, 0, 1s)->id, 6);
  EXPECT_EQ(paths.best_alive(now, 6, 1s)->id, 4);
  EXPECT_EQ(paths.best_alive(now + 10s, 0, 1s), nullptr);
}

}  // namespace
}  // namespace ravine::session
