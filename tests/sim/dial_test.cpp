// First flights: labels, forwarders, floods, convergence, resets, versions, guests.
#include "sim/scenario.h"
#include "wire/quic_packet.h"

namespace ravine::sim {
namespace {

struct Chain {  // alice – hops – bob, entries of both directions at every hop
  Chain(World& world, Node& alice, Node& bob, const std::vector<Node*>& hops)
      : labels{Label{world.random.next_u64() | 1}, Label{world.random.next_u64() | 1}} {
    std::vector<Node*> all{&alice};
    all.insert(all.end(), hops.begin(), hops.end());
    all.push_back(&bob);
    for (std::size_t i = 1; i + 1 < all.size(); ++i) {
      Route before, after;
      before.remote = all[i - 1]->address;
      after.remote = all[i + 1]->address;
      auto& forwarder = all[i]->endpoint().forwarder();
      installed &= forwarder.claim(labels.transmit, {.ingress = before, .egress = after}).ok();
      installed &= forwarder.claim(labels.receive, {.ingress = after, .egress = before}).ok();
    }
    first.remote = all[1]->address;
    last.remote = all[all.size() - 2]->address;
  }
  session::OfferOptions offer(World& world) const {
    session::OfferOptions made;
    made.labels = {labels.receive, labels.transmit};
    made.ingress = last;
    made.until = world.now + 30s;
    return made;
  }
  session::DialOptions dial() const {
    session::DialOptions made;
    made.kind = PathKind::circuit;
    made.route = first;
    made.labels = labels;
    return made;
  }
  PathLabels labels;  // alice's
  Route first, last;
  bool installed = true;
};

struct Circuit : testing::Test {
  World world{1};
  Two two{world};
  Node& hop1 = world.add("hop1", 11);
  Node& hop2 = world.add("hop2", 12);
  std::uint64_t unknown() {
    return hop1.endpoint().counters().unknown_label + hop2.endpoint().counters().unknown_label;
  }
};

TEST_F(Circuit, handshake_crosses_two_hops_in_two_round_trips) {
  const Chain chain(world, two.alice, two.bob, {&hop1, &hop2});
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, chain.offer(world)));
  const Instant start = world.now;
  ASSERT_TRUE(two.connect(5s, chain.dial()));
  EXPECT_LE(world.now - start, Duration(80ms));  // 30 ms each
  EXPECT_EQ(unknown(), 0u);
  two.alice.send(two.session, 1'000'000);
  EXPECT_TRUE(two.finish_transfer(10s));
  EXPECT_EQ(unknown(), 0u);
}

TEST_F(Circuit, a_first_flight_from_another_address_does_not_take_the_offer) {
  const Chain chain(world, two.alice, two.bob, {&hop1, &hop2});
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, chain.offer(world)));
  session::DialOptions direct = chain.dial();
  direct.route.remote = two.bob.address;
  EXPECT_FALSE(two.connect(2s, direct));
  EXPECT_EQ(two.bob.endpoint().counters().accepted, 0u);
  EXPECT_GT(two.bob.endpoint().counters().wrong_source, 0u);
}

TEST_F(Circuit, garbage_on_an_offered_label_leaves_the_offer) {
  const Chain chain(world, two.alice, two.bob, {&hop1, &hop2});
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, chain.offer(world)));
  for (int i = 0; i < 200; ++i) {
    Bytes garbage(i % 3 == 0 ? 27 : 1200);
    world.random.fill(garbage);
    garbage[0] = static_cast<std::uint8_t>(0xc0 | (garbage[0] & 0x0f));
    store_big_endian<std::uint32_t>(garbage.data() + 1, i % 5 == 0 ? 0 : 1);
    garbage[5] = 12;
    chain.labels.transmit.store(garbage.data() + 6);
    garbage[18] = 12;
    world.send(hop2.address, two.bob.address, 0, garbage);
  }
  world.run(100ms);
  EXPECT_EQ(two.bob.endpoint().counters().half_open, 0u);
  EXPECT_TRUE(two.connect(5s, chain.dial()));
}

TEST_F(Circuit, entries_that_come_late_cost_a_probe_timeout_and_no_more) {
  Node& hop = world.add("hop", 13);
  const PathLabels labels{Label{world.random.next_u64() | 1}, Label{world.random.next_u64() | 1}};
  Route to_alice, to_bob;
  to_alice.remote = two.alice.address;
  to_bob.remote = two.bob.address;
  ASSERT_TRUE(hop.endpoint().forwarder().claim(labels.transmit, {.ingress = to_alice, .egress = to_bob}));
  session::OfferOptions offer;
  offer.labels = {labels.receive, labels.transmit};
  offer.ingress.remote = hop.address;
  offer.until = world.now + 30s;
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, offer));
  world.at(world.now + 500ms, [&] {
    EXPECT_TRUE(hop.endpoint().forwarder().claim(labels.receive, {.ingress = to_bob, .egress = to_alice}));
  });
  session::DialOptions dial;
  dial.kind = PathKind::circuit;
  dial.route.remote = hop.address;
  dial.labels = labels;
  EXPECT_TRUE(two.connect(4s, dial));
}

TEST_F(Circuit, a_hop_dead_before_the_handshake_is_gone_round_by_the_second_circuit) {
  const Chain dead(world, two.alice, two.bob, {&hop1, &hop2});
  Node& spare_hop = world.add("spare", 14);
  const Chain spare(world, two.alice, two.bob, {&spare_hop});
  session::OfferOptions second = spare.offer(world);
  second.path = 1;
  second.canonical = dead.labels.transmit;
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, dead.offer(world)));
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, second));
  hop1.alive = false;
  session::DialOptions dial = dead.dial();
  dial.spares.push_back({PathKind::circuit, spare.first, spare.labels});
  ASSERT_TRUE(two.connect(5s, dial));
  two.alice.send(two.session, 1'000'000);
  EXPECT_TRUE(two.finish_transfer(10s));
  EXPECT_TRUE(world.run_until([&] { return two.on_path(1); }, 10s));
}

TEST_F(Circuit, a_label_known_on_one_path_helps_nobody_on_another) {
  const Chain chain(world, two.alice, two.bob, {&hop1, &hop2});
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, chain.offer(world)));
  ASSERT_TRUE(two.connect(5s, chain.dial()));
  Node& relay = world.add("relay", 15);
  // The hop claims what it knows at the relay first; the relayed path has labels of its own.
  Route from, to;
  from.remote = two.alice.address;
  to.remote = hop1.address;
  ASSERT_TRUE(
      relay.endpoint().forwarder().claim(chain.labels.transmit, {.ingress = from, .egress = to, .owner = 7}));
  const PathId relayed = two.add_relayed(relay);
  hop2.alive = false;
  two.alice.send(two.session, 1'000'000);
  EXPECT_TRUE(two.finish_transfer(10s));
  EXPECT_TRUE(two.on_path(relayed));
}

TEST(Dial, simultaneous_dials_leave_one_session_and_all_data_arrives) {
  const std::uint64_t count = seeds(300);
  for (std::uint64_t seed = first_seed(); seed <= count; ++seed) {
    World world(seed * 104729 + 7);
    Two two(world);
    const auto shape = [&](Link& link) {
      link.delay = 1ms + Duration{static_cast<std::int64_t>(world.random.below(80'000'000))};
      link.loss = world.chance() * 0.2;
    };
    world.both(two.alice, two.bob, shape);
    bool alice_sent = false, bob_sent = false;
    const auto send_once = [](Node& node, Node& peer, bool& sent) {
      session::Session* session = node.session_to(peer);
      if (sent || session == nullptr || !session->is_established()) return;
      sent = true;
      node.send(session->id(), 100'000);
    };
    Node& first = seed % 2 == 0 ? two.alice : two.bob;
    Node& second = seed % 2 == 0 ? two.bob : two.alice;
    first.dial(second);
    world.run(Duration{static_cast<std::int64_t>(world.random.below(150'000'000))});
    second.dial(first);
    world.run_until(
        [&] {
          send_once(two.alice, two.bob, alice_sent);
          send_once(two.bob, two.alice, bob_sent);
          return world.now > Instant{41'000'000'000};
        },
        60s);
    ASSERT_TRUE(alice_sent && bob_sent) << "seed " << seed;
    EXPECT_EQ(two.bob.received(), 100'000u) << "seed " << seed;
    EXPECT_EQ(two.alice.received(), 100'000u) << "seed " << seed;
    EXPECT_EQ(two.alice.endpoint().sessions().size(), 1u) << "seed " << seed;
    EXPECT_EQ(two.bob.endpoint().sessions().size(), 1u) << "seed " << seed;
    for (const Node* node : {&two.alice, &two.bob}) {
      for (const auto& reason : node->closed) {
        EXPECT_EQ(reason.cause, session::CloseCause::dial_superseded) << node->name << ": " << reason.text;
      }
    }
    ASSERT_TRUE(is_up(two.alice, two.bob) && is_up(two.bob, two.alice)) << "seed " << seed;
    EXPECT_NE(two.of_alice().info().role, two.of_bob().info().role) << "seed " << seed;
  }
}

TEST(Dial, a_flood_of_first_flights_gets_retries_and_an_honest_dial_succeeds) {
  World world(3);
  Two two(world, [](session::EndpointOptions& options) {
    options.limits.retry_above_half_open = 32;
    options.limits.half_open = 64;
    options.limits.half_open_per_prefix = 16;
    options.limits.replies_per_second = 50;
  });
  Node& flooder = world.add("flooder", 20);
  Bytes initial;
  world.tap = [&](const SocketAddress& from, const SocketAddress&, const Bytes& bytes) {
    if (from == flooder.address && bytes.size() >= 1200) initial = bytes;
    return from == flooder.address;
  };
  std::uint64_t answered_bytes = 0, sent_bytes = 0;
  const std::uint64_t before = two.bob.endpoint().counters().bytes_sent;
  for (int i = 0; i < 4000; ++i) {
    flooder.dial(two.bob);  // a well-formed first flight with a label of its own each time
    flooder.endpoint().close_all(world.now, session::AppError::none);
    const SocketAddress spoofed{
        IpAddress::v4({172, static_cast<std::uint8_t>(16 + i % 16), static_cast<std::uint8_t>(i % 250),
                       static_cast<std::uint8_t>(i / 250)}),
        static_cast<std::uint16_t>(1024 + i)};
    sent_bytes += initial.size();
    world.send(spoofed, two.bob.address, 0, initial, false);
    if (i % 100 == 0) world.run(10ms);
  }
  world.run(50ms);
  answered_bytes = two.bob.endpoint().counters().bytes_sent - before;
  EXPECT_LE(two.bob.endpoint().counters().half_open, 64u);
  EXPECT_GT(two.bob.endpoint().counters().retries_sent, 0u);
  EXPECT_LT(answered_bytes, 3 * sent_bytes);
  world.tap = nullptr;
  const Instant start = world.now;
  EXPECT_TRUE(two.connect(3s));
  EXPECT_LT(world.now - start, Duration(3s));
  world.run(30s);
  EXPECT_EQ(two.bob.endpoint().counters().half_open, 0u);
  EXPECT_EQ(two.bob.endpoint().counters().sessions, 1u);
}

TEST(Dial, retry_is_answered_and_the_session_comes_up) {
  World world(4);
  Two two(world, [](session::EndpointOptions& options) { options.limits.retry_above_half_open = 0; });
  ASSERT_TRUE(two.connect(5s));
  EXPECT_GE(two.bob.endpoint().counters().retries_sent, 1u);
  two.alice.send(two.session, 100'000);
  EXPECT_TRUE(two.finish_transfer(5s));
}

TEST(Dial, a_restarted_peer_resets_the_session_and_a_new_dial_works) {
  World world(5);
  Two two(world);
  ASSERT_TRUE(two.connect());
  two.alice.send(two.session, 100'000);
  ASSERT_TRUE(two.finish_transfer(5s));
  two.bob.restart();
  two.alice.send(two.session, 1000, false);
  ASSERT_TRUE(world.run_until([&] { return !two.alice.closed.empty(); }, 2s));
  EXPECT_EQ(two.alice.closed[0].cause, session::CloseCause::stateless_reset);
  two.session = two.alice.dial(two.bob);
  EXPECT_TRUE(world.run_until([&] { return is_up(two.alice, two.bob); }, 5s));
}

TEST(Dial, a_reset_from_another_address_or_with_another_token_does_nothing) {
  World world(6);
  Two two(world);
  ASSERT_TRUE(two.connect());
  for (int i = 0; i < 500; ++i) {
    Bytes reset(43);
    world.random.fill(reset);
    reset[0] = 0x45;
    two.of_alice().current_path().transmit_label.store(reset.data() + 1);
    world.send(two.bob.address, two.alice.address, 0, reset, false);
  }
  world.run(100ms);
  EXPECT_TRUE(two.alive());
}

TEST(Dial, two_nodes_without_state_do_not_answer_each_other_for_ever) {
  World world(7);
  Two two(world);
  Bytes stray(200);
  world.random.fill(stray);
  stray[0] = 0x41;
  world.send(two.alice.address, two.bob.address, 0, stray);
  world.run(10s);
  EXPECT_LE(two.alice.endpoint().counters().resets_sent + two.bob.endpoint().counters().resets_sent, 20u);
}

TEST(Dial, an_unknown_version_is_answered_with_ours_and_never_more_than_it_sent) {
  World world(8);
  Two two(world);
  Bytes greased(1200);
  world.random.fill(greased);
  greased[0] = 0xc0;
  store_big_endian<std::uint32_t>(greased.data() + 1, 0x1a2a3a4a);
  greased[5] = 8;
  greased[14] = 8;
  world.send(two.alice.address, two.bob.address, 0, greased);
  world.run(1s);
  EXPECT_EQ(two.bob.endpoint().counters().version_negotiations, 1u);
  EXPECT_LT(two.bob.endpoint().counters().bytes_sent, 100u);
}

TEST(Dial, malformed_datagrams_change_nothing) {
  World world(9);
  Two two(world);
  ASSERT_TRUE(two.connect());
  for (int i = 0; i < 5000; ++i) {
    Bytes junk(world.random.below(i % 10 == 0 ? 1400 : 60));
    world.random.fill(junk);
    if (junk.size() > 9 && i % 2 == 0) {
      junk[0] = static_cast<std::uint8_t>(0x40 | (junk[0] & 0x3f));
      two.of_bob().current_path().receive_label.store(junk.data() + 1);
    }
    world.send(two.alice.address, two.bob.address, 0, junk);
  }
  world.run(2s);
  EXPECT_TRUE(two.alive());
  EXPECT_EQ(two.bob.endpoint().counters().half_open, 0u);
  two.alice.send(two.session, 10'000);
  EXPECT_TRUE(two.finish_transfer(2s));
}

// Also one whose first flight still gets through and whose answer does not.
TEST(Dial, one_that_begins_in_a_blackout_of_2_seconds_succeeds_within_3) {
  for (const Duration since : {0ms, 12ms, 500ms, 900ms, 1300ms, 1900ms}) {
    for (const Duration delay : {1ms, 10ms, 45ms}) {
      World world(20);
      Two two(world);
      world.all_links([&](Link& link) { link.delay = delay; });
      const bool first_gets_through = since == Duration(12ms);
      const auto set_down = [&](bool down) { world.all_links([&](Link& link) { link.down = down; }); };
      world.both(two.alice, two.bob, [&](Link& link) { link.delay = delay; });
      if (first_gets_through) {
        world.link(two.bob, two.alice).down = true;
      } else {
        set_down(true);
      }
      world.at(world.now + (2s - since), [&] { set_down(false); });
      EXPECT_TRUE(two.connect(3s)) << since.count() << " ns into it, delay " << delay.count() << " ns";
    }
  }
}

TEST(Dial, an_unreachable_peer_ends_in_a_handshake_timeout) {
  World world(10);
  Two two(world);
  two.bob.alive = false;
  EXPECT_FALSE(two.connect(30s));
  ASSERT_EQ(two.alice.closed.size(), 1u);
  EXPECT_EQ(two.alice.closed[0].cause, session::CloseCause::handshake_timeout);
  EXPECT_EQ(two.alice.endpoint().counters().sessions, 0u);
}

TEST(Dial, the_wrong_peer_is_refused) {
  World world(11);
  Two two(world);
  Node& carol = world.add("carol", 3);
  session::DialOptions options;
  options.expected_peer = carol.id;
  two.alice.dial(two.bob, options);
  world.run(5s);
  ASSERT_EQ(two.alice.closed.size(), 1u);
  EXPECT_EQ(two.alice.closed[0].cause, session::CloseCause::verify_refused);
  EXPECT_EQ(two.alice.events[session::EventKind::session_established], 0);
}

TEST(Dial, a_guest_gets_one_stream_and_no_control) {
  World world(12);
  Two two(world);
  session::DialOptions options;
  options.alpn = session::kJoinAlpn;
  options.server_name = "join.sim";
  options.with_certificate = false;
  options.expected_peer = two.bob.id;
  const SessionId guest = two.alice.dial(two.bob, options);
  ASSERT_TRUE(
      world.run_until([&] { return two.alice.events[session::EventKind::session_established] == 1; }, 5s));
  two.alice.send(guest, 1000);
  ASSERT_TRUE(world.run_until([&] { return two.bob.received() == 1000; }, 2s));
  EXPECT_EQ(two.alice.session(guest)->send_datagram(Bytes(10)),
            session::Connection::DatagramOutcome::unsupported);
  EXPECT_EQ(
      two.alice.session(guest)->export_keying_material("EXPORTER-ravine-join"),
      two.bob.session(two.bob.endpoint().sessions()[0])->export_keying_material("EXPORTER-ravine-join"));
  two.alice.send(guest, 1000);
  ASSERT_TRUE(world.run_until([&] { return !two.alice.closed.empty(); }, 2s));
  EXPECT_EQ(two.alice.closed[0].code, static_cast<std::uint64_t>(session::AppError::limit));
}

TEST(Dial, a_second_dial_resumes) {
  World world(13);
  Two two(world);
  ASSERT_TRUE(two.connect());
  world.run(1s);
  EXPECT_FALSE(two.of_alice().info().resumed);
  two.of_alice().close(world.now, session::AppError::none);
  two.alice.drain();
  world.run(3s);
  EXPECT_EQ(two.bob.endpoint().counters().sessions, 0u);
  ASSERT_TRUE(two.connect());
  EXPECT_TRUE(two.of_alice().info().resumed);
  EXPECT_EQ(two.of_alice().info().peer.id, two.bob.id);
}

TEST(Dial, a_closed_session_frees_everything_on_both_ends) {
  World world(14);
  Two two(world);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(two.connect());
    two.of_alice().close(world.now, session::AppError::refused, "enough");
    two.alice.drain();
    world.run(5s);
  }
  EXPECT_EQ(two.alice.endpoint().counters().sessions, 0u);
  EXPECT_EQ(two.bob.endpoint().counters().sessions, 0u);
  ASSERT_EQ(two.bob.closed.size(), 20u);
  EXPECT_EQ(two.bob.closed[0].cause, session::CloseCause::remote_application);
  EXPECT_EQ(two.bob.closed[0].code, static_cast<std::uint64_t>(session::AppError::refused));
}

}  // namespace
}  // namespace ravine::sim
