// What messages cost beside their coded texts, and how long they take, in virtual time. Every text is coded
// into a given number of bytes, so that the figures are of frames, records and timers alone.
#include "gateway/core/core_world.h"

namespace ravine::gateway::core {
namespace {

// Texts that were coded, by number: both ends of a test read them.
class FixedCoder final : public coder::Coder {
 public:
  FixedCoder(std::shared_ptr<std::vector<Bytes>> texts, std::size_t size)
      : texts_(std::move(texts)), size_(size) {}
  Bytes encode(ByteView text, const coder::MessageContext&) override {
    const auto known = std::find(texts_->begin(), texts_->end(), to_bytes(text));
    const auto index = static_cast<std::size_t>(known - texts_->begin());
    if (known == texts_->end()) texts_->push_back(to_bytes(text));
    Bytes coded(size_);
    coded[0] = static_cast<std::uint8_t>(index >> 8);
    coded[1] = static_cast<std::uint8_t>(index);
    return coded;
  }
  std::optional<Bytes> decode(ByteView coded, const coder::MessageContext&, std::size_t) override {
    if (coded.size() < 2) return std::nullopt;
    const std::size_t index = std::size_t{coded[0]} << 8 | coded[1];
    return index < texts_->size() ? std::optional((*texts_)[index]) : std::nullopt;
  }
  void commit(ByteView, const coder::MessageContext&) override {}
  void reset() override {}
  std::unique_ptr<coder::Coder> clone() const override { return std::make_unique<FixedCoder>(*this); }
  coder::CoderId id() const override { return {'f', 'i', 'x'}; }
  std::string_view name() const override { return "fixed"; }

 private:
  std::shared_ptr<std::vector<Bytes>> texts_;
  std::size_t size_;
};

struct Setup {
  std::size_t coded = 4;
  WireOptions wire{.delay = 2s};
  std::uint32_t overhead = 28;
  bool alias = true;
  std::uint64_t seed = 1;
};

// An established room: a token is known, an event was sent.
struct Established : World {
  explicit Established(Setup setup)
      : World(wire_of(setup), {.alias_events = setup.alias}, {.alias_events = setup.alias},
              {.overhead_bytes = setup.overhead}, setup.seed, fixed(setup.coded)) {
    server = [this](const HttpRequest& request) -> std::optional<HttpResponse> {
      if (request.target.find("/sync") != std::string::npos) return homeserver(request);
      ++executions[request.target];
      if (request.target.find("/send/") != std::string::npos)
        return json(200, R"({"event_id":"$abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"})");
      return json(200, "{}");
    };
    call("GET", "/_matrix/client/v3/account/whoami");
    call("PUT", send_target(), R"({"body":"first"})");
    run(600s);
    zero();
  }
  static WireOptions wire_of(const Setup& setup) {
    WireOptions wire = setup.wire;
    wire.overhead_bytes = setup.overhead;
    return wire;
  }
  static std::function<link::Coders()> fixed(std::size_t size) {
    auto texts = std::make_shared<std::vector<Bytes>>();
    return [texts, size] {
      link::Coders coders;
      coders.push_back(std::make_unique<FixedCoder>(texts, size));
      return coders;
    };
  }
  std::string send_target() {
    return "/_matrix/client/v3/rooms/%21r/send/m.room.message/m" + std::to_string(++sends);
  }
  void zero() { up.ip_bytes = down.ip_bytes = up.datagrams = down.datagrams = 0; }
  SyncServer homeserver;
  std::map<std::string, int> executions;
  int sends = 0;
};

TEST(Budget, hello_and_its_acknowledgement_on_udp_with_aliases) {
  Established world({});
  world.call("PUT", world.send_target(), R"({"msgtype":"m.text","body":"Hello"})");
  world.run(600s);
  EXPECT_EQ(world.up.ip_bytes, 42u);  // 28 IPv4 and UDP, 1 header, 8 tag, 1 state, 4 coded
  EXPECT_EQ(world.down.ip_bytes, 37u);
}

// From two ends that have never spoken: 64 coded bytes a message, secrets as they are.
TEST(Budget, a_login_and_the_first_message_cost_700_bytes) {
  World world({.delay = 2s}, {.alias_events = true}, {.alias_events = true}, {}, 1, Established::fixed(64));
  world.token.clear();
  world.server = [](const HttpRequest& request) {
    return json(
        200, request.target.ends_with("/login")
                 ? R"({"access_token":"syt_bG9uZ2VyIHRoYW4gbW9zdA_abcdefghijklmnop_123456","user_id":"@a:x"})"
                 : R"({"event_id":"$abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"})");
  };
  EXPECT_EQ(world.call("POST", "/_matrix/client/v3/login", R"({"password":"correct horse battery"})").status,
            200);
  world.token = "syt_bG9uZ2VyIHRoYW4gbW9zdA_abcdefghijklmnop_123456";
  EXPECT_EQ(world.call("PUT", kSend, R"({"msgtype":"m.text","body":"Hello"})").status, 200);
  world.run(600s);
  EXPECT_LE(world.up.ip_bytes + world.down.ip_bytes, 700u);
  EXPECT_EQ(header_value(world.seen.back().headers, "authorization"), "Bearer " + world.token);
}

TEST(Budget, hello_and_its_acknowledgement_on_a_pipe) {
  Established world({.overhead = 1});
  world.call("PUT", world.send_target(), R"({"msgtype":"m.text","body":"Hello"})");
  world.run(600s);
  EXPECT_EQ(world.up.ip_bytes, 15u);
  EXPECT_EQ(world.down.ip_bytes, 10u);
}

TEST(Budget, without_aliases_the_answer_is_the_event_id_and_three_bytes) {
  Established world({.coded = 32, .alias = false});
  world.call("PUT", world.send_target(), R"({"msgtype":"m.text","body":"Hello"})");
  world.run(600s);
  EXPECT_LE(world.down.ip_bytes, 28u + 9 + 2 + 32);
}

TEST(Budget, typing_and_receipts_cost_one_datagram) {
  Established world({});
  world.call("PUT", "/_matrix/client/v3/rooms/%21r/typing/%40a", R"({"typing":true})");
  world.call("POST", "/_matrix/client/v3/rooms/%21r/receipt/m.read/%24e", "{}");
  world.run(600s);
  EXPECT_EQ(world.up.datagrams, 2u);
  EXPECT_EQ(world.down.datagrams, 0u);
  EXPECT_LE(world.up.ip_bytes, 2 * (28u + 9 + 5 + 4));
}

TEST(Budget, an_idle_hour_of_sync_costs_no_more_than_its_checks) {
  Established world({});
  world.call("GET", "/_matrix/client/v3/sync?timeout=0");
  world.run(60s);
  world.zero();
  const Instant begin = world.now;
  std::uint64_t first_quarter = 0;
  while (world.now < begin + 3600s) {
    world.call("GET", "/_matrix/client/v3/sync?timeout=30000&since=s0");
    if (world.now < begin + 800s) first_quarter = world.up.ip_bytes + world.down.ip_bytes;
  }
  EXPECT_EQ(first_quarter, 0u);
  EXPECT_LE(world.up.ip_bytes + world.down.ip_bytes, 4 * 2 * (28u + 9 + 3 + 4));
}

TEST(Budget, an_acknowledgement_takes_the_next_request_along) {
  Established world({.wire = {.rate_bps = 1000, .delay = 500ms}});
  world.call("GET", "/_matrix/client/v3/sync?timeout=0");
  const HttpId poll = world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=s0");
  world.run(60s);
  const auto acks = world.near->link().stats().acks_out;
  world.homeserver.news.push_back("hello");
  while (!world.answers.contains(poll) && world.step()) {
  }
  world.call("PUT", world.send_target(), R"({"body":"answer"})");
  world.run(300s);
  EXPECT_EQ(world.near->link().stats().acks_out, acks);
  EXPECT_EQ(world.far->link().stats().copies_out, 0u);
}

TEST(Budget, an_acknowledgement_leaves_alone_when_nothing_else_does) {
  Established world({.wire = {.rate_bps = 1000, .delay = 500ms}});
  world.call("GET", "/_matrix/client/v3/sync?timeout=0");
  world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=s0");
  world.run(60s);
  world.zero();
  world.homeserver.news.push_back("hello");
  world.run(280s);
  EXPECT_EQ(world.up.ip_bytes, 37u);
  EXPECT_EQ(world.down.datagrams, 1u);
}

// A room whose server echoes what is sent there, 20 ms later.
struct Echoing : Established {
  explicit Echoing(Setup setup) : Established(setup) {
    server = [this](const HttpRequest& request) -> std::optional<HttpResponse> {
      if (request.target.find("/sync") != std::string::npos) return homeserver(request);
      if (request.target.find("/send/") == std::string::npos) return json(200, "{}");
      homeserver.news.push_back("echo" + std::string(echo_size, 'x'));
      wake_at = now + 20ms;
      return json(200, R"({"event_id":"$abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"})");
    };
    call("GET", "/_matrix/client/v3/sync?timeout=0");
    poll = send("GET", "/_matrix/client/v3/sync?timeout=300000&since=s0");
    run(20s);
    zero();
    acks = near->link().stats().acks_out;
  }
  std::size_t echo_size = 10;
  HttpId poll = 0;
  std::uint64_t acks = 0;
};

TEST(Budget, an_echo_shares_the_datagram_of_its_sends_answer_and_needs_no_acknowledgement) {
  for (const bool alias : {true, false}) {
    Echoing world({.coded = 30, .wire = {.rate_bps = 100, .delay = 2s}, .alias = alias});
    EXPECT_EQ(world.call("PUT", world.send_target(), R"({"body":"Hello"})").status, 200);
    world.run(100s);
    EXPECT_TRUE(world.answers.contains(world.poll));
    EXPECT_EQ(world.up.datagrams, 1u);
    EXPECT_EQ(world.down.datagrams, 1u);
    EXPECT_LE(world.down.ip_bytes, 28u + 9 + 2 + 30 + (alias ? 0 : 31));
    EXPECT_EQ(world.near->link().stats().acks_out, world.acks);
    EXPECT_EQ(world.near->stats().pushes, 1u);
  }
}

TEST(Budget, an_echo_that_would_delay_the_answer_for_long_comes_behind_it) {
  Echoing world({.coded = 170, .wire = {.rate_bps = 100, .delay = 2s}});
  const Instant begin = world.now;
  world.call("PUT", world.send_target(), R"({"body":"Hello"})");
  EXPECT_LE(world.now - begin, Duration{25s});  // up 16.7 s, down 3 s, twice 2 s, half a second here
  world.run(100s);
  EXPECT_EQ(world.down.datagrams, 2u);
  EXPECT_TRUE(world.answers.contains(world.poll));
}

TEST(Budget, echoes_with_answers_cause_no_repetitions_on_a_slow_link_without_loss) {
  for (const std::size_t coded : {14u, 60u, 110u, 140u}) {
    Echoing world({.coded = coded, .wire = {.rate_bps = 100, .delay = 2s}});
    std::string since = "s0";
    for (int i = 0; i < 30; ++i) {
      world.send("PUT", world.send_target(), "{\"n\":" + std::to_string(i) + "}");
      if (i % 4 == 0) world.send("POST", "/_matrix/client/v3/rooms/%21r/receipt/m.read/%24e", "{}");
      world.run(Duration{(5 + i % 7 * 9) * 1s});
      if (!world.answers.contains(world.poll)) continue;
      since = json_text(body_of(world.answers[world.poll]), "next_batch");
      world.poll = world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=" + since);
    }
    world.run(3000s);
    EXPECT_EQ(world.near->link().stats().copies_out, 0u) << coded;
    EXPECT_EQ(world.far->link().stats().copies_out, 0u) << coded;
    EXPECT_EQ(world.near->stats().pushes, 30u) << coded;
  }
}

TEST(Budget, typing_and_receipts_leave_with_what_is_sent_next) {
  Established world({.wire = {.rate_bps = 100, .delay = 2s}});
  world.send("PUT", "/_matrix/client/v3/rooms/%21r/typing/%40a", R"({"typing":true})");
  world.send("POST", "/_matrix/client/v3/rooms/%21r/receipt/m.read/%24e", "{}");
  world.run(500ms);
  world.send("PUT", world.send_target(), R"({"body":"Hello"})");
  world.run(600s);
  EXPECT_EQ(world.up.datagrams, 1u);
}

TEST(Budget, receipts_that_supersede_each_other_leave_in_time) {
  Established world({.wire = {.rate_bps = 100, .delay = 2s}});
  for (int i = 0; i < 30; ++i) {
    world.send("POST", "/_matrix/client/v3/rooms/%21r/receipt/m.read/%24e" + std::to_string(i), "{}");
    world.run(1s);
  }
  EXPECT_GE(world.up.datagrams, 2u);
  EXPECT_LE(world.up.datagrams, 4u);
}

TEST(Budget, quiet_requests_do_not_wait_on_a_fast_link) {
  Established world({.wire = {.rate_bps = 64000, .delay = 10ms}});
  world.send("POST", "/_matrix/client/v3/rooms/%21r/receipt/m.read/%24e", "{}");
  EXPECT_EQ(world.up.datagrams, 1u);
}

TEST(Budget, repeats_nothing_on_a_slow_link_without_loss) {
  Established world({.coded = 14, .wire = {.rate_bps = 100, .delay = 2s}});
  world.call("GET", "/_matrix/client/v3/sync?timeout=0");
  HttpId poll = world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=s0");
  for (int i = 0; i < 30; ++i) {
    world.send("PUT", world.send_target(), "{\"n\":" + std::to_string(i) + "}");
    world.send("PUT", "/_matrix/client/v3/rooms/%21r/typing/%40a", "{\"n\":" + std::to_string(i) + "}");
    if (i % 3 == 0) world.homeserver.news.push_back(std::to_string(i));
    world.run(Duration{(5 + i % 7 * 4) * 1s});
    if (!world.answers.contains(poll)) continue;
    const std::string since(json_text(body_of(world.answers[poll]), "next_batch"));
    poll = world.send("GET", "/_matrix/client/v3/sync?timeout=300000&since=" + since);
  }
  world.run(3000s);
  EXPECT_EQ(world.near->link().stats().copies_out, 0u);
  EXPECT_EQ(world.far->link().stats().copies_out, 0u);
  EXPECT_EQ(world.near->stats().of(RouteKind::transaction).exchanges, 31u);
}

TEST(Budget, a_hundred_sends_at_100_bit_per_second_with_loss_run_once_and_soon) {
  Established world({.coded = 14, .wire = {.rate_bps = 100, .delay = 2s, .loss = 0.1}, .seed = 7});
  std::vector<Duration> times;
  for (int i = 0; i < 100; ++i) {
    const Instant sent = world.now;
    EXPECT_EQ(world.call("PUT", world.send_target(), "{\"n\":" + std::to_string(i) + "}").status, 200);
    times.push_back(world.now - sent);
    world.run(20s);
  }
  std::sort(times.begin(), times.end());
  EXPECT_LE(times[50], Duration{12s});
  RecordProperty("median_ms", static_cast<int>(times[50] / 1ms));
  RecordProperty("ninetieth_ms", static_cast<int>(times[90] / 1ms));
  int sends = 0;
  for (const auto& [target, count] : world.executions) {
    EXPECT_EQ(count, 1) << target;
    sends += target.find("/send/") != std::string::npos;
  }
  EXPECT_EQ(sends, 101);
}

// Either side is killed and started again while a send is under way; clients ask until they are answered.
TEST(Budget, sends_at_100_bit_per_second_with_30_percent_loss_run_once_whoever_is_killed) {
  for (const bool kill_near : {false, true}) {
    SCOPED_TRACE(kill_near);
    Established world({.coded = 14, .wire = {.rate_bps = 100, .delay = 2s, .loss = 0.3}, .seed = 5});
    std::map<std::string, std::set<std::string>> targets;  // by body: what the server takes for one event
    world.server = [&](const HttpRequest& request) {
      targets[std::string(as_text(request.body))].insert(request.target);
      return json(200, R"({"event_id":"$abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"})");
    };
    int killed_under_way = 0;
    for (int i = 0; i < 40; ++i) {
      const std::string target = world.send_target(), body = "{\"n\":" + std::to_string(i) + "}";
      HttpId id = world.send("PUT", target, body);
      world.run(Duration{i % 13 * 1s});
      killed_under_way += world.answers.contains(id) ? 0 : 1;
      if (kill_near) {
        world.start_near();
        id = world.send("PUT", target, body);
      } else {
        world.start_far();
      }
      for (int tries = 0; tries < 20 && world.answers[id].status != 200; ++tries) {
        world.answers.erase(id);
        if (tries > 0) id = world.send("PUT", target, body);
        while (!world.answers.contains(id) && world.step()) {
        }
      }
      EXPECT_EQ(world.answers[id].status, 200) << body;
    }
    EXPECT_GE(killed_under_way, 20);
    EXPECT_EQ(targets.size(), 40u);
    for (const auto& [body, names] : targets) EXPECT_EQ(names.size(), 1u) << body;
  }
}

TEST(Budget, what_waited_through_an_outage_leaves_in_few_datagrams) {
  Established world({.wire = {.rate_bps = 100, .delay = 2s}});
  world.up.down = world.down.down = true;
  world.run(10s);
  for (int i = 0; i < 40; ++i) world.send("PUT", world.send_target(), "{\"n\":" + std::to_string(i) + "}");
  world.up.down = world.down.down = false;
  world.zero();
  world.run(3000s);
  EXPECT_LE(world.up.datagrams, 5u);
  EXPECT_EQ(world.near->stats().of(RouteKind::transaction).exchanges, 41u);
}

}  // namespace
}  // namespace ravine::gateway::core
