#include "gateway/coap/endpoint.h"

#include <gtest/gtest.h>

#include "gateway/coap/virtual_link.h"

namespace ravine::gateway::coap {
namespace {

Message request_of(Code code, std::string_view path, std::size_t body = 0) {
  Message message;
  message.code = code;
  message.add(kUriPath, as_bytes(path));
  message.payload = Bytes(body, 'x');
  return message;
}

Message response_of(Code code, std::size_t body = 0) {
  Message message;
  message.code = code;
  message.payload = Bytes(body, 'y');
  return message;
}

// A client and a server that answers everything after `think`.
struct Pair {
  explicit Pair(const LinkOptions& link_options = {}, EndpointOptions options = {})
      : client_random(link_options.seed * 2 + 1),
        server_random(link_options.seed * 2 + 2),
        client(options, client_random),
        server(options, server_random),
        link(link_options, client, server) {
    link.on_events = [this](CoapEndpoint& machine, bool is_client) {
      while (std::optional<Event> event = machine.poll_event()) {
        if (is_client) {
          take_client(*event);
        } else {
          take_server(*event);
        }
      }
    };
  }

  void take_client(const Event& event) {
    if (const auto* response = std::get_if<ResponseReceived>(&event)) {
      answered[response->exchange]++;
      last = response->response;
    } else if (const auto* failed = std::get_if<ExchangeFailed>(&event)) {
      failures.push_back(failed->reason);
    }
  }

  void take_server(const Event& event) {
    if (const auto* request = std::get_if<RequestReceived>(&event)) {
      ++handled;
      seen = request->request;
      if (answer) {
        (void)server.respond(link.now, request->id, response_of(Code::content, answer_bytes)).ok();
      } else {
        waiting.push_back(request->id);
      }
    }
  }

  SeededRandom client_random, server_random;
  CoapEndpoint client, server;
  VirtualLink<CoapEndpoint> link;
  bool answer = true;
  std::size_t answer_bytes = 4;
  std::size_t handled = 0;
  Message seen, last;
  std::vector<RequestId> waiting;
  std::map<ExchangeId, int> answered;
  std::vector<FailReason> failures;
};

TEST(CoapEndpoint, a_request_is_answered_in_its_acknowledgement) {
  Pair pair;
  ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a")).ok());
  ASSERT_TRUE(pair.link.run([&] { return pair.answered.size() == 1; }));
  EXPECT_EQ(pair.last.type, MessageType::acknowledgement);
  EXPECT_EQ(pair.link.sent_by_client, 1u);
  EXPECT_EQ(pair.link.sent_by_server, 1u);
  EXPECT_FALSE(pair.link.run([] { return false; }, 1h)) << "nothing else happens";
  EXPECT_EQ(pair.link.sent_by_client + pair.link.sent_by_server, 2u);
}

TEST(CoapEndpoint, a_slow_answer_comes_separately_and_is_acknowledged) {
  Pair pair;
  pair.answer = false;
  ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a")).ok());
  pair.link.run([] { return false; }, 20s);
  EXPECT_EQ(pair.client.counters().retransmissions, 0u) << "the empty acknowledgement stops the timer";
  ASSERT_EQ(pair.waiting.size(), 1u);
  ASSERT_TRUE(pair.server.respond(pair.link.now, pair.waiting[0], response_of(Code::content, 3)).ok());
  ASSERT_TRUE(pair.link.run([&] { return pair.answered.size() == 1; }));
  EXPECT_EQ(pair.last.type, MessageType::confirmable);
  pair.link.run([] { return false; }, 60s);
  EXPECT_EQ(pair.server.counters().retransmissions, 0u);
  EXPECT_FALSE(pair.server.respond(pair.link.now, pair.waiting[0], response_of(Code::content)).ok());
}

TEST(CoapEndpoint, copies_run_the_handler_once_and_get_the_same_bytes) {
  Pair pair({.loss = 0.2, .duplicate = 0.5, .jitter = 3s, .seed = 11});
  for (int round = 0; round < 40; ++round) {
    ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::post, "a", 3)).ok());
  }
  pair.link.run([&] { return pair.answered.size() + pair.failures.size() == 40; });
  EXPECT_EQ(pair.failures.size(), 0u);
  EXPECT_EQ(pair.handled, 40u);
  EXPECT_GT(pair.server.counters().duplicates, 5u);
  for (const auto& [exchange, times] : pair.answered) EXPECT_EQ(times, 1);
}

TEST(CoapEndpoint, a_put_over_100_bits_per_second_makes_no_spurious_copies) {
  EndpointOptions options;
  options.timing = thin_link_timing(0, 28);  // the rate is not known
  Pair pair({.delay = 2s, .rate_bps = 100, .seed = 3}, options);
  ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::put, "a", 26)).ok());
  ASSERT_TRUE(pair.link.run([&] { return pair.answered.size() == 1; }));
  pair.link.run([] { return false; }, 1h);
  EXPECT_EQ(pair.client.counters().retransmissions, 0u);
  EXPECT_EQ(pair.link.sent_by_client, 1u);
}

TEST(CoapEndpoint, the_usual_timer_would_make_copies_on_that_link) {
  Pair pair({.delay = 2s, .rate_bps = 100, .seed = 3});
  ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::put, "a", 26)).ok());
  pair.link.run([] { return false; }, 1h);
  EXPECT_GT(pair.client.counters().retransmissions, 0u) << "the test above can fail";
  EXPECT_EQ(pair.handled, 1u);
}

TEST(CoapEndpoint, many_requests_over_a_paced_thin_link_make_no_spurious_copies) {
  EndpointOptions options;
  options.timing = thin_link_timing(100, 28);
  options.pacer = {.rate_bps = 100, .overhead_bytes = 28};
  Pair pair({.delay = 2s, .rate_bps = 100, .seed = 5}, options);
  for (std::size_t round = 0; round < 20; ++round) {
    ASSERT_TRUE(
        pair.client.request(pair.link.now, kServerAddress, request_of(Code::put, "a", round * 13 % 60)).ok());
  }
  EXPECT_TRUE(pair.link.run([&] { return pair.answered.size() == 20; }));
  EXPECT_EQ(pair.client.counters().retransmissions, 0u);
  EXPECT_EQ(pair.handled, 20u);
}

TEST(CoapEndpoint, a_lossy_link_completes_by_every_seed) {
  for (const double loss : {0.1, 0.3}) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      EndpointOptions options;
      options.timing.max_retransmit = 12;
      Pair pair({.loss = loss, .duplicate = 0.1, .jitter = 200ms, .seed = seed}, options);
      for (int round = 0; round < 25; ++round) {
        ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::post, "a", 9)).ok());
      }
      EXPECT_TRUE(pair.link.run([&] { return pair.answered.size() == 25; }))
          << "loss " << loss << " seed " << seed;
      EXPECT_EQ(pair.handled, 25u) << "loss " << loss << " seed " << seed;
    }
  }
}

TEST(CoapEndpoint, one_exchange_at_a_time_per_peer) {
  Pair pair;
  std::size_t requests = 0;
  pair.link.filter = [&](const OutgoingDatagram&, bool from_client) {
    requests += from_client ? 1 : 0;
    return false;
  };
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a")).ok());
  }
  pair.link.run([] { return false; }, 1s);
  EXPECT_EQ(requests, 1u);
}

TEST(CoapEndpoint, a_silent_peer_fails_the_exchange_after_all_copies) {
  Pair pair({.loss = 1.0});
  ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a")).ok());
  EXPECT_TRUE(pair.link.run([&] { return pair.failures.size() == 1; }));
  EXPECT_EQ(pair.failures[0], FailReason::timed_out);
  EXPECT_EQ(pair.link.sent_by_client, 5u);
  EXPECT_TRUE(pair.client.next_deadline().at.is_never());
}

TEST(CoapEndpoint, a_cancelled_exchange_sends_and_reports_nothing_more) {
  Pair pair({.loss = 1.0});
  const ExchangeId id = *pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a"));
  pair.link.run([] { return false; }, 1s);
  pair.client.cancel(id);
  pair.link.run([] { return false; }, 1h);
  EXPECT_EQ(pair.link.sent_by_client, 1u);
  EXPECT_TRUE(pair.failures.empty());
}

TEST(CoapEndpoint, a_waiting_request_is_superseded_by_a_newer_one_of_its_key) {
  EndpointOptions options;
  options.pacer = {.rate_bps = 100, .overhead_bytes = 28};
  options.timing = thin_link_timing(100, 28);
  Pair pair({}, options);
  RequestOptions typing;
  typing.replace_key = "typing";
  (void)pair.client.request(pair.link.now, kServerAddress, request_of(Code::put, "first"), typing).ok();
  pair.link.settle();  // leaves at once, so it is not replaced
  (void)pair.client.request(pair.link.now, kServerAddress, request_of(Code::put, "second"), typing).ok();
  (void)pair.client.request(pair.link.now, kServerAddress, request_of(Code::put, "third"), typing).ok();
  pair.link.run([&] { return pair.answered.size() == 2; });
  EXPECT_EQ(pair.failures, std::vector<FailReason>{FailReason::superseded});
  EXPECT_EQ(pair.handled, 2u);
  EXPECT_EQ(as_text(pair.seen.find(kUriPath)->value), "third");
}

TEST(CoapEndpoint, no_response_26_is_acknowledged_and_not_answered) {
  Pair pair;
  Message message = request_of(Code::put, "typing", 2);
  message.add_uint(kNoResponse, 26);
  RequestOptions how;
  how.expects_response = false;
  ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, message, how).ok());
  pair.link.run([] { return false; }, 1h);
  EXPECT_EQ(pair.link.sent_by_server, 1u);
  EXPECT_EQ(pair.handled, 1u);
  EXPECT_TRUE(pair.answered.empty());
  how.confirmable = false;
  ASSERT_TRUE(pair.client.request(pair.link.now, kServerAddress, message, how).ok());
  pair.link.run([] { return false; }, 1h);
  EXPECT_EQ(pair.link.sent_by_server, 1u);
  EXPECT_EQ(pair.handled, 2u);
}

TEST(CoapEndpoint, messages_that_ask_for_nothing_probe_a_silent_peer_at_the_probing_rate) {
  EndpointOptions options;
  Pair pair({.loss = 1.0}, options);
  RequestOptions how;
  how.confirmable = false;
  how.expects_response = false;
  for (int round = 0; round < 30; ++round) {
    (void)pair.client.request(pair.link.now, kServerAddress, request_of(Code::put, "a", 200), how).ok();
  }
  pair.link.run([] { return false; }, 100s);
  EXPECT_LE(pair.link.sent_by_client * 200, 1280 + 200 + 100);
  EXPECT_GE(pair.link.sent_by_client, 5u);
}

TEST(CoapEndpoint, unknown_critical_options_and_proxying_are_refused) {
  Pair pair;
  Message critical = request_of(Code::get, "a");
  critical.add(2049, as_bytes("x"));
  (void)pair.client.request(pair.link.now, kServerAddress, critical).ok();
  ASSERT_TRUE(pair.link.run([&] { return pair.answered.size() == 1; }));
  EXPECT_EQ(pair.last.code, Code::bad_option);
  Message proxied = request_of(Code::get, "a");
  proxied.add(kProxyUri, as_bytes("http://example.org/"));
  (void)pair.client.request(pair.link.now, kServerAddress, proxied).ok();
  ASSERT_TRUE(pair.link.run([&] { return pair.answered.size() == 2; }));
  EXPECT_EQ(pair.last.code, Code::proxying_not_supported);
  EXPECT_EQ(pair.handled, 0u);
}

TEST(CoapEndpoint, pings_and_malformed_confirmables_get_a_reset_and_other_rubbish_nothing) {
  Pair pair;
  pair.link.inject(kClientAddress, false, *decode_hex("40000007"));
  EXPECT_EQ(pair.link.sent_by_server, 1u);
  pair.link.inject(kClientAddress, false, *decode_hex("40010001ff"));
  EXPECT_EQ(pair.link.sent_by_server, 2u);
  for (const char* rubbish : {"00010001", "50010001ff", "60010001", "", "40", "7045000122"}) {
    pair.link.inject(kClientAddress, false, *decode_hex(rubbish));
  }
  EXPECT_EQ(pair.link.sent_by_server, 2u);
  EXPECT_EQ(pair.handled, 0u);
}

TEST(CoapEndpoint, multicast_requests_are_never_answered) {
  Pair pair;
  pair.server.handle_datagram(pair.link.now, kClientAddress, *decode_hex("4001000101b161"), true);
  pair.link.settle();
  EXPECT_EQ(pair.link.sent_by_server, 0u);
  EXPECT_EQ(pair.handled, 0u);
}

TEST(CoapEndpoint, a_response_with_a_wrong_token_address_or_message_id_is_not_taken) {
  Pair pair({.loss = 1.0});
  Bytes sent;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool from_client) {
    if (from_client) sent = datagram.bytes;
    return false;
  };
  (void)pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a")).ok();
  pair.link.settle();
  Message forged = response_of(Code::content, 1);
  forged.type = MessageType::acknowledgement;
  const Message request = decode_message(sent).message;
  forged.id = request.id;
  forged.token = request.token;
  pair.link.inject(*SocketAddress::parse("192.0.2.99:5683"), true, encode_message(forged));
  forged.token[0] ^= 1;
  pair.link.inject(kServerAddress, true, encode_message(forged));
  forged.token[0] ^= 1;
  forged.id ^= 1;
  pair.link.inject(kServerAddress, true, encode_message(forged));
  EXPECT_TRUE(pair.answered.empty());
  forged.id ^= 1;
  pair.link.inject(kServerAddress, true, encode_message(forged));
  EXPECT_EQ(pair.answered.size(), 1u);
}

TEST(CoapEndpoint, forged_acknowledgements_and_resets_do_not_stop_an_authenticated_exchange) {
  EndpointOptions options;
  options.authenticated = true;
  Pair pair({.loss = 1.0}, options);
  Bytes sent;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool from_client) {
    if (from_client) sent = datagram.bytes;
    return false;
  };
  const ExchangeId id = *pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a"));
  pair.link.settle();
  const Message request = decode_message(sent).message;
  for (const MessageType type : {MessageType::acknowledgement, MessageType::reset}) {
    Message forged;
    forged.type = type;
    forged.id = request.id;
    pair.link.inject(kServerAddress, true, encode_message(forged));
  }
  Message answer = response_of(Code::content, 1);
  answer.type = MessageType::acknowledgement;
  answer.id = request.id;
  answer.token = request.token;
  pair.link.inject(kServerAddress, true,
                   encode_message(answer));  // shown to the owner, who does not confirm it
  EXPECT_EQ(pair.answered.size(), 1u);
  pair.link.run([] { return false; }, 10s);
  EXPECT_GT(pair.client.counters().retransmissions, 0u);
  pair.link.inject(kServerAddress, true, encode_message(answer));
  pair.client.confirm(pair.link.now, id);
  const std::uint64_t before = pair.client.counters().retransmissions;
  pair.link.run([] { return false; }, 1h);
  EXPECT_EQ(pair.client.counters().retransmissions, before);
}

TEST(CoapEndpoint, an_unproved_address_gets_no_more_than_three_times_its_bytes_until_it_echoes) {
  Pair pair;
  pair.answer_bytes = 900;
  std::size_t in = 0;
  std::size_t out = 0;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool from_client) {
    (from_client ? in : out) += datagram.bytes.size();
    if (pair.handled < 2) {
      EXPECT_LE(out, 3 * in);
    }
    return true;
  };
  (void)pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a")).ok();
  ASSERT_TRUE(pair.link.run([&] { return pair.answered.size() == 1; }));
  EXPECT_EQ(pair.last.code, Code::content);
  EXPECT_EQ(pair.last.payload.size(), 900u);
  EXPECT_EQ(pair.server.counters().challenged, 1u);
  (void)pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a")).ok();
  ASSERT_TRUE(pair.link.run([&] { return pair.answered.size() == 2; }));
  EXPECT_EQ(pair.server.counters().challenged, 1u) << "the address stays proved for a while";
}

TEST(CoapEndpoint, spoofed_requests_cannot_make_it_amplify) {
  Pair pair;
  pair.answer_bytes = 900;
  SeededRandom random(4);
  std::size_t in = 0;
  std::size_t out = 0;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool) {
    out += datagram.bytes.size();
    return false;
  };
  for (std::uint16_t round = 0; round < 500; ++round) {
    Message message = request_of(random.below(2) != 0 ? Code::get : Code::post, "a");
    message.id = static_cast<std::uint16_t>(random.below(40));
    message.token = {1};
    const Bytes bytes = encode_message(message);
    in += bytes.size();
    pair.link.inject(kClientAddress, false, bytes);
    EXPECT_LE(out, 3 * in);
  }
}

TEST(CoapEndpoint, an_empty_acknowledgement_counts_towards_what_an_address_has_earned) {
  Pair pair;
  std::size_t in = 0;
  std::size_t out = 0;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool) {
    out += datagram.bytes.size();
    return false;
  };
  for (std::uint16_t id = 1; id <= 2; ++id) {
    // The first waits for its acknowledgement, the second's answer takes all that both have earned.
    pair.answer = id == 2;
    pair.answer_bytes = 36;
    Message message = request_of(Code::get, "a");
    message.id = id;
    message.token = {static_cast<std::uint8_t>(id)};
    const Bytes bytes = encode_message(message);
    in += bytes.size();
    pair.link.inject(kClientAddress, false, bytes);
  }
  EXPECT_EQ(out, 3 * in);
  pair.link.run([] { return false; }, 20s);
  EXPECT_EQ(out, 3 * in);
  EXPECT_GT(pair.server.counters().dropped_amplification, 0u);
}

TEST(CoapEndpoint, a_flood_of_requests_is_bounded_and_never_runs_one_twice) {
  EndpointOptions options;
  options.replies = {.entries = 100, .bytes = 4096, .entries_per_peer = 100};
  options.amplification = 0;
  Pair pair({}, options);
  for (int pass = 0; pass < 2; ++pass) {
    for (std::uint16_t id = 0; id < 300; ++id) {
      Message message = request_of(Code::post, "a");
      message.id = id;
      pair.link.inject(kClientAddress, false, encode_message(message));
    }
  }
  EXPECT_EQ(pair.handled, 100u);
  EXPECT_GT(pair.server.counters().dropped_full, 100u);
}

TEST(CoapEndpoint, message_ids_run_out_rather_than_being_used_twice) {
  EndpointOptions options;
  options.timing.nstart = 1000;
  Pair pair({}, options);
  std::size_t made = 0;
  while (made < 70000) {
    const auto id = pair.client.request(pair.link.now, kServerAddress, request_of(Code::get, "a"));
    if (!id.ok()) break;
    pair.client.cancel(*id);
    ++made;
  }
  EXPECT_LE(made, 65536u + 4096u);
  EXPECT_GE(made, 61440u);
}

}  // namespace
}  // namespace ravine::gateway::coap
