// Seeded attacks: packets copied, delayed, truncated, stolen and sent from other addresses while the session
// moves.
#include "sim/scenario.h"

namespace ravine::sim {
namespace {

struct Attack {
  explicit Attack(std::uint64_t seed) : world(seed * 7919 + 13), two(world), rate(0) {}

  void run() {
    Node& relay = world.add("relay", 9);
    Node& hop = world.add("hop", 10);
    ASSERT_TRUE(two.connect());
    const PathId paths[] = {0, two.add_relayed(relay), two.add_relayed(hop), two.add_direct(two.bob.address)};
    world.all_links([&](Link& link) {
      link.loss = world.chance() * 0.05;
      link.delay = 500us + Duration{static_cast<std::int64_t>(world.random.below(50'000'000))};
      link.bits_per_second = 20e6;
    });
    rate = 0.05 + world.chance() * 0.4;
    world.tap = [this](const SocketAddress& from, const SocketAddress& to, const Bytes& bytes) {
      return intercept(from, to, bytes);
    };
    two.alice.send(two.session, 4'000'000, false);
    two.bob.send(two.of_bob().id(), 4'000'000, false);
    for (int i = 0; i < 40 && two.alive(); ++i) {
      if (world.chance() < 0.7) (void)two.move(paths[world.random.below(4)]);
      world.run(5ms + Duration{static_cast<std::int64_t>(world.random.below(300'000'000))});
    }
    world.tap = nullptr;
    world.all_links([](Link& link) { link.loss = 0; });
    EXPECT_TRUE(two.finish_transfer(60s)) << two.bob.received() << " of " << two.alice.written() << ", "
                                          << two.alice.received() << " of " << two.bob.written();
    EXPECT_TRUE(two.alive()) << (two.alice.closed.empty() ? "" : two.alice.closed[0].text) << " / "
                             << (two.bob.closed.empty() ? "" : two.bob.closed[0].text);
  }

  bool intercept(const SocketAddress& from, const SocketAddress& to, const Bytes& bytes) {
    if (from.ip == kAttacker || to.ip == kAttacker || world.chance() >= rate) return false;
    Bytes copy = bytes;
    const auto port = static_cast<std::uint16_t>(1000 + world.random.below(8));
    const SocketAddress source{world.chance() < 0.5 ? kAttacker : two.alice.address.ip, port};
    SocketAddress target = to;
    if (world.chance() >= 0.7) target = world.chance() < 0.5 ? two.bob.address : two.alice.address;
    if (world.chance() < 0.2 && copy.size() > 30) copy.resize(20 + world.random.below(copy.size() - 20));
    const Duration delay{world.chance() < 0.3 ? 0
                                              : static_cast<std::int64_t>(world.random.below(400'000'000))};
    world.at(world.now + delay, [this, source, target, copy] { world.send(source, target, 0, copy, false); });
    return world.chance() < 0.1;  // stolen: the genuine one never arrives
  }

  inline static const IpAddress kAttacker = IpAddress::v4({10, 0, 0, 238});
  World world;
  Two two;
  double rate;
};

TEST(Attack, copied_delayed_and_stolen_packets_kill_no_session) {
  const std::uint64_t count = seeds(40);
  for (std::uint64_t seed = first_seed(); seed <= count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Attack attack(seed);
    attack.run();
  }
}

TEST(Attack, a_seed_repeats_exactly) {
  std::uint64_t digests[2];
  for (std::uint64_t& digest : digests) {
    Attack attack(5);
    attack.run();
    digest = attack.world.digest();
  }
  EXPECT_EQ(digests[0], digests[1]);
}

TEST(Attack, random_moves_and_dying_paths_deliver_everything) {
  const std::uint64_t count = seeds(20);
  for (std::uint64_t seed = first_seed(); seed <= count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed * 31 + 5);
    Two two(world);
    Node* hops[] = {&world.add("hop1", 9), &world.add("hop2", 10)};
    ASSERT_TRUE(two.connect());
    const PathId paths[] = {0, two.add_relayed(*hops[0]), two.add_relayed(*hops[1])};
    world.all_links([&](Link& link) {
      link.loss = world.chance() * 0.03;
      link.delay = 1ms + Duration{static_cast<std::int64_t>(world.random.below(60'000'000))};
      link.bits_per_second = 5e6 + world.chance() * 3e7;
    });
    two.alice.send(two.session, 5'000'000);
    two.bob.send(two.of_bob().id(), 5'000'000);
    const auto set_down = [&](std::size_t path, bool down) {
      const auto change = [&](Link& link) { link.down = down; };
      if (path == 0) return world.both(two.alice, two.bob, change);
      world.both(two.alice, *hops[path - 1], change);
    };
    std::size_t dead = 3;
    for (int i = 0; i < 40 && two.alive(); ++i) {
      if (dead < 3 && world.chance() < 0.3) {
        set_down(dead, false);
        dead = 3;
      } else if (dead == 3 && world.chance() < 0.2) {
        dead = world.random.below(3);
        set_down(dead, true);
      }
      if (world.chance() < 0.6) (void)two.move(paths[world.random.below(3)]);
      world.run(20ms + Duration{static_cast<std::int64_t>(world.random.below(400'000'000))});
    }
    for (std::size_t path = 0; path < 3; ++path) set_down(path, false);
    world.all_links([](Link& link) { link.loss = 0; });
    EXPECT_TRUE(two.finish_transfer(60s)) << two.bob.received() << " of " << two.alice.written() << ", "
                                          << two.alice.received() << " of " << two.bob.written();
    EXPECT_TRUE(two.alive());
  }
}

}  // namespace
}  // namespace ravine::sim
