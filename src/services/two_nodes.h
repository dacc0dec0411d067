// Two whole nodes in one process, on one loop in its own thread, joined over loopback UDP.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <thread>

#include "host/clock.h"
#include "host/random.h"
#include "host/resolver.h"
#include "identity/authority.h"
#include "identity/certificate.h"
#include "identity/network_trust.h"
#include "services/expose.h"
#include "services/forward.h"
#include "services/program.h"
#include "services/proxy.h"
#include "services/revocation_exchange.h"

namespace ravine::services::test {

template <class T>
T take(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    std::abort();
  }
  return std::move(result).value();
}

class SystemClock final : public WallClock {
 public:
  UnixTime unix_time() const override { return host::system_time(); }
};

struct TestAuthority {
  TestAuthority()
      : now(host::system_time()),
        root(take(identity::make_root("home", now, random))),
        trust(take(identity::NetworkTrust::make({root.certificate}))),
        authority(
            take(identity::Authority::open({root.key.clone(), {root.certificate}, trust, {}}, {}, now))) {}

  session::NetworkOptions network(const std::string& name, std::vector<std::string> groups = {}) {
    const identity::PrivateKey key = identity::PrivateKey::generate(random);
    const auto chain = take(authority.issue(identity::make_signing_request(key, name),
                                            {.name = name, .groups = std::move(groups)}, now, random));
    session::NetworkOptions options;
    options.name = "home";
    options.local = take(identity::make_local_identity(key, chain));
    options.policy = identity::make_network_policy(own_trust());
    options.server_names = {"home"};
    return options;
  }
  // Every node has beliefs of its own, as on separate machines.
  std::shared_ptr<identity::NetworkTrust> own_trust() {
    trusts.push_back(take(identity::NetworkTrust::make({root.certificate})));
    return trusts.back();
  }

  host::SystemRandom random;
  UnixTime now;
  identity::CertifiedKey root;
  std::shared_ptr<identity::NetworkTrust> trust;
  identity::Authority authority;
  std::vector<std::shared_ptr<identity::NetworkTrust>> trusts;
};

// One node's services. Made and destroyed on the loop's thread.
struct TestNode {
  // `port` and `secret` are those of a node that is started again; none: any.
  TestNode(boost::asio::io_context& loop, session::NetworkOptions options, IpAddress prefix,
           std::uint16_t port = 0, Bytes kept_secret = {})
      : id(options.local.id),
        secret(kept_secret.empty() ? make_secret() : std::move(kept_secret)),
        driver(loop, driver_options(port, secret), random, clock, Log()),
        resolver(loop),
        context{loop, driver, Log(), [this](const std::string& host, auto done) { look_up(host, done); }},
        router(context),
        flows(driver),
        connector(context, directory),
        tunnels(router, connector, flows),
        expose(router, flows),
        forwards(tunnels) {
    network = driver.endpoint().add_network(std::move(options));
    const auto opened = driver.open();
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    directory.add_network(network, "home", prefix);
  }
  // Every stream's handler has to hear of the end. Driver's own destructor says nothing to anybody.
  ~TestNode() { vanishes ? driver.abandon() : driver.close(); }
  static Bytes make_secret() {
    Bytes made(32);
    host::SystemRandom().fill(made);
    return made;
  }
  // Small windows: what a reader that sleeps holds back is soon all there is.
  static runtime::DriverOptions driver_options(std::uint16_t port, const Bytes& secret) {
    runtime::DriverOptions options;
    options.port = port;
    options.listen = {IpAddress::v4({127, 0, 0, 1})};
    options.watch_interfaces = false;
    options.endpoint.static_secret = secret;
    options.endpoint.seed = secret[0];
    options.endpoint.defaults.limits.stream_receive_window = 1u << 20;
    options.endpoint.defaults.limits.receive_window = 2u << 20;
    options.endpoint.defaults.limits.send_buffer = 1u << 20;
    return options;
  }
  void look_up(const std::string& host, const std::function<void(Addresses)>& done) {
    resolver.resolve(host, 0, [done](const Result<std::vector<SocketAddress>>& found) {
      if (!found.ok()) return done(found.error());
      std::vector<IpAddress> out;
      for (const SocketAddress& address : *found) out.push_back(address.ip);
      done(out);
    });
  }
  void knows(const std::string& name, std::uint16_t port) {
    StaticPeer peer;
    peer.network = network;
    peer.name = name;
    peer.addresses = {{"127.0.0.1", port}};
    const auto added = directory.add_static(std::move(peer));
    EXPECT_TRUE(added.ok());
  }

  bool vanishes = false;  // as a killed process
  identity::PeerId id;
  Bytes secret;
  host::SystemRandom random;
  SystemClock clock;
  runtime::Driver driver;
  host::Resolver resolver;
  ServiceContext context;
  PeerDirectory directory;
  StreamRouter router;
  FlowTable flows;
  PeerConnector connector;
  Tunnels tunnels;
  ExposeService expose;
  ForwardService forwards;
  session::NetworkId network;
};

class TwoNodes : public testing::Test {
 protected:
  TwoNodes() : guard_(loop_.get_executor()), thread_([this] { loop_.run(); }) {
    on_loop([this] {
      far_ = std::make_unique<TestNode>(loop_, far_options_, prefix_);
      near_ = std::make_unique<TestNode>(loop_, near_options_, prefix_);
      near_->knows("far", far_->driver.port());
      proxy_ = std::make_unique<ProxyServer>(near_->tunnels,
                                             ProxyOptions{.listen = {IpAddress::v4({127, 0, 0, 1}), 0}});
      const auto started = proxy_->start();
      EXPECT_TRUE(started.ok());
      proxy_port_ = proxy_->address().port;
    });
  }
  ~TwoNodes() override {
    on_loop([this] {
      proxy_.reset();
      near_.reset();
      far_.reset();
    });
    guard_.reset();
    loop_.stop();
    thread_.join();
  }

  // Runs `call` on the loop's thread and waits for it.
  void on_loop(const std::function<void()>& call) {
    std::promise<void> ran;
    boost::asio::post(loop_, [&] {
      call();
      ran.set_value();
    });
    ran.get_future().wait();
  }
  // Looks again and again, on the loop's thread, until `condition` holds; false when patience ends.
  bool wait_until(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatience);
    for (bool holds = false; std::chrono::steady_clock::now() < end;) {
      on_loop([&] { holds = condition(); });
      if (holds) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }
  void expose(std::uint16_t port, const Program& server, std::vector<std::string> allow = {"near"},
              Protocol protocol = Protocol::tcp) {
    on_loop([&] {
      Exposure exposure;
      exposure.protocol = protocol;
      exposure.port = port;
      exposure.to = "127.0.0.1:" + std::to_string(server.port());
      exposure.allow = std::move(allow);
      const auto added = far_->expose.add(exposure);
      EXPECT_TRUE(added.ok()) << added.error().message;
    });
  }
  static Bytes socks_request(const std::string& host, std::uint16_t port, std::uint8_t command = 1) {
    Bytes bytes;
    for (const int byte : {5, 1, 0, 5, int{command}, 0, 3, static_cast<int>(host.size())})
      bytes.push_back(static_cast<std::uint8_t>(byte));
    for (const char c : host) bytes.push_back(static_cast<std::uint8_t>(c));
    bytes.push_back(static_cast<std::uint8_t>(port >> 8));
    bytes.push_back(static_cast<std::uint8_t>(port));
    return bytes;
  }
  // The reply code, 255 when none came.
  int ask_socks(Program& client, const std::string& host, std::uint16_t port) {
    EXPECT_TRUE(client.connect(proxy_port_));
    client.send(socks_request(host, port));
    if (client.receive(2) != std::string("\5\0", 2)) return 255;
    const std::string reply = client.receive(10);
    return reply.size() == 10 ? static_cast<unsigned char>(reply[1]) : 255;
  }

  TestAuthority authority_;
  IpAddress prefix_ = identity::overlay_prefix(authority_.trust->network());
  session::NetworkOptions far_options_ = authority_.network("far"),
                          near_options_ = authority_.network("near", {"ops"});
  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::thread thread_;
  std::unique_ptr<TestNode> far_, near_;
  std::unique_ptr<ProxyServer> proxy_;
  std::uint16_t proxy_port_ = 0;
};

}  // namespace ravine::services::test
