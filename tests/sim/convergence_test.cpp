// Two sessions between the same peers become one, whatever is lost on the way, and never none.
#include "sim/scenario.h"

namespace ravine::sim {
namespace {

void expect_one_session(Two& two) {
  EXPECT_EQ(two.alice.endpoint().sessions().size(), 1u);
  EXPECT_EQ(two.bob.endpoint().sessions().size(), 1u);
  ASSERT_TRUE(is_up(two.alice, two.bob) && is_up(two.bob, two.alice));
  EXPECT_NE(two.of_alice().info().role, two.of_bob().info().role);
  two.alice.send(two.of_alice().id(), 10'000);
  two.bob.send(two.of_bob().id(), 10'000);
  EXPECT_TRUE(two.finish_transfer(10s));
}

// The whole exchange takes some thirty packets a side: hello, confirmation, goaway, its acknowledgement and
// the close are each lost once, alone and with everything in the three seconds after.
TEST(Convergence, whichever_packet_is_lost_one_session_is_left_on_both_ends) {
  for (const Duration outage : {Duration(0), Duration(3s)}) {
    for (unsigned side = 0; side < 2; ++side) {
      for (unsigned lost = 0; lost < 40; ++lost) {
        SCOPED_TRACE(std::to_string(outage.count()) + " " + std::to_string(side) + " " +
                     std::to_string(lost));
        World world(100 + lost);
        Two two(world);
        const SocketAddress sender = side == 0 ? two.alice.address : two.bob.address;
        unsigned seen = 0;
        Instant until;
        world.tap = [&](const SocketAddress& from, const SocketAddress&, const Bytes&) {
          if (world.now < until) return true;
          if (from != sender || seen++ != lost) return false;
          until = world.now + outage;
          return true;
        };
        two.alice.dial(two.bob);
        world.run(lost % 3 * 4ms);
        two.bob.dial(two.alice);
        world.run(45s);
        expect_one_session(two);
      }
    }
  }
}

// Whoever dials several addresses at once closes the slower dials as soon as one is up.
TEST(Convergence, a_dial_given_up_before_it_was_up_does_not_take_the_other_with_it) {
  for (unsigned lost = 0; lost < 20; ++lost) {
    for (const bool by_alice : {true, false}) {
      SCOPED_TRACE(std::to_string(lost) + (by_alice ? " alice" : " bob"));
      World world(200 + lost);
      Two two(world);
      Node& quitter = by_alice ? two.alice : two.bob;
      Node& other = by_alice ? two.bob : two.alice;
      unsigned seen = 0;
      world.tap = [&](const SocketAddress& from, const SocketAddress&, const Bytes&) {
        return from == other.address && seen++ == lost;
      };
      const SessionId given_up = quitter.dial(other);
      other.dial(quitter);
      world.run_until([&] { return is_up(quitter, other); }, 10s);
      if (session::Session* mine = quitter.session(given_up); mine != nullptr && !mine->is_established()) {
        mine->close(world.now, session::AppError::goaway, "another dial was faster");
        quitter.drain();
      }
      world.run(45s);
      expect_one_session(two);
    }
  }
}

TEST(Convergence, a_restarted_peer_that_dials_again_replaces_what_it_left_behind) {
  for (const bool restarts_alice : {true, false}) {
    for (const bool first_by_alice : {true, false}) {
      SCOPED_TRACE(std::to_string(restarts_alice) + std::to_string(first_by_alice));
      World world(300);
      Two two(world);
      Node& first = first_by_alice ? two.alice : two.bob;
      first.dial(&first == &two.alice ? two.bob : two.alice);
      ASSERT_TRUE(
          world.run_until([&] { return is_up(two.alice, two.bob) && is_up(two.bob, two.alice); }, 5s));
      Node& restarted = restarts_alice ? two.alice : two.bob;
      Node& stayed = restarts_alice ? two.bob : two.alice;
      restarted.restart(false);  // no resets either: the old session just falls silent
      const SessionId fresh = restarted.dial(stayed);
      ASSERT_TRUE(world.run_until([&] { return restarted.session(fresh)->is_established(); }, 5s));
      world.run(3s);
      session::Session* there = stayed.session_to(restarted);
      ASSERT_NE(there, nullptr);
      EXPECT_FALSE(there->is_closing());
      stayed.send(there->id(), 10'000);
      EXPECT_TRUE(world.run_until([&] { return restarted.received() == 10'000u; }, 5s));
      world.run(80s);
      EXPECT_EQ(stayed.endpoint().sessions().size(), 1u);
      EXPECT_TRUE(is_up(stayed, restarted) && is_up(restarted, stayed));
    }
  }
}

}  // namespace
}  // namespace ravine::sim
