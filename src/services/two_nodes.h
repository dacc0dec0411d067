// Two whole nodes in one process, on one loop in its own thread, joined over loopback UDP; and blocking
// sockets for the test's own thread, which plays the programs on both sides.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <thread>

#include "host/clock.h"
#include "host/random.h"
#include "identity/authority.h"
#include "identity/certificate.h"
#include "identity/network_trust.h"
#include "services/expose.h"
#include "services/forward.h"
#include "services/proxy.h"
#include "services/revocation_exchange.h"

namespace ravine::services::test {

inline constexpr int kPatience = 20000;  // ms; five times what anything here may take

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
  TestNode(boost::asio::io_context& loop, session::NetworkOptions options, IpAddress prefix)
      : id(options.local.id),
        driver(loop, driver_options(), random, clock, Log()),
        context{loop, driver, Log(), {}},
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
  // Tells the peers and every stream's handler. Driver's own destructor says nothing to anybody.
  ~TestNode() {
    if (!vanishes) driver.close();
  }
  static runtime::DriverOptions driver_options() {
    host::SystemRandom random;
    runtime::DriverOptions options;
    options.listen = {IpAddress::v4({127, 0, 0, 1})};
    options.watch_interfaces = false;
    options.endpoint.static_secret.resize(32);
    random.fill(options.endpoint.static_secret);
    options.endpoint.seed = random.next_u64();
    return options;
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
  host::SystemRandom random;
  SystemClock clock;
  runtime::Driver driver;
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

// A blocking socket of the test's thread.
class Program {
 public:
  explicit Program(int descriptor = -1) : descriptor_(descriptor) {}
  Program(Program&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Program& operator=(Program&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Program() { close(); }
  static Program tcp() { return Program(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
  static Program udp() { return Program(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

  int descriptor() const { return descriptor_; }
  void close() {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }
  void close_with_reset() {
    const linger now{1, 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  bool connect(std::uint16_t port) {
    const sockaddr_in address = loopback(port);
    return ::connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  void bind() {
    const sockaddr_in address = loopback(0);
    ASSERT_EQ(::bind(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  void listen() {
    bind();
    ASSERT_EQ(::listen(descriptor_, 64), 0);
  }
  std::uint16_t port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    ::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.sin_port);
  }
  bool wait_readable(int limit_ms = kPatience) const {
    pollfd wait{descriptor_, POLLIN, 0};
    return ::poll(&wait, 1, limit_ms) == 1;
  }
  Program accept() const {
    return wait_readable() ? Program(::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC)) : Program();
  }
  void send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void send(const Bytes& bytes) const { send(as_text(bytes)); }
  void finish() const { ::shutdown(descriptor_, SHUT_WR); }
  // Exactly `size` bytes, fewer at the end of the stream, a failed read or when patience ends.
  std::string receive(std::size_t size) {
    std::string out;
    while (out.size() < size && wait_readable()) {
      char chunk[65536];
      const ssize_t got = ::recv(descriptor_, chunk, std::min(sizeof chunk, size - out.size()), 0);
      error_ = got < 0 ? errno : 0;
      if (got <= 0) break;
      out.append(chunk, static_cast<std::size_t>(got));
    }
    return out;
  }
  std::string receive_all() { return receive(SIZE_MAX); }
  int last_error() const { return error_; }  // errno of the last receive; 0 for a clean end

 private:
  int descriptor_ = -1;
  int error_ = 0;
};

class TwoNodes : public testing::Test {
 protected:
  TwoNodes() : guard_(loop_.get_executor()), thread_([this] { loop_.run(); }) {
    on_loop([this] {
      const IpAddress prefix = identity::overlay_prefix(authority_.trust->network());
      far_ = std::make_unique<TestNode>(loop_, authority_.network("far"), prefix);
      near_ = std::make_unique<TestNode>(loop_, authority_.network("near", {"ops"}), prefix);
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
    Bytes bytes{5, 1, 0, 5, command, 0, 3, static_cast<std::uint8_t>(host.size())};
    bytes.insert(bytes.end(), host.begin(), host.end());
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
  boost::asio::io_context loop_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_;
  std::thread thread_;
  std::unique_ptr<TestNode> far_, near_;
  std::unique_ptr<ProxyServer> proxy_;
  std::uint16_t proxy_port_ = 0;
};

}  // namespace ravine::services::test
