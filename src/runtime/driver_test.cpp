#include "runtime/driver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "host/clock.h"
#include "host/random.h"
#include "identity/authority.h"
#include "identity/network_trust.h"

namespace ravine::runtime {
namespace {

using session::AppError;
using session::CloseCause;
using session::Session;
using session::SessionId;
using session::StreamId;
using session::StreamKind;

const IpAddress kLoopback = IpAddress::v4({127, 0, 0, 1});

class SystemClock final : public WallClock {
 public:
  UnixTime unix_time() const override { return host::system_time(); }
};

struct Ended {
  SessionId id;
  session::SessionInfo info;
  session::CloseReason reason;
};

// One node: a driver with an observer that remembers what it heard.
struct Node : SessionObserver {
  Node(boost::asio::io_context& loop, session::NetworkOptions network, host::UdpOptions udp = {},
       IpAddress address = kLoopback) {
    DriverOptions options;
    options.listen = {address};
    options.watch_interfaces = false;
    options.udp = std::move(udp);
    options.endpoint.seed = random.next_u64();
    options.endpoint.static_secret.resize(32);
    random.fill(options.endpoint.static_secret);
    driver = std::make_unique<Driver>(loop, std::move(options), random, clock, Log());
    network_id = driver->endpoint().add_network(std::move(network));
    driver->add_observer(this);
  }
  void on_established(Session& session) override { established.push_back(session.id()); }
  void on_closed(SessionId id, const session::SessionInfo& info,
                 const session::CloseReason& reason) override {
    ended.push_back({id, info, reason});
    order.push_back("session");
  }
  bool on_stream_opened(Session& session, StreamId stream) override {
    return take_stream && take_stream(session, stream);
  }
  SessionId dial(const Node& to) {
    session::DialOptions options;
    options.network = network_id;
    options.route.remote = {to.driver->local_addresses().front().ip, to.driver->port()};
    auto id = driver->endpoint().dial(driver->enter(), options);
    EXPECT_TRUE(id.ok());
    driver->touch();
    return *id;
  }
  Session& session() {
    driver->enter();
    Session* const found = driver->endpoint().find(established.at(0));
    EXPECT_NE(found, nullptr);
    return *found;
  }

  host::SystemRandom random;
  SystemClock clock;
  std::unique_ptr<Driver> driver;
  session::NetworkId network_id;
  std::vector<SessionId> established;
  std::vector<Ended> ended;
  std::vector<std::string> order;
  std::function<bool(Session&, StreamId)> take_stream;
};

std::uint8_t pattern(std::uint64_t offset) {
  return static_cast<std::uint8_t>(offset % 251);
}

// Sends `total` bytes of the pattern, checks that as many arrive, and notes how it ended.
struct Bulk final : StreamHandler {
  explicit Bulk(std::uint64_t size, std::vector<std::string>* order_log = nullptr)
      : total(size), log(order_log) {}
  void fill(Session& session, StreamId stream) {
    while (sent < total) {
      const MutableBytes space = session.reserve(stream, std::min<std::uint64_t>(total - sent, 1u << 20));
      if (space.empty()) break;
      for (std::size_t i = 0; i < space.size(); ++i) space[i] = pattern(sent + i);
      session.commit(stream, space.size());
      sent += space.size();
    }
    if (sent == total && !finished) {
      finished = true;
      session.finish(stream);
    }
  }
  void on_readable(Session& session, StreamId stream) override {
    for (ByteView view = session.peek(stream); !view.empty(); view = session.peek(stream)) {
      for (const std::uint8_t byte : view) good &= byte == pattern(received++);
      session.consume(stream, view.size());
    }
    if (session.is_finished(stream)) saw_end = true;
  }
  void on_writable(Session& session, StreamId stream) override { fill(session, stream); }
  void on_reset(Session&, StreamId, AppError code) override { reset = code; }
  void on_stopped(Session& session, StreamId stream, AppError code) override {
    stopped = code;
    session.reset(stream, code);
  }
  void on_closed(Session* session, StreamId, AppError code) override {
    ++closed;
    closed_with_session = session != nullptr;
    close_code = code;
    if (log != nullptr) log->push_back("stream");
  }

  std::uint64_t total, sent = 0, received = 0;
  std::vector<std::string>* log;
  bool finished = false, good = true, saw_end = false, closed_with_session = false;
  int closed = 0;
  AppError reset = AppError::none, stopped = AppError::none, close_code = AppError::none;
};

class DriverTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    host::SystemRandom random;
    const UnixTime now = host::system_time();
    auto root = identity::make_root("test", now, random);
    ASSERT_TRUE(root.ok());
    auto trust = identity::NetworkTrust::make({root->certificate});
    ASSERT_TRUE(trust.ok());
    auto authority = identity::Authority::open(
        {.key = std::move(root->key), .chain = {root->certificate}, .trust = *trust, .crosses = {}}, {}, now);
    ASSERT_TRUE(authority.ok());
    for (const char* name : {"alice", "bob"}) {
      const identity::PrivateKey key = identity::PrivateKey::generate(random);
      auto chain = authority->issue(identity::make_signing_request(key, name), {.name = name, .groups = {}},
                                    now, random);
      ASSERT_TRUE(chain.ok());
      auto local = identity::make_local_identity(key, *chain);
      ASSERT_TRUE(local.ok());
      networks_.push_back({.name = "test",
                           .local = std::move(*local),
                           .policy = identity::make_network_policy(*trust),
                           .server_names = {"test"}});
    }
  }
  void SetUp() override { open(); }
  void TearDown() override {
    for (auto* node : {alice.get(), bob.get()})
      if (node != nullptr && node->driver != nullptr) node->driver->close();
  }
  void open(const host::UdpOptions& udp = {}, const IpAddress& address = kLoopback) {
    alice = std::make_unique<Node>(loop, networks_[0], udp, address);
    bob = std::make_unique<Node>(loop, networks_[1], udp, address);
    ASSERT_TRUE(alice->driver->open().ok());
    ASSERT_TRUE(bob->driver->open().ok());
  }
  template <class Done>
  bool run_until(const Done& done, std::chrono::seconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!done() && std::chrono::steady_clock::now() < end) loop.run_one_until(end);
    return done();
  }
  void connect() {
    alice->dial(*bob);
    ASSERT_TRUE(run_until([&] { return !alice->established.empty() && !bob->established.empty(); }));
  }

  static inline std::vector<session::NetworkOptions> networks_;
  // Lives longer than the drivers: they call handlers until they are closed.
  Bulk& bulk(std::uint64_t size, std::vector<std::string>* log = nullptr) {
    return *bulks.emplace_back(std::make_unique<Bulk>(size, log));
  }

  std::vector<std::unique_ptr<Bulk>> bulks;
  boost::asio::io_context loop;
  std::unique_ptr<Node> alice, bob;
};

void* context_of(StreamHandler& handler) {
  return &handler;
}

void attach(Node& node, StreamHandler& handler) {
  node.take_stream = [&handler](Session& session, StreamId stream) {
    session.set_stream_context(stream, context_of(handler));
    return true;
  };
}

StreamId begin(Node& node, Bulk& handler) {
  Session& session = node.session();
  const auto stream = session.open_stream(StreamKind::bidirectional, context_of(handler));
  EXPECT_TRUE(stream.ok());
  handler.fill(session, *stream);
  node.driver->touch();
  return *stream;
}

TEST_F(DriverTest, two_nodes_find_each_other_over_loopback) {
  connect();
  EXPECT_EQ(alice->session().info().peer.name, "bob");
  EXPECT_EQ(bob->session().info().peer.name, "alice");
}

TEST_F(DriverTest, a_hundred_megabytes_pass_both_ways_at_once) {
  connect();
  constexpr std::uint64_t kSize = 100'000'000;
  Bulk &there = bulk(kSize), &back = bulk(kSize);
  bob->take_stream = [&](Session& session, StreamId stream) {
    session.set_stream_context(stream, context_of(back));
    back.fill(session, stream);
    return true;
  };
  begin(*alice, there);
  ASSERT_TRUE(run_until([&] { return there.closed && back.closed; }, std::chrono::seconds(60)));
  for (const Bulk* side : {&there, &back}) {
    EXPECT_EQ(side->received, kSize);
    EXPECT_TRUE(side->good && side->saw_end && side->closed_with_session);
    EXPECT_EQ(side->closed, 1);
  }
  EXPECT_LT(alice->driver->counters().send_calls * 4,
            alice->driver->counters().packets_sent);  // trains, not packets
}

TEST_F(DriverTest, closing_a_session_ends_every_stream_before_it) {
  connect();
  Bulk &mine = bulk(1 << 20, &alice->order), &theirs = bulk(0, &bob->order);
  attach(*bob, theirs);
  begin(*alice, mine);
  ASSERT_TRUE(run_until([&] { return theirs.received > 0; }));
  alice->session().close(alice->driver->enter(), AppError::revoked, "test");
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return !alice->ended.empty() && !bob->ended.empty(); }));
  EXPECT_EQ(alice->order, (std::vector<std::string>{"stream", "session"}));
  EXPECT_EQ(bob->order, (std::vector<std::string>{"stream", "session"}));
  EXPECT_FALSE(mine.closed_with_session);
  EXPECT_FALSE(theirs.closed_with_session);
  EXPECT_EQ(bob->ended[0].reason.cause, CloseCause::remote_application);
  EXPECT_EQ(bob->ended[0].reason.code, static_cast<std::uint64_t>(AppError::revoked));
  EXPECT_EQ(bob->ended[0].info.peer.name, "alice");
  EXPECT_EQ(alice->ended[0].info.peer.name, "bob");
}

TEST_F(DriverTest, handlers_may_delete_themselves_when_closed) {
  connect();
  struct SelfDeleting final : StreamHandler {
    explicit SelfDeleting(int& count) : alive(count) { ++alive; }
    ~SelfDeleting() override { --alive; }
    void on_readable(Session& session, StreamId stream) override {
      while (!session.peek(stream).empty()) session.consume(stream, session.peek(stream).size());
      session.finish(stream);
    }
    void on_writable(Session&, StreamId) override {}
    void on_reset(Session&, StreamId, AppError) override {}
    void on_stopped(Session&, StreamId, AppError) override {}
    void on_closed(Session*, StreamId, AppError) override { delete this; }
    int& alive;
  };
  static int alive = 0;
  bob->take_stream = [](Session& session, StreamId stream) {
    session.set_stream_context(stream, static_cast<StreamHandler*>(new SelfDeleting(alive)));
    return true;
  };
  Bulk streams[8] = {Bulk(1000), Bulk(1), Bulk(50000), Bulk(7),
                     Bulk(1000), Bulk(1), Bulk(50000), Bulk(1 << 20)};
  for (Bulk& stream : streams) begin(*alice, stream);
  ASSERT_TRUE(run_until([&] {
    return std::all_of(std::begin(streams), std::end(streams),
                       [](const Bulk& stream) { return stream.closed == 1; });
  }));
  ASSERT_TRUE(run_until([&] { return alive == 0; }));
}

// Bob's side is finished and acknowledged first, so that Alice's FIN ends the stream in the packet that
// brings it.
TEST_F(DriverTest, a_fin_that_comes_alone_is_seen_before_the_end) {
  connect();
  Bulk &mine = bulk(0), &theirs = bulk(1);
  bob->take_stream = [&](Session& session, StreamId stream) {
    session.set_stream_context(stream, context_of(theirs));
    theirs.fill(session, stream);
    return true;
  };
  const auto stream = alice->session().open_stream(StreamKind::bidirectional, context_of(mine));
  ASSERT_TRUE(stream.ok());
  alice->session().write(*stream, Bytes(1, pattern(0)));
  alice->driver->touch();
  ASSERT_TRUE(run_until(
      [&] { return mine.saw_end && theirs.received == 1 && bob->session().unacknowledged(*stream) == 0; }));
  EXPECT_EQ(theirs.closed, 0);
  alice->session().finish(*stream);
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return theirs.closed == 1 && mine.closed == 1; }));
  EXPECT_TRUE(theirs.saw_end);
}

TEST_F(DriverTest, the_last_bytes_and_the_end_in_one_packet_are_all_told) {
  connect();
  Bulk &mine = bulk(0), &theirs = bulk(1);
  bob->take_stream = [&](Session& session, StreamId stream) {
    session.set_stream_context(stream, context_of(theirs));
    theirs.fill(session, stream);
    return true;
  };
  const auto stream = alice->session().open_stream(StreamKind::bidirectional, context_of(mine));
  ASSERT_TRUE(stream.ok());
  alice->session().write(*stream, Bytes(1, pattern(0)));
  alice->driver->touch();
  ASSERT_TRUE(run_until(
      [&] { return mine.saw_end && theirs.received == 1 && bob->session().unacknowledged(*stream) == 0; }));
  Bytes rest(500);
  for (std::size_t i = 0; i < rest.size(); ++i) rest[i] = pattern(i + 1);
  alice->session().write(*stream, rest);
  alice->session().finish(*stream);
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return theirs.closed == 1; }));
  EXPECT_TRUE(theirs.saw_end && theirs.good && theirs.closed_with_session);
  EXPECT_EQ(theirs.received, rest.size() + 1);
}

// The ends of a lost session's streams are queued together; a handler may delete another one of them.
TEST_F(DriverTest, a_handler_taken_away_by_another_ones_end_hears_nothing) {
  connect();
  struct Remover final : StreamHandler {
    explicit Remover(Node& owner) : node(owner) {}
    void on_readable(Session&, StreamId) override {}
    void on_writable(Session&, StreamId) override {}
    void on_reset(Session&, StreamId, AppError) override {}
    void on_stopped(Session&, StreamId, AppError) override {}
    void on_closed(Session*, StreamId, AppError) override {
      ++closed;
      Session* const session = node.driver->endpoint().find(node.established.at(0));
      ASSERT_NE(session, nullptr);
      session->set_stream_context(other, nullptr);
    }
    Node& node;
    StreamId other = -1;
    int closed = 0;
  };
  Remover first(*alice), second(*alice);
  const auto one = alice->session().open_stream(StreamKind::bidirectional, context_of(first));
  const auto two = alice->session().open_stream(StreamKind::bidirectional, context_of(second));
  ASSERT_TRUE(one.ok() && two.ok());
  first.other = *two;
  second.other = *one;
  alice->session().close(alice->driver->enter(), AppError::none);
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return !alice->ended.empty(); }));
  EXPECT_EQ(first.closed + second.closed, 1);
}

TEST_F(DriverTest, a_detached_handler_hears_nothing_more) {
  connect();
  Bulk &mine = bulk(0), &theirs = bulk(0);
  attach(*bob, theirs);
  Session& session = alice->session();
  const auto stream = session.open_stream(StreamKind::bidirectional, context_of(mine));
  ASSERT_TRUE(stream.ok());
  session.write(*stream, as_bytes("x"));
  session.set_stream_context(*stream, nullptr);
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return theirs.received == 1; }));
  alice->session().close(alice->driver->enter(), AppError::none);
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return theirs.closed == 1 && !alice->ended.empty(); }));
  EXPECT_EQ(mine.closed, 0);
}

TEST_F(DriverTest, a_stream_that_nobody_takes_is_refused) {
  connect();
  Bulk& mine = bulk(50'000'000);  // more than is under way when the refusal comes
  begin(*alice, mine);
  ASSERT_TRUE(run_until([&] { return mine.closed == 1; }));
  EXPECT_EQ(mine.stopped, AppError::refused);
  EXPECT_EQ(mine.reset, AppError::refused);
}

TEST_F(DriverTest, closing_the_driver_tells_the_peer_and_all_handlers) {
  connect();
  Bulk &mine = bulk(0, &alice->order), &theirs = bulk(0);
  attach(*bob, theirs);
  Session& session = alice->session();
  const auto stream = session.open_stream(StreamKind::bidirectional, context_of(mine));
  session.write(*stream, as_bytes("hello"));
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return theirs.received == 5; }));
  alice->driver->close();
  EXPECT_EQ(alice->order, (std::vector<std::string>{"stream", "session"}));
  ASSERT_TRUE(run_until([&] { return !bob->ended.empty(); }));
  EXPECT_EQ(bob->ended[0].reason.code, static_cast<std::uint64_t>(AppError::shutdown));
  EXPECT_EQ(theirs.closed, 1);
}

TEST_F(DriverTest, bulk_survives_a_kernel_that_refuses_trains) {
  TearDown();
  open({.faults = {.gso_error = EIO}});
  connect();
  Bulk &mine = bulk(10'000'000), &theirs = bulk(0);
  attach(*bob, theirs);
  begin(*alice, mine);
  ASSERT_TRUE(run_until([&] { return theirs.saw_end; }));
  EXPECT_TRUE(theirs.good && theirs.received == mine.total);
  EXPECT_GT(alice->driver->counters().gso_fallbacks, 0u);
}

TEST_F(DriverTest, a_socket_that_never_has_room_does_not_stop_the_loop) {
  connect();
  auto blocked =
      std::make_unique<Node>(loop, networks_[0], host::UdpOptions{.faults = {.send_error = ENOBUFS}});
  ASSERT_TRUE(blocked->driver->open().ok());
  blocked->dial(*bob);
  ASSERT_TRUE(run_until([&] { return blocked->driver->counters().dropped_blocked >= 1; }));
  EXPECT_LT(blocked->driver->counters().blocked, 100u);  // waits instead of spinning
  Bulk &mine = bulk(100'000), &theirs = bulk(0);
  attach(*bob, theirs);
  begin(*alice, mine);
  EXPECT_TRUE(run_until([&] { return theirs.saw_end; }));
}

TEST_F(DriverTest, many_touches_make_one_turn) {
  run_until([] { return false; }, std::chrono::seconds(0));
  while (loop.poll() > 0) {
  }
  const auto before = alice->driver->counters().turns;
  for (int i = 0; i < 1000; ++i) alice->driver->touch();
  while (loop.poll() > 0) {
  }
  EXPECT_EQ(alice->driver->counters().turns, before + 1);
}

TEST_F(DriverTest, time_stands_still_within_a_turn_and_never_goes_back) {
  Instant last = alice->driver->enter();
  for (int i = 0; i < 1000; ++i) {
    const Instant next = alice->driver->enter();
    ASSERT_GE(next, last);
    last = next;
  }
  EXPECT_EQ(alice->driver->now(), last);
}

TEST_F(DriverTest, a_taken_port_is_said_with_its_number) {
  DriverOptions options;
  options.port = alice->driver->port();
  options.listen = {kLoopback};
  options.endpoint.static_secret.resize(32);
  Driver second(loop, std::move(options), alice->random, alice->clock, Log());
  const auto opened = second.open();
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind, ErrorKind::already_exists);
  EXPECT_NE(opened.error().message.find(std::to_string(alice->driver->port())), std::string::npos);
}

TEST_F(DriverTest, sessions_run_over_ipv6_where_it_exists) {
  const IpAddress loopback = *IpAddress::parse("::1");
  if (!host::UdpSocket::open({loopback, 0}).ok()) GTEST_SKIP() << "no IPv6 on this machine";
  TearDown();
  open({}, loopback);
  connect();
  Bulk &mine = bulk(1'000'000), &theirs = bulk(0);
  attach(*bob, theirs);
  begin(*alice, mine);
  ASSERT_TRUE(run_until([&] { return theirs.saw_end; }));
  EXPECT_TRUE(theirs.good);
}

TEST_F(DriverTest, an_observer_may_leave_while_it_is_called) {
  struct Leaver : SessionObserver {
    explicit Leaver(Driver& from) : driver(from) {}
    void on_established(Session&) override {
      ++calls;
      driver.remove_observer(this);
    }
    void on_closed(SessionId, const session::SessionInfo&, const session::CloseReason&) override { ++calls; }
    Driver& driver;
    int calls = 0;
  };
  Leaver leaver(*alice->driver);
  alice->driver->add_observer(&leaver);
  connect();
  alice->session().close(alice->driver->enter(), AppError::none);
  alice->driver->touch();
  ASSERT_TRUE(run_until([&] { return !alice->ended.empty(); }));
  EXPECT_EQ(leaver.calls, 1);
}

}  // namespace
}  // namespace ravine::runtime
