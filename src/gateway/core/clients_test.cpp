// Several clients on one gateway: tokens, pushes and answers never mix, whoever restarts.
#include "gateway/core/core_world.h"

namespace ravine::gateway::core {
namespace {

constexpr char kWhoami[] = "/_matrix/client/v3/account/whoami";
constexpr char kSync[] = "/_matrix/client/v3/sync?timeout=0";

// Answers with the token that it sees, and lets each token have news of its own.
struct TokenServer {
  std::map<std::string, std::vector<std::string>> news;
  std::set<std::string> revoked;
  HttpResponse unknown() const { return json(401, R"({"errcode":"M_UNKNOWN_TOKEN","error":"gone"})"); }
  std::optional<HttpResponse> operator()(const HttpRequest& request) const {
    const std::string token(header_value(request.headers, "authorization"));
    if (token.empty() || revoked.contains(token)) return unknown();
    if (request.target.find("/sync") == std::string::npos) return json(200, "{\"who\":\"" + token + "\"}");
    const std::string since(query_value(request.target, "since"));
    const std::size_t at = since.empty() ? 0 : std::stoul(since.substr(1));
    if (since.empty()) return json(200, R"({"next_batch":"s0","rooms":{"initial":1}})");
    const auto own = news.find(token);
    const bool waits = !query_value(request.target, "timeout").empty();
    if (own == news.end() || at >= own->second.size())
      return waits ? std::nullopt : std::optional(json(200, "{\"next_batch\":\"" + since + "\"}"));
    return json(200, "{\"rooms\":{\"t\":\"" + own->second[at] + "\"},\"next_batch\":\"s" +
                         std::to_string(at + 1) + "\"}");
  }
};

struct Clients : ::testing::Test {
  Clients() {
    world.server = [this](const HttpRequest& request) { return server(request); };
  }
  HttpResponse as(std::string token, std::string target, std::string method = "GET") {
    world.token = std::move(token);
    return world.call(std::move(method), std::move(target));
  }
  HttpId poll(std::string token, std::string_view since) {
    world.token = std::move(token);
    return world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=" + std::string(since));
  }
  TokenServer server;
  World world;
};

TEST_F(Clients, two_on_one_gateway_get_their_own_answers_and_news) {
  EXPECT_EQ(body_of(as("alice", kWhoami)), R"({"who":"Bearer alice"})");
  EXPECT_EQ(body_of(as("bob", kWhoami)), R"({"who":"Bearer bob"})");
  as("alice", kSync);
  as("bob", kSync);
  const HttpId alice = poll("alice", "s0"), bob = poll("bob", "s0");
  server.news["Bearer bob"].push_back("for bob");
  server.news["Bearer alice"].push_back("for alice");
  world.run(100s);
  EXPECT_NE(body_of(world.answers[alice]).find("for alice"), std::string::npos);
  EXPECT_NE(body_of(world.answers[bob]).find("for bob"), std::string::npos);
}

TEST_F(Clients, a_wrong_token_gets_neither_answers_nor_pushes_of_another) {
  as("alice", kSync);
  server.revoked.insert("Bearer mallory");
  const HttpId wrong = poll("mallory", "s0");
  server.news["Bearer alice"].push_back("for alice");
  world.run(100s);
  EXPECT_EQ(world.answers[wrong].status, 401);
  world.token = "alice";
  world.server = [](const HttpRequest&) { return json(200, R"({"event_id":"$secret"})"); };
  EXPECT_EQ(body_of(world.call("PUT", kSend, "{}")), R"({"event_id":"$secret"})");
  world.server = [this](const HttpRequest& request) { return server(request); };
  world.token = "mallory";
  EXPECT_EQ(world.call("PUT", kSend, "{}").status, 401);  // the same transaction, another token
}

TEST_F(Clients, news_for_a_client_of_the_process_before_reach_nobody_else) {
  as("alice", kSync);
  world.down.down = true;
  server.news["Bearer alice"].push_back("for alice");
  world.run(100s);  // its push is under way for ever
  world.start_near();
  world.down.down = false;
  as("bob", kSync);  // takes alice's number
  const HttpId bob = poll("bob", "s0");
  server.news["Bearer alice"].push_back("more for alice");
  world.run(400s);
  EXPECT_EQ(body_of(world.answers[bob]), R"({"next_batch":"s0"})");
}

TEST_F(Clients, a_request_of_the_process_before_runs_with_its_own_token) {
  as("alice", kWhoami);
  as("alice", kWhoami);
  world.token = "alice";
  world.up.down = true;
  world.send("PUT", kSend, R"({"by":"alice"})");
  world.run(10s);
  world.start_near();
  world.up.down = false;
  as("bob", kWhoami);
  world.run(600s);
  std::size_t sent = 0;
  for (const HttpRequest& request : world.seen) {
    if (request.method != "PUT") continue;
    ++sent;
    EXPECT_EQ(header_value(request.headers, "authorization"), "Bearer alice");
  }
  EXPECT_EQ(sent, 1u);
}

TEST_F(Clients, a_token_that_dies_ends_its_long_poll) {
  as("alice", kSync);
  const HttpId alice = poll("alice", "s0");
  server.revoked.insert("Bearer alice");
  world.run(100s);
  EXPECT_EQ(world.answers[alice].status, 401);
  EXPECT_EQ(world.near->stats().streams, 0u);
  EXPECT_EQ(world.far->stats().streams, 0u);
}

TEST_F(Clients, a_logout_ends_the_polls_of_its_token_and_of_no_other) {
  as("alice", kSync);
  as("bob", kSync);
  const HttpId alice = poll("alice", "s0"), bob = poll("bob", "s0");
  EXPECT_EQ(as("alice", "/_matrix/client/v3/logout", "POST").status, 200);
  EXPECT_EQ(world.answers[alice].status, 401);
  EXPECT_FALSE(world.answers.contains(bob));
  EXPECT_EQ(world.far->stats().streams, 1u);
}

TEST_F(Clients, a_poll_that_hears_nothing_for_long_finds_out_that_the_far_side_was_restarted) {
  as("alice", kSync);
  world.start_far();
  server.news["Bearer alice"].push_back("for alice");
  for (int i = 0; i < 4; ++i) {
    const HttpId id = poll("alice", "s0");
    world.run(301s);
    if (body_of(world.answers[id]).find("for alice") != std::string::npos) return;
  }
  FAIL() << "the news never came";
}

TEST_F(Clients, more_tokens_than_there_is_room_for_still_work) {
  for (int i = 0; i < 300; ++i) {
    const std::string token = "t" + std::to_string(i);
    EXPECT_EQ(body_of(as(token, kWhoami)), "{\"who\":\"Bearer " + token + "\"}");
  }
  EXPECT_LE(world.near->stats().clients, 256u);
  EXPECT_LE(world.far->stats().clients, 256u);
  EXPECT_EQ(body_of(as("t0", kWhoami)), R"({"who":"Bearer t0"})");
  EXPECT_EQ(body_of(as("t299", kWhoami)), R"({"who":"Bearer t299"})");
}

TEST_F(Clients, one_that_left_takes_its_waiting_request_with_it) {
  as("alice", kWhoami);
  world.run(60s);
  const std::size_t seen = world.seen.size();
  world.up.down = true;
  std::vector<HttpId> asked;
  asked.reserve(40);
  for (int i = 0; i < 40; ++i) asked.push_back(world.send("GET", "/_matrix/client/v3/x" + std::to_string(i)));
  for (const HttpId id : asked) world.near->withdraw(world.now, id);
  EXPECT_EQ(world.near->link().waiting(), 0u);
  EXPECT_EQ(world.near->waiting(), 0u);
  world.up.down = false;
  world.run(2000s);
  EXPECT_LE(world.seen.size() - seen, 16u);  // those that had left
}

TEST_F(Clients, one_that_polls_from_where_an_empty_sync_left_it_waits_and_gets_its_news) {
  as("alice", kSync);
  world.start_near();  // knows no stream: the poll goes through, and its answer says nothing new
  EXPECT_EQ(body_of(as("alice", "/_matrix/client/v3/sync?timeout=0&since=s0")), R"({"next_batch":"s0"})");
  const HttpId alice = poll("alice", "s0");
  EXPECT_FALSE(world.answers.contains(alice));
  server.news["Bearer alice"].push_back("for alice");
  world.run(100s);
  EXPECT_NE(body_of(world.answers[alice]).find("for alice"), std::string::npos);
}

// The echo may overtake the answer of the send that it names.
TEST(Gateway, a_client_sees_its_own_transaction_ids_whatever_is_lost) {
  for (std::uint64_t seed = 1; seed <= seeds(50); ++seed) {
    SCOPED_TRACE(seed);
    World world({.delay = 300ms, .loss = 0.3}, {}, {}, {}, seed);
    std::vector<std::string> sent;
    world.server = [&](const HttpRequest& request) -> std::optional<HttpResponse> {
      if (request.method == "PUT") {
        sent.push_back(request.target.substr(request.target.rfind('/') + 1));
        return json(200, R"({"event_id":"$e"})");
      }
      const std::string since(query_value(request.target, "since"));
      if (since.empty()) return json(200, R"({"next_batch":"s0","rooms":{"initial":1}})");
      const std::size_t at = std::stoul(since.substr(1));
      if (at >= sent.size()) return std::nullopt;
      return json(200, "{\"next_batch\":\"s" + std::to_string(at + 1) + "\",\"transaction_id\":\"" +
                           sent[at] + "\"}");
    };
    world.call("GET", kSync);
    std::string since = "s0";
    for (int i = 0; i < 5; ++i) {
      const std::string name = "mine" + std::to_string(i);
      world.send("PUT", "/_matrix/client/v3/rooms/r/send/m.room.message/" + name, "{}");
      const std::string news =
          body_of(world.call("GET", "/_matrix/client/v3/sync?timeout=300000&since=" + since));
      since = json_text(news, "next_batch");
      const std::string_view seen = json_text(news, "transaction_id");
      if (!seen.empty()) {
        EXPECT_EQ(seen.substr(0, 4), "mine") << seen;
      }
    }
  }
}

// Echoes travel with answers: neither may be lost, doubled or mixed up with the other.
TEST(Gateway, sends_and_their_echoes_arrive_once_and_in_order_through_loss_and_restarts) {
  for (std::uint64_t seed = 1; seed <= seeds(60); ++seed) {
    SCOPED_TRACE(seed);
    const bool alias = seed % 2 == 0;
    World world({.delay = 300ms, .loss = 0.25, .duplication = 0.1, .jitter = 1s}, {.alias_events = alias},
                {.alias_events = alias}, {}, seed);
    SeededRandom chance(seed);
    SyncServer homeserver;
    std::map<std::string, std::set<std::string>> targets;
    world.server = [&](const HttpRequest& request) -> std::optional<HttpResponse> {
      if (request.method != "PUT") return homeserver(request);
      const std::string body(as_text(request.body));
      if (targets[body].insert(request.target).second) homeserver.news.push_back(body.substr(5, 2));
      world.wake_at = world.now + 20ms;
      return json(200, R"({"event_id":"$abcdefghijklmnopqrstuvwxyz"})");
    };
    std::string since;
    while (since.empty()) since = json_text(body_of(world.call("GET", kSync)), "next_batch");
    std::vector<std::string> heard;
    HttpId poll = 0;
    const auto listen = [&] {
      if (poll != 0 && !world.answers.contains(poll)) return;
      const std::string body = poll == 0 ? "" : body_of(world.answers[poll]);
      const std::string next(json_text(body, "next_batch"));
      if (!next.empty() && next != since) {
        heard.emplace_back(json_text(json_member(body, "rooms"), "t"));
        since = next;
      }
      poll = world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=" + since);
    };
    for (int i = 10; i < 25; ++i) {
      const std::string target = "/_matrix/client/v3/rooms/r/send/m.room.message/t" + std::to_string(i);
      const std::string body = "{\"n\":" + std::to_string(i) + "}";
      HttpId id = world.send("PUT", target, body);
      for (int tries = 0; tries < 400 && world.answers[id].status != 200; ++tries) {
        world.answers.erase(id);
        listen();
        world.run(Duration{static_cast<std::int64_t>(chance.unit() * 20e9)});
        if (tries < 3 && chance.unit() < 0.05) world.start_far();
        const bool killed = tries < 3 && chance.unit() < 0.05;
        if (killed) {
          world.start_near();
          poll = 0;
        }
        const bool refused = world.answers.contains(id) && world.answers[id].status != 200;
        if (killed || refused) id = world.send("PUT", target, body);
      }
      EXPECT_EQ(world.answers[id].status, 200) << body;
    }
    for (int i = 0; i < 60 && heard.size() < homeserver.news.size(); ++i) {
      listen();
      world.run(100s);
    }
    EXPECT_EQ(heard, homeserver.news);
    EXPECT_EQ(targets.size(), 15u);
    for (const auto& [body, names] : targets) EXPECT_EQ(names.size(), 1u) << body;
  }
}

TEST_F(Clients, counts_per_kind_of_route) {
  as("alice", kWhoami);
  as("alice", kSync);
  poll("alice", "s0");
  world.token = "alice";
  world.call("PUT", kSend, R"({"body":"Hello"})");
  world.call("PUT", kSend, R"({"body":"Hello"})");
  const GatewayStats near = world.near->stats(), far = world.far->stats();
  EXPECT_EQ(near.of(RouteKind::plain).exchanges, 1u);
  EXPECT_EQ(near.of(RouteKind::transaction).exchanges, 2u);
  EXPECT_EQ(near.of(RouteKind::transaction).local, 1u);
  EXPECT_EQ(near.of(RouteKind::sync).waiting, 1u);
  EXPECT_GT(near.of(RouteKind::transaction).request_bytes, near.of(RouteKind::transaction).link_bytes_out);
  EXPECT_GT(near.of(RouteKind::transaction).link_bytes_out, 0u);
  EXPECT_GT(near.of(RouteKind::transaction).link_bytes_in, 0u);
  EXPECT_GT(near.of(RouteKind::transaction).time.count(), 0);
  EXPECT_EQ(far.of(RouteKind::transaction).exchanges, 1u);
  EXPECT_EQ(far.of(RouteKind::sync).waiting, 1u);
  EXPECT_EQ(near.clients, 1u);
}

}  // namespace
}  // namespace ravine::gateway::core
