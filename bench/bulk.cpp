// bulk, bulk_gnutls: one stream from the client to the server, in packets of 1452 bytes, beside one TLS
// stream over TCP.
#include <array>

#include "bench/ceilings.h"
#include "bench/families.h"
#include "bench/loopback_node.h"

namespace ravine::bench {

namespace {

using session::AppError;
using session::Session;
using session::StreamId;
using session::StreamKind;

constexpr std::size_t kBlock = 64 * 1024;  // bytes per write, as the TLS ceiling has

// The server: counts what arrives on any stream.
class Sink final : public runtime::SessionObserver, public runtime::StreamHandler {
 public:
  explicit Sink(SideState& state) : state_(state) {}
  bool on_stream_opened(Session& session, StreamId stream) override {
    session.set_stream_context(stream, static_cast<runtime::StreamHandler*>(this));
    return true;
  }
  void on_readable(Session& session, StreamId stream) override {
    for (ByteView view = session.peek(stream); !view.empty(); view = session.peek(stream)) {
      state_.bytes.store(state_.bytes.load(std::memory_order_relaxed) + view.size(),
                         std::memory_order_relaxed);
      session.consume(stream, view.size());
    }
  }
  void on_writable(Session&, StreamId) override {}
  void on_reset(Session&, StreamId, AppError) override {}
  void on_stopped(Session&, StreamId, AppError) override {}
  void on_closed(Session*, StreamId, AppError) override {}
  void on_closed(session::SessionId, const session::SessionInfo&, const session::CloseReason&) override {}

 private:
  SideState& state_;
};

// The client: keeps one stream's send buffer full.
class Source final : public runtime::SessionObserver, public runtime::StreamHandler {
 public:
  explicit Source(LoopbackNode& node) : node_(node) { block_.fill(0x5a); }
  void on_established(Session& session) override {
    node_.state().set_note(session.info().protection);
    auto stream = session.open_stream(StreamKind::unidirectional, static_cast<runtime::StreamHandler*>(this));
    if (!stream.ok()) return node_.fail(stream.error());
    node_.state().ready = true;
    fill(session, *stream);
  }
  void on_closed(session::SessionId, const session::SessionInfo&,
                 const session::CloseReason& reason) override {
    node_.fail({ErrorKind::closed, "the session closed: " + reason.text});
  }
  void on_writable(Session& session, StreamId stream) override { fill(session, stream); }
  void on_readable(Session&, StreamId) override {}
  void on_reset(Session&, StreamId, AppError) override {}
  void on_stopped(Session&, StreamId, AppError) override {}
  void on_closed(Session*, StreamId, AppError) override {}

 private:
  void fill(Session& session, StreamId stream) {
    while (session.write(stream, block_) == block_.size()) {
    }
  }
  LoopbackNode& node_;
  std::array<std::uint8_t, kBlock> block_;
};

Result<> serve(SharedState& shared, SideState& mine, const Members& members, const NodeTuning& tuning) {
  LoopbackNode node(shared, mine, members.server, tuning);
  Sink sink(mine);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&sink);
  mine.ready = true;
  node.run();
  node.driver().remove_observer(&sink);
  return node.outcome();
}

Result<> send(SharedState& shared, SideState& mine, const Members& members, const NodeTuning& tuning) {
  LoopbackNode node(shared, mine, members.client, tuning);
  Source source(node);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&source);
  if (auto dialled = node.dial(members.server_id); !dialled.ok()) return dialled.error();
  node.run();
  node.driver().remove_observer(&source);
  return node.outcome();
}

struct BulkTargets {
  double send_ns, receive_ns;
  std::optional<double> ratio;
};

Result<Report> measure_bulk(const RunOptions& options, const NodeTuning& tuning, const BulkTargets& targets) {
  const Result<Members> members = make_members();
  if (!members.ok()) return members.error();
  Report report;
  report.ceiling_name = "TLS 1.3 over TCP (OpenSSL), one stream";
  std::vector<double> send_ns, receive_ns, udp;
  std::string protection;
  StreamCeiling last;
  for (unsigned run = 0; run < options.runs; ++run) {
    if (options.progress) options.progress(fmt::format("run {} of {}, ceilings", run + 1, options.runs));
    const Result<StreamCeiling> tls = measure_tls_stream(options.seconds);
    if (!tls.ok()) return tls.error();
    last = *tls;
    const Result<DatagramCeiling> raw = measure_udp_gso(1452, options.seconds / 3);
    if (!raw.ok()) return raw.error();
    if (options.progress) options.progress(fmt::format("run {} of {}", run + 1, options.runs));
    const Result<Window> window = measure_pair(
        {.name = "bulk", .warm_up = 0.7, .seconds = options.seconds},
        [&](SharedState& shared, SideState& mine) { return serve(shared, mine, *members, tuning); },
        [&](SharedState& shared, SideState& mine) { return send(shared, mine, *members, tuning); },
        &protection);
    if (!window.ok()) return window.error();
    const SideWindow &server = window->sides[0], &client = window->sides[1];
    report.values.push_back(server.bytes * 8e-9 / window->seconds);
    report.ceilings.push_back(tls->gigabits);
    udp.push_back(raw->gigabits);
    send_ns.push_back(client.cpu_seconds * 1e9 / std::max(client.packets_sent, 1.0));
    receive_ns.push_back(server.cpu_seconds * 1e9 / std::max(server.packets_received, 1.0));
  }
  report.cpu_ns_per_op = std::max(median(send_ns), median(receive_ns));
  report.gates = {{"cpu_send_ns_per_packet", median(send_ns), targets.send_ns, Better::lower},
                  {"cpu_receive_ns_per_packet", median(receive_ns), targets.receive_ns, Better::lower}};
  if (targets.ratio) {
    report.gates.push_back({"ratio", median(report.values) / std::max(median(report.ceilings), 1e-9),
                            *targets.ratio, Better::higher});
  }
  report.figures = {{"cpu_send_ns_per_packet", median(send_ns)},
                    {"cpu_receive_ns_per_packet", median(receive_ns)},
                    {"tls_send_ns_per_1452_bytes", last.send_ns_per_packet},
                    {"tls_receive_ns_per_1452_bytes", last.receive_ns_per_packet},
                    {"raw_udp_gso_gbit_per_second", median(udp)}};
  report.notes = {{"protection", protection}};
  return report;
}

}  // namespace

Result<Report> run_bulk(const RunOptions& options) {
  return measure_bulk(options, {}, {.send_ns = 560, .receive_ns = 480, .ratio = 1.2});
}

Result<Report> run_bulk_gnutls(const RunOptions& options) {
  return measure_bulk(options, {.protection = session::ProtectionBackend::gnutls},
                      {.send_ns = 830, .receive_ns = 730, .ratio = std::nullopt});
}

}  // namespace ravine::bench
