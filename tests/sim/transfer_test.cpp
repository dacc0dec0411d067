// Handshakes and transfers over bad links.
#include <gtest/gtest.h>

#include "sim/world.h"

namespace ravine::sim {
namespace {

struct Two {
  explicit Two(World& world) : alice(world.add("alice", 1)), bob(world.add("bob", 2)) {}
  bool connect(World& world, Duration limit = 15s) {
    session = alice.dial(bob);
    return world.run_until([&] { return up(alice, bob) && up(bob, alice); }, limit);
  }
  static bool up(Node& from, Node& to) {
    session::Session* found = from.session_to(to);
    return found != nullptr && found->is_established();
  }
  Node& alice;
  Node& bob;
  SessionId session;
};

TEST(Transfer, two_nodes_meet_and_bytes_arrive_as_sent) {
  EXPECT_TRUE(same_twice(1, [](World& world) {
    Two two(world);
    ASSERT_TRUE(two.connect(world));
    two.alice.send(two.session, 1'000'000);
    ASSERT_TRUE(world.run_until([&] { return two.bob.received() == 1'000'000; }, 10s));
    EXPECT_EQ(two.bob.wrong(), 0u);
  }));
}

}  // namespace
}  // namespace ravine::sim
