#include "gateway/coap/oscore_protection.h"

#include <gtest/gtest.h>

#include "gateway/coap/virtual_link.h"

namespace ravine::gateway::coap {
namespace {

class MemoryStore final : public security::SequenceStore {
 public:
  Result<> persist(ByteView state) override {
    durable = to_bytes(state);
    return {};
  }
  Bytes durable;
};

security::OscoreParameters parameters(std::uint8_t own, std::uint8_t other) {
  security::OscoreParameters made;
  made.master_secret = Bytes(16, 7);
  made.master_salt = Bytes(8, 9);
  made.sender_id = {own};
  made.recipient_id = {other};
  return made;
}

struct Pair {
  explicit Pair(const LinkOptions& link_options = {})
      : random(link_options.seed + 100),
        client_context(*security::OscoreContext::make(parameters(1, 2), client_store)),
        server_context(*security::OscoreContext::make(parameters(2, 1), server_store)),
        client_protection(random),
        server_protection(random),
        client(ExchangerOptions{}, random, &client_protection),
        server(ExchangerOptions{}, random, &server_protection),
        link(link_options, client, server) {
    client_protection.add(client_context);
    client_protection.set_peer(kServerAddress, client_context);
    server_protection.add(server_context);
    link.on_events = [this](Exchanger& machine, bool) {
      while (std::optional<ExchangerEvent> event = machine.poll_event()) {
        if (auto* serve = std::get_if<Serve>(&*event)) {
          ++handled;
          secured = serve->secured;
          Message response;
          response.code = is_safe(serve->request.code) ? Code::content : Code::changed;
          response.payload = serve->request.payload;
          if (serve->request.uint_option(kObserve) == 0) {
            EXPECT_TRUE(server.accept_observer(link.now, serve->id, "r").ok());
          }
          EXPECT_TRUE(server.respond(link.now, serve->id, std::move(response)).ok());
        } else if (auto* answered = std::get_if<CallAnswered>(&*event)) {
          answers.push_back(std::move(answered->response));
        } else if (auto* failed = std::get_if<CallFailed>(&*event)) {
          faults.push_back(failed->fault);
        }
      }
    };
  }

  CallId call(Code code, Bytes body, bool observe = false) {
    Message request;
    request.code = code;
    request.add(kUriPath, as_bytes("secret-path"));
    request.payload = std::move(body);
    CallOptions how;
    how.observe = observe;
    return *client.call(link.now, kServerAddress, std::move(request), how);
  }

  SeededRandom random;
  MemoryStore client_store, server_store;
  security::OscoreContext client_context, server_context;
  OscoreProtection client_protection, server_protection;
  Exchanger client, server;
  VirtualLink<Exchanger> link;
  std::size_t handled = 0;
  bool secured = false;
  std::vector<Message> answers;
  std::vector<CallFault> faults;
};

TEST(OscoreProtection, bodies_pass_protected_and_nothing_of_them_shows) {
  Pair pair({.loss = 0.1, .duplicate = 0.1, .jitter = 100ms, .seed = 3});
  pair.link.filter = [](const OutgoingDatagram& datagram, bool) {
    EXPECT_EQ(as_text(datagram.bytes).find("secret"), std::string_view::npos);
    return true;
  };
  const Bytes body(3000, 's');
  (void)pair.call(Code::post, body);
  ASSERT_TRUE(pair.link.run([&] { return !pair.answers.empty(); }));
  EXPECT_EQ(pair.answers[0].payload, body);
  EXPECT_TRUE(pair.secured);
  EXPECT_EQ(pair.handled, 1u);
  EXPECT_EQ(pair.client_protection.bindings(), 0u);
  EXPECT_EQ(pair.server_protection.bindings(), 0u);
}

TEST(OscoreProtection, a_forged_response_does_not_end_the_exchange) {
  Pair pair;
  Message request;
  bool blocked = true;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool from_client) {
    if (from_client) request = decode_message(datagram.bytes).message;
    return !blocked;
  };
  (void)pair.call(Code::post, {1});
  pair.link.settle();
  Message forged;
  forged.type = MessageType::acknowledgement;
  forged.code = Code::content;
  forged.id = request.id;
  forged.token = request.token;
  forged.payload = {6};
  pair.link.inject(kServerAddress, true, encode_message(forged));
  forged.add(kOscore, {});
  forged.payload = Bytes(20, 6);
  pair.link.inject(kServerAddress, true, encode_message(forged));
  EXPECT_TRUE(pair.answers.empty());
  blocked = false;
  ASSERT_TRUE(pair.link.run([&] { return !pair.answers.empty(); }));
  EXPECT_EQ(pair.answers[0].payload, Bytes{1});
}

TEST(OscoreProtection, a_replayed_request_is_not_run_again) {
  Pair pair;
  Bytes first;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool from_client) {
    if (from_client && first.empty()) first = datagram.bytes;
    return true;
  };
  (void)pair.call(Code::post, {1});
  ASSERT_TRUE(pair.link.run([&] { return !pair.answers.empty(); }));
  Message replay = decode_message(first).message;
  replay.id = static_cast<std::uint16_t>(replay.id + 77);  // past the message layer's own check
  SocketAddress elsewhere = kClientAddress;
  elsewhere.port = 1;
  pair.link.inject(elsewhere, false, encode_message(replay));
  EXPECT_EQ(pair.handled, 1u);
}

TEST(OscoreProtection, clear_requests_are_refused_unless_allowed) {
  Pair pair;
  Message clear;
  clear.code = Code::get;
  clear.token = {5};
  clear.id = 9;
  Message answer;
  pair.link.filter = [&](const OutgoingDatagram& datagram, bool) {
    answer = decode_message(datagram.bytes).message;
    return false;
  };
  pair.link.inject(kClientAddress, false, encode_message(clear));
  EXPECT_EQ(answer.code, Code::unauthorized);
  EXPECT_EQ(pair.handled, 0u);
}

TEST(OscoreProtection, a_restarted_server_asks_for_freshness_and_then_answers) {
  Pair pair;
  (void)pair.call(Code::post, {1});
  ASSERT_TRUE(pair.link.run([&] { return pair.answers.size() == 1; }));
  Result<security::OscoreContext> restored =
      security::OscoreContext::restore(parameters(2, 1), pair.server_store.durable, pair.server_store);
  ASSERT_TRUE(restored.ok());
  pair.server_context = std::move(*restored);
  (void)pair.call(Code::post, {2});
  ASSERT_TRUE(pair.link.run([&] { return pair.answers.size() == 2; }));
  EXPECT_EQ(pair.answers[1].payload, Bytes{2});
  EXPECT_EQ(pair.handled, 2u);
}

TEST(OscoreProtection, notifications_are_protected_and_in_order) {
  Pair pair({.jitter = 2s, .seed = 6});
  (void)pair.call(Code::get, {}, true);
  ASSERT_TRUE(pair.link.run([&] { return pair.answers.size() == 1; }));
  for (std::uint8_t change = 1; change <= 12; ++change) {
    Message state;
    state.code = Code::content;
    state.payload = {change};
    pair.server.notify(pair.link.now, "r", state);
    pair.link.run([] { return false; }, 700ms);
  }
  pair.link.run([&] { return pair.answers.back().payload == Bytes{12}; }, 1h);
  EXPECT_EQ(pair.answers.back().payload, Bytes{12});
  for (std::size_t i = 2; i < pair.answers.size(); ++i) {
    EXPECT_LT(pair.answers[i - 1].payload, pair.answers[i].payload);
  }
}

}  // namespace
}  // namespace ravine::gateway::coap
