#include "gateway/coap/block.h"
#include "gateway/coap/http_mapping.h"
#include "gateway/coap_proxy/test_world.h"

namespace ravine::gateway::coap_proxy {
namespace {

using coap::Code;
using coap::Message;

std::string text_of(const Message& message) {
  return std::string(as_text(message.payload));
}

std::string header(const CoapUpstreamRequest& request, std::string_view name) {
  return std::string(core::header_value(request.request.headers, name));
}

core::HttpResponse plain(std::uint16_t status, std::string_view body, core::Headers headers = {}) {
  headers.emplace_back("Content-Type", "text/plain");
  return {status, std::move(headers), to_bytes(as_bytes(body))};
}

struct Proxy : testing::Test {
  World world;
  World::Client& client = world.add_client();
  core::HttpResponse response = plain(200, "hello");

  Proxy() {
    world.serve = [this](const CoapUpstreamRequest&) { return response; };
  }
  const CoapUpstreamRequest& asked() { return world.requests.back(); }
};

TEST_F(Proxy, asks_the_server_by_path_and_query) {
  Message request = make_request(Code::get, "/a%2Fb/c?x=1&y=a%26b");
  request.add_uint(coap::kAccept, 50);
  const Message answer = world.ask(client, request);
  EXPECT_EQ(answer.code, Code::content);
  EXPECT_EQ(text_of(answer), "hello");
  EXPECT_EQ(answer.uint_option(coap::kContentFormat), 0);
  EXPECT_EQ(asked().request.method, "GET");
  EXPECT_EQ(asked().request.target, "/a%2Fb/c?x=1&y=a%26b");
  EXPECT_EQ(asked().origin, "");
  EXPECT_EQ(header(asked(), "accept"), "application/json");
}

TEST_F(Proxy, passes_every_method_on) {
  const std::pair<Code, const char*> rows[] = {
      {Code::get, "GET"},     {Code::post, "POST"},    {Code::put, "PUT"},    {Code::del, "DELETE"},
      {Code::patch, "PATCH"}, {Code::ipatch, "PATCH"}, {Code::fetch, "QUERY"}};
  for (const auto& [code, method] : rows) {
    const bool body = code != Code::get && code != Code::del;
    world.ask(client, make_request(code, "/x", body ? "{}" : "",
                                   body ? std::optional<std::uint16_t>(50) : std::nullopt));
    EXPECT_EQ(asked().request.method, method);
    EXPECT_EQ(header(asked(), "content-type"), body ? "application/json" : "");
  }
}

TEST_F(Proxy, keeps_every_status_for_those_who_read_it) {
  for (const unsigned status :
       {200u, 201u, 202u, 204u, 206u, 301u, 304u, 400u, 401u, 403u, 404u, 405u, 406u, 409u, 410u,
        412u, 413u, 414u, 415u, 418u, 422u, 429u, 451u, 500u, 501u, 502u, 503u, 504u, 507u, 599u}) {
    response = plain(static_cast<std::uint16_t>(status), status == 204 || status == 304 ? "" : "why");
    const Message answer = world.ask(client, make_request(Code::post, "/x"));
    EXPECT_EQ(coap::exact_http_status(answer, "POST"), status);
    EXPECT_EQ(text_of(answer), status == 204 || status == 304 ? "" : "why");
  }
}

TEST_F(Proxy, answers_204_and_bodies_with_a_charset) {
  response = {204, {}, {}};
  EXPECT_EQ(world.ask(client, make_request(Code::put, "/x")).code, Code::changed);
  response = {200, {{"Content-Type", "application/json; charset=utf-8"}}, to_bytes(as_bytes("{}"))};
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).uint_option(coap::kContentFormat), 50);
}

TEST_F(Proxy, moves_large_bodies_both_ways_in_blocks) {
  const std::string large(40'000, 'x');
  response = plain(200, large);
  const Message answer = world.ask(client, make_request(Code::post, "/x", large));
  EXPECT_EQ(text_of(answer), large);
  EXPECT_EQ(as_text(asked().request.body), large);
}

TEST_F(Proxy, never_mixes_bodies_that_come_at_the_same_time) {
  World::Client& other = world.add_client();
  world.serve = [](const CoapUpstreamRequest& request) {
    return plain(200, as_text(request.request.body), {});
  };
  std::vector<std::string> bodies;
  for (char c = 'a'; c < 'g'; ++c) bodies.emplace_back(5000 + static_cast<std::size_t>(c), c);
  for (std::size_t i = 0; i < bodies.size(); ++i)
    world.call(i % 2 == 0 ? client : other, make_request(Code::post, "/same", bodies[i]));
  ASSERT_TRUE(world.run([&] { return client.answers.size() + other.answers.size() == bodies.size(); }));
  std::multiset<std::string> got, wanted(bodies.begin(), bodies.end());
  for (const auto& each : world.clients)
    for (const Message& answer : each->answers) got.insert(text_of(answer));
  EXPECT_EQ(got, wanted);
}

TEST_F(Proxy, serves_a_target_longer_than_options_hold) {
  const std::string target = "/" + std::string(400, 'p') + "?q=" + std::string(400, 'q');
  Message request = make_request(Code::fetch, "/", target, 0);
  request.remove(coap::kUriPath);
  EXPECT_EQ(text_of(world.ask(client, request)), "hello");
  EXPECT_EQ(asked().request.method, "GET");
  EXPECT_EQ(asked().request.target, target);
  // 1034 bytes of Proxy-Uri go through as well, where they are allowed.
  EXPECT_EQ(
      world.ask(client, make_request(Code::get, "/" + std::string(255, 'a') + "/" + std::string(255, 'b')))
          .code,
      Code::content);
  EXPECT_EQ(asked().request.target.size(), 512u);
}

TEST_F(Proxy, asks_again_for_nothing_that_was_asked_once) {
  int sent = 0;
  world.drop = [&](bool to_proxy) { return !to_proxy && ++sent <= 2; };  // two answers are lost
  EXPECT_EQ(text_of(world.ask(client, make_request(Code::post, "/x", "one"))), "hello");
  EXPECT_EQ(world.requests.size(), 1u);
}

TEST_F(Proxy, says_how_long_an_answer_holds) {
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).uint_option(coap::kMaxAge), 0);
  response = plain(200, "x", {{"Cache-Control", "public, max-age=300"}, {"Age", "100"}});
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).uint_option(coap::kMaxAge), 200);
  response = plain(200, "x", {{"Cache-Control", "max-age=300, no-store"}});
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).uint_option(coap::kMaxAge), 0);
  response = plain(503, "x", {{"Retry-After", "7"}});
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).uint_option(coap::kMaxAge), 7);
}

TEST_F(Proxy, translates_entity_tags_of_any_length) {
  for (const std::string tag : {"\"v1\"", "\"a-tag-that-is-much-longer-than-eight-bytes\"", "W/\"weak\""}) {
    response = plain(200, "body", {{"ETag", tag}});
    const Message first = world.ask(client, make_request(Code::get, "/x"));
    ASSERT_TRUE(first.has(coap::kEtag));
    Message again = make_request(Code::get, "/x");
    again.add(coap::kEtag, first.find(coap::kEtag)->value);
    response = {304, {{"ETag", tag}}, {}};
    const Message valid = world.ask(client, again);
    EXPECT_EQ(header(asked(), "if-none-match"), tag);
    EXPECT_EQ(valid.code, Code::valid);
    EXPECT_EQ(valid.find(coap::kEtag)->value, first.find(coap::kEtag)->value);
    Message change = make_request(Code::put, "/x", "new");
    change.add(coap::kIfMatch, first.find(coap::kEtag)->value);
    response = plain(412, "no");
    EXPECT_EQ(world.ask(client, change).code, Code::precondition_failed);
    EXPECT_EQ(header(asked(), "if-match"), tag);
  }
}

TEST_F(Proxy, does_not_send_a_body_that_the_asker_has) {
  response = plain(200, std::string(3000, 'z'));
  const Message first = world.ask(client, make_request(Code::get, "/x"));
  Message again = make_request(Code::get, "/x");
  again.add(coap::kEtag, coap::entity_tag_of(first.payload));
  const Message valid = world.ask(client, again);
  EXPECT_EQ(valid.code, Code::valid);
  EXPECT_TRUE(valid.payload.empty());
}

TEST_F(Proxy, refuses_conditions_on_tags_that_it_never_gave) {
  Message request = make_request(Code::put, "/x", "b");
  request.add(coap::kIfMatch, Bytes(8, 1));
  EXPECT_EQ(world.ask(client, request).code, Code::precondition_failed);
  EXPECT_TRUE(world.requests.empty());
  Message created = make_request(Code::put, "/x", "b");
  created.add(coap::kIfNoneMatch, {});
  world.ask(client, created);
  EXPECT_EQ(header(asked(), "if-none-match"), "*");
}

TEST_F(Proxy, tells_where_a_new_resource_is) {
  response = plain(201, "", {{"Location", "/things/7?v=1"}});
  const Message answer = world.ask(client, make_request(Code::post, "/things"));
  EXPECT_EQ(answer.code, Code::created);
  EXPECT_EQ(*coap::location_of(answer), "/things/7?v=1");
  response = plain(201, "", {{"Location", "https://elsewhere.example/x"}});
  EXPECT_EQ(*coap::location_of(world.ask(client, make_request(Code::post, "/things"))), "");
}

TEST_F(Proxy, counts_hops) {
  Message last = make_request(Code::get, "/x");
  last.add_uint(coap::kHopLimit, 1);
  EXPECT_EQ(world.ask(client, last).code, Code::hop_limit_reached);
  EXPECT_TRUE(world.requests.empty());
  Message some = make_request(Code::get, "/x");
  some.add_uint(coap::kHopLimit, 5);
  world.ask(client, some);
  EXPECT_EQ(header(asked(), "hop-limit"), "4");
}

TEST_F(Proxy, asks_and_stays_silent_when_no_response_is_wanted) {
  Message request = make_request(Code::put, "/x", "typing");
  request.add_uint(coap::kNoResponse, 26);
  world.call(client, request);
  world.run([] { return false; }, 10s);
  EXPECT_EQ(world.requests.size(), 1u);
  EXPECT_TRUE(client.answers.empty());
}

TEST_F(Proxy, proxies_to_other_hosts_only_where_that_is_allowed) {
  Message denied = make_request(Code::get, "/");
  denied.add(coap::kProxyUri, as_bytes("http://secret.example/x"));
  EXPECT_EQ(world.ask(client, denied).code, Code::proxying_not_supported);
  EXPECT_TRUE(world.requests.empty());

  CoapToHttpOptions options = World::clear();
  options.mapping.forward = *AllowedHosts::parse({"ok.example", "*.dom.example:8080", "[2001:db8::1]:81"});
  World open(options);
  World::Client& other = open.add_client();
  open.serve = [](const CoapUpstreamRequest& asked) {
    return plain(200, asked.origin + asked.request.target);
  };
  const auto ask = [&](std::string_view uri) {
    Message request;
    request.code = Code::get;
    request.add(coap::kProxyUri, as_bytes(uri));
    const Message answer = open.ask(other, request);
    return answer.code == Code::content ? text_of(answer) : to_text(answer.code);
  };
  EXPECT_EQ(ask("http://OK.example/a?b"), "http://ok.example:80/a?b");
  EXPECT_EQ(ask("https://ok.example"), "https://ok.example:443/");
  EXPECT_EQ(ask("http://a.b.dom.example:8080/"), "http://a.b.dom.example:8080/");
  EXPECT_EQ(ask("http://[2001:db8::1]:81/"), "http://[2001:db8::1]:81/");
  for (const char* uri : {"http://ok.example:8080/", "http://dom.example:8080/", "http://xok.example/",
                          "http://ok.example.evil.example/", "coap://ok.example/"})
    EXPECT_EQ(ask(uri), "5.05") << uri;
  for (const char* uri :
       {"http://ok.example@evil.example/", "ok.example", "http:///x", "gopher://ok.example/"})
    EXPECT_EQ(ask(uri), "4.02") << uri;
  Message by_scheme = make_request(Code::get, "/p?q");
  by_scheme.add(coap::kProxyScheme, as_bytes("http"));
  by_scheme.add(coap::kUriHost, as_bytes("ok.example"));
  EXPECT_EQ(text_of(open.ask(other, by_scheme)), "http://ok.example:80/p?q");
}

TEST_F(Proxy, says_what_is_wrong_with_the_server) {
  const std::pair<UpstreamError, Code> rows[] = {{UpstreamError::unreachable, Code::bad_gateway},
                                                 {UpstreamError::timed_out, Code::gateway_timeout},
                                                 {UpstreamError::too_large, Code::bad_gateway},
                                                 {UpstreamError::malformed, Code::bad_gateway}};
  for (const auto& [error, code] : rows) {
    world.serve = [this,
                   fault = error](const CoapUpstreamRequest& request) -> std::optional<core::HttpResponse> {
      world.proxy.handle_failure(world.now, request.id, fault);
      return std::nullopt;
    };
    const Message answer = world.ask(client, make_request(Code::get, "/x"));
    EXPECT_EQ(answer.code, code);
    EXPECT_FALSE(answer.payload.empty());
  }
}

TEST_F(Proxy, gives_a_server_up_that_stalls) {
  world.serve = nullptr;
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).code, Code::gateway_timeout);
  EXPECT_FALSE(world.withdrawn.empty());
  EXPECT_EQ(world.proxy.waiting(), 0u);
}

TEST_F(Proxy, holds_no_more_requests_than_it_may) {
  world.serve = nullptr;
  const std::size_t limit = CoapToHttpOptions{}.waiting_per_peer;
  for (std::size_t i = 0; i < limit + 5; ++i) {
    Message request = make_request(Code::get, "/x");
    coap::CallOptions how;
    how.confirmable = false;
    ASSERT_TRUE(client.machine.call(world.now, kProxyAddress, request, how).ok());
  }
  world.run([&] { return client.answers.size() >= 5; }, 30s);
  EXPECT_EQ(world.proxy.waiting(), limit);
  for (const Message& answer : client.answers) EXPECT_EQ(answer.code, Code::service_unavailable);
}

TEST_F(Proxy, refuses_bodies_that_are_too_large_and_codings_that_it_did_not_ask_for) {
  response = plain(200, std::string((1 << 20) + 1, 'x'));
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).code, Code::bad_gateway);
  response = plain(200, "\x1f\x8b", {{"Content-Encoding", "gzip"}});
  EXPECT_EQ(world.ask(client, make_request(Code::get, "/x")).code, Code::bad_gateway);
}

TEST_F(Proxy, asks_for_oscore_when_clear_text_is_off) {
  World strict{CoapToHttpOptions{}};
  World::Client& other = strict.add_client();
  EXPECT_EQ(strict.ask(other, make_request(Code::get, "/x")).code, Code::unauthorized);
  EXPECT_TRUE(strict.requests.empty());
}

TEST_F(Proxy, tells_observers_what_changed) {
  world.call(client, make_request(Code::get, "/x"), true);
  ASSERT_TRUE(world.run([&] { return client.answers.size() == 1; }));
  world.run([] { return false; }, 100s);
  EXPECT_EQ(client.answers.size(), 1u);  // the same, so nothing is said
  EXPECT_GE(world.requests.size(), 4u);
  response = plain(200, "changed");
  ASSERT_TRUE(world.run([&] { return client.answers.size() == 2; }, 60s));
  EXPECT_EQ(text_of(client.answers[1]), "changed");
  response = plain(404, "gone");
  ASSERT_TRUE(world.run([&] { return client.answers.size() == 3; }, 60s));
  EXPECT_EQ(client.answers[2].code, Code::not_found);
  EXPECT_EQ(world.proxy.watched(), 0u);
}

TEST_F(Proxy, stops_polling_when_nobody_observes) {
  const coap::CallId call = world.call(client, make_request(Code::get, "/x"), true);
  ASSERT_TRUE(world.run([&] { return client.answers.size() == 1; }));
  client.machine.cancel(call);
  response = plain(200, "changed");
  world.run([&] { return world.proxy.watched() == 0; }, 200s);
  EXPECT_EQ(world.proxy.watched(), 0u);
  EXPECT_EQ(client.answers.size(), 1u);
}

TEST_F(Proxy, observers_of_a_server_that_is_gone_hear_of_it) {
  world.call(client, make_request(Code::get, "/x"), true);
  ASSERT_TRUE(world.run([&] { return client.answers.size() == 1; }));
  world.serve = [this](const CoapUpstreamRequest& request) -> std::optional<core::HttpResponse> {
    world.proxy.handle_failure(world.now, request.id, UpstreamError::unreachable);
    return std::nullopt;
  };
  ASSERT_TRUE(world.run([&] { return client.answers.size() == 2; }, 3600s));
  EXPECT_EQ(client.answers[1].code, Code::bad_gateway);
  EXPECT_EQ(world.proxy.watched(), 0u);
}

}  // namespace
}  // namespace ravine::gateway::coap_proxy
