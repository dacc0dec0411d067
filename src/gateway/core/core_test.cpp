#include "gateway/core/core_world.h"

namespace ravine::gateway::core {
namespace {

TEST(Gateway, brings_every_status_and_body_back_exactly) {
  World world;
  for (const int status :
       {200, 201, 204, 301, 304, 400, 401, 403, 404, 405, 409, 413, 418, 429, 500, 502, 503, 504, 599}) {
    Bytes body(static_cast<std::size_t>(status) % 97);
    world.random.fill(body);
    if (status == 204 || status == 304) body.clear();
    world.server = [&](const HttpRequest&) {
      return HttpResponse{static_cast<std::uint16_t>(status), {{"Content-Type", "image/png; a=b"}}, body};
    };
    const HttpResponse response = world.call("GET", "/thing/" + std::to_string(status));
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(response.body, body);
    EXPECT_EQ(header_value(response.headers, "content-type"), "image/png; a=b");
  }
}

TEST(Gateway, keeps_json_byte_for_byte_with_its_key_order_numbers_and_secrets) {
  World world;
  const std::string odd =
      "{\"b\":1.50,\"a\": 1e3 "
      ",\"a\":2,\"type\":7,\"access_token\":\"s\\\"x\",\"password\":\"p\",\"password\":\"q\"}";
  world.server = [&](const HttpRequest& request) { return json(200, as_text(request.body)); };
  const HttpResponse response = world.call("POST", "/_matrix/client/v3/login", odd);
  EXPECT_EQ(body_of(response), odd);
  EXPECT_EQ(as_text(world.seen[0].body), odd);
}

TEST(Gateway, carries_targets_of_any_length_and_odd_first_segments) {
  World world;
  for (const std::string& target :
       {"/" + std::string(3000, 'a') + "?q=" + std::string(2000, 'b'), std::string("/a"),
        std::string("/AAAA"), std::string("/x?a=%2F+%20&b"), std::string("/v1/7/..%2f")}) {
    EXPECT_EQ(world.call("GET", target).status, 200);
    EXPECT_EQ(world.seen.back().target, target);
  }
}

TEST(Gateway, refuses_shapes_that_smuggle_requests) {
  World world;
  const auto status = [&](Headers headers, std::string method = "POST", std::string target = "/") {
    const HttpId id = world.next_id++;
    world.near->handle_request(world.now, id, {std::move(method), std::move(target), std::move(headers), {}});
    world.drain();
    return world.answers[id].status;
  };
  EXPECT_EQ(status({{"Content-Length", "1"}, {"Transfer-Encoding", "chunked"}}), 400);
  EXPECT_EQ(status({{"Content-Length", "1"}, {"Content-Length", "2"}}), 400);
  EXPECT_EQ(status({{"Content-Length", "+1"}}), 400);
  EXPECT_EQ(status({{"Transfer-Encoding", "chunked, identity"}}), 400);
  EXPECT_EQ(status({{"X", "a\r\nY: b"}}), 400);
  EXPECT_EQ(status({{"X Y", "a"}}), 400);
  EXPECT_EQ(status({{"Host", "a"}, {"Host", "b"}}), 400);
  EXPECT_EQ(status({}, "GE T"), 400);
  EXPECT_EQ(status({}, "GET", "http://other/"), 400);
  EXPECT_EQ(status({}, "GET", "/a b"), 400);
  EXPECT_EQ(status({}, "CONNECT", "/"), 405);
  EXPECT_EQ(status({}, "GET", "/" + std::string(9000, 'x')), 414);
  EXPECT_EQ(status({{"X", std::string(20000, 'x')}}), 431);
  EXPECT_TRUE(world.seen.empty());
  EXPECT_EQ(world.up.datagrams, 0u);
}

TEST(Gateway, refuses_a_body_over_the_limit_and_answers_preflights_itself) {
  World world({}, {.max_body = 100});
  EXPECT_EQ(world.call("POST", "/_matrix/client/v3/x", std::string(101, 'x')).status, 413);
  const HttpResponse preflight =
      world.call("OPTIONS", "/a", {}, {{"Origin", "https://app"}, {"Access-Control-Request-Method", "PUT"}});
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(header_value(preflight.headers, "access-control-allow-origin"), "*");
  EXPECT_EQ(world.up.datagrams, 0u);
}

TEST(Gateway, passes_headers_of_the_allow_list_only) {
  World world({}, {.more_headers = {"x-mine"}});
  world.call(
      "GET", "/", {},
      {{"X-Mine", "1"}, {"User-Agent", "curl"}, {"Range", "bytes=1-"}, {"Connection", "Range, close"}});
  const Headers& headers = world.seen[0].headers;
  EXPECT_TRUE(has_header(headers, "x-mine"));
  EXPECT_FALSE(has_header(headers, "user-agent"));
  EXPECT_FALSE(has_header(headers, "range"));
  EXPECT_FALSE(has_header(headers, "connection"));
}

TEST(Gateway, sends_a_token_once_and_never_lends_it) {
  World world;
  world.call("GET", "/_matrix/client/v3/account/whoami");
  const auto before = world.up.ip_bytes;
  world.call("GET", "/_matrix/client/v3/account/whoami");
  EXPECT_EQ(world.up.ip_bytes - before, 28 + 9 + 2 + 39u);  // nothing of the token
  EXPECT_EQ(header_value(world.seen.back().headers, "authorization"), "Bearer syt_alice");
  world.token.clear();
  world.call("GET", "/_matrix/client/v3/account/whoami");
  EXPECT_FALSE(has_header(world.seen.back().headers, "authorization"));
  world.token = "syt_bob";
  world.call("GET", "/_matrix/client/v3/account/whoami");
  EXPECT_EQ(header_value(world.seen.back().headers, "authorization"), "Bearer syt_bob");
  // The far side forgets: it is told again, and no client notices.
  world.start_far();
  EXPECT_EQ(world.call("GET", "/_matrix/client/v3/account/whoami").status, 200);
  EXPECT_EQ(header_value(world.seen.back().headers, "authorization"), "Bearer syt_bob");
  // The near side forgets: nobody gets the token of the process before.
  world.start_near();
  world.token.clear();
  world.call("GET", "/plain");
  EXPECT_FALSE(has_header(world.seen.back().headers, "authorization"));
}

TEST(Gateway, binds_the_token_that_a_login_brings) {
  World world;
  world.token.clear();
  world.server = [](const HttpRequest& request) {
    if (request.target.ends_with("/login"))
      return json(200, R"({"access_token":"syt_new","user_id":"@a:x"})");
    return json(200, "{}");
  };
  EXPECT_EQ(body_of(world.call("POST", "/_matrix/client/v3/login", "{\"password\":\"geheim\"}")),
            R"({"access_token":"syt_new","user_id":"@a:x"})");
  world.token = "syt_new";
  const auto before = world.up.ip_bytes;
  world.call("GET", "/_matrix/client/v3/account/whoami");
  EXPECT_LE(world.up.ip_bytes - before, 28 + 9 + 2 + 39u);
  EXPECT_EQ(header_value(world.seen.back().headers, "authorization"), "Bearer syt_new");
}

TEST(Gateway, answers_a_repeated_transaction_without_sending_it_again) {
  World world;
  world.server = [](const HttpRequest&) { return json(200, R"({"event_id":"$e1"})"); };
  EXPECT_EQ(body_of(world.call("PUT", kSend, "{}")), R"({"event_id":"$e1"})");
  EXPECT_EQ(body_of(world.call("PUT", kSend, "{}")), R"({"event_id":"$e1"})");
  EXPECT_EQ(world.seen.size(), 1u);
}

TEST(Gateway, gives_the_client_back_its_transaction_id_and_aliases_events) {
  World world({}, {.alias_events = true}, {.alias_events = true});
  std::string transaction;
  world.server = [&](const HttpRequest& request) {
    if (request.method == "PUT" && request.target.find("/send/") != std::string::npos) {
      transaction = request.target.substr(request.target.rfind('/') + 1);
      return json(200, R"({"event_id":"$realrealreal"})");
    }
    if (request.target.find("/sync") != std::string::npos)
      return json(200, "{\"next_batch\":\"s1\",\"rooms\":{\"e\":{\"unsigned\":{\"transaction_id\":\"" +
                           transaction + "\"}}}}");
    return json(200, "{}");
  };
  const std::string answer = body_of(world.call("PUT", kSend, R"({"body":"Hello"})"));
  const std::string alias(json_text(answer, "event_id"));
  EXPECT_NE(alias, "$realrealreal");
  EXPECT_EQ(body_of(world.call("GET", "/_matrix/client/v3/sync")),
            R"({"next_batch":"s1","rooms":{"e":{"unsigned":{"transaction_id":"m1"}}}})");
  world.call("GET", "/_matrix/client/v3/rooms/%21r/event/%24" + alias.substr(1));
  EXPECT_EQ(world.seen.back().target, "/_matrix/client/v3/rooms/%21r/event/%24realrealreal");
}

TEST(Gateway, a_servers_header_cannot_speak_for_the_other_gateway) {
  World world({}, {.alias_events = true}, {.alias_events = true});
  world.server = [](const HttpRequest& request) {
    HttpResponse response = json(200, R"({"event_id":"$e"})");
    response.headers.emplace_back("~", "12345");
    if (request.method == "GET") response.headers.emplace_back("X", "1");
    return response;
  };
  const std::string first = body_of(world.call("PUT", kSend, "{}"));
  EXPECT_EQ(first.find("12345"), std::string::npos) << first;
  EXPECT_FALSE(has_header(world.call("GET", "/_matrix/client/v3/account/whoami").headers, "~"));
}

TEST(Gateway, an_aliased_send_is_acknowledged_by_an_empty_answer) {
  World world({}, {.alias_events = true}, {.alias_events = true});
  world.server = [](const HttpRequest&) {
    return json(200, R"({"event_id":"$abcdefghijklmnopqrstuvwxyz"})");
  };
  world.call("PUT", kSend, "{}");
  EXPECT_EQ(world.down.ip_bytes, 37u);
}

TEST(Gateway, an_idle_minute_of_sync_costs_no_byte_and_news_come_by_push) {
  World world;
  SyncServer homeserver;
  world.server = [&](const HttpRequest& request) { return homeserver(request); };
  world.far_options.poll_timeout = 30s;
  EXPECT_EQ(json_text(body_of(world.call("GET", "/_matrix/client/v3/sync?timeout=0")), "next_batch"), "s0");
  world.run(20s);
  const auto before = world.up.ip_bytes + world.down.ip_bytes;
  for (int i = 0; i < 2; ++i) {
    const HttpResponse empty = world.call("GET", "/_matrix/client/v3/sync?timeout=30000&since=s0");
    EXPECT_EQ(body_of(empty), R"({"next_batch":"s0"})");
  }
  EXPECT_EQ(world.up.ip_bytes + world.down.ip_bytes, before);
  const HttpId poll = world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=s0");
  homeserver.news.push_back("hello");
  world.run(60s);  // the poll upstream that was under way times out, the next one has it
  ASSERT_TRUE(world.answers.contains(poll));
  EXPECT_EQ(body_of(world.answers[poll]), R"({"next_batch":"s1","rooms":{"t":"hello"}})");
  // The same poll again, as after a broken connection.
  EXPECT_EQ(body_of(world.call("GET", "/_matrix/client/v3/sync?timeout=0&since=s0")),
            R"({"next_batch":"s1","rooms":{"t":"hello"}})");
}

TEST(Gateway, typing_and_receipts_are_answered_at_once_and_superseded_ones_stay_here) {
  World world({.rate_bps = 100});
  world.call("GET", "/_matrix/client/v3/account/whoami");
  world.run(600s);
  const auto seen = world.seen.size();
  world.send("GET", "/_matrix/client/v3/first");
  for (int i = 0; i < 5; ++i) {
    const HttpId id = world.send("PUT", "/_matrix/client/v3/rooms/%21r/typing/%40a",
                                 "{\"typing\":true,\"n\":" + std::to_string(i) + "}");
    EXPECT_EQ(world.answers[id].status, 200);
  }
  world.run(600s);
  EXPECT_EQ(world.seen.size(), seen + 2);
  EXPECT_EQ(as_text(world.seen.back().body), R"({"typing":true,"n":4})");
}

TEST(Gateway, says_504_in_the_shape_that_the_client_speaks) {
  World world({}, {.gateway_timeout = 60s});
  world.up.down = true;
  const HttpResponse matrix = world.call("GET", "/_matrix/client/v3/x");
  EXPECT_EQ(matrix.status, 504);
  EXPECT_EQ(json_text(body_of(matrix), "errcode"), "M_UNKNOWN");
  EXPECT_EQ(world.call("GET", "/plain").status, 504);
}

TEST(Gateway, an_answer_that_takes_longer_than_the_timeout_arrives_while_it_makes_progress) {
  World world({.rate_bps = 100, .delay = 2s});
  Bytes body(20000);
  world.random.fill(body);
  world.server = [&](const HttpRequest& request) {
    return HttpResponse{200, {{"Content-Type", "image/png"}}, request.method == "GET" ? body : Bytes{1}};
  };
  Instant begin = world.now;
  const HttpResponse down = world.call("GET", "/picture");
  EXPECT_EQ(down.status, 200);
  EXPECT_EQ(down.body, body);
  EXPECT_GT(world.now - begin, Duration{1600s});
  EXPECT_LT(world.now - begin, Duration{1900s});
  EXPECT_EQ(world.near->link().stats().copies_out + world.far->link().stats().copies_out, 0u);
  begin = world.now;
  EXPECT_EQ(world.call("POST", "/picture", std::string(20000, 'x')).status, 200);
  EXPECT_GT(world.now - begin, Duration{1600s});
}

TEST(Gateway, an_answer_that_stops_half_way_is_given_up) {
  World world({.rate_bps = 100, .delay = 2s}, {.gateway_timeout = 300s});
  world.server = [&](const HttpRequest&) {
    return HttpResponse{200, {{"Content-Type", "image/png"}}, Bytes(20000, 1)};
  };
  const Instant begin = world.now;
  const HttpId id = world.send("GET", "/picture");
  world.run(800s);
  EXPECT_FALSE(world.answers.contains(id));
  world.up.down = world.down.down = true;
  while (!world.answers.contains(id) && world.step()) {
  }
  EXPECT_EQ(world.answers[id].status, 504);
  EXPECT_LT(world.now - begin, Duration{1300s});
}

TEST(Gateway, says_502_and_504_for_the_servers_failures) {
  World world;
  world.server = [](const HttpRequest&) { return std::optional<HttpResponse>(); };
  EXPECT_EQ(world.call("GET", "/slow").status, 504);
}

TEST(Gateway, sends_run_once_through_loss_and_restarts_when_clients_ask_again) {
  for (std::uint64_t seed = 1; seed <= seeds(100); ++seed) {
    SCOPED_TRACE(seed);
    World world({.delay = 300ms, .loss = 0.3, .duplication = 0.1, .jitter = 1s}, {}, {}, {}, seed);
    SeededRandom chance(seed);
    std::map<std::string, std::set<std::string>> transactions;  // body → transaction IDs at the server
    world.server = [&](const HttpRequest& request) {
      transactions[std::string(as_text(request.body))].insert(request.target);
      return json(200, R"({"event_id":"$e"})");
    };
    for (int i = 0; i < 20; ++i) {
      const std::string target = "/_matrix/client/v3/rooms/r/send/m.room.message/t" + std::to_string(i);
      const std::string body = "{\"n\":" + std::to_string(i) + "}";
      HttpId id = world.send("PUT", target, body);
      for (int tries = 0; tries < 400 && !(world.answers.contains(id) && world.answers[id].status == 200);
           ++tries) {
        world.run(Duration{static_cast<std::int64_t>(chance.unit() * 30e9)});
        if (tries < 3 && chance.unit() < 0.15) world.start_far();
        if (tries < 3 && chance.unit() < 0.15) {
          world.start_near();
          id = world.send("PUT", target, body);
        } else if (world.answers.contains(id) && world.answers[id].status != 200) {
          id = world.send("PUT", target, body);
        }
      }
      EXPECT_EQ(world.answers[id].status, 200) << body;
    }
    EXPECT_EQ(transactions.size(), 20u);
    for (const auto& [body, ids] : transactions) EXPECT_EQ(ids.size(), 1u) << body;
  }
}

TEST(HostTable, finds_the_gateway_of_a_host_or_the_default) {
  HostTable table;
  EXPECT_FALSE(table.find("a.example"));
  ASSERT_TRUE(table.add("A.example:8448", 1).ok());
  table.set_default(0);
  EXPECT_EQ(table.find("a.EXAMPLE"), 1u);
  EXPECT_EQ(table.find("b.example:80"), 0u);
  EXPECT_FALSE(table.add("a.example", 2).ok());
}

}  // namespace
}  // namespace ravine::gateway::core
