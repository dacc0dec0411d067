// Handshakes and transfers over bad links.
#include "sim/scenario.h"

namespace ravine::sim {
namespace {

TEST(Transfer, two_nodes_meet_and_bytes_arrive_as_sent) {
  EXPECT_TRUE(same_twice(1, [](World& world) {
    Two two(world);
    ASSERT_TRUE(two.connect());
    two.alice.send(two.session, 1'000'000);
    two.bob.send(two.of_bob().id(), 500'000);
    ASSERT_TRUE(two.finish_transfer(10s));
    EXPECT_TRUE(two.alive());
  }));
}

TEST(Transfer, handshake_survives_30_percent_loss_in_bursts_of_3) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    EXPECT_TRUE(same_twice(seed, [&](World& world) {
      Two two(world, [](session::EndpointOptions& options) { options.defaults.handshake_timeout = 60s; });
      world.all_links([](Link& link) {
        link.loss = 0.3;
        link.burst = 3;
      });
      EXPECT_TRUE(two.connect(60s)) << "seed " << seed;
    }));
  }
}

TEST(Transfer, handshake_survives_30_percent_corruption) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    EXPECT_TRUE(same_twice(seed, [&](World& world) {
      Two two(world, [](session::EndpointOptions& options) { options.defaults.handshake_timeout = 60s; });
      world.all_links([](Link& link) { link.corrupt = 0.3; });
      EXPECT_TRUE(two.connect(60s)) << "seed " << seed;
    }));
  }
}

TEST(Transfer, two_percent_loss_and_corruption_change_no_byte) {
  EXPECT_TRUE(same_twice(7, [](World& world) {
    Two two(world);
    ASSERT_TRUE(two.connect());
    world.all_links([](Link& link) { link.loss = link.corrupt = 0.02; });
    two.alice.send(two.session, 10'000'000);
    two.bob.send(two.of_bob().id(), 2'000'000);
    EXPECT_TRUE(two.finish_transfer(120s));
  }));
}

TEST(Transfer, reordering_duplication_and_jitter_change_no_byte) {
  EXPECT_TRUE(same_twice(8, [](World& world) {
    Two two(world);
    ASSERT_TRUE(two.connect());
    world.all_links([](Link& link) {
      link.jitter = 10ms;
      link.reorder = link.duplicate = 0.1;
    });
    two.alice.send(two.session, 5'000'000);
    EXPECT_TRUE(two.finish_transfer(120s));
  }));
}

TEST(Transfer, survives_a_blackout_of_2_seconds_in_every_7) {
  EXPECT_TRUE(same_twice(9, [](World& world) {
    Two two(world);
    ASSERT_TRUE(two.connect());
    world.all_links([](Link& link) { link.bits_per_second = 10e6; });
    two.alice.send(two.session, 20'000'000);
    for (int round = 0; round < 10; ++round) {
      world.run(5s);
      world.all_links([](Link& link) { link.down = true; });
      world.run(2s);
      world.all_links([](Link& link) { link.down = false; });
    }
    EXPECT_TRUE(two.finish_transfer(60s));
    EXPECT_TRUE(two.alive());
  }));
}

TEST(Transfer, works_with_750_ms_of_one_way_delay) {
  EXPECT_TRUE(same_twice(10, [](World& world) {
    Two two(world);
    world.all_links([](Link& link) { link.delay = 750ms; });
    ASSERT_TRUE(two.connect(15s));
    two.alice.send(two.session, 1'000'000);
    EXPECT_TRUE(two.finish_transfer(60s));
    EXPECT_EQ(two.alice.endpoint().counters().migrations, 0u);
  }));
}

TEST(Transfer, bleached_ecn_has_no_effect) {
  World world(11);
  Two two(world);
  world.all_links([](Link& link) { link.bleach_ecn = true; });
  ASSERT_TRUE(two.connect());
  two.alice.send(two.session, 3'000'000);
  EXPECT_TRUE(two.finish_transfer(20s));
}

TEST(Transfer, an_idle_session_stays_and_keeps_its_mappings) {
  World world(12);
  Two two(world);
  Nat& nat = world.put_behind_nat(two.alice, 1);
  nat.filtering = NatRule::address_and_port_dependent;
  ASSERT_TRUE(two.connect());
  world.run(300s);
  EXPECT_TRUE(two.alive());
  two.bob.send(two.of_bob().id(), 10'000);
  EXPECT_TRUE(two.finish_transfer(3s));
}

TEST(Transfer, a_dead_peer_ends_the_session_by_idle_timeout_with_one_stale_event) {
  World world(13);
  Two two(world);
  ASSERT_TRUE(two.connect());
  two.alice.send(two.session, 100'000);
  world.run(1s);
  two.bob.alive = false;
  two.alice.send(two.session, 100'000);
  world.run(5s);
  EXPECT_EQ(two.alice.events[session::EventKind::local_addresses_stale], 1);
  world.run(120s);
  ASSERT_EQ(two.alice.closed.size(), 1u);
  EXPECT_EQ(two.alice.closed[0].cause, session::CloseCause::idle_timeout) << two.alice.closed[0].text;
  EXPECT_EQ(two.alice.session_to(two.bob), nullptr);
}

}  // namespace
}  // namespace ravine::sim
