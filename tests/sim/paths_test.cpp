// Several paths: labels, substitution, moving, carrying, rebinding, black holes.
#include "session/path_echo.h"
#include "sim/scenario.h"

namespace ravine::sim {
namespace {

TEST(Paths, thirty_flips_over_three_paths_under_load_lose_no_byte) {
  EXPECT_TRUE(same_twice(1, [](World& world) {
    Two two(world);
    Node& relay = world.add("relay", 9);
    world.all_links([](Link& link) { link.bits_per_second = 50e6; });
    ASSERT_TRUE(two.connect());
    const PathId relayed = two.add_relayed(relay);
    const PathId second = two.add_direct(two.bob.address);
    two.alice.send(two.session, 60'000'000);
    two.bob.send(two.of_bob().id(), 20'000'000);
    world.run(500ms);
    const PathId turn[] = {relayed, second, 0};
    for (int flip = 0; flip < 30; ++flip) {
      const PathId to = turn[flip % 3];
      EXPECT_TRUE(two.move(to)) << "flip " << flip;
      EXPECT_TRUE(world.run_until([&] { return two.on_path(to); }, 2s)) << "flip " << flip;
      world.run(100ms);
    }
    EXPECT_TRUE(two.finish_transfer(60s));
    EXPECT_TRUE(two.alive());
    EXPECT_GE(two.alice.endpoint().counters().migrations, 30u);
    EXPECT_GT(relay.endpoint().counters().forwarded, 1000u);
    EXPECT_EQ(relay.endpoint().counters().forward_refused, 0u);
    EXPECT_EQ(relay.endpoint().counters().unknown_label, 0u);
    EXPECT_EQ(two.bob.endpoint().counters().unknown_label, 0u);
  }));
}

TEST(Paths, a_forwarder_refuses_packets_from_a_third_address) {
  World world(2);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  ASSERT_TRUE(two.move(relayed));
  ASSERT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 2s));
  int copies = 0;
  const SocketAddress thief{IpAddress::v4({10, 0, 0, 66}), 1000};
  world.tap = [&](const SocketAddress& from, const SocketAddress& to, const Bytes& bytes) {
    if (from.ip == thief.ip) return false;
    ++copies;
    world.at(world.now, [&world, to, bytes, thief] { world.send(thief, to, 0, bytes, false); });
    return false;
  };
  two.alice.send(two.session, 2'000'000);
  EXPECT_TRUE(two.finish_transfer(20s));
  world.tap = nullptr;
  EXPECT_GT(copies, 1000);
  EXPECT_GT(relay.endpoint().counters().wrong_source, 500u);
  EXPECT_GT(two.bob.endpoint().counters().wrong_source, 500u);
  EXPECT_EQ(two.bob.endpoint().counters().rebindings, 0u);
  EXPECT_TRUE(two.on_path(relayed));
}

TEST(Paths, death_of_the_current_path_moves_at_once) {
  EXPECT_TRUE(same_twice(3, [](World& world) {
    Two two(world);
    Node& relay = world.add("relay", 9);
    world.all_links([](Link& link) { link.bits_per_second = 20e6; });
    ASSERT_TRUE(two.connect());
    const PathId relayed = two.add_relayed(relay);
    two.alice.send(two.session, 10'000'000);
    world.run(1s);
    world.both(two.alice, two.bob, [](Link& link) { link.down = true; });
    EXPECT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 1s));
    EXPECT_TRUE(two.finish_transfer(30s));
    EXPECT_LT(two.bob.longest_gap, Duration(1s));
  }));
}

TEST(Paths, the_acceptor_that_notices_first_carries_and_asks) {
  EXPECT_TRUE(same_twice(4, [](World& world) {
    Two two(world);
    Node& relay = world.add("relay", 9);
    world.all_links([](Link& link) { link.bits_per_second = 20e6; });
    ASSERT_TRUE(two.connect());
    const PathId relayed = two.add_relayed(relay);
    two.bob.send(two.of_bob().id(), 10'000'000);  // only bob has data outstanding
    world.run(1s);
    world.both(two.alice, two.bob, [](Link& link) { link.down = true; });
    EXPECT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 1s));
    EXPECT_TRUE(two.finish_transfer(30s));
    EXPECT_LT(two.alice.longest_gap, Duration(1500ms));
  }));
}

TEST(Paths, a_move_that_the_acceptor_asks_for_happens) {
  World world(5);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  ASSERT_TRUE(two.of_bob().move_to(world.now, relayed));
  two.bob.drain();
  EXPECT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 1s));
}

TEST(Paths, an_mtu_that_shrinks_under_the_session_is_noticed) {
  EXPECT_TRUE(same_twice(6, [](World& world) {
    Two two(world);
    world.all_links([](Link& link) { link.bits_per_second = 20e6; });
    ASSERT_TRUE(two.connect());
    two.alice.send(two.session, 20'000'000);
    world.run(2s);
    EXPECT_GT(two.of_alice().current_path().mtu, 1400u);
    world.all_links([](Link& link) { link.mtu = 1300; });
    EXPECT_TRUE(two.finish_transfer(40s));
    EXPECT_LE(two.of_alice().current_path().mtu, 1300u);
    EXPECT_LT(two.bob.longest_gap, Duration(5s));
  }));
}

TEST(Paths, an_mtu_that_shrinks_towards_the_dialler_is_noticed_by_the_acceptor) {
  World world(7);
  Two two(world);
  world.all_links([](Link& link) { link.bits_per_second = 20e6; });
  ASSERT_TRUE(two.connect());
  two.bob.send(two.of_bob().id(), 20'000'000);
  world.run(2s);
  world.all_links([](Link& link) { link.mtu = 1300; });
  EXPECT_TRUE(two.finish_transfer(40s));
  EXPECT_LT(two.alice.longest_gap, Duration(5s));
}

TEST(Paths, each_path_finds_its_own_mtu) {
  World world(8);
  Two two(world);
  Node& relay = world.add("relay", 9);
  world.both(two.alice, relay, [](Link& link) { link.mtu = 1300; });
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  two.alice.send(two.session, 3'000'000);
  ASSERT_TRUE(two.finish_transfer(10s));
  EXPECT_EQ(two.of_alice().current_path().mtu, 1452u);
  ASSERT_TRUE(two.move(relayed));
  ASSERT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 2s));
  two.alice.send(two.session, 3'000'000);
  ASSERT_TRUE(two.finish_transfer(10s));
  world.run(2s);
  EXPECT_EQ(two.of_alice().current_path().mtu, 1300u);
}

TEST(Paths, rebinding_every_5_seconds_loses_no_byte) {
  EXPECT_TRUE(same_twice(9, [](World& world) {
    Two two(world);
    Nat& nat = world.put_behind_nat(two.alice, 1);
    world.all_links([](Link& link) { link.bits_per_second = 5e6; });
    ASSERT_TRUE(two.connect());
    two.alice.send(two.session, 15'000'000);
    for (int i = 0; i < 5; ++i) {
      world.run(5s);
      nat.rebind();
    }
    EXPECT_TRUE(two.finish_transfer(60s));
    EXPECT_GE(two.bob.endpoint().counters().rebindings, 4u);
    EXPECT_EQ(two.bob.events[session::EventKind::path_changed], 0);
    EXPECT_LT(two.bob.longest_gap, Duration(2s));
  }));
}

TEST(Paths, rebinding_is_survived_when_only_the_acceptor_sends) {
  EXPECT_TRUE(same_twice(10, [](World& world) {
    Two two(world);
    Nat& nat = world.put_behind_nat(two.alice, 1);
    world.all_links([](Link& link) { link.bits_per_second = 5e6; });
    ASSERT_TRUE(two.connect());
    two.bob.send(two.of_bob().id(), 10'000'000);
    for (int i = 0; i < 3; ++i) {
      world.run(4s);
      nat.rebind();
    }
    EXPECT_TRUE(two.finish_transfer(60s));
    EXPECT_LT(two.alice.longest_gap, Duration(3s));
  }));
}

// The echoes that test the new address get lost, as on a link whose queue is full; alice, who only receives,
// has nothing more to say.
TEST(Paths, rebinding_is_survived_when_the_first_echoes_are_lost) {
  EXPECT_TRUE(same_twice(15, [](World& world) {
    Two two(world);
    Nat& nat = world.put_behind_nat(two.alice, 1);
    world.all_links([](Link& link) { link.bits_per_second = 5e6; });
    ASSERT_TRUE(two.connect());
    two.bob.send(two.of_bob().id(), 10'000'000);
    int lose = 0;
    world.tap = [&](const SocketAddress& from, const SocketAddress&, const Bytes& bytes) {
      return from == two.bob.address && session::is_echo(bytes) && lose > 0 && lose-- > 0;
    };
    for (int i = 0; i < 3; ++i) {
      world.run(4s);
      nat.rebind();
      lose = 3;
    }
    EXPECT_TRUE(two.finish_transfer(60s));
    EXPECT_GE(two.bob.endpoint().counters().rebindings, 3u);
    EXPECT_LT(two.alice.longest_gap, Duration(1500ms));
  }));
}

TEST(Paths, rebinding_lets_the_acceptors_bytes_flow_again_within_a_second) {
  EXPECT_TRUE(same_twice(16, [](World& world) {
    Two two(world);
    Nat& nat = world.put_behind_nat(two.alice, 1);
    world.all_links([](Link& link) { link.bits_per_second = 20e6; });
    ASSERT_TRUE(two.connect());
    two.bob.send(two.of_bob().id(), 120'000'000);
    for (int i = 0; i < 12; ++i) {
      world.run(5s);
      nat.rebind();
    }
    EXPECT_TRUE(two.finish_transfer(60s));
    EXPECT_TRUE(two.alive());
    EXPECT_LT(two.alice.longest_gap, Duration(1s));
  }));
}

TEST(Paths, a_changed_uplink_is_followed_within_a_second) {
  EXPECT_TRUE(same_twice(11, [](World& world) {
    Two two(world);
    world.all_links([](Link& link) {
      link.delay = 20ms;
      link.bits_per_second = 20e6;
    });
    ASSERT_TRUE(two.connect());
    two.bob.send(two.of_bob().id(), 20'000'000);
    world.run(2s);
    two.alice.address = {IpAddress::v4({10, 0, 0, 77}),
                         4433};  // the old address is gone from one moment to the next
    world.all_links([](Link& link) {
      link.delay = 20ms;
      link.bits_per_second = 20e6;
    });
    two.alice.endpoint().handle_local_change(world.now);
    two.alice.drain();
    const std::uint64_t before = two.alice.received();
    EXPECT_TRUE(world.run_until([&] { return two.alice.received() > before + 200'000; }, 1s));
    EXPECT_TRUE(two.finish_transfer(30s));
    EXPECT_EQ(two.alice.endpoint().counters().migrations, 0u);
  }));
}

TEST(Paths, a_changed_uplink_of_the_acceptor_is_followed_too) {
  World world(12);
  Two two(world);
  ASSERT_TRUE(two.connect());
  world.run(1s);
  two.bob.address = {IpAddress::v4({10, 0, 0, 78}), 4433};
  two.bob.endpoint().handle_local_change(world.now);
  two.bob.drain();
  world.run(1s);
  two.alice.send(two.session, 100'000);
  EXPECT_TRUE(two.finish_transfer(1s));
}

TEST(Paths, copies_from_other_addresses_do_not_move_a_direct_path) {
  World world(13);
  Two two(world);
  world.all_links([](Link& link) { link.bits_per_second = 20e6; });
  ASSERT_TRUE(two.connect());
  const SocketAddress spy{IpAddress::v4({10, 0, 0, 66}), 1000};
  int copies = 0;
  world.tap = [&](const SocketAddress& from, const SocketAddress& to, const Bytes& bytes) {
    if (to.ip == spy.ip) {  // the spy relays what comes back, echoes too
      world.at(world.now,
               [&world, &two, bytes, spy] { world.send(spy, two.alice.address, 0, bytes, false); });
      return true;
    }
    if (from == two.alice.address && ++copies % 3 == 0) {
      const SocketAddress source{spy.ip, static_cast<std::uint16_t>(1000 + copies % 8)};
      world.at(world.now, [&world, to, bytes, source] { world.send(source, to, 0, bytes, false); });
    }
    return false;
  };
  two.alice.send(two.session, 5'000'000);
  EXPECT_TRUE(two.finish_transfer(30s));
  EXPECT_EQ(two.bob.endpoint().counters().rebindings, 0u);
  EXPECT_EQ(two.of_bob().current_path().route.remote, two.alice.address);
}

TEST(Paths, a_total_outage_is_survived_when_another_path_comes_back) {
  World world(14);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  two.alice.send(two.session, 50'000'000);
  world.run(200ms);
  world.all_links([](Link& link) { link.down = true; });
  world.run(20s);
  world.both(two.alice, relay, [](Link& link) { link.down = false; });
  world.both(two.bob, relay, [](Link& link) { link.down = false; });
  EXPECT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 10s));
  EXPECT_TRUE(two.finish_transfer(60s));
  EXPECT_LE(two.alice.endpoint().counters().migrations, 3u);
}

TEST(Paths, exhausted_connection_ids_are_replaced_over_a_carried_path) {
  World world(15);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  two.alice.send(two.session, 100'000'000);
  world.run(100ms);
  // All spares go on paths whose packets vanish, then only the relay works.
  world.link(two.bob, two.alice).down = true;
  for (int i = 0; i < 12; ++i) {
    (void)two.move(i % 2 == 0 ? relayed : PathId{0});
    world.run(60ms);
  }
  EXPECT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 20s));
  EXPECT_TRUE(two.finish_transfer(90s));
}

TEST(Paths, a_retired_path_is_forgotten_on_both_ends) {
  World world(16);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  EXPECT_FALSE(two.of_alice().retire_path(world.now, 0));
  ASSERT_TRUE(two.of_alice().retire_path(world.now, relayed));
  two.alice.drain();
  EXPECT_TRUE(world.run_until([&] { return two.of_bob().paths().size() == 1; }, 1s));
  EXPECT_EQ(two.of_alice().paths().size(), 1u);
}

TEST(Paths, a_session_holds_no_more_paths_than_its_limit) {
  World world(17);
  Two two(world);
  ASSERT_TRUE(two.connect());
  Route route;
  route.remote = two.bob.address;
  int added = 0;
  while (two.of_alice().add_path(world.now, PathKind::direct, route)) ++added;
  EXPECT_EQ(added, 7);
  two.alice.drain();
  world.run(2s);
  EXPECT_EQ(two.of_bob().paths().size(), 8u);
  EXPECT_FALSE(two.of_bob().add_path(world.now, PathKind::direct, route));
}

TEST(Paths, two_paths_of_one_session_share_a_forwarder) {
  World world(18);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId first = two.add_relayed(relay);
  const PathId second = two.add_relayed(relay);
  two.alice.send(two.session, 3'000'000);
  for (const PathId to : {first, second, first, second}) {
    ASSERT_TRUE(two.move(to));
    ASSERT_TRUE(world.run_until([&] { return two.on_path(to); }, 2s));
  }
  EXPECT_TRUE(two.finish_transfer(20s));
}

}  // namespace
}  // namespace ravine::sim
