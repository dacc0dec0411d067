// What strangers, middle boxes and clocks do to sessions: foreign first flights, floods, spoofed packets,
// links that drop marked packets, jumps of time, kinds of NAT, closing right after the last byte.
#include <malloc.h>

#include "sim/foreign_initial.h"
#include "sim/scenario.h"
#include "wire/quic_packet.h"

namespace ravine::sim {
namespace {

TEST(Foreign, initials_with_8_to_20_bytes_of_connection_id_are_accepted_and_answered_under_their_label) {
  for (const std::size_t size : {7u, 8u, 12u, 16u, 20u}) {
    SCOPED_TRACE(size);
    World world(size);
    Node& bob = world.add("bob", 2);
    Bytes dcid(size), scid(size), answer;
    world.random.fill(dcid);
    world.random.fill(scid);
    world.tap = [&](const SocketAddress& from, const SocketAddress&, const Bytes& bytes) {
      if (from == bob.address && answer.empty()) answer = bytes;
      return false;
    };
    world.send({IpAddress::v4({10, 0, 0, 77}), 999}, bob.address, 0, foreign_initial(dcid, scid));
    world.run(2s);
    EXPECT_EQ(bob.endpoint().counters().accepted, size >= 8 ? 1u : 0u);
    if (size < 8) continue;
    const auto header = wire::decode_long_header(answer);
    ASSERT_TRUE(header);
    EXPECT_TRUE(std::equal(header->dcid.begin(), header->dcid.end(), scid.begin(), scid.end()));
    ASSERT_GE(header->scid.size(), kLabelSize);  // an acceptor never chooses a label of its own
    EXPECT_EQ(Label::load(header->scid.data()), Label::load(dcid.data()));
  }
}

TEST(Foreign, a_node_that_takes_no_strangers_answers_no_unlabelled_first_flight) {
  World world(2);
  Two two(world, [](session::EndpointOptions& options) { options.accept = false; });
  EXPECT_FALSE(two.connect(3s));
  EXPECT_GT(two.bob.endpoint().counters().unknown_label, 0u);
  EXPECT_EQ(two.bob.endpoint().counters().bytes_sent, 0u);
}

TEST(Foreign, an_offered_label_gets_no_retry) {
  World world(3);
  Two two(world, [](session::EndpointOptions& options) { options.limits.retry_above_half_open = 0; });
  Node& relay = world.add("relay", 9);
  const PathLabels labels{Label{world.random.next_u64() | 1}, Label{world.random.next_u64() | 1}};
  Route to_alice, to_bob, to_relay;
  to_alice.remote = two.alice.address;
  to_bob.remote = two.bob.address;
  to_relay.remote = relay.address;
  ASSERT_TRUE(relay.endpoint().forwarder().claim(labels.transmit, {.ingress = to_alice, .egress = to_bob}));
  ASSERT_TRUE(relay.endpoint().forwarder().claim(labels.receive, {.ingress = to_bob, .egress = to_alice}));
  session::OfferOptions offer;
  offer.labels = {labels.receive, labels.transmit};
  offer.ingress = to_relay;
  offer.until = world.now + 30s;
  ASSERT_TRUE(two.bob.endpoint().add_offer(world.now, offer));
  session::DialOptions dial;
  dial.kind = PathKind::relayed;
  dial.route = to_relay;
  dial.labels = labels;
  EXPECT_TRUE(two.connect(5s, dial));
  EXPECT_EQ(two.bob.endpoint().counters().retries_sent, 0u);
}

// 10,000 spoofed sources, 50,000 first flights within a second, and a session that goes on.
TEST(Foreign, a_flood_of_half_open_handshakes_is_bounded_in_memory_and_harms_no_session) {
  World world(4);
  Two two(world);
  ASSERT_TRUE(two.connect());
  two.alice.send(two.session, 3'000'000);
  const std::size_t before = mallinfo2().uordblks;
  std::size_t most = 0;
  Bytes dcid(12), scid(8);
  for (unsigned i = 0; i < 50'000; ++i) {
    if (i % 5 == 0) world.random.fill(dcid);
    Bytes initial = i < 10'000 ? foreign_initial(dcid, scid) : Bytes(1200, 0);
    if (i >= 10'000) {  // cheap to make: the token does not verify, the protection does not open
      initial[0] = 0xc0;
      initial[4] = 1;
      initial[5] = 12;
      world.random.fill(MutableBytes(initial).subspan(6, 12));
      initial[18] = 8;
    }
    session::Received received;
    received.route.remote = {IpAddress::v4({172, static_cast<std::uint8_t>(i >> 16),
                                            static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)}),
                             4433};
    received.bytes = initial;
    received.segment_size = static_cast<std::uint32_t>(initial.size());
    two.bob.endpoint().handle_datagrams(world.now, received);
    if (i % 50 == 0) {
      world.run(1ms);
      most = std::max<std::size_t>(most, mallinfo2().uordblks);
    }
  }
  RecordProperty("bytes", std::to_string(most > before ? most - before : 0));
  EXPECT_LT(most, before + (std::size_t{16} << 20));
  EXPECT_LE(two.bob.endpoint().counters().half_open, 256u);
  EXPECT_TRUE(two.finish_transfer(5s));
  EXPECT_TRUE(two.alive());
}

TEST(Spoofed, packets_that_only_look_right_do_not_hide_that_a_path_is_dead) {
  World world(5);
  Two two(world);
  Node& relay = world.add("relay", 9);
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  constexpr std::size_t kForgedSize = 333;
  std::vector<Bytes> genuine;
  world.tap = [&](const SocketAddress& from, const SocketAddress& to, const Bytes& bytes) {
    const bool direct = from.ip != relay.address.ip && to.ip != relay.address.ip;
    if (direct && bytes.size() != kForgedSize && to == two.alice.address && genuine.size() < 50)
      genuine.push_back(bytes);
    return direct && bytes.size() != kForgedSize && genuine.size() >= 50;
  };
  two.alice.send(two.session, 20'000'000);
  world.run(200ms);
  ASSERT_EQ(genuine.size(), 50u);
  const auto forge = [&](const SocketAddress& to, Label label) {
    Bytes forged(kForgedSize);
    world.random.fill(forged);
    forged[0] = 0x41;
    label.store(forged.data() + 1);
    return std::pair{to, forged};
  };
  const Label to_alice = two.of_alice().paths()[0].receive_label,
              to_bob = two.of_bob().paths()[0].receive_label;
  for (int i = 0; i < 300; ++i) {
    world.at(world.now + i * 5ms, [&, i] {
      const auto [first, a] = forge(two.alice.address, to_alice);
      world.send(two.bob.address, first, 0, a, false);
      const auto [second, b] = forge(two.bob.address, to_bob);
      world.send(two.alice.address, second, 0, b, false);
      // An old packet once more, as it was.
      const auto tap = std::exchange(world.tap, nullptr);
      world.send(two.bob.address, two.alice.address, 0, genuine[static_cast<std::size_t>(i) % 50], false);
      world.tap = tap;
    });
  }
  EXPECT_TRUE(world.run_until([&] { return two.on_path(relayed); }, 1500ms));
  EXPECT_TRUE(two.finish_transfer(60s));
}

TEST(Links, a_link_that_drops_ect_delays_and_stops_nothing) {
  World world(6);
  Two two(world);
  Node& relay = world.add("relay", 9);
  world.all_links([](Link& link) { link.drop_ecn = true; });
  ASSERT_TRUE(two.connect());
  const PathId relayed = two.add_relayed(relay);
  two.alice.send(two.session, 3'000'000);
  two.bob.send(two.of_bob().id(), 3'000'000);
  for (int i = 0; i < 4; ++i) {
    world.run(3s);
    (void)two.move(i % 2 == 0 ? relayed : PathId{0});
  }
  EXPECT_TRUE(two.finish_transfer(20s));
  EXPECT_TRUE(two.alive());
}

TEST(Links, handshakes_come_up_within_the_default_time_at_30_percent_of_loss_or_damage) {
  unsigned failed = 0;
  const std::uint64_t count = seeds(100);
  for (std::uint64_t seed = first_seed(); seed <= count; ++seed) {
    World world(seed);
    Two two(world);
    world.all_links([&](Link& link) { (seed % 2 == 0 ? link.loss : link.corrupt) = 0.3; });
    failed += two.connect(12s) ? 0 : 1;
  }
  EXPECT_LE(failed, count / 20);
}

TEST(Clocks, a_wall_clock_that_jumps_ten_years_leaves_sessions_alone) {
  constexpr std::int64_t kTenYears = 10LL * 365 * 86400;
  World world(7);
  Two two(world);
  ASSERT_TRUE(two.connect());
  two.alice.send(two.session, 3'000'000);
  for (const std::int64_t jump : {kTenYears, -2 * kTenYears, kTenYears}) {
    world.run(50ms);
    world.jump_wall_clock(jump);
  }
  EXPECT_TRUE(two.finish_transfer(10s));
  EXPECT_TRUE(two.alive());
}

TEST(Clocks, a_short_sleep_is_survived_and_a_long_one_ends_in_an_idle_timeout) {
  for (const Duration sleep : {Duration(30s), Duration(2h)}) {
    World world(8);
    Two two(world);
    ASSERT_TRUE(two.connect());
    two.alice.send(two.session, 20'000'000);
    world.run(300ms);
    world.leap(sleep);
    two.alice.endpoint().handle_local_change(world.now);
    two.bob.endpoint().handle_local_change(world.now);
    if (sleep < 60s) {
      EXPECT_TRUE(two.finish_transfer(30s));
      EXPECT_TRUE(two.alive());
      continue;
    }
    world.run(5s);
    for (const auto& reason : two.alice.closed) {  // whoever woke second may be told by a reset
      EXPECT_TRUE(reason.cause == session::CloseCause::idle_timeout ||
                  reason.cause == session::CloseCause::stateless_reset);
    }
    if (two.alice.session_to(two.bob) == nullptr) {
      EXPECT_TRUE(two.connect(10s));
    }
    EXPECT_TRUE(is_up(two.alice, two.bob));
  }
}

TEST(Nats, rebinding_is_survived_behind_every_kind) {
  constexpr NatRule kRules[][2] = {
      {NatRule::endpoint_independent, NatRule::endpoint_independent},               // full cone
      {NatRule::endpoint_independent, NatRule::address_dependent},                  // restricted
      {NatRule::endpoint_independent, NatRule::address_and_port_dependent},         // port-restricted
      {NatRule::address_and_port_dependent, NatRule::address_and_port_dependent}};  // symmetric
  for (const auto& rule : kRules) {
    SCOPED_TRACE(static_cast<int>(rule[0]) * 3 + static_cast<int>(rule[1]));
    World world(9);
    Two two(world);
    Nat& nat = world.put_behind_nat(two.alice, 1);
    nat.mapping = rule[0];
    nat.filtering = rule[1];
    world.both(two.alice, two.bob, [](Link& link) { link.bits_per_second = 8e6; });
    ASSERT_TRUE(two.connect());
    two.alice.send(two.session, 3'000'000);
    two.bob.send(two.of_bob().id(), 3'000'000);
    for (int i = 0; i < 3; ++i) {
      world.run(1s);
      nat.rebind();
    }
    EXPECT_TRUE(two.finish_transfer(20s));
    EXPECT_TRUE(two.alive());
    EXPECT_GE(two.bob.endpoint().counters().rebindings, 3u);
  }
}

TEST(Closing, what_was_finished_before_a_close_arrives) {
  World world(10);
  Two two(world);
  world.all_links([](Link& link) {
    link.delay = 20ms;
    link.loss = 0.02;
  });
  ASSERT_TRUE(two.connect());
  two.alice.send(two.session, 200'000);
  two.alice.session(two.session)->close(world.now, session::AppError::none, "done");
  EXPECT_TRUE(two.alice.session(two.session)->is_closing());
  EXPECT_FALSE(two.alice.session(two.session)->open_stream(session::StreamKind::bidirectional));
  two.alice.drain();
  ASSERT_TRUE(world.run_until([&] { return !two.alice.closed.empty(); }, 1100ms));
  world.run(200ms);
  EXPECT_EQ(two.bob.received(), 200'000u);
  ASSERT_EQ(two.bob.closed.size(), 1u);
  EXPECT_EQ(two.bob.closed[0].cause, session::CloseCause::remote_application);
}

TEST(Closing, a_peer_that_acknowledges_nothing_delays_a_close_by_a_second_at_most) {
  World world(11);
  Two two(world);
  ASSERT_TRUE(two.connect());
  two.bob.alive = false;
  two.alice.send(two.session, 200'000);
  two.alice.session(two.session)->close(world.now, session::AppError::shutdown);
  two.alice.drain();
  world.run(900ms);
  EXPECT_TRUE(two.alice.closed.empty());
  world.run(200ms);
  EXPECT_EQ(two.alice.closed.size(), 1u);
}

}  // namespace
}  // namespace ravine::sim
