// A peer that dies and comes back: requests work again at once, whatever either side still remembers.
#include "services/two_nodes.h"

namespace ravine::services::test {
namespace {

using std::chrono::steady_clock;

class Restart : public TwoNodes {
 protected:
  Restart() {
    listener_ = Program::tcp();
    listener_.listen();
    expose(80, listener_);
    Program client = Program::tcp();
    EXPECT_EQ(ask_socks(client, "far.fuse", 80), 0);
  }
  // Dies without a word and starts again under the same identity and port. With its static secret it can tell
  // the other side of lost sessions (RFC 9000 §10.3), without it cannot.
  void restart(std::unique_ptr<TestNode>& node, const session::NetworkOptions& options, bool with_secret) {
    on_loop([&] {
      const std::uint16_t port = node->driver.port();
      const Bytes secret = with_secret ? node->secret : Bytes{};
      node->vanishes = true;
      node.reset();
      node = std::make_unique<TestNode>(loop_, options, prefix_, port, secret);
    });
  }
  // Time until a request through the proxy was answered; fails the test unless it succeeds.
  std::chrono::milliseconds request() {
    const auto before = steady_clock::now();
    Program client = Program::tcp();
    EXPECT_EQ(ask_socks(client, "far.fuse", 80), 0);
    return std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - before);
  }
  std::size_t sessions(TestNode& node) {
    std::size_t count = 0;
    on_loop([&] { count = node.driver.endpoint().sessions().size(); });
    return count;
  }
  Program listener_;
};

TEST_F(Restart, is_told_by_a_stateless_reset) {
  restart(far_, far_options_, true);
  expose(80, listener_);
  const auto took = request();
  RecordProperty("milliseconds", static_cast<int>(took.count()));
  EXPECT_LT(took, std::chrono::seconds(5));
  on_loop([&] {
    EXPECT_GE(far_->driver.endpoint().counters().resets_sent, 1u);
    EXPECT_EQ(near_->connector.counters().redials, 0u) << "the reset was faster than doubt";
  });
}

TEST_F(Restart, is_noticed_by_silence_when_no_reset_comes) {
  restart(far_, far_options_, false);
  expose(80, listener_);
  const auto took = request();
  RecordProperty("milliseconds", static_cast<int>(took.count()));
  EXPECT_LT(took, std::chrono::seconds(5));
  on_loop([&] { EXPECT_EQ(near_->connector.counters().redials, 1u); });
  EXPECT_TRUE(wait_until([&] { return near_->driver.endpoint().sessions().size() == 1; }))
      << "the silent session goes when the fresh one is there";
}

// Of two live sessions the one that the smaller ID dialled stays. What a dead peer left behind must not win
// by that rule: both sides have their turn here, so one of them is the smaller.
TEST_F(Restart, lets_a_fresh_session_of_the_peer_win_over_its_dead_one) {
  const auto connects = [&](TestNode& from, const char* name) {
    std::promise<Result<session::SessionId>> answer;
    on_loop([&] {
      from.connector.connect(name, [&](Result<session::SessionId> id) { answer.set_value(std::move(id)); });
    });
    const auto id = answer.get_future().get();
    EXPECT_TRUE(id.ok()) << id.error().message;
    return id.ok() ? *id : session::SessionId{};
  };
  // near dialled the session that far forgets.
  restart(far_, far_options_, false);
  expose(80, listener_);
  on_loop([&] { far_->knows("near", near_->driver.port()); });
  connects(*far_, "near.fuse");
  request();
  EXPECT_TRUE(wait_until([&] { return near_->driver.endpoint().sessions().size() == 1; }));
  EXPECT_EQ(sessions(*far_), 1u);
  // far dialled the session that near forgets.
  on_loop([&] { proxy_.reset(); });
  restart(near_, near_options_, false);
  on_loop([&] { near_->knows("far", far_->driver.port()); });
  const session::SessionId fresh = connects(*near_, "far.fuse");
  EXPECT_TRUE(wait_until([&] { return far_->driver.endpoint().sessions().size() == 1; }));
  on_loop([&] {
    const session::Session* session = near_->driver.endpoint().find(fresh);
    EXPECT_TRUE(session != nullptr && session->is_established() && !session->is_closing());
  });
}

TEST_F(Restart, a_peer_that_stays_away_is_offline_within_three_seconds) {
  on_loop([&] {
    far_->vanishes = true;
    far_.reset();
  });
  for (int i = 0; i < 2; ++i) {
    const auto before = steady_clock::now();
    Program client = Program::tcp();
    EXPECT_EQ(ask_socks(client, "far.fuse", 80), 4);
    EXPECT_LT(steady_clock::now() - before, std::chrono::seconds(5));
  }
}

TEST(Silence, gives_a_slow_link_its_time_and_an_ordinary_one_three_seconds) {
  EXPECT_LT(silence_limit(Duration{0}), 3s);
  EXPECT_LT(silence_limit(500ms), 3s);
  EXPECT_LT(silence_doubt(50ms), 500ms);
  EXPECT_GE(silence_limit(10s), 20s) << "the acknowledgement alone takes 10";
  EXPECT_GE(silence_doubt(10s), 15s);
  EXPECT_LT(silence_doubt(10s), silence_limit(10s));
}

}  // namespace
}  // namespace ravine::services::test
