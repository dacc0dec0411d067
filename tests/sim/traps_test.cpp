// The traps of the QUIC engine that concern paths, one test each.
#include "sim/scenario.h"

namespace ravine::sim {
namespace {

TEST(Traps, the_acceptor_never_migrates_by_itself_and_nothing_aborts_when_it_is_asked_to) {
  World world(1);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  for (int i = 0; i < 20; ++i) {
    (void)two.of_bob().move_to(world.now, i % 2 == 0 ? relayed : PathId{0});
    two.bob.drain();
    world.run(50ms);
  }
  EXPECT_EQ(two.bob.endpoint().counters().migrations, 0u);
  EXPECT_GT(two.alice.endpoint().counters().migrations, 2u);
  EXPECT_TRUE(two.alive());
}

TEST(Traps, no_move_before_the_session_is_established_nor_to_a_path_that_never_echoed) {
  World world(2);
  Two two(world);
  const SessionId id = two.alice.dial(two.bob);
  Route route;
  route.remote = two.bob.address;
  EXPECT_FALSE(two.alice.session(id)->add_path(world.now, PathKind::direct, route));
  EXPECT_FALSE(two.alice.session(id)->move_to(world.now, 2));
  ASSERT_TRUE(world.run_until([&] { return is_up(two.alice, two.bob) && is_up(two.bob, two.alice); }, 5s));
  Route nowhere;
  nowhere.remote = {IpAddress::v4({10, 0, 0, 99}), 4433};
  const auto path = two.of_alice().add_path(world.now, PathKind::direct, nowhere);
  ASSERT_TRUE(path);
  two.alice.drain();
  world.run(5s);
  EXPECT_FALSE(two.of_alice().move_to(world.now, *path));
  EXPECT_TRUE(two.on_path(0));
}

TEST(Traps, more_moves_than_spare_connection_ids_in_one_instant_do_not_break_the_session) {
  World world(3);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  two.alice.send(two.session, 3'000'000);
  for (int i = 0; i < 50; ++i) {
    (void)two.move(i % 2 == 0 ? relayed : PathId{0});
    world.run(2ms);
  }
  EXPECT_TRUE(two.finish_transfer(30s));
  EXPECT_TRUE(two.alive());
}

// The acceptor's first packets on a fresh path use up what an unvalidated address may get, which switches
// ngtcp2's loss timer off; when all of them are lost, only the next migration can free the window.
TEST(Traps, a_path_that_dies_right_after_a_move_does_not_stop_the_acceptor_for_ever) {
  for (int late = 0; late < 12; ++late) {
    SCOPED_TRACE(late);
    World world(20);
    Two two(world);
    Node& relay = world.add("relay", 9);
    ASSERT_TRUE(two.connect());
    const PathId relayed = two.add_relayed(relay);
    world.all_links([](Link& link) { link.delay = 20ms; });
    two.bob.send(two.of_bob().id(), 3'000'000);
    world.run(300ms);
    ASSERT_TRUE(two.move(relayed));
    world.run(80ms + late * 10ms);
    world.both(two.alice, relay, [](Link& link) { link.down = true; });
    world.both(two.alice, two.bob, [](Link& link) { link.down = true; });
    world.run(400ms);
    world.both(two.alice, relay, [](Link& link) { link.down = false; });
    EXPECT_TRUE(two.finish_transfer(15s)) << two.alice.received();
  }
}

TEST(Traps, going_away_and_back_before_validation_aborts_nothing) {
  World world(4);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  world.all_links([](Link& link) { link.delay = 200ms; });
  two.alice.send(two.session, 500'000);
  for (int i = 0; i < 10; ++i) {
    (void)two.move(relayed);
    world.run(150ms);
    (void)two.move(0);
    world.run(150ms);
  }
  EXPECT_TRUE(two.finish_transfer(60s));
}

TEST(Traps, handshake_packets_reach_the_acceptor_by_the_first_connection_id_until_the_end) {
  World world(5);
  Two two(world);
  // Every first answer is lost for a while, so that the dialler goes on with the connection ID that it made
  // up itself.
  world.link(two.bob, two.alice).down = true;
  two.alice.dial(two.bob);
  world.run(1500ms);
  world.link(two.bob, two.alice).down = false;
  EXPECT_TRUE(world.run_until([&] { return is_up(two.alice, two.bob) && is_up(two.bob, two.alice); }, 8s));
  EXPECT_EQ(two.bob.endpoint().counters().accepted, 1u);
}

TEST(Traps, an_empty_datagram_counts_and_harms_nobody) {
  World world(6);
  Two two(world);
  ASSERT_TRUE(two.connect());
  const auto before = two.bob.endpoint().counters().datagrams_received;
  for (int i = 0; i < 100; ++i) world.send(two.alice.address, two.bob.address, 0, {});
  world.run(50ms);
  EXPECT_GE(two.bob.endpoint().counters().datagrams_received, before + 100);
  EXPECT_TRUE(two.alive());
}

TEST(Traps, a_move_to_another_path_starts_with_a_small_window_and_recovers) {
  World world(7);
  Two two(world);
  Node& relay = world.add("relay", 9);
  world.all_links([](Link& link) { link.bits_per_second = 50e6; });
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  two.alice.send(two.session, 200'000'000, false);
  world.run(2s);
  const std::uint64_t before = two.of_alice().congestion_window();
  ASSERT_TRUE(two.move(relayed));
  ASSERT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 2s));
  EXPECT_LT(two.of_alice().congestion_window(), before);
  world.run(1s);
  const std::uint64_t received = two.bob.received();
  world.run(1s);
  EXPECT_GT(two.bob.received() - received, 50'000'000u / 8 * 7 / 10);
}

}  // namespace
}  // namespace ravine::sim
