// Gateways that are killed and started again on what is on their disks.
#include "services/gateway/test_gateways.h"

namespace ravine::services::test {
namespace {

class Restarts : public Gateways {
 protected:
  // Requests that the server has, of those that are not polls.
  std::size_t posts() const {
    return static_cast<std::size_t>(
        std::count_if(upstream_->requests.begin(), upstream_->requests.end(),
                      [](const HttpRequest& request) { return request.method == "POST"; }));
  }
};

TEST_F(Restarts, a_far_side_that_was_killed_answers_again) {
  start_both();
  EXPECT_EQ(ask(send_request("1")).status, 200);
  far_.reset();
  start_far();
  EXPECT_EQ(ask(send_request("2")).status, 200);
  EXPECT_EQ(transactions().size(), 2u);
  EXPECT_EQ(near_->status().at("pairings").at(0).at("link").at("handshakes"), 0);
}

TEST_F(Restarts, a_request_that_left_before_the_far_side_came_back_is_answered) {
  start_both();
  EXPECT_EQ(get("/before").status, 200);
  far_.reset();
  const auto waiting = begin(send_request("1"));
  const std::uint64_t sent = 2;
  ASSERT_TRUE(run_until(loop_, [&] {
    return near_->status()
               .at("pairings")
               .at(0)
               .at("transport")
               .at("datagrams_out")
               .to_number<std::uint64_t>() >= sent;
  }));
  start_far();
  EXPECT_EQ(end(waiting).status, 200);
}

TEST_F(Restarts, a_near_side_that_was_killed_goes_on) {
  start_both();
  EXPECT_EQ(ask(send_request("1")).status, 200);
  near_.reset();
  start_near();
  EXPECT_EQ(ask(send_request("2")).status, 200);
  EXPECT_EQ(transactions().size(), 2u);
}

TEST_F(Restarts, a_near_side_from_another_port_goes_on) {
  start_both();
  EXPECT_EQ(get("/1").status, 200);
  near_.reset();
  near_address_ = kAnyPort;
  start_near();
  EXPECT_EQ(get("/2").status, 200);
}

TEST_F(Restarts, a_message_that_the_client_sends_again_after_a_near_restart_is_one_message) {
  answer_ = [](const HttpRequest&) { return std::nullopt; };
  start_both();
  const auto lost = begin(send_request("1"));
  ASSERT_TRUE(run_until(loop_, [&] { return upstream_->requests.size() == 1; }));
  near_.reset();
  start_near();
  const auto again = begin(send_request("1"));
  ASSERT_TRUE(run_until(loop_, [&] { return near_->status().at("http_requests") == 1; }));
  for (const auto id : upstream_->stalled) upstream_->http->respond(id, json(200, R"({"event_id":"$one"})"));
  EXPECT_EQ(text_of(end(again).body), R"({"event_id":"$one"})");
  EXPECT_EQ(transactions().size(), 1u);
}

TEST_F(Restarts, a_message_under_way_at_the_server_when_the_far_side_is_killed_is_one_message) {
  answer_ = [](const HttpRequest&) { return std::nullopt; };
  start_both();
  const auto waiting = begin(send_request("1"));
  ASSERT_TRUE(run_until(loop_, [&] { return upstream_->requests.size() == 1; }));
  far_.reset();
  answer_ = [](const HttpRequest&) { return json(200, R"({"event_id":"$one"})"); };
  start_far();
  EXPECT_EQ(end(waiting).status, 200);
  EXPECT_EQ(transactions().size(), 1u);
}

TEST_F(Restarts, what_cannot_be_repeated_and_may_have_run_is_said_to_be_so) {
  answer_ = [](const HttpRequest&) { return std::nullopt; };
  start_both();
  const auto waiting = begin({"POST", "/pay", {}, to_bytes(as_bytes("1"))});
  ASSERT_TRUE(run_until(loop_, [&] { return posts() == 1; }));
  far_.reset();
  answer_ = [](const HttpRequest&) { return json(200, "{}"); };
  start_far();
  const auto response = end(waiting);
  EXPECT_EQ(response.status, 502);
  EXPECT_NE(text_of(response.body).find("may have run"), std::string::npos) << text_of(response.body);
  EXPECT_EQ(posts(), 1u);
}

TEST_F(Restarts, both_sides_killed_in_turn_deliver_each_message_once) {
  start_both();
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(ask(send_request(std::to_string(i), "text " + std::to_string(i))).status, 200) << i;
    if (i % 2 == 0) {
      far_.reset();
      start_far();
    } else {
      near_.reset();
      start_near();
    }
  }
  EXPECT_EQ(transactions().size(), 6u);
}

// UDP to the far side, with a memory of what left.
class RecordingTransport final : public Transport {
 public:
  RecordingTransport(std::unique_ptr<Transport> below, SocketAddress far, std::vector<Bytes>& record)
      : below_(std::move(below)), far_(far), record_(record) {}
  Result<> start(OnDatagram on_datagram) override { return below_->start(std::move(on_datagram)); }
  void stop() override { below_->stop(); }
  void send(const SocketAddress&, ByteView datagram) override {
    record_.push_back(to_bytes(datagram));
    below_->send(far_, datagram);
  }
  std::uint32_t overhead_bytes(const SocketAddress&) const override { return 28; }
  std::size_t max_frame() const override { return below_->max_frame(); }
  bool is_point_to_point() const override { return false; }
  std::string describe() const override { return below_->describe(); }
  std::vector<SocketAddress> addresses() const override { return below_->addresses(); }

 private:
  std::unique_ptr<Transport> below_;
  SocketAddress far_;
  std::vector<Bytes>& record_;
};

class Replays : public Restarts {
 protected:
  void start_recorded_near() {
    auto options = near_options();
    options.peers[0].make_transport = [this] {
      return std::make_unique<RecordingTransport>(make_udp_transport(loop_, {.addresses = {kAnyPort}}),
                                                  far_address_, sent_);
    };
    start_near(options);
  }
  // Sends all that the near side sent, from another address, and waits until the far side has it.
  void replay(Transport& stranger) {
    const std::uint64_t before = far_->transport().counters().datagrams_in;
    const auto frames = sent_;
    for (const Bytes& frame : frames) stranger.send(far_address_, frame);
    EXPECT_TRUE(run_until(
        loop_, [&] { return far_->transport().counters().datagrams_in >= before + frames.size(); }));
  }
  std::unique_ptr<Transport> stranger() {
    auto made = make_udp_transport(loop_, {.addresses = {kAnyPort}});
    EXPECT_TRUE(made->start([this](const SocketAddress&, ByteView) { ++told_; }).ok());
    return made;
  }
  std::vector<Bytes> sent_;
  int told_ = 0;  // datagrams that the stranger got
};

TEST_F(Replays, do_not_take_a_known_address_away) {
  pair();
  start_far();
  start_recorded_near();
  EXPECT_EQ(get("/1").status, 200);
  const std::string address = peer_field(far_->status(), "peer_address");
  const auto other = stranger();
  replay(*other);
  EXPECT_EQ(peer_field(far_->status(), "peer_address"), address);
  EXPECT_EQ(get("/2").status, 200);
  EXPECT_EQ(told_, 0);
}

TEST_F(Replays, hold_a_restarted_far_side_up_only_until_the_near_side_speaks) {
  pair();
  start_far();
  start_recorded_near();
  EXPECT_EQ(get("/1").status, 200);
  const std::string address = peer_field(far_->status(), "peer_address");
  far_.reset();
  start_far();
  const auto other = stranger();
  replay(*other);
  EXPECT_NE(peer_field(far_->status(), "peer_address"), address);
  EXPECT_EQ(get("/2").status, 200);
  EXPECT_EQ(peer_field(far_->status(), "peer_address"), address);
  replay(*other);
  EXPECT_EQ(peer_field(far_->status(), "peer_address"), address);
}

TEST_F(Restarts, a_near_side_that_lost_its_keys_gets_new_ones) {
  start_both();
  EXPECT_EQ(ask(send_request("1")).status, 200);
  near_.reset();
  std::filesystem::remove(directory_ + "/near/one.channel");
  start_near();
  EXPECT_EQ(ask(send_request("2")).status, 200);
  EXPECT_EQ(near_->status().at("pairings").at(0).at("link").at("handshakes"), 1);
  EXPECT_EQ(transactions().size(), 2u);
}

TEST_F(Restarts, a_far_side_that_lost_its_keys_gets_new_ones_when_the_near_side_notices) {
  start_both();
  EXPECT_EQ(get("/1").status, 200);
  far_.reset();
  std::filesystem::remove(directory_ + "/far/one.channel");
  start_far();
  const auto response = ask(send_request("2"));
  EXPECT_TRUE(response.status == 200 || response.status == 503) << response.status;
  EXPECT_EQ(ask(send_request("2")).status, 200);
  EXPECT_EQ(transactions().size(), 2u);
}

}  // namespace
}  // namespace ravine::services::test
