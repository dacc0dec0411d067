// idle_memory: what a session costs when nothing moves on it: growth of RssAnon from no session to 2,000 on
// each side.
#include "bench/families.h"
#include "bench/loopback_node.h"
#include "bench/plain_quic.h"

namespace ravine::bench {

namespace {

using session::Session;

constexpr unsigned kSessions = 2000;
constexpr unsigned kConcurrent = 16;

class Holder final : public runtime::SessionObserver {
 public:
  explicit Holder(SideState& state) : state_(state) {}
  void on_established(Session&) override { state_.operations.fetch_add(1, std::memory_order_relaxed); }

 private:
  SideState& state_;
};

class Gatherer final : public runtime::SessionObserver {
 public:
  explicit Gatherer(LoopbackNode& node) : node_(node) {}
  // The parent reads the memory of a node without sessions before it lets this begin.
  void wait_for_go() {
    timer_.expires_after(std::chrono::milliseconds(10));
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      if (node_.shared().sides[0].failures == 0) return wait_for_go();
      node_.driver().enter();
      dial();
      node_.driver().touch();
    });
  }
  void on_established(Session&) override {
    node_.state().operations.fetch_add(1, std::memory_order_relaxed);
    --pending_;
    dial();
  }
  void on_closed(session::SessionId, const session::SessionInfo&,
                 const session::CloseReason& reason) override {
    node_.fail({ErrorKind::closed, "a session closed: " + reason.text});
  }

 private:
  void dial() {
    for (; pending_ < kConcurrent && dialled_ < kSessions; ++pending_, ++dialled_) {
      if (auto dialled = node_.dial(std::nullopt); !dialled.ok()) return node_.fail(dialled.error());
    }
  }
  LoopbackNode& node_;
  boost::asio::steady_timer timer_{node_.loop()};
  unsigned pending_ = 0;
  unsigned dialled_ = 0;
};

Result<> serve(SharedState& shared, SideState& mine, const Members& members) {
  LoopbackNode node(shared, mine, members.server, {.idle_timeout = 600s});
  Holder holder(mine);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&holder);
  mine.ready = true;
  node.run();
  node.driver().remove_observer(&holder);
  return node.outcome();
}

Result<> gather(SharedState& shared, SideState& mine, const Members& members) {
  LoopbackNode node(shared, mine, members.client, {.idle_timeout = 600s});
  Gatherer gatherer(node);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&gatherer);
  mine.ready = true;
  gatherer.wait_for_go();
  node.run();
  node.driver().remove_observer(&gatherer);
  return node.outcome();
}

struct Memory {
  double server = 0, client = 0;  // KiB per session
};

Result<Memory> measure_idle(const Members& members, double settle_seconds) {
  SideGroup group;
  const auto server = [&](SharedState& shared, SideState& mine) { return serve(shared, mine, members); };
  const auto client = [&](SharedState& shared, SideState& mine) { return gather(shared, mine, members); };
  if (Result<> up = group.start("server", kServerCore, server, 10s); !up.ok()) return up.error();
  if (Result<> up = group.start("client", kClientCore, client, 10s); !up.ok()) return up.error();
  if (Result<> quiet = group.sleep(0.2); !quiet.ok()) return quiet.error();
  std::array<double, 2> before{};
  for (std::size_t side = 0; side < 2; ++side) {
    const Result<double> memory = group.anonymous_memory(side);
    if (!memory.ok()) return memory.error();
    before[side] = *memory;
  }
  group.shared().sides[0].failures = 1;  // go
  const std::uint64_t until = now_nanoseconds() + 60'000'000'000;
  while (group.shared().sides[0].operations < kSessions || group.shared().sides[1].operations < kSessions) {
    if (Result<> alive = group.sleep(0.05); !alive.ok()) return alive.error();
    if (now_nanoseconds() > until) {
      return Error{ErrorKind::timed_out, fmt::format("only {} of {} sessions stood after 60 s",
                                                     group.shared().sides[1].operations.load(), kSessions)};
    }
  }
  if (Result<> settled = group.sleep(settle_seconds); !settled.ok()) return settled.error();
  std::array<double, 2> grown{};
  for (std::size_t side = 0; side < 2; ++side) {
    const Result<double> memory = group.anonymous_memory(side);
    if (!memory.ok()) return memory.error();
    grown[side] = (*memory - before[side]) / kSessions;
  }
  return Memory{.server = grown[0], .client = grown[1]};
}

}  // namespace

Result<Report> run_idle_memory(const RunOptions& options) {
  const Result<Members> members = make_members(true);
  if (!members.ok()) return members.error();
  Report report;
  report.ceiling_name = "a bare ngtcp2 connection with its GnuTLS session, either side";
  std::vector<double> server, client;
  for (unsigned run = 0; run < options.runs; ++run) {
    if (options.progress) options.progress(fmt::format("run {} of {}", run + 1, options.runs));
    const Result<double> bare = measure_plain_quic_memory(members->server.local, members->client.local);
    if (!bare.ok()) return bare.error();
    const Result<Memory> memory = measure_idle(*members, std::min(options.seconds, 3.0));
    if (!memory.ok()) return memory.error();
    server.push_back(memory->server);
    client.push_back(memory->client);
    report.values.push_back(std::max(memory->server, memory->client));
    report.ceilings.push_back(*bare);
  }
  report.gates = {{"server_kib", median(server), 36, Better::lower},
                  {"client_kib", median(client), 36, Better::lower}};
  report.figures = {{"server_kib", median(server)}, {"client_kib", median(client)}};
  report.notes = {{"sessions", std::to_string(kSessions)}};
  return report;
}

}  // namespace ravine::bench
