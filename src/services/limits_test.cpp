// What services refuse, bound and repeat: caps, rates, back-off; and targets of kinds that need more than one
// address.
#include "services/join.h"
#include "services/service_metrics.h"
#include "services/two_nodes.h"

namespace ravine::services::test {
namespace {

using std::chrono::steady_clock;

class Limits : public TwoNodes {
 protected:
  template <class T>
  Result<T> wait_for(const std::function<void(std::function<void(Result<T>)>)>& start) {
    std::promise<Result<T>> answer;
    on_loop([&] { start([&](Result<T> result) { answer.set_value(std::move(result)); }); });
    return answer.get_future().get();
  }
  Result<session::SessionId> connect(const std::string& host) {
    return wait_for<session::SessionId>([&](auto done) { near_->connector.connect(host, done); });
  }
};

TEST_F(Limits, bounds_the_connections_of_one_peer) {
  Program listener = Program::tcp();
  listener.listen(1024);
  expose(80, listener);
  constexpr std::size_t kMost = 512;
  std::vector<Pending> pending(kMost + 1);
  std::size_t opened = 0;
  std::optional<Error> refused;
  on_loop([&] {
    for (Pending& one : pending) {
      one = near_->tunnels.open("far.fuse", 80, [&](Result<OpenedStream> stream) {
        if (stream.ok()) {
          ++opened;
        } else {
          refused = stream.error();
        }
      });
    }
  });
  ASSERT_TRUE(wait_until([&] { return opened + (refused ? 1 : 0) == kMost + 1; }));
  EXPECT_EQ(opened, kMost);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, ErrorKind::limit_reached);
  on_loop([&] { EXPECT_EQ(far_->expose.counters().over_limit, 1u); });
}

TEST_F(Limits, resets_proxy_clients_above_the_most) {
  on_loop([&] {
    proxy_ = std::make_unique<ProxyServer>(
        near_->tunnels, ProxyOptions{.listen = {IpAddress::v4({127, 0, 0, 1}), 0}, .max_clients = 2});
    ASSERT_TRUE(proxy_->start().ok());
    proxy_port_ = proxy_->address().port;
  });
  Program clients[3] = {Program::tcp(), Program::tcp(), Program::tcp()};
  for (Program& client : clients) ASSERT_TRUE(client.connect(proxy_port_));
  EXPECT_EQ(clients[2].receive(1), "");
  EXPECT_EQ(clients[2].last_error(), ECONNRESET);
  clients[0].send(Bytes{5, 1, 0});
  EXPECT_EQ(clients[0].receive(2), std::string("\5\0", 2)) << "those below are served";
  clients[1].close();
  ASSERT_TRUE(wait_until([&] { return proxy_->counters().active == 1; }));
  Program next = Program::tcp();
  ASSERT_TRUE(next.connect(proxy_port_));
  next.send(Bytes{5, 1, 0});
  EXPECT_EQ(next.receive(2), std::string("\5\0", 2)) << "one that left makes room";
  on_loop([&] { EXPECT_EQ(proxy_->counters().over_limit, 1u); });
}

class YesIssuer final : public Issuer {
 public:
  Result<Bytes> answer_join(session::NetworkId, ByteView, ByteView, const SocketAddress&) override {
    return Bytes{1};
  }
  Result<Bytes> answer_renewal(session::NetworkId, ByteView, ByteView, ByteView) override { return Bytes{1}; }
};

TEST_F(Limits, bounds_the_joins_of_a_minute) {
  YesIssuer issuer;
  std::unique_ptr<JoinService> service;
  on_loop([&] {
    service = std::make_unique<JoinService>(far_->router, issuer);
    session::NetworkOptions options = far_options_;
    options.accept_joiners = true;
    options.join_server_names = {"join-name"};
    far_->driver.endpoint().update_network(far_->network, std::move(options));
  });
  const auto join = [&] {
    return wait_for<Exchanged>([&](auto done) {
      JoinDial dial;
      dial.network = near_->network;
      dial.addresses = {{"127.0.0.1", far_->driver.port()}};
      dial.server_name = "join-name";
      dial.policy = identity::make_issuer_pin_policy(far_->id.view());
      dial.make_request = [](ByteView) { return Bytes{1}; };
      join_network(near_->context, std::move(dial), done);
    });
  };
  for (std::size_t i = 0; i < kJoinsPerMinute; ++i) {
    const auto joined = join();
    ASSERT_TRUE(joined.ok()) << i << ": " << joined.error().message;
  }
  const auto refused = join();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::limit_reached) << refused.error().message;
  on_loop([&] { service.reset(); });
}

TEST_F(Limits, waits_longer_after_each_failure_to_reach_a_kept_peer) {
  on_loop([&] {
    StaticPeer peer;
    peer.network = near_->network;
    peer.name = "away";
    peer.addresses = {{"no-such-host.invalid", 1}};
    peer.keep = true;
    ASSERT_TRUE(near_->directory.add_static(peer).ok());
    near_->connector.keep_sessions();
  });
  steady_clock::time_point at[4];
  for (std::uint64_t n = 1; n <= 3; ++n) {
    ASSERT_TRUE(wait_until([&] { return near_->connector.counters().attempts >= n; }));
    at[n] = steady_clock::now();
  }
  EXPECT_GE(at[2] - at[1], std::chrono::milliseconds(900));
  EXPECT_GE(at[3] - at[2], std::chrono::milliseconds(1900));
}

TEST_F(Limits, dials_a_kept_peer_again_when_its_session_ends) {
  on_loop([&] {
    StaticPeer peer;
    peer.network = near_->network;
    peer.name = "far";
    peer.addresses = {{"127.0.0.1", far_->driver.port()}};
    peer.keep = true;
    ASSERT_TRUE(near_->directory.set_static({peer}).ok());
    near_->connector.keep_sessions();
  });
  for (std::uint64_t n = 1; n <= 2; ++n) {
    ASSERT_TRUE(wait_until([&] { return near_->connector.counters().succeeded >= n; })) << n;
    on_loop([&] {
      far_->driver.endpoint().close_all(far_->driver.enter(), session::AppError::none);
      far_->driver.touch();
    });
  }
}

TEST_F(Limits, looks_up_names_of_peers_and_targets) {
  Program listener = Program::tcp();
  listener.listen();
  on_loop([&] {
    StaticPeer peer;
    peer.network = near_->network;
    peer.name = "far";
    peer.addresses = {{"localhost", far_->driver.port()}};
    ASSERT_TRUE(near_->directory.set_static({peer}).ok());
    Exposure exposure;
    exposure.port = 80;
    exposure.to = "localhost:" + std::to_string(listener.port());
    exposure.allow = {"near"};
    ASSERT_TRUE(far_->expose.add(exposure).ok());
  });
  Program client = Program::tcp();
  ASSERT_EQ(ask_socks(client, "far.fuse", 80), 0);
  client.send("hello");
  EXPECT_EQ(listener.accept().receive(5), "hello");
}

TEST_F(Limits, says_that_a_target_took_too_long) {
  on_loop([&] {
    far_->router.add_service(StreamRequest::TCP, [](const std::shared_ptr<IncomingStream>& stream) {
      stream->refuse(session::AppError::timed_out, "the target did not answer");
    });
  });
  Program client = Program::tcp();
  EXPECT_EQ(ask_socks(client, "far.fuse", 80), 6);
}

TEST_F(Limits, forwards_udp_and_drops_what_no_datagram_can_carry) {
  Program server = Program::udp();
  server.bind();
  expose(53, server, {"near"}, Protocol::udp);
  std::uint16_t port = 0;
  on_loop([&] {
    const auto added = near_->forwards.add({.protocol = Protocol::udp,
                                            .listen = {IpAddress::v4({127, 0, 0, 1}), 0},
                                            .host = "far.fuse",
                                            .port = 53});
    ASSERT_TRUE(added.ok());
    port = added->port;
  });
  Program client = Program::udp();
  ASSERT_TRUE(client.connect(port));
  client.send("query");
  sockaddr_in from{};
  ASSERT_EQ(server.receive_datagram(&from), "query");
  server.send_datagram(from, "answer");
  EXPECT_EQ(client.receive_datagram(), "answer");
  // Both ways: what is larger than a packet is counted and gone, and the flow lives on.
  const std::string large(20000, 'x');
  client.send_datagram(Program::loopback(port), large);
  server.send_datagram(from, large);
  client.send("again");
  EXPECT_EQ(server.receive_datagram(), "again");
  server.send_datagram(from, "and back");
  EXPECT_EQ(client.receive_datagram(), "and back");
  on_loop([&] {
    EXPECT_EQ(near_->flows.counters().too_large, 1u);
    EXPECT_EQ(far_->flows.counters().too_large, 1u);
  });
}

TEST_F(Limits, are_counted_under_their_metric_names) {
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener);
  Metrics near_metrics, far_metrics;
  on_loop([&] {
    add_service_metrics(near_metrics, {.proxy = [this] { return proxy_.get(); },
                                       .tunnels = &near_->tunnels,
                                       .exposes = &near_->expose,
                                       .join = {}});
    add_service_metrics(far_metrics,
                        {.proxy = {}, .tunnels = &far_->tunnels, .exposes = &far_->expose, .join = {}});
  });
  Program client = Program::tcp(), refused = Program::tcp();
  ASSERT_EQ(ask_socks(client, "far.fuse", 80), 0);
  client.send("hello");
  ASSERT_EQ(listener.accept().receive(5), "hello");
  ASSERT_EQ(ask_socks(refused, "far.fuse", 81), 5);
  std::string near_text, far_text;
  on_loop([&] {
    near_text = near_metrics.serialize();
    far_text = far_metrics.serialize();
  });
  for (const char* line :
       {"ravine_proxy_clients_total 2\n", "ravine_proxy_requests_total{kind=\"connect\"} 2\n",
        "ravine_proxy_failures_total{reason=\"not_opened\"} 1\n",
        "ravine_tunnel_bytes_total{side=\"near\",direction=\"to_peer\"} 5\n",
        "ravine_connects_total{outcome=\"succeeded\"} 1\n"}) {
    EXPECT_NE(near_text.find(line), std::string::npos) << line << near_text;
  }
  for (const char* line :
       {"ravine_exposures 1\n", "ravine_exposed_connections_total 1\n",
        "ravine_exposed_refused_total{reason=\"not_exposed\"} 1\n",
        "ravine_tunnel_bytes_total{side=\"far\",direction=\"from_peer\"} 5\n", "ravine_proxy_clients 0\n"}) {
    EXPECT_NE(far_text.find(line), std::string::npos) << line << far_text;
  }
}

TEST_F(Limits, carries_two_networks_over_one_port) {
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener);
  TestAuthority other;
  const auto join_other = [&](TestNode& node, const std::string& name) {
    session::NetworkOptions options = other.network(name);
    options.name = "work";
    options.server_names = {"work"};
    const session::NetworkId id = node.driver.endpoint().add_network(std::move(options));
    node.directory.add_network(id, "work", identity::overlay_prefix(other.trust->network()));
    return id;
  };
  session::NetworkId work;
  on_loop([&] {
    join_other(*far_, "far");
    work = join_other(*near_, "near");
    StaticPeer peer;
    peer.network = work;
    peer.name = "far";
    peer.addresses = {{"127.0.0.1", far_->driver.port()}};
    ASSERT_TRUE(near_->directory.add_static(peer).ok());
  });
  const auto home_session = connect("far.home.fuse"), work_session = connect("far.work.fuse");
  ASSERT_TRUE(home_session.ok() && work_session.ok());
  EXPECT_NE(*home_session, *work_session);
  on_loop([&] {
    session::Endpoint& endpoint = near_->driver.endpoint();
    EXPECT_EQ(endpoint.find(*home_session)->info().network, near_->network);
    EXPECT_EQ(endpoint.find(*work_session)->info().network, work);
    EXPECT_NE(endpoint.find(*home_session)->info().peer.id, endpoint.find(*work_session)->info().peer.id);
  });
  for (const char* host : {"far.home.fuse", "far.work.fuse"}) {
    Program client = Program::tcp();
    ASSERT_EQ(ask_socks(client, host, 80), 0) << host;
    client.send(host);
    EXPECT_EQ(listener.accept().receive(13), host);
  }
  on_loop(
      [&] { EXPECT_EQ(near_->driver.endpoint().sessions().size(), 2u) << "neither took the other's place"; });
}

}  // namespace
}  // namespace ravine::services::test
