#include "gateway/coap/exchanger.h"

#include <gtest/gtest.h>

#include "gateway/coap/virtual_link.h"

namespace ravine::gateway::coap {
namespace {

Message request_of(Code code, std::string_view path, Bytes body = {}) {
  Message message;
  message.code = code;
  message.add(kUriPath, as_bytes(path));
  message.payload = std::move(body);
  return message;
}

Bytes body_of(std::size_t size, std::uint64_t seed) {
  Bytes body(size);
  SeededRandom random(seed);
  random.fill(body);
  return body;
}

// A client, and a server that hands back the request's body, or `resource` for GET.
struct Pair {
  explicit Pair(const LinkOptions& link_options = {}, const ExchangerOptions& options = {})
      : client_random(link_options.seed * 2 + 1),
        server_random(link_options.seed * 2 + 2),
        client(options, client_random),
        server(options, server_random),
        link(link_options, client, server) {
    link.on_events = [this](Exchanger& machine, bool is_client) {
      while (std::optional<ExchangerEvent> event = machine.poll_event()) {
        if (auto* answered = std::get_if<CallAnswered>(&*event)) {
          answers[answered->call].push_back(std::move(answered->response));
          final = answered->final;
        } else if (auto* failed = std::get_if<CallFailed>(&*event)) {
          faults[failed->call] = failed->fault;
        } else if (is_client) {
          ADD_FAILURE() << "the client was asked something";
        } else {
          serve(std::get<Serve>(*event));
        }
      }
    };
  }

  void serve(Serve& request) {
    ++handled;
    bodies.push_back(request.request.payload);
    Message response;
    response.code = is_safe(request.request.code) ? Code::content : Code::changed;
    response.payload = request.request.code == Code::get ? resource : request.request.payload;
    const Bytes once = response.payload;
    for (std::size_t copy = 1; copy < repeat; ++copy) {
      response.payload.insert(response.payload.end(), once.begin(), once.end());
    }
    if (request.request.uint_option(kObserve) == 0 && observable) {
      EXPECT_TRUE(server.accept_observer(link.now, request.id, "r").ok());
    }
    EXPECT_TRUE(server.respond(link.now, request.id, std::move(response)).ok());
  }

  CallId call(Message request, const CallOptions& how = {}) {
    Result<CallId> made = client.call(link.now, kServerAddress, std::move(request), how);
    EXPECT_TRUE(made.ok());
    return made.ok() ? *made : 0;
  }
  bool run(Duration limit = 24h) {
    return link.run([this] { return answers.size() + faults.size() >= wanted; }, limit);
  }

  SeededRandom client_random, server_random;
  Exchanger client, server;
  VirtualLink<Exchanger> link;
  Bytes resource;
  bool observable = false;
  std::size_t repeat = 1;  // of the body in the answer
  bool final = true;
  std::size_t wanted = 1;
  std::size_t handled = 0;
  std::vector<Bytes> bodies;
  std::map<CallId, std::vector<Message>> answers;
  std::map<CallId, CallFault> faults;
};

TEST(Exchanger, bodies_of_any_size_arrive_whole_both_ways) {
  for (const std::size_t size : {0u, 1u, 15u, 16u, 17u, 1023u, 1024u, 1025u, 2048u, 100000u}) {
    Pair pair;
    const Bytes body = body_of(size, size);
    const CallId id = pair.call(request_of(Code::post, "a", body));
    ASSERT_TRUE(pair.run()) << size;
    ASSERT_EQ(pair.answers[id].size(), 1u) << size;
    EXPECT_EQ(pair.answers[id][0].payload, body) << size;
    EXPECT_EQ(pair.handled, 1u) << "the handler sees one request, " << size;
    if (size <= 16) {
      EXPECT_EQ(pair.server.held_bytes(), 0u);
    }
  }
}

TEST(Exchanger, large_bodies_survive_loss_copies_and_reordering_by_every_seed) {
  for (std::uint64_t seed = 1; seed <= 25; ++seed) {
    ExchangerOptions options;
    options.endpoint.timing.max_retransmit = 8;
    Pair pair({.loss = seed % 2 != 0 ? 0.1 : 0.3, .duplicate = 0.2, .jitter = 300ms, .seed = seed}, options);
    pair.wanted = 3;
    std::map<CallId, Bytes> expected;
    for (std::uint64_t i = 0; i < 3; ++i) {
      const Bytes body = body_of(1500 + 700 * i, seed * 10 + i);
      expected[pair.call(request_of(Code::post, "a", body))] = body;
    }
    ASSERT_TRUE(pair.run()) << "seed " << seed;
    for (const auto& [id, body] : expected) {
      ASSERT_EQ(pair.answers[id].size(), 1u) << "seed " << seed;
      EXPECT_EQ(pair.answers[id][0].payload, body) << "seed " << seed;
    }
    EXPECT_EQ(pair.handled, 3u) << "seed " << seed;
  }
}

TEST(Exchanger, interleaved_uploads_to_one_resource_are_kept_apart) {
  ExchangerOptions options;
  options.endpoint.timing.nstart = 8;  // all under way at a time
  Pair pair({.jitter = 400ms, .seed = 9}, options);
  pair.wanted = 6;
  std::map<CallId, Bytes> expected;
  for (std::uint64_t i = 0; i < 6; ++i) {
    const Bytes body = body_of(5000, i);
    expected[pair.call(request_of(Code::put, "same", body))] = body;
  }
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.handled, 6u);
  for (const auto& [id, body] : expected) EXPECT_EQ(pair.answers[id][0].payload, body);
}

TEST(Exchanger, a_download_that_changes_half_way_is_begun_again) {
  Pair pair;
  pair.resource = body_of(5000, 1);
  std::size_t from_server = 0;
  pair.link.filter = [&](const OutgoingDatagram&, bool from_client) {
    if (!from_client && ++from_server == 4) {
      // The server restarts: it forgets the body, and has another one.
      pair.resource = body_of(5000, 2);
      SeededRandom& random = pair.server_random;
      pair.server.~Exchanger();
      new (&pair.server) Exchanger(ExchangerOptions{}, random);
      return false;
    }
    return true;
  };
  const CallId id = pair.call(request_of(Code::get, "a"));
  ASSERT_TRUE(pair.run());
  ASSERT_EQ(pair.answers[id].size(), 1u);
  EXPECT_EQ(pair.answers[id][0].payload, body_of(5000, 2));
}

TEST(Exchanger, an_upload_is_taken_up_again_after_an_outage) {
  ExchangerOptions options;
  options.hold = 1h;
  Pair pair({}, options);
  const Bytes body = body_of(8000, 3);
  std::size_t from_client = 0;
  std::size_t arrived = 0;
  Instant back = Instant::never();
  pair.link.filter = [&](const OutgoingDatagram&, bool client) {
    if (client && ++from_client == 5) back = pair.link.now + 90s;
    const bool passes = from_client < 5 || pair.link.now > back;
    arrived += client && passes ? 1 : 0;
    return passes;
  };
  const CallId id = pair.call(request_of(Code::put, "a", body));
  ASSERT_TRUE(pair.run());
  ASSERT_EQ(pair.answers[id].size(), 1u);
  EXPECT_EQ(pair.answers[id][0].payload, body);
  EXPECT_EQ(pair.handled, 1u);
  EXPECT_LE(arrived, 8u + 7u) << "blocks that arrived before are not sent again";
}

TEST(Exchanger, a_body_is_not_released_before_every_byte_is_there) {
  Pair pair;
  Message block = request_of(Code::put, "a", Bytes(16, 'x'));
  block.token = {1};
  const auto send = [&](std::uint32_t number, bool more, std::size_t size) {
    block.id = static_cast<std::uint16_t>(block.id + 1);
    block.set(kBlock1, Block{number, more, 0}.encode());
    block.payload = Bytes(size, static_cast<std::uint8_t>('a' + number));
    Message answer;
    pair.link.filter = [&](const OutgoingDatagram& datagram, bool) {
      answer = decode_message(datagram.bytes).message;
      return false;
    };
    pair.link.inject(kClientAddress, false, encode_message(block));
    return answer.code;
  };
  EXPECT_EQ(send(1, true, 16), Code::request_entity_incomplete);
  EXPECT_EQ(send(0, true, 16), Code::continue_);
  EXPECT_EQ(send(2, false, 3), Code::request_entity_incomplete);
  EXPECT_EQ(send(1, true, 15), Code::bad_request);
  EXPECT_EQ(send(1, true, 16), Code::continue_);
  EXPECT_EQ(pair.handled, 0u);
  EXPECT_EQ(send(2, false, 3), Code::changed);
  ASSERT_EQ(pair.handled, 1u);
  EXPECT_EQ(as_text(pair.bodies[0]), "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccc");
}

TEST(Exchanger, a_gigabyte_is_refused_at_its_first_block_or_at_the_limit) {
  ExchangerOptions options;
  options.max_body = 20000;
  options.endpoint.amplification = 0;
  Pair pair({}, options);
  Message block = request_of(Code::put, "a", Bytes(1024, 'x'));
  block.token = {1};
  Message answer;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool) {
    answer = decode_message(datagram.bytes).message;
    return false;
  };
  block.set(kBlock1, Block{0, true, 6}.encode());
  block.add_uint(kSize1, 1u << 30);
  pair.link.inject(kClientAddress, false, encode_message(block));
  EXPECT_EQ(answer.code, Code::request_entity_too_large);
  EXPECT_EQ(answer.uint_option(kSize1), 20000u);
  EXPECT_EQ(pair.server.held_bytes(), 0u);
  block.remove(kSize1);
  std::size_t most = 0;
  std::uint32_t number = 0;
  do {
    block.id = static_cast<std::uint16_t>(block.id + 1);
    block.set(kBlock1, Block{number++, true, 6}.encode());
    pair.link.inject(kClientAddress, false, encode_message(block));
    most = std::max(most, pair.server.held_bytes());
  } while (answer.code == Code::continue_ && number < 1000);
  EXPECT_EQ(answer.code, Code::request_entity_too_large);
  EXPECT_EQ(number, 20u);
  EXPECT_LE(most, 20000u + 100) << "the body and its key";
  EXPECT_EQ(pair.server.held_bytes(), 0u);
  EXPECT_EQ(pair.handled, 0u);
}

TEST(Exchanger, half_uploads_of_many_peers_are_bounded_and_forgotten) {
  ExchangerOptions options;
  options.held_bytes = 64 * 1024;
  Pair pair({}, options);
  pair.link.filter = [](const OutgoingDatagram&, bool) { return false; };
  Message block = request_of(Code::put, "a", Bytes(1024, 'x'));
  block.set(kBlock1, Block{0, true, 6}.encode());
  for (std::uint16_t i = 1; i <= 300; ++i) {
    block.id = i;
    block.set(kRequestTag, encode_uint(i));
    SocketAddress peer = kClientAddress;
    peer.port = static_cast<std::uint16_t>(1000 + i % 30);
    pair.link.inject(peer, false, encode_message(block));
    EXPECT_LE(pair.server.held_bytes(), options.held_bytes);
  }
  EXPECT_GT(pair.server.held_bytes(), 0u);
  pair.link.run([] { return false; }, 1h);
  EXPECT_EQ(pair.server.held_bytes(), 0u);
}

TEST(Exchanger, an_answer_that_is_too_large_for_the_client_is_given_up) {
  SeededRandom random_a(1), random_b(2);
  ExchangerOptions small;
  small.max_body = 3000;
  Pair pair;
  pair.client.~Exchanger();
  new (&pair.client) Exchanger(small, pair.client_random);
  pair.resource = body_of(5000, 1);
  const CallId id = pair.call(request_of(Code::get, "a"));
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.faults.at(id), CallFault::too_large);
}

TEST(Exchanger, an_unproved_poster_of_a_little_gets_a_lot_and_the_handler_runs_once) {
  Pair pair;
  std::size_t in = 0;
  std::size_t out = 0;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool from_client) {
    (from_client ? in : out) += datagram.bytes.size();
    return true;
  };
  pair.link.on_events = [&](Exchanger& machine, bool) {
    while (std::optional<ExchangerEvent> event = machine.poll_event()) {
      if (auto* serve = std::get_if<Serve>(&*event)) {
        ++pair.handled;
        Message response;
        response.code = Code::changed;
        response.payload = body_of(700, 5);
        EXPECT_TRUE(pair.server.respond(pair.link.now, serve->id, std::move(response)).ok());
        EXPECT_LE(out, 3 * in);
      } else if (auto* answered = std::get_if<CallAnswered>(&*event)) {
        pair.answers[answered->call].push_back(std::move(answered->response));
      }
    }
  };
  const CallId id = pair.call(request_of(Code::post, "a", {1}));
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.answers[id][0].payload, body_of(700, 5));
  EXPECT_EQ(pair.handled, 1u);
}

TEST(Exchanger, fetch_and_patch_carry_bodies_like_any_method) {
  for (const Code code : {Code::fetch, Code::patch, Code::ipatch}) {
    Pair pair;
    const Bytes body = body_of(3000, 8);
    const CallId id = pair.call(request_of(code, "a", body));
    ASSERT_TRUE(pair.run());
    EXPECT_EQ(pair.answers[id][0].payload, body);
  }
}

TEST(Exchanger, two_fetches_at_a_time_get_each_its_own_answer) {
  ExchangerOptions options;
  options.endpoint.timing.nstart = 4;
  options.block_exponent = 4;
  Pair pair({.jitter = 300ms, .seed = 2}, options);
  pair.repeat = 5;
  pair.wanted = 3;
  std::map<CallId, Bytes> expected;
  for (std::uint64_t i = 0; i < 3; ++i) {
    const Bytes body = body_of(i == 2 ? 2000 : 250, i);
    expected[pair.call(request_of(Code::fetch, "same", body))] = body;
  }
  ASSERT_TRUE(pair.run());
  for (const auto& [id, body] : expected) {
    ASSERT_EQ(pair.answers[id].size(), 1u);
    EXPECT_EQ(pair.answers[id][0].payload.size(), 5 * body.size());
    EXPECT_TRUE(std::equal(body.begin(), body.end(), pair.answers[id][0].payload.begin()));
  }
}

TEST(Exchanger, an_answer_to_fetch_that_was_forgotten_is_an_error_and_no_other_answer) {
  ExchangerOptions options;
  options.hold = 1ms;  // the server forgets the answer at once
  options.block_exponent = 4;
  Pair pair({.delay = 400ms}, options);
  pair.repeat = 5;
  const CallId id = pair.call(request_of(Code::fetch, "a", body_of(250, 1)));
  ASSERT_TRUE(pair.run(1h));
  ASSERT_EQ(pair.answers[id].size(), 1u);
  EXPECT_EQ(pair.answers[id][0].code, Code::request_entity_incomplete);
  EXPECT_EQ(pair.handled, 1u);
}

TEST(Exchanger, small_blocks_are_asked_for_on_a_thin_link) {
  ExchangerOptions options;
  options.block_exponent = 2;
  options.endpoint.timing = thin_link_timing(1000, 28);
  options.endpoint.pacer = {.rate_bps = 1000, .overhead_bytes = 28};
  Pair pair({.delay = 1s, .rate_bps = 1000}, options);
  pair.resource = body_of(600, 1);
  std::size_t largest = 0;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool) {
    largest = std::max(largest, datagram.bytes.size());
    return true;
  };
  const CallId id = pair.call(request_of(Code::get, "a"));
  ASSERT_TRUE(pair.run());
  EXPECT_EQ(pair.answers[id][0].payload, pair.resource);
  EXPECT_LE(largest, 64u + 32);
  EXPECT_EQ(pair.client.endpoint().counters().retransmissions, 0u);
}

// Observation.

Message state(std::size_t size, std::uint64_t seed) {
  Message message;
  message.code = Code::content;
  message.payload = body_of(size, seed);
  return message;
}

TEST(Observe, notifications_come_in_order_until_cancelled) {
  Pair pair;
  pair.observable = true;
  pair.resource = body_of(10, 0);
  CallOptions how;
  how.observe = true;
  const CallId id = pair.call(request_of(Code::get, "a"), how);
  ASSERT_TRUE(pair.run());
  EXPECT_FALSE(pair.final);
  ASSERT_EQ(pair.server.observers().size(), 1u);
  for (std::uint64_t change = 1; change <= 20; ++change) {
    pair.server.notify(pair.link.now, "r", state(change % 5 == 0 ? 3000 : 20, change));
    ASSERT_TRUE(pair.link.run([&] { return pair.answers[id].size() == 1 + change; }, 1h)) << change;
    EXPECT_EQ(pair.answers[id].back().payload, body_of(change % 5 == 0 ? 3000 : 20, change));
    pair.link.run([] { return false; }, 5s);
  }
  pair.client.cancel(id);
  pair.server.notify(pair.link.now, "r", state(5, 99));
  pair.link.run([] { return false; }, 60s);
  EXPECT_EQ(pair.answers[id].size(), 21u);
  EXPECT_EQ(pair.server.observers().size(), 0u) << "the reset ends the observation";
}

TEST(Observe, an_observer_that_is_gone_is_dropped_by_an_unanswered_confirmable) {
  Pair pair;
  pair.observable = true;
  CallOptions how;
  how.observe = true;
  (void)pair.call(request_of(Code::get, "a"), how);
  ASSERT_TRUE(pair.run());
  pair.link.filter = [](const OutgoingDatagram&, bool) { return false; };
  for (std::uint64_t change = 1; change <= 10; ++change) {
    pair.server.notify(pair.link.now, "r", state(20, change));
    pair.link.run([] { return false; }, 5s);
  }
  pair.link.run([] { return false; }, 10min);
  EXPECT_EQ(pair.server.observers().size(), 0u);
}

TEST(Observe, the_latest_state_arrives_over_a_lossy_reordering_link) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    ExchangerOptions options;
    options.observers.confirm_every = 1;
    options.endpoint.timing.max_retransmit = 10;
    Pair pair({.loss = 0.3, .duplicate = 0.2, .jitter = 4s, .seed = seed}, options);
    pair.observable = true;
    CallOptions how;
    how.observe = true;
    const CallId id = pair.call(request_of(Code::get, "a"), how);
    ASSERT_TRUE(pair.run()) << seed;
    if (pair.server.observers().size() == 0)
      continue;  // the proof of the address was lost with the first answer
    for (std::uint64_t change = 1; change <= 8; ++change) {
      pair.server.notify(pair.link.now, "r", state(30, change));
      pair.link.run([] { return false; }, 2s);
    }
    EXPECT_TRUE(pair.link.run([&] { return pair.answers[id].back().payload == body_of(30, 8); }, 2h)) << seed;
    std::size_t previous = 0;
    for (const Message& answer : pair.answers[id]) {
      for (std::size_t change = 1; change <= 8; ++change) {
        if (answer.payload != body_of(30, change)) continue;
        EXPECT_GT(change, previous) << seed;
        previous = change;
      }
    }
  }
}

TEST(Observe, freshness_follows_rfc_7641_and_partial_ivs) {
  const Instant start{1'000'000'000'000};
  ObserveFreshness freshness;
  EXPECT_TRUE(freshness.accept(start, 5));
  EXPECT_FALSE(freshness.accept(start, 5));
  EXPECT_FALSE(freshness.accept(start, 4));
  EXPECT_TRUE(freshness.accept(start, 0x7fffff));
  EXPECT_TRUE(freshness.accept(start, 0xfffffe));
  EXPECT_TRUE(freshness.accept(start, 1)) << "wraps at 24 bits";
  EXPECT_FALSE(freshness.accept(start, 0xfffffe));
  EXPECT_TRUE(freshness.accept(start + 129s, 0xfffffe)) << "after 128 s any number is newer";
  EXPECT_TRUE(freshness.accept_partial_iv(7));
  EXPECT_FALSE(freshness.accept_partial_iv(7));
  EXPECT_TRUE(freshness.accept_partial_iv(8));
}

TEST(Observe, the_table_is_bounded_and_leases_end) {
  ObserverTable table({.observers = 3, .per_peer = 2, .lease = 10s});
  const Instant start{1'000'000'000};
  const auto add = [&](std::uint16_t port, std::uint8_t token) {
    Observer observer;
    observer.peer = kClientAddress;
    observer.peer.port = port;
    observer.token = {token};
    observer.resource = "r";
    return table.add(start, std::move(observer)).ok();
  };
  EXPECT_TRUE(add(1, 1));
  EXPECT_TRUE(add(1, 1)) << "renews";
  EXPECT_TRUE(add(1, 2));
  EXPECT_FALSE(add(1, 3));
  EXPECT_TRUE(add(2, 1));
  EXPECT_FALSE(add(3, 1));
  EXPECT_EQ(table.observers_of("r").size(), 3u);
  table.expire(start + 10s);
  EXPECT_EQ(table.size(), 0u);
}

}  // namespace
}  // namespace ravine::gateway::coap
