// datagram: unreliable datagrams of 1200 bytes from the client to the server, beside bare UDP datagrams of
// the same size on the wire.
#include <vector>

#include "bench/ceilings.h"
#include "bench/families.h"
#include "bench/loopback_node.h"

namespace ravine::bench {

namespace {

using session::Connection;
using session::Session;

constexpr std::size_t kPayload = 1200;
constexpr std::size_t kPacket = kPayload + 36;  // short header 1 + 12 + 4, frame 3, AEAD tag 16

class DatagramSink final : public runtime::SessionObserver {
 public:
  explicit DatagramSink(SideState& state) : state_(state) {}
  void on_datagrams(Session& session) override {
    std::uint64_t bytes = 0, count = 0;
    while (const auto view = session.peek_datagram()) {
      bytes += view->size();
      ++count;
      session.pop_datagram();
    }
    state_.bytes.fetch_add(bytes, std::memory_order_relaxed);
    state_.operations.fetch_add(count, std::memory_order_relaxed);
  }

 private:
  SideState& state_;
};

class DatagramSource final : public runtime::SessionObserver {
 public:
  explicit DatagramSource(LoopbackNode& node) : node_(node) {}
  void on_established(Session& session) override {
    node_.state().set_note(session.info().protection);
    node_.state().ready = true;
    fill(session);
  }
  void on_closed(session::SessionId, const session::SessionInfo&,
                 const session::CloseReason& reason) override {
    node_.fail({ErrorKind::closed, "the session closed: " + reason.text});
  }
  void on_datagrams_writable(Session& session) override { fill(session); }

 private:
  void fill(Session& session) {
    for (;;) {
      switch (session.send_datagram(payload_)) {
        case Connection::DatagramOutcome::queued:
          node_.state().operations.fetch_add(1, std::memory_order_relaxed);
          break;
        case Connection::DatagramOutcome::queue_full:
          return;
        case Connection::DatagramOutcome::too_large:  // until path MTU discovery has found the room
          retry_later(session.id());
          return;
        case Connection::DatagramOutcome::unsupported:
          return node_.fail({ErrorKind::unsupported, "the peer takes no datagrams"});
      }
    }
  }
  void retry_later(session::SessionId id) {
    timer_.expires_after(std::chrono::milliseconds(20));
    timer_.async_wait([this, id](const boost::system::error_code& error) {
      if (error) return;
      node_.driver().enter();
      if (Session* session = node_.endpoint().find(id)) fill(*session);
      node_.driver().touch();
    });
  }
  LoopbackNode& node_;
  boost::asio::steady_timer timer_{node_.loop()};
  std::vector<std::uint8_t> payload_ = std::vector<std::uint8_t>(kPayload, 0x5a);
};

Result<> serve(SharedState& shared, SideState& mine, const Members& members) {
  LoopbackNode node(shared, mine, members.server, {});
  DatagramSink sink(mine);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&sink);
  mine.ready = true;
  node.run();
  node.driver().remove_observer(&sink);
  return node.outcome();
}

Result<> send(SharedState& shared, SideState& mine, const Members& members) {
  LoopbackNode node(shared, mine, members.client, {});
  DatagramSource source(node);
  if (Result<> opened = node.open(); !opened.ok()) return opened;
  node.driver().add_observer(&source);
  if (auto dialled = node.dial(members.server_id); !dialled.ok()) return dialled.error();
  node.run();
  node.driver().remove_observer(&source);
  return node.outcome();
}

}  // namespace

Result<Report> run_datagram(const RunOptions& options) {
  const Result<Members> members = make_members();
  if (!members.ok()) return members.error();
  Report report;
  report.ceiling_name = "bare UDP with GSO and GRO, same size on the wire";
  std::vector<double> send_ns, receive_ns;
  std::string protection;
  for (unsigned run = 0; run < options.runs; ++run) {
    if (options.progress) options.progress(fmt::format("run {} of {}", run + 1, options.runs));
    const Result<DatagramCeiling> raw = measure_udp_gso(kPacket, options.seconds / 3);
    if (!raw.ok()) return raw.error();
    const Result<Window> window = measure_pair(
        {.name = "datagram", .warm_up = 0.7, .seconds = options.seconds},
        [&](SharedState& shared, SideState& mine) { return serve(shared, mine, *members); },
        [&](SharedState& shared, SideState& mine) { return send(shared, mine, *members); }, &protection);
    if (!window.ok()) return window.error();
    const SideWindow &server = window->sides[0], &client = window->sides[1];
    report.values.push_back(server.operations * 1e-6 / window->seconds);
    report.ceilings.push_back(raw->million_packets);
    send_ns.push_back(client.cpu_seconds * 1e9 / std::max(client.operations, 1.0));
    receive_ns.push_back(server.cpu_seconds * 1e9 / std::max(server.operations, 1.0));
  }
  report.cpu_ns_per_op = std::max(median(send_ns), median(receive_ns));
  report.gates = {{"cpu_send_ns_per_packet", median(send_ns), 560, Better::lower},
                  {"cpu_receive_ns_per_packet", median(receive_ns), 560, Better::lower}};
  report.figures = {{"cpu_send_ns_per_packet", median(send_ns)},
                    {"cpu_receive_ns_per_packet", median(receive_ns)}};
  report.notes = {{"protection", protection}};
  return report;
}

}  // namespace ravine::bench
