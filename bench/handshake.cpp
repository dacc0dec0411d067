// handshake, resume: sessions set up from nothing to established (certificates of both sides checked, hello
// exchanged) and closed again, as many per second as one core's CPU allows on the side that spends more.
#include <map>

#include "bench/ceilings.h"
#include "bench/families.h"
#include "bench/loopback_node.h"

namespace ravine::bench {

namespace {

using session::AppError;
using session::Session;

constexpr unsigned kConcurrent = 16;

class Acceptor final : public runtime::SessionObserver {
 public:
  explicit Acceptor(SideState& state) : state_(state) {}
  void on_established(Session&) override { state_.operations.fetch_add(1, std::memory_order_relaxed); }

 private:
  SideState& state_;
};

// Keeps a number of dials going; each session is closed as soon as it stands, and the next dialled when it is
// gone. When resuming, each of them has a made-up peer of its own, whose ticket the endpoint keeps.
class Dialler final : public runtime::SessionObserver {
 public:
  Dialler(LoopbackNode& node, bool resume) : node_(node), resume_(resume) {}

  void start() {
    node_.state().ready = true;
    for (unsigned slot = 0; slot < kConcurrent; ++slot) dial(slot);
  }
  void on_established(Session& session) override {
    SideState& state = node_.state();
    if (session.info().resumed == resume_) {
      state.operations.fetch_add(1, std::memory_order_relaxed);
      state.latency.add(static_cast<std::uint64_t>(session.info().handshake_time.count()));
    } else {
      state.failures.fetch_add(1, std::memory_order_relaxed);
    }
    session.close(node_.driver().now(), AppError::none);
  }
  void on_closed(session::SessionId id, const session::SessionInfo&,
                 const session::CloseReason& reason) override {
    if (reason.cause != session::CloseCause::local_application && ++broken_ > 100) {
      return node_.fail({ErrorKind::closed, "handshakes keep failing: " + reason.text});
    }
    const auto found = slots_.find(id);
    if (found == slots_.end()) return;
    const unsigned slot = found->second;
    slots_.erase(found);
    dial(slot);
  }

 private:
  void dial(unsigned slot) {
    std::optional<identity::PeerId> peer;
    if (resume_) {
      peer.emplace();
      peer->bytes.fill(static_cast<std::uint8_t>(slot + 1));
    }
    auto dialled = node_.dial(peer);
    if (!dialled.ok()) return node_.fail(dialled.error());
    slots_[*dialled] = slot;
  }
  LoopbackNode& node_;
  bool resume_;
  std::map<session::SessionId, unsigned> slots_;
  unsigned broken_ = 0;
};

Result<> serve(SharedState& shared, SideState& mine, const Members& members) {
  LoopbackNode node(shared, mine, members.server, {});
  Acceptor acceptor(mine);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&acceptor);
  mine.ready = true;
  node.run();
  node.driver().remove_observer(&acceptor);
  return node.outcome();
}

Result<> dial(SharedState& shared, SideState& mine, const Members& members, bool resume) {
  LoopbackNode node(shared, mine, members.client, {});
  Dialler dialler(node, resume);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&dialler);
  dialler.start();
  node.run();
  node.driver().remove_observer(&dialler);
  return node.outcome();
}

Result<Report> measure_handshakes(const RunOptions& options, bool resume, double target) {
  const Result<Members> members = make_members(true);
  if (!members.ok()) return members.error();
  Report report;
  report.ceiling_name = resume ? "resumed TLS 1.3 handshakes over TCP (OpenSSL), X25519"
                               : "mutual TLS 1.3 handshakes over TCP (OpenSSL), Ed25519 and X25519";
  std::vector<double> client_us, server_us, wall, p50;
  for (unsigned run = 0; run < options.runs; ++run) {
    if (options.progress) options.progress(fmt::format("run {} of {}", run + 1, options.runs));
    const Result<double> tls = measure_tls_handshakes(options.seconds / 3, resume);
    if (!tls.ok()) return tls.error();
    const Result<Window> window = measure_pair(
        {.name = "handshakes", .warm_up = 0.5, .seconds = options.seconds},
        [&](SharedState& shared, SideState& mine) { return serve(shared, mine, *members); },
        [&](SharedState& shared, SideState& mine) { return dial(shared, mine, *members, resume); });
    if (!window.ok()) return window.error();
    const SideWindow &server = window->sides[0], &client = window->sides[1];
    const double count = std::max(client.operations, 1.0);
    client_us.push_back(client.cpu_seconds * 1e6 / count);
    server_us.push_back(server.cpu_seconds * 1e6 / count);
    wall.push_back(client.operations / window->seconds);
    p50.push_back(quantile(client.latency, 0.5) * 1e-3);
    report.values.push_back(1e6 / std::max(client_us.back(), server_us.back()));
    report.ceilings.push_back(*tls);
  }
  report.cpu_ns_per_op = std::max(median(client_us), median(server_us)) * 1e3;
  report.gates = {{"per_second_and_core", median(report.values), target, Better::higher}};
  report.figures = {{"cpu_client_us", median(client_us)},
                    {"cpu_server_us", median(server_us)},
                    {"per_second_wall", median(wall)},
                    {"latency_p50_us", median(p50)}};
  return report;
}

}  // namespace

Result<Report> run_handshake(const RunOptions& options) {
  return measure_handshakes(options, false, 2500);
}
Result<Report> run_resume(const RunOptions& options) {
  return measure_handshakes(options, true, 7000);
}

}  // namespace ravine::bench
