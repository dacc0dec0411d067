// The control socket and the exchanges between two nodes: joining, renewal, revocation, bench, metrics.
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <filesystem>
#include <fstream>

#include "services/bench_service.h"
#include "services/control_client.h"
#include "services/control_server.h"
#include "services/join.h"
#include "services/metrics.h"
#include "services/two_nodes.h"

namespace ravine::services::test {
namespace {

namespace json = boost::json;

class Control : public TwoNodes {
 protected:
  Control() {
    char pattern[] = "/tmp/ravine-control-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    path_ = directory_ + "/run/control";
    on_loop([this] {
      server_ = std::make_unique<ControlServer>(near_->context, path_);
      server_->add_method("echo",
                          [](const json::object& params, const RpcReply& reply) { reply.result(params); });
      server_->add_method("fail", [](const json::object&, const RpcReply& reply) {
        reply.error(Error{ErrorKind::not_found, "no such peer"});
      });
      server_->add_method("forget", [](const json::object&, const RpcReply&) {});
      server_->add_method("count", [](const json::object&, const RpcReply& reply) {
        for (int i = 1; i <= 3; ++i) reply.notify("progress", i);
        reply.result("done");
      });
      server_->add_method("hang", [this](const json::object&, const RpcReply& reply) {
        reply.on_abandoned([this] { abandoned_ = true; });
        held_.push_back(reply);
      });
      server_->add_method("connect", [this](const json::object&, const RpcReply& reply) {
        opening_ = near_->tunnels.open("far.fuse", 80, [this, reply](Result<OpenedStream> opened) {
          if (!opened) return reply.error(opened.error());
          reply.upgrade({{"ok", true}}, [this, stream = *opened](Socket socket, Bytes first) {
            session::Session* session = near_->driver.endpoint().find(stream.session);
            ASSERT_NE(session, nullptr);
            start_pump(near_->context, *session, stream.stream, std::move(socket),
                       {.first = std::move(first)});
          });
        });
      });
      const auto started = server_->start();
      EXPECT_TRUE(started.ok()) << (started.ok() ? "" : started.error().message);
    });
  }
  ~Control() override {
    on_loop([this] {
      held_.clear();
      opening_.reset();
      server_.reset();
    });
    std::filesystem::remove_all(directory_);
  }
  ControlClient client() { return take(ControlClient::connect(path_)); }

  std::string directory_, path_;
  std::unique_ptr<ControlServer> server_;
  std::vector<RpcReply> held_;
  Pending opening_;
  std::atomic<bool> abandoned_ = false;
};

TEST_F(Control, answers_calls_errors_and_notifications) {
  ControlClient caller = client();
  EXPECT_EQ(take(caller.call("echo", {{"a", 1}})), json::value({{"a", 1}}));
  const auto failed = caller.call("fail", {});
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind, ErrorKind::not_found);
  EXPECT_EQ(failed.error().message, "no such peer");
  const auto unknown = caller.call("nonsense", {});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().kind, ErrorKind::unsupported);
  const auto forgotten = caller.call("forget", {});
  ASSERT_FALSE(forgotten.ok()) << "a method that drops its reply must not leave the caller waiting";
  std::vector<json::value> seen;
  const auto counted = caller.call(
      "count", {}, 10s, [&](std::string_view, const json::value& value) { seen.push_back(value); });
  EXPECT_TRUE(counted.ok());
  EXPECT_EQ(seen, (std::vector<json::value>{1, 2, 3}));
}

TEST_F(Control, is_a_file_for_its_owner_alone) {
  struct stat status{};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat((directory_ + "/run").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(Control, refuses_a_second_daemon_and_replaces_a_stale_file) {
  on_loop([&] {
    ControlServer second(near_->context, path_);
    const auto started = second.start();
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().kind, ErrorKind::already_exists);
  });
  const std::string stale = directory_ + "/run/stale";
  const int left = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  stale.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(left, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(left);
  on_loop([&] {
    ControlServer third(near_->context, stale);
    EXPECT_TRUE(third.start().ok());
  });
}

TEST_F(Control, refuses_a_directory_that_others_can_write_to) {
  const std::string open = directory_ + "/open";
  ASSERT_EQ(::mkdir(open.c_str(), 0777), 0);
  ASSERT_EQ(::chmod(open.c_str(), 0777), 0);
  on_loop([&] {
    ControlServer server(near_->context, open + "/control");
    const auto started = server.start();
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().kind, ErrorKind::refused);
  });
}

TEST_F(Control, refuses_another_user) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  ::chmod(directory_.c_str(), 0755);
  ::chmod((directory_ + "/run").c_str(), 0755);
  ::chmod(path_.c_str(), 0666);  // even if the file lets them in
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(65534, 65534, 65534) != 0) ::_exit(3);
    auto intruder = ControlClient::connect(path_);
    ::_exit(!intruder.ok() || !intruder->call("echo", {}).ok() ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  on_loop([&] { EXPECT_EQ(server_->counters().denied, 1u); });
}

TEST_F(Control, refuses_malformed_deep_and_large_requests) {
  const auto answer = [&](const std::string& bytes) {
    Program raw(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(raw.descriptor(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    raw.send(bytes);
    raw.finish();
    return raw.receive_all();
  };
  EXPECT_NE(answer("{nonsense\n").find("-32700"), std::string::npos);
  EXPECT_NE(answer("[1]\n").find("-32600"), std::string::npos);
  EXPECT_NE(answer("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":{}}\n").find("-32600"),
            std::string::npos);
  EXPECT_NE(answer("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":[1],\"id\":1}\n").find("-32602"),
            std::string::npos);
  EXPECT_NE(answer(std::string(100, '[') + std::string(100, ']') + "\n").find("-32700"), std::string::npos);
  EXPECT_NE(answer(std::string(2u << 20, 'a')).find("-32600"), std::string::npos);
}

TEST_F(Control, tells_a_method_that_its_caller_left) {
  {
    ControlClient caller = client();
    EXPECT_FALSE(caller.call("hang", {}, 100ms).ok());
  }
  for (int i = 0; i < 500 && !abandoned_; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(abandoned_);
}

TEST_F(Control, becomes_a_pipe_to_a_peer) {
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener);
  ControlClient caller = client();
  ASSERT_TRUE(caller.call("connect", {}).ok());
  int input[2], output[2];
  ASSERT_EQ(::pipe(input), 0);
  ASSERT_EQ(::pipe(output), 0);
  std::thread piping([&] {
    EXPECT_TRUE(caller.pipe(input[0], output[1]).ok());
    ::close(output[1]);
  });
  Program server = listener.accept();
  ASSERT_EQ(::write(input[1], "question", 8), 8);
  ::close(input[1]);
  EXPECT_EQ(server.receive_all(), "question");
  server.send("answer");
  server.close();
  std::string got(6, '\0');
  EXPECT_EQ(::read(output[0], got.data(), got.size()), 6);
  EXPECT_EQ(got, "answer");
  piping.join();
  ::close(input[0]);
  ::close(output[0]);
}

// --- exchanges

// Answers with what it was asked, so that the test sees both sides' view of the session.
class MirrorIssuer final : public Issuer {
 public:
  Result<Bytes> answer_join(session::NetworkId, ByteView request, ByteView exporter,
                            const SocketAddress&) override {
    if (as_text(request) == "refuse me") return Error{ErrorKind::refused, "no"};
    exporter_ = to_bytes(exporter);
    return large_ ? Bytes(1'500'000, 7) : to_bytes(request);
  }
  Result<Bytes> answer_renewal(session::NetworkId, ByteView leaf, ByteView request,
                               ByteView exporter) override {
    leaf_ = to_bytes(leaf);
    exporter_ = to_bytes(exporter);
    return to_bytes(request);
  }
  Bytes exporter_, leaf_;
  bool large_ = false;
};

class Exchanges : public TwoNodes {
 protected:
  // Runs `start` on the loop and waits for its result.
  template <class T>
  Result<T> wait_for(const std::function<void(std::function<void(Result<T>)>)>& start) {
    std::promise<Result<T>> answer;
    on_loop([&] { start([&](Result<T> result) { answer.set_value(std::move(result)); }); });
    return answer.get_future().get();
  }
  session::SessionId connect() {
    return take(wait_for<session::SessionId>([&](auto done) { near_->connector.connect("far.fuse", done); }));
  }
};

TEST_F(Exchanges, lets_a_guest_join_over_a_session_of_its_own) {
  MirrorIssuer issuer;
  std::unique_ptr<JoinService> service;
  identity::PeerId pin;
  on_loop([&] {
    service = std::make_unique<JoinService>(far_->router, issuer);
    session::NetworkOptions options = authority_.network("issuer");
    pin = options.local.id;
    options.accept_joiners = true;
    options.join_server_names = {"join-name"};
    far_->driver.endpoint().update_network(far_->network, std::move(options));
  });
  const auto join = [&](std::string text, const std::string& server_name) {
    return wait_for<Exchanged>([&](auto done) {
      JoinDial dial;
      dial.network = near_->network;
      dial.addresses = {{"127.0.0.1", far_->driver.port()}};
      dial.server_name = server_name;
      dial.policy = identity::make_issuer_pin_policy(pin.view());
      dial.make_request = [text](ByteView) { return to_bytes(as_bytes(text)); };
      join_network(near_->context, std::move(dial), done);
    });
  };
  const auto joined = join("let me in", "join-name");
  ASSERT_TRUE(joined.ok()) << joined.error().message;
  EXPECT_EQ(as_text(joined->response), "let me in");
  EXPECT_EQ(joined->exporter, issuer.exporter_) << "both ends of one session";
  issuer.large_ = true;
  EXPECT_EQ(take(join("large", "join-name")).response.size(), 1'500'000u);
  const auto refused = join("refuse me", "join-name");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  EXPECT_FALSE(join("let me in", "another-name").ok());
  on_loop([&] { service.reset(); });
}

TEST_F(Exchanges, renews_over_a_member_session) {
  MirrorIssuer issuer;
  std::unique_ptr<JoinService> service;
  on_loop([&] { service = std::make_unique<JoinService>(far_->router, issuer); });
  const session::SessionId id = connect();
  const auto renewed = wait_for<Exchanged>([&](auto done) {
    renew_certificate(near_->router, id, [](ByteView) { return Bytes{1, 2, 3}; }, done);
  });
  ASSERT_TRUE(renewed.ok()) << renewed.error().message;
  EXPECT_EQ(renewed->response, (Bytes{1, 2, 3}));
  EXPECT_EQ(renewed->exporter, issuer.exporter_);
  const auto leaf = identity::Certificate::parse(issuer.leaf_);
  ASSERT_TRUE(leaf.ok());
  EXPECT_EQ(leaf->name, "near");
  on_loop([&] { service.reset(); });
}

// Holds a number and bytes; believes every list whose first byte is larger.
class NumberStore final : public RevocationStore {
 public:
  explicit NumberStore(std::shared_ptr<identity::NetworkTrust> trust, UnixTime now)
      : trust_(std::move(trust)), now_(now) {}
  std::uint64_t number(session::NetworkId) const override { return trust_->revocations().number(); }
  std::vector<Bytes> parts(session::NetworkId) const override {
    return identity::split_revocation(trust_->revocations());
  }
  Result<std::uint64_t> offer(session::NetworkId, ByteView list) override {
    const auto taken = trust_->accept_revocation(list, now_);
    if (!taken) return taken.error();
    return trust_->revocations().number();
  }

 private:
  std::shared_ptr<identity::NetworkTrust> trust_;
  UnixTime now_;
};

TEST_F(Exchanges, spreads_a_revocation_list_and_cuts_the_revoked_peer) {
  // The order in which the fixture made them: far, then near.
  const UnixTime soon = authority_.now + std::chrono::seconds(60);
  NumberStore far_store(authority_.trusts[0], soon), near_store(authority_.trusts[1], soon);
  std::unique_ptr<RevocationExchange> far_exchange, near_exchange;
  on_loop([&] {
    far_exchange = std::make_unique<RevocationExchange>(far_->context, far_store);
    near_exchange = std::make_unique<RevocationExchange>(near_->context, near_store);
  });
  connect();
  on_loop([&] {
    const auto list = authority_.authority.revoke("near", authority_.now);
    ASSERT_TRUE(list.ok()) << list.error().message;
    ASSERT_TRUE(near_store.offer(near_->network, list->encoded()).ok());
    near_->driver.enter();
    near_exchange->announce(near_->network);  // it tells the others although it is the one that is revoked
  });
  std::size_t sessions = 1;
  for (int i = 0; i < 500 && sessions != 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    on_loop([&] { sessions = far_->connector.find_session(*take(far_->directory.find("near"))) ? 1 : 0; });
  }
  EXPECT_EQ(sessions, 0u);
  on_loop([&] {
    EXPECT_EQ(far_exchange->counters().accepted, 1u);
    far_exchange.reset();
    near_exchange.reset();
  });
  const auto again =
      wait_for<session::SessionId>([&](auto done) { near_->connector.connect("far.fuse", done); });
  EXPECT_FALSE(again.ok());
}

TEST_F(Exchanges, measures_a_live_peer) {
  std::unique_ptr<BenchService> service;
  on_loop([&] { service = std::make_unique<BenchService>(far_->router); });
  const session::SessionId id = connect();
  Pending run;
  int reports = 0;
  const auto result = wait_for<BenchResult>([&](auto done) {
    run = run_bench(
        near_->router, id, {.echoes = 20, .upload = 500ms, .download = 500ms},
        [&](const BenchProgress&) { ++reports; }, done);
  });
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->echoes, 20u);
  EXPECT_GT(result->latency_p50.count(), 0);
  EXPECT_GT(result->upload_bytes, 1'000'000u);
  EXPECT_GT(result->download_bytes, 1'000'000u);
  EXPECT_GT(reports, 0);
  on_loop([&] {
    run.reset();
    service.reset();
  });
}

TEST_F(Exchanges, serves_metrics_to_loopback_hosts_alone) {
  Metrics metrics;
  std::unique_ptr<MetricsServer> server;
  std::uint16_t port = 0;
  on_loop([&] {
    metrics.add_driver(near_->driver);
    metrics.add_counter("ravine_test_total", "A test", [] { return 42.0; }, {{"kind", "a"}});
    metrics.add_counter("ravine_test_total", "A test", [] { return 43.0; }, {{"kind", "b"}});
    server = std::make_unique<MetricsServer>(
        near_->context, metrics, MetricsServerOptions{.listen = {IpAddress::v4({127, 0, 0, 1}), 0}});
    ASSERT_TRUE(server->start().ok());
    port = server->address().port;
  });
  const auto get = [&](const std::string& host) {
    Program client = Program::tcp();
    EXPECT_TRUE(client.connect(port));
    client.send("GET /metrics HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
    return client.receive_all();
  };
  const std::string text = get("127.0.0.1:" + std::to_string(port));
  EXPECT_EQ(text.substr(0, 12), "HTTP/1.1 200");
  EXPECT_NE(text.find("ravine_test_total{kind=\"a\"} 42"), std::string::npos) << text;
  EXPECT_NE(text.find("ravine_datagrams_sent_total"), std::string::npos);
  EXPECT_EQ(get("evil.example:" + std::to_string(port)).substr(0, 12), "HTTP/1.1 403");
  on_loop([&] { server.reset(); });
}

}  // namespace
}  // namespace ravine::services::test
