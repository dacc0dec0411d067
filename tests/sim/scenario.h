// What the scenarios share: two nodes with a session, and the paths between them.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "sim/world.h"

namespace ravine::sim {

using session::PathId;
using session::PathKind;
using session::PathLabels;
using session::PathState;
using session::Route;

inline bool is_up(Node& from, Node& to) {
  session::Session* found = from.session_to(to);
  return found != nullptr && found->is_established();
}

// Scenarios over many seeds: `fast` in the default run, RAVINE_SIM_SEEDS by hand.
inline std::uint64_t seeds(std::uint64_t fast) {
  const char* asked = std::getenv("RAVINE_SIM_SEEDS");
  return asked != nullptr ? std::strtoull(asked, nullptr, 10) : fast;
}

// The first of them: RAVINE_SIM_FIRST, to look at one seed.
inline std::uint64_t first_seed() {
  const char* asked = std::getenv("RAVINE_SIM_FIRST");
  return asked != nullptr ? std::strtoull(asked, nullptr, 10) : 1;
}

struct Two {
  explicit Two(World& its_world, std::function<void(session::EndpointOptions&)> change = {})
      : world(its_world), alice(world.add("alice", 1, change)), bob(world.add("bob", 2, change)) {}
  bool connect(Duration limit = 15s, session::DialOptions options = {}) {
    session = alice.dial(bob, options);
    return world.run_until([&] { return is_up(alice, bob) && is_up(bob, alice); }, limit);
  }
  session::Session& of_alice() { return *alice.session_to(bob); }
  session::Session& of_bob() { return *bob.session_to(alice); }
  bool delivered() const {
    return bob.received() == alice.written() && alice.received() == bob.written() && bob.wrong() == 0 &&
           alice.wrong() == 0;
  }
  bool alive() { return alice.closed.empty() && bob.closed.empty(); }
  bool all_sent() const {
    const auto sent = [](const Node& node) {
      return std::all_of(node.outflows.begin(), node.outflows.end(),
                         [](const Outflow& flow) { return flow.written == flow.total; });
    };
    return sent(alice) && sent(bob);
  }
  bool finish_transfer(Duration limit) {
    return world.run_until([&] { return all_sent() && delivered(); }, limit);
  }

  // A path over one forwarder: entries in its table, labels offered by alice. Returns its number once it is
  // validated.
  PathId add_relayed(Node& relay) {
    const PathLabels labels{Label{world.random.next_u64() | 1}, Label{world.random.next_u64() | 1}};
    Route to_alice, to_bob, to_relay;
    to_alice.remote = world.seen_address(alice, relay.address);
    to_bob.remote = world.seen_address(bob, relay.address);
    to_relay.remote = relay.address;
    EXPECT_TRUE(relay.endpoint().forwarder().claim(labels.transmit, {.ingress = to_alice, .egress = to_bob}));
    EXPECT_TRUE(relay.endpoint().forwarder().claim(labels.receive, {.ingress = to_bob, .egress = to_alice}));
    return offer(PathKind::relayed, to_relay, labels);
  }
  // A second direct path, as another pair of labels; `towards` is where alice sends it.
  PathId add_direct(const SocketAddress& towards) {
    Route route;
    route.remote = towards;
    return offer(PathKind::direct, route, std::nullopt);
  }
  PathId offer(PathKind kind, const Route& route, std::optional<PathLabels> labels) {
    const auto made = of_alice().add_path(world.now, kind, route, labels);
    EXPECT_TRUE(made);
    if (!made) return 0;
    alice.drain();
    EXPECT_TRUE(world.run_until(
        [&] {
          return state(alice, *made) == PathState::validated && state(bob, *made) == PathState::validated;
        },
        10s));
    return *made;
  }
  PathState state(Node& node, PathId path) {
    session::Session* found = node.session_to(&node == &alice ? bob : alice);
    if (found == nullptr) return PathState::silent;
    for (const auto& info : found->paths()) {
      if (info.id == path) return info.state;
    }
    return PathState::silent;
  }
  bool move(PathId path) {
    const bool asked = of_alice().move_to(world.now, path).ok();
    alice.drain();
    return asked;
  }
  bool on_path(PathId path) {
    return of_alice().current_path().id == path && of_bob().current_path().id == path;
  }

  World& world;
  Node& alice;
  Node& bob;
  SessionId session;
};

}  // namespace ravine::sim
