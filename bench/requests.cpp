// rr1, rr64: requests of 64 bytes, each on a new stream, answered by 64 bytes; 1 or 64 of them outstanding.
#include <array>
#include <vector>

#include "bench/ceilings.h"
#include "bench/families.h"
#include "bench/loopback_node.h"

namespace ravine::bench {

namespace {

using session::AppError;
using session::Session;
using session::StreamId;
using session::StreamKind;

constexpr std::size_t kMessage = 64;

std::size_t drain(Session& session, StreamId stream) {
  std::size_t total = 0;
  for (ByteView view = session.peek(stream); !view.empty(); view = session.peek(stream)) {
    total += view.size();
    session.consume(stream, view.size());
  }
  return total;
}

// Answers each stream that ended. Streams need no state of their own: a request fits one packet.
class Responder final : public runtime::SessionObserver, public runtime::StreamHandler {
 public:
  explicit Responder(SideState& state) : state_(state) {}
  bool on_stream_opened(Session& session, StreamId stream) override {
    session.set_stream_context(stream, static_cast<runtime::StreamHandler*>(this));
    return true;
  }
  void on_readable(Session& session, StreamId stream) override {
    drain(session, stream);
    if (!session.is_finished(stream)) return;
    session.write(stream, answer_);
    session.finish(stream);
    state_.operations.store(state_.operations.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  void on_writable(Session&, StreamId) override {}
  void on_reset(Session&, StreamId, AppError) override {}
  void on_stopped(Session&, StreamId, AppError) override {}
  void on_closed(Session*, StreamId, AppError) override {}
  void on_closed(session::SessionId, const session::SessionInfo&, const session::CloseReason&) override {}

 private:
  SideState& state_;
  std::array<std::uint8_t, kMessage> answer_{};
};

class Requester;

// One of the outstanding requests; starts the next when its answer is complete.
class Slot final : public runtime::StreamHandler {
 public:
  explicit Slot(Requester& requester) : requester_(requester) {}
  void start(Session& session);
  void on_readable(Session& session, StreamId stream) override;
  void on_writable(Session&, StreamId) override {}
  void on_reset(Session&, StreamId, AppError) override {}
  void on_stopped(Session&, StreamId, AppError) override {}
  void on_closed(Session*, StreamId, AppError) override {}

 private:
  Requester& requester_;
  StreamId stream_ = -1;
  std::size_t received_ = 0;
  std::uint64_t started_ = 0;
};

class Requester final : public runtime::SessionObserver {
 public:
  Requester(LoopbackNode& node, unsigned outstanding) : node_(node), slots_(outstanding, Slot(*this)) {}
  void on_established(Session& session) override {
    node_.state().set_note(session.info().protection);
    node_.state().ready = true;
    for (Slot& slot : slots_) slot.start(session);
  }
  void on_closed(session::SessionId, const session::SessionInfo&,
                 const session::CloseReason& reason) override {
    node_.fail({ErrorKind::closed, "the session closed: " + reason.text});
  }
  void on_streams_available(Session& session) override {
    std::vector<Slot*> waiting;
    waiting.swap(waiting_);
    for (Slot* slot : waiting) slot->start(session);
  }
  LoopbackNode& node() { return node_; }
  void wait_for_streams(Slot& slot) { waiting_.push_back(&slot); }

 private:
  LoopbackNode& node_;
  std::vector<Slot> slots_;
  std::vector<Slot*> waiting_;
};

void Slot::start(Session& session) {
  static constexpr std::array<std::uint8_t, kMessage> kRequest{};
  auto stream = session.open_stream(StreamKind::bidirectional, static_cast<runtime::StreamHandler*>(this));
  if (!stream.ok()) return requester_.wait_for_streams(*this);
  stream_ = *stream;
  received_ = 0;
  started_ = now_nanoseconds();
  session.write(stream_, kRequest);
  session.finish(stream_);
}

void Slot::on_readable(Session& session, StreamId stream) {
  if (stream != stream_) return;
  received_ += drain(session, stream);
  if (!session.is_finished(stream)) return;
  if (received_ != kMessage) return requester_.node().fail({ErrorKind::internal, "an answer was cut short"});
  SideState& state = requester_.node().state();
  state.latency.add(now_nanoseconds() - started_);
  state.operations.store(state.operations.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  start(session);
}

Result<> serve(SharedState& shared, SideState& mine, const Members& members) {
  LoopbackNode node(shared, mine, members.server, {});
  Responder responder(mine);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&responder);
  mine.ready = true;
  node.run();
  node.driver().remove_observer(&responder);
  return node.outcome();
}

Result<> request(SharedState& shared, SideState& mine, const Members& members, unsigned outstanding) {
  LoopbackNode node(shared, mine, members.client, {});
  Requester requester(node, outstanding);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&requester);
  if (auto dialled = node.dial(members.server_id); !dialled.ok()) return dialled.error();
  node.run();
  node.driver().remove_observer(&requester);
  return node.outcome();
}

Result<Window> measure_requests(const Members& members, unsigned outstanding, double seconds) {
  return measure_pair(
      {.name = "requests", .warm_up = 0.5, .seconds = seconds},
      [&](SharedState& shared, SideState& mine) { return serve(shared, mine, members); },
      [&](SharedState& shared, SideState& mine) { return request(shared, mine, members, outstanding); });
}

struct Samples {
  std::vector<double> p50, p99, server_us, client_us, per_second;
  void add(const Window& window) {
    const SideWindow &server = window.sides[0], &client = window.sides[1];
    const double count = std::max(client.operations, 1.0);
    p50.push_back(quantile(client.latency, 0.5) * 1e-3);
    p99.push_back(quantile(client.latency, 0.99) * 1e-3);
    server_us.push_back(server.cpu_seconds * 1e6 / count);
    client_us.push_back(client.cpu_seconds * 1e6 / count);
    per_second.push_back(client.operations / window.seconds);
  }
  void tell(Report& report) const {
    report.cpu_ns_per_op = std::max(median(server_us), median(client_us)) * 1e3;
    report.figures = {{"requests_per_second", median(per_second)},
                      {"p50_us", median(p50)},
                      {"p99_us", median(p99)},
                      {"cpu_client_us_per_request", median(client_us)},
                      {"cpu_server_us_per_request", median(server_us)}};
  }
};

}  // namespace

Result<Report> run_rr1(const RunOptions& options) {
  const Result<Members> members = make_members();
  if (!members.ok()) return members.error();
  Report report;
  report.ceiling_name = "bare UDP datagram there and back, blocking calls";
  Samples samples;
  for (unsigned run = 0; run < options.runs; ++run) {
    if (options.progress) options.progress(fmt::format("run {} of {}", run + 1, options.runs));
    const Result<double> bare = measure_udp_round_trip(kMessage, options.seconds / 3);
    if (!bare.ok()) return bare.error();
    const Result<Window> window = measure_requests(*members, 1, options.seconds);
    if (!window.ok()) return window.error();
    samples.add(*window);
    report.ceilings.push_back(*bare);
  }
  report.values = samples.p50;
  samples.tell(report);
  report.gates = {{"p50_us", median(samples.p50), 55, Better::lower}};
  return report;
}

Result<Report> run_rr64(const RunOptions& options) {
  const Result<Members> members = make_members();
  if (!members.ok()) return members.error();
  Report report;
  report.ceiling_name = "bare UDP datagrams there and back, 64 outstanding, one system call each";
  Samples samples;
  for (unsigned run = 0; run < options.runs; ++run) {
    if (options.progress) options.progress(fmt::format("run {} of {}", run + 1, options.runs));
    const Result<double> bare = measure_udp_echoes(kMessage, 64, options.seconds / 3);
    if (!bare.ok()) return bare.error();
    const Result<Window> window = measure_requests(*members, 64, options.seconds);
    if (!window.ok()) return window.error();
    samples.add(*window);
    report.ceilings.push_back(*bare);
  }
  report.values = samples.per_second;
  samples.tell(report);
  report.gates = {{"cpu_client_us_per_request", median(samples.client_us), 0.8, Better::lower},
                  {"cpu_server_us_per_request", median(samples.server_us), 0.8, Better::lower}};
  return report;
}

}  // namespace ravine::bench
