#include "gateway/coap_proxy/http_to_coap.h"

#include <gtest/gtest.h>

#include "base/machine.h"
#include "gateway/cbor/json_cbor.h"

namespace ravine::gateway::coap_proxy {
namespace {

using coap::Code;
using coap::Message;

const SocketAddress kNear = *SocketAddress::parse("192.0.2.1:40000");
const SocketAddress kServer = *SocketAddress::parse("192.0.2.2:5683");

// The machine, and a CoAP server that a function plays.
struct Bridge : testing::Test {
  static HttpToCoapOptions options() {
    HttpToCoapOptions made;
    made.servers = {
        {"192.0.2.2", 5683, kServer}, {"sensor.example", 5683, kServer}, {"later.example", 5683, {}}};
    return made;
  }

  core::HttpResponse ask(std::string_view method, std::string_view target, core::Headers headers = {},
                         std::string_view body = {}) {
    HttpToCoap& machine = *near;
    machine.handle_request(
        now, ++last_id,
        {std::string(method), std::string(target), std::move(headers), to_bytes(as_bytes(body))});
    const Instant end = now + 1000s;
    for (int step = 0; step < 10'000; ++step) {
      for (bool moved = true; moved;) {
        moved = false;
        while (auto out = machine.poll_transmit(now)) {
          moved = true;
          if (reachable) server.handle_datagram(now, kNear, out->bytes);
        }
        while (auto event = server.poll_event()) {
          if (auto* serve = std::get_if<coap::Serve>(&*event)) {
            requests.push_back(serve->request);
            if (!answer) continue;
            EXPECT_TRUE(server.respond(now, serve->id, answer(serve->request)).ok());
          }
        }
        while (auto out = server.poll_transmit(now)) {
          moved = true;
          machine.handle_datagram(now, kServer, out->bytes);
        }
      }
      if (auto done = machine.poll_answer()) {
        EXPECT_EQ(done->id, last_id);
        return done->response;
      }
      const Instant next = std::min(machine.next_deadline().at, server.next_deadline().at);
      if (next.is_never() || next > end) break;
      now = std::max(now, next);
      if (machine.next_deadline().at <= now) machine.handle_timeout(now);
      if (server.next_deadline().at <= now) server.handle_timeout(now);
    }
    ADD_FAILURE() << "no answer to " << target;
    return {};
  }

  static Message content(std::string_view body, Code code = Code::content) {
    Message message;
    message.code = code;
    message.payload = to_bytes(as_bytes(body));
    return message;
  }

  SeededRandom random{3};
  std::optional<HttpToCoap> near{std::in_place, options(), random};
  coap::Exchanger server{{}, random};
  std::function<Message(const Message&)> answer = [](const Message&) { return content("21.5"); };
  bool reachable = true;
  std::vector<Message> requests;
  Instant now{1'000'000'000'000};
  HttpId last_id = 0;
};

std::string header(const core::HttpResponse& response, std::string_view name) {
  return std::string(core::header_value(response.headers, name));
}

TEST_F(Bridge, asks_a_coap_server_by_its_uri_after_the_prefix) {
  answer = [](const Message&) {
    Message message = content("{\"t\":21.5}");
    message.add_uint(coap::kContentFormat, 50);
    message.add_uint(coap::kMaxAge, 30);
    message.add(coap::kEtag, Bytes{1, 0xab});
    return message;
  };
  const auto got = ask("GET", "/hc/coap://192.0.2.2/a/b?x=1", {{"Accept", "application/json, */*;q=0.1"}});
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(as_text(got.body), "{\"t\":21.5}");
  EXPECT_EQ(header(got, "content-type"), "application/json");
  EXPECT_EQ(header(got, "cache-control"), "max-age=30");
  EXPECT_EQ(header(got, "etag"), "\"01ab\"");
  EXPECT_EQ(*coap::target_of(requests[0]), "/a/b?x=1");
  EXPECT_EQ(requests[0].uint_option(coap::kAccept), 50);
  EXPECT_EQ(requests[0].uint_option(coap::kHopLimit), 15);
  EXPECT_FALSE(requests[0].has(coap::kUriHost));
  ask("GET", "/hc/coap://SENSOR.example:5683/t");
  EXPECT_EQ(as_text(requests[1].find(coap::kUriHost)->value), "sensor.example");
  ask("GET", "/hc/coap%3A%2F%2Fsensor.example/t");
  EXPECT_EQ(requests.size(), 3u);
}

TEST_F(Bridge, revalidates_with_the_tag_that_it_gave) {
  answer = [](const Message& request) {
    Message message = request.has(coap::kEtag) ? content("", Code::valid) : content("x");
    message.add(coap::kEtag, Bytes{1, 0xab});
    return message;
  };
  EXPECT_EQ(ask("GET", "/hc/coap://192.0.2.2/x", {{"If-None-Match", "\"01ab\", \"other\""}}).status, 304);
  EXPECT_EQ(requests[0].find(coap::kEtag)->value, (Bytes{1, 0xab}));
  ask("PUT", "/hc/coap://192.0.2.2/x", {{"If-Match", "\"01ab\""}}, "new");
  EXPECT_EQ(requests[1].find(coap::kIfMatch)->value, (Bytes{1, 0xab}));
  EXPECT_EQ(ask("PUT", "/hc/coap://192.0.2.2/x", {{"If-Match", "\"foreign\""}}, "new").status, 412);
  ask("PUT", "/hc/coap://192.0.2.2/x", {{"If-None-Match", "*"}}, "new");
  EXPECT_TRUE(requests[2].has(coap::kIfNoneMatch));
}

TEST_F(Bridge, maps_methods_bodies_and_statuses) {
  answer = [](const Message& request) {
    Message message;
    message.code = request.code == Code::post ? Code::created : Code::changed;
    if (request.code == Code::post) message.add(coap::kLocationPath, as_bytes("7"));
    return message;
  };
  const auto created =
      ask("POST", "/hc/coap://192.0.2.2/things", {{"Content-Type", "application/cbor"}}, "\xa0");
  EXPECT_EQ(created.status, 201);
  EXPECT_EQ(header(created, "location"), "/hc/coap://192.0.2.2:5683/7");
  EXPECT_EQ(requests[0].uint_option(coap::kContentFormat), 60);
  EXPECT_EQ(
      ask("PATCH", "/hc/coap://192.0.2.2/x", {{"Content-Type", "application/merge-patch+json"}}, "{}").status,
      204);
  EXPECT_EQ(requests[1].code, Code::patch);
  const std::pair<Code, std::uint16_t> rows[] = {
      {Code::unauthorized, 401},       {Code::method_not_allowed, 405},
      {Code::bad_gateway, 502},        {Code::service_unavailable, 503},
      {Code::gateway_timeout, 504},    {Code::request_entity_too_large, 413},
      {Code::precondition_failed, 412}};
  for (const auto& [code, status] : rows) {
    answer = [given = code](const Message&) { return content("why", given); };
    const auto got = ask("GET", "/hc/coap://192.0.2.2/x");
    EXPECT_EQ(got.status, status);
    EXPECT_EQ(as_text(got.body), "why");
    EXPECT_EQ(header(got, "content-type"), "text/plain;charset=utf-8");
  }
  answer = [](const Message&) { return content("body"); };
  const auto head = ask("HEAD", "/hc/coap://192.0.2.2/x");
  EXPECT_EQ(head.status, 200);
  EXPECT_TRUE(head.body.empty());
}

TEST_F(Bridge, moves_large_bodies) {
  const std::string large(20'000, 'b');
  answer = [](const Message& request) { return content(as_text(request.payload), Code::changed); };
  const auto got = ask("PUT", "/hc/coap://192.0.2.2/x", {{"Content-Type", "text/plain"}}, large);
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(as_text(got.body), large);
}

TEST_F(Bridge, refuses_with_the_right_status) {
  const auto status = [&](std::string_view method, std::string_view target, core::Headers headers = {},
                          std::string_view body = {}) {
    const auto got = ask(method, target, std::move(headers), body);
    EXPECT_FALSE(got.body.empty());
    return got.status;
  };
  EXPECT_EQ(status("GET", "/hc/coap://192.0.2.9/x"), 403);
  EXPECT_EQ(status("GET", "/hc/coap://192.0.2.2:5684/x"), 403);
  EXPECT_EQ(status("GET", "/hc/http://192.0.2.2/x"), 400);
  EXPECT_EQ(status("GET", "/hc/x"), 400);
  EXPECT_EQ(status("GET", "/hc/coaps://192.0.2.2/x"), 501);
  EXPECT_EQ(status("GET", "/hc/coap://later.example/x"), 502);
  EXPECT_EQ(status("GET", "/elsewhere"), 404);
  EXPECT_EQ(status("OPTIONS", "/hc/coap://192.0.2.2/x"), 501);
  EXPECT_EQ(status("GET", "/hc/coap://192.0.2.2/x", {}, "body"), 400);
  EXPECT_EQ(status("GET", "/hc/coap://192.0.2.2/" + std::string(256, 'a')), 414);
  EXPECT_EQ(status("GET", "/hc/coap://192.0.2.2/a%0d%0a"), 400);
  EXPECT_EQ(status("PUT", "/hc/coap://192.0.2.2/x", {{"Content-Type", "text/html"}}, "<p>"), 415);
  EXPECT_EQ(status("GET", "/hc/coap://192.0.2.2/x", {{"Accept", "text/html"}}), 406);
  EXPECT_EQ(status("GET", "/hc/coap://192.0.2.2/x", {{"Hop-Limit", "1"}}), 508);
  EXPECT_EQ(status("PUT", "/hc/coap://192.0.2.2/x", {}, std::string((1 << 20) + 1, 'x')), 413);
  EXPECT_TRUE(requests.empty());
}

TEST_F(Bridge, a_silent_server_is_504_and_one_that_resets_502) {
  reachable = false;
  EXPECT_EQ(ask("GET", "/hc/coap://192.0.2.2/x").status, 504);
  EXPECT_EQ(near->waiting(), 0u);
  reachable = true;
  answer = nullptr;  // takes the request and never answers
  EXPECT_EQ(ask("GET", "/hc/coap://192.0.2.2/x").status, 504);
  EXPECT_EQ(near->waiting(), 0u);
}

TEST_F(Bridge, a_reset_is_502) {
  near->handle_request(now, 1, {"GET", "/hc/coap://192.0.2.2/x", {}, {}});
  const auto out = near->poll_transmit(now);
  ASSERT_TRUE(out);
  Message reset;
  reset.type = coap::MessageType::reset;
  reset.id = coap::decode_message(out->bytes).message.id;
  near->handle_datagram(now, kServer, coap::encode_message(reset));
  const auto done = near->poll_answer();
  ASSERT_TRUE(done);
  EXPECT_EQ(done->response.status, 502);
}

TEST_F(Bridge, sends_everything_to_one_server_when_told_to) {
  HttpToCoapOptions made = options();
  made.everything_to = 0;
  near.emplace(made, random);
  EXPECT_TRUE(near->is_ours("/any/path"));
  EXPECT_EQ(ask("GET", "/any/path?q").status, 200);
  EXPECT_EQ(*coap::target_of(requests[0]), "/any/path?q");
}

TEST_F(Bridge, tells_where_the_mapping_is) {
  const auto got = ask("GET", "/.well-known/core");
  EXPECT_EQ(as_text(got.body), "</hc/>;rt=\"core.hc\"");
  EXPECT_EQ(header(got, "content-type"), "application/link-format");
}

TEST_F(Bridge, a_client_that_left_is_forgotten) {
  near->handle_request(now, 9, {"GET", "/hc/coap://192.0.2.2/x", {}, {}});
  near->withdraw(9);
  EXPECT_EQ(near->waiting(), 0u);
  EXPECT_FALSE(near->poll_answer());
}

TEST_F(Bridge, speaks_matrix_by_msc3079_when_told_to) {
  HttpToCoapOptions made = options();
  made.everything_to = 0;
  made.matrix = true;
  near.emplace(made, random);
  answer = [](const Message&) {
    Message response;
    response.code = Code::changed;
    response.add_uint(coap::kContentFormat, 60);
    response.payload = cbor::cbor_of_json(as_bytes(R"({"event_id":"$1"})"), cbor::Keys::matrix).value();
    return response;
  };
  const core::HttpResponse sent =
      ask("PUT", "/_matrix/client/v3/rooms/!r/send/m.room.message/1", {{"Authorization", "Bearer tok"}},
          R"({"msgtype":"m.text","body":"hi"})");
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(as_text(requests[0].find(coap::kAuthorization)->value), "tok");
  EXPECT_EQ(requests[0].uint_option(coap::kContentFormat), 60u);
  EXPECT_EQ(requests[0].uint_option(coap::kAccept), 60u);
  EXPECT_EQ(as_text(cbor::json_of_cbor(requests[0].payload, cbor::Keys::matrix).value()),
            R"({"msgtype":"m.text","body":"hi"})");
  EXPECT_EQ(sent.status, 200);
  EXPECT_EQ(as_text(sent.body), R"({"event_id":"$1"})");
  EXPECT_EQ(header(sent, "content-type"), "application/json");
  const core::HttpResponse preflight =
      ask("OPTIONS", "/_matrix/client/v3/sync", {{"Access-Control-Request-Method", "GET"}});
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(requests.size(), 1u);
}

}  // namespace
}  // namespace ravine::gateway::coap_proxy
