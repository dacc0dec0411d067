// Matrix clients by MSC3079 through the proxy, with OSCORE.
#include "gateway/cbor/key_table.h"
#include "gateway/coap_proxy/test_world.h"

namespace ravine::gateway::coap_proxy {
namespace {

using coap::Code;
using coap::Message;

constexpr std::uint16_t kJson = 50, kCbor = 60;

Bytes packed(std::string_view json) {
  return *cbor::cbor_of_json(as_bytes(json), cbor::Keys::matrix);
}
std::string json(const Message& message) {
  const auto made = cbor::json_of_cbor(message.payload, cbor::Keys::matrix);
  return made ? std::string(as_text(*made)) : "no CBOR: " + made.error().message;
}

struct Matrix : testing::Test {
  World world;
  security::TestStore own_store, proxy_store;
  security::OscoreContext own = *security::OscoreContext::make(test_parameters(1, 2), own_store);
  security::OscoreContext other = *security::OscoreContext::make(test_parameters(2, 1), proxy_store);
  coap::OscoreProtection protection{world.random};
  World::Client& client = world.add_client(&protection);
  core::HttpResponse response = json_response(200, R"({"event_id":"$e"})");

  Matrix() {
    protection.add(own);
    protection.set_peer(kProxyAddress, own);
    world.proxy.add(other);
    world.serve = [this](const CoapUpstreamRequest&) { return response; };
  }
  std::string authorization() {
    return std::string(core::header_value(world.requests.back().request.headers, "authorization"));
  }
  static Message request(Code code, std::string_view target, std::string_view body = {}) {
    Message message = make_request(code, target);
    if (body.empty()) return message;
    message.payload = packed(body);
    message.add_uint(coap::kContentFormat, kCbor);
    return message;
  }
};

TEST_F(Matrix, a_session_speaks_cbor_and_short_paths_and_sends_its_token_once) {
  response = json_response(200, R"({"user_id":"@a:s","access_token":"tok","device_id":"D"})");
  const Message login =
      world.ask(client, request(Code::post, "/1", R"({"type":"m.login.password","password":"p"})"));
  EXPECT_EQ(login.code, Code::changed);
  EXPECT_EQ(login.uint_option(coap::kContentFormat), kCbor);
  EXPECT_EQ(json(login), R"({"user_id":"@a:s","access_token":"tok","device_id":"D"})");
  EXPECT_EQ(world.requests.back().request.target, "/_matrix/client/r0/login");
  EXPECT_EQ(as_text(world.requests.back().request.body), R"({"type":"m.login.password","password":"p"})");
  EXPECT_EQ(authorization(), "");

  response = json_response(200, R"({"event_id":"$e"})");
  Message send = request(Code::put, "/9/!r:s/m.room.message/1", R"({"msgtype":"m.text","body":"Hello"})");
  send.add(coap::kAuthorization, as_bytes("tok"));
  EXPECT_EQ(json(world.ask(client, send)), R"({"event_id":"$e"})");
  EXPECT_EQ(world.requests.back().request.target, "/_matrix/client/r0/rooms/!r:s/send/m.room.message/1");
  EXPECT_EQ(authorization(), "Bearer tok");

  // Later ones come without it, and from wherever the client's address went.
  client.address.port = 50000;
  world.ask(client, request(Code::put, "/9/!r:s/m.room.message/2", R"({"msgtype":"m.text","body":"again"})"));
  EXPECT_EQ(authorization(), "Bearer tok");
  EXPECT_EQ(world.proxy.counters().secured, 3u);
}

TEST_F(Matrix, answers_in_the_language_that_was_asked_for) {
  Message wants_json = request(Code::put, "/9/!r:s/m.room.message/1", R"({"body":"x"})");
  wants_json.add_uint(coap::kAccept, kJson);
  const Message plain = world.ask(client, wants_json);
  EXPECT_EQ(plain.uint_option(coap::kContentFormat), kJson);
  EXPECT_EQ(as_text(plain.payload), R"({"event_id":"$e"})");
  Message wants_cbor = make_request(Code::get, "/_matrix/client/versions");
  wants_cbor.add_uint(coap::kAccept, kCbor);
  EXPECT_EQ(world.ask(client, wants_cbor).uint_option(coap::kContentFormat), kCbor);
  EXPECT_EQ(core::header_value(world.requests.back().request.headers, "accept"), "application/json");
  // Nothing said and nothing short: as the server has it.
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/_matrix/client/versions"))
                .uint_option(coap::kContentFormat),
            kJson);
}

TEST_F(Matrix, errors_come_in_the_clients_language_too) {
  response = json_response(403, R"({"errcode":"M_FORBIDDEN","error":"no"})");
  const Message answer = world.ask(client, request(Code::get, "/7"));
  EXPECT_EQ(answer.code, Code::forbidden);
  EXPECT_EQ(json(answer), R"({"errcode":"M_FORBIDDEN","error":"no"})");
}

TEST_F(Matrix, json_that_cbor_would_change_goes_as_it_is) {
  response = json_response(200, R"({"n":123456789012345678901234567890})");
  const Message answer = world.ask(client, request(Code::get, "/7"));
  EXPECT_EQ(answer.uint_option(coap::kContentFormat), kJson);
  EXPECT_EQ(as_text(answer.payload), R"({"n":123456789012345678901234567890})");
}

TEST_F(Matrix, cbor_to_other_servers_is_left_alone) {
  Message message = request(Code::post, "/sensors", R"({"body":1})");
  world.ask(client, message);
  EXPECT_EQ(world.requests.back().request.body, message.payload);
  EXPECT_EQ(core::header_value(world.requests.back().request.headers, "content-type"), "application/cbor");
}

TEST_F(Matrix, broken_cbor_is_a_bad_request_and_a_bomb_too_large) {
  Message broken = request(Code::post, "/1", R"({"type":"x"})");
  broken.payload.pop_back();
  EXPECT_EQ(world.ask(client, broken).code, Code::bad_request);
  Message bomb = request(Code::post, "/1", R"({"type":"x"})");
  bomb.payload = Bytes{0x9f};
  for (int i = 0; i < 60'000; ++i) bomb.payload.insert(bomb.payload.end(), {0xa1, 0x18, 72, 0x00});
  bomb.payload.push_back(0xff);
  EXPECT_EQ(world.ask(client, bomb).code, Code::request_entity_too_large);
  EXPECT_TRUE(world.requests.empty());
}

TEST_F(Matrix, a_token_is_not_kept_for_an_address_that_anybody_can_write) {
  World::Client& clear = world.add_client();
  Message first = request(Code::get, "/7");
  first.add(coap::kAuthorization, as_bytes("tok"));
  world.ask(clear, first);
  EXPECT_EQ(authorization(), "Bearer tok");
  world.ask(clear, request(Code::get, "/7"));
  EXPECT_EQ(authorization(), "");
}

TEST_F(Matrix, a_token_of_two_lines_is_refused) {
  Message first = request(Code::get, "/7");
  first.add(coap::kAuthorization, as_bytes("tok\r\nx-admin: 1"));
  EXPECT_EQ(world.ask(client, first).code, Code::bad_request);
  EXPECT_TRUE(world.requests.empty());
}

TEST_F(Matrix, an_observed_sync_brings_all_news_in_order) {
  std::vector<std::string> polls;
  int batch = 1;
  world.serve = [&](const CoapUpstreamRequest& asked) -> std::optional<core::HttpResponse> {
    polls.push_back(asked.request.target);
    if (batch > 5) return std::nullopt;
    const std::string text = "{\"next_batch\":\"s" + std::to_string(batch) +
                             "\",\"rooms\":{\"join\":{\"!r:s\":" + std::to_string(batch) + "}}}";
    ++batch;
    return json_response(200, text);
  };
  Message sync = request(Code::get, "/7?filter=1");
  sync.add(coap::kAuthorization, as_bytes("tok"));
  world.call(client, sync, true);
  int sent = 0;
  world.drop = [&](bool to_proxy) { return !to_proxy && ++sent % 3 == 0; };
  ASSERT_TRUE(world.run([&] { return client.answers.size() == 5; }));
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_NE(json(client.answers[i]).find("\"s" + std::to_string(i + 1) + "\""), std::string::npos);
  }
  EXPECT_EQ(polls[0], "/_matrix/client/r0/sync?filter=1");
  EXPECT_EQ(polls[1], "/_matrix/client/r0/sync?filter=1&since=s1&timeout=30000");
  EXPECT_EQ(polls[5], "/_matrix/client/r0/sync?filter=1&since=s5&timeout=30000");
  EXPECT_EQ(authorization(), "Bearer tok");
}

}  // namespace
}  // namespace ravine::gateway::coap_proxy
