// TestPair: a dialler and an acceptor joined by two lossless or lossy one-way links in virtual time. For the
// tests of this folder; whole networks are simulated in tests/sim.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "session/connection.h"
#include "session/test_certificates.h"

namespace ravine::session::test {

// One network: an acceptor's identity and policy under one server name, and a second protocol for guests.
class TestSelector final : public AcceptSelector {
 public:
  std::span<const std::string> alpns() const override { return alpns_; }
  std::variant<AcceptChoice, AcceptRefusal> select(std::string_view server_name,
                                                   std::string_view alpn) const override {
    if (server_name != "net.example") return AcceptRefusal::unrecognized_name;
    AcceptChoice made = choice;
    made.require_certificate = alpn != "guest/1";
    return made;
  }
  AcceptChoice choice;

 private:
  std::vector<std::string> alpns_{"test/1", "guest/1"};
};

// What both ends of a pair are made of; shared by several pairs (resumption, memory).
struct TestNetwork {
  TestAuthority authority{"authority"};
  identity::LocalIdentity dialler_identity = authority.issue("dialler");
  identity::LocalIdentity acceptor_identity = authority.issue("acceptor");
  std::shared_ptr<TestPolicy> dialler_policy = std::make_shared<TestPolicy>(authority);
  std::shared_ptr<TestPolicy> acceptor_policy = std::make_shared<TestPolicy>(authority);
  Bytes secret = Bytes(32, 7);
  std::shared_ptr<const TlsContext> dialler_tls = TlsContext::make(&dialler_identity, secret).value();
  TestSelector selector;
  SeededRandom random{42};
  TestClock clock;

  TestNetwork() {
    selector.choice.network = {5};
    selector.choice.tls = TlsContext::make(&acceptor_identity, secret).value();
    selector.choice.policy = acceptor_policy;
  }
  ConnectionOptions dialler_options() const {
    ConnectionOptions options;
    options.alpn = "test/1";
    options.server_name = "net.example";
    options.tls = dialler_tls;
    options.policy = dialler_policy;
    options.network = {3};
    return options;
  }
  ConnectionOptions acceptor_options() const {
    ConnectionOptions options;
    options.selector = &selector;
    return options;
  }
};

struct TestEnd {
  std::unique_ptr<Connection> connection;
  std::vector<Event> events;
  std::optional<Bytes> ticket;
  ReadOutcome last_read = ReadOutcome::ok;
  std::uint64_t packets_sent = 0;
  bool close_sent = false;

  bool saw(EventKind kind) const { return count(kind) > 0; }
  std::size_t count(EventKind kind) const {
    return static_cast<std::size_t>(std::count_if(events.begin(), events.end(),
                                                  [kind](const Event& event) { return event.kind == kind; }));
  }
  const Event* find(EventKind kind) const {
    for (const Event& event : events) {
      if (event.kind == kind) return &event;
    }
    return nullptr;
  }
};

class TestPair {
 public:
  TestPair(TestNetwork& network, ConnectionOptions dialler_options, ConnectionOptions acceptor_options)
      : network_(network), acceptor_options_(std::move(acceptor_options)) {
    dialler.connection = Connection::dial(now, std::move(dialler_options), network.random, network.clock,
                                          network.secret, Label{0x1111}, Label{0x2222}, {})
                             .value();
  }
  explicit TestPair(TestNetwork& network)
      : TestPair(network, network.dialler_options(), network.acceptor_options()) {}

  TestEnd dialler, acceptor;
  Instant now{1'000'000'000};
  Duration delay = 10ms;
  double loss = 0;
  std::size_t mtu = 65535;  // larger packets vanish
  std::uint64_t rate = 0;   // bytes per second and direction; 0: infinite
  bool keep_events = true;
  std::function<void()> application;  // runs after every step
  std::function<bool(bool to_acceptor, ByteView packet)> drop;

  // Runs until `done` or for `span` of virtual time; returns whether `done` became true.
  bool run(Duration span, const std::function<bool()>& done = {}) {
    const Instant end = now + span;
    flush();
    while (true) {
      if (done && done()) return true;
      Instant next = end;
      if (!wire_.empty()) next = std::min(next, wire_.begin()->first.first);
      for (TestEnd* side : {&dialler, &acceptor}) {
        if (side->connection) next = std::min(next, side->connection->next_deadline().at);
      }
      if (next >= end) break;
      now = std::max(now, next);
      step();
    }
    now = end;
    return done && done();
  }
  bool establish() {
    return run(5s,
               [this] { return dialler.connection->is_confirmed() && acceptor.connection->is_confirmed(); });
  }
  void roll() { dice_.unit(); }  // another course of losses
  // Lets the application's calls take effect at once.
  void flush() {
    transmit(dialler, true);
    transmit(acceptor, false);
    collect(dialler);
    collect(acceptor);
  }

 private:
  struct Packet {
    bool to_acceptor;
    SyntheticPath path;
    std::uint8_t ecn;
    Bytes bytes;
  };

  void step() {
    while (!wire_.empty() && wire_.begin()->first.first <= now) {
      Packet packet = std::move(wire_.begin()->second);
      wire_.erase(wire_.begin());
      deliver(packet);
    }
    for (TestEnd* side : {&dialler, &acceptor}) {
      if (side->connection && side->connection->next_deadline().at <= now)
        side->connection->handle_timeout(now);
    }
    flush();
    if (application) {
      application();
      flush();
    }
  }
  void deliver(const Packet& packet) {
    TestEnd& side = packet.to_acceptor ? acceptor : dialler;
    if (!side.connection && !accept(packet)) return;
    side.last_read = side.connection->read(now, packet.path, packet.ecn, packet.bytes);
  }
  bool accept(const Packet& packet) {
    const Bytes& bytes = packet.bytes;
    if (bytes.size() < 1200 || (bytes[0] & 0x80) == 0) return false;
    AcceptedInitial initial;
    const std::size_t dcid_size = bytes[5], scid_size = bytes[6 + dcid_size];
    initial.original_dcid.assign(bytes.begin() + 6, bytes.begin() + 6 + static_cast<long>(dcid_size));
    const auto scid = bytes.begin() + 7 + static_cast<long>(dcid_size);
    initial.client_scid.assign(scid, scid + static_cast<long>(scid_size));
    acceptor.connection = Connection::accept(now, acceptor_options_, network_.random, network_.clock,
                                             network_.secret, Label{0x2222}, initial, packet.path)
                              .value();
    return true;
  }
  void transmit(TestEnd& side, bool to_acceptor) {
    if (!side.connection) return;
    static thread_local std::vector<std::uint8_t> space(256 * 1024);
    while (true) {
      packets_.clear();
      if (side.connection->is_closed()) {
        if (side.close_sent) return;
        side.close_sent = true;
        if (auto packet = side.connection->write_close(now, space)) packets_.push_back(*packet);
      } else {
        side.connection->write(now, space, packets_);
      }
      for (const OutgoingPacket& packet : packets_) send(side, to_acceptor, packet);
      if (packets_.empty()) return;
    }
  }
  void send(TestEnd& side, bool to_acceptor, const OutgoingPacket& packet) {
    ++side.packets_sent;
    const ByteView view{packet.data, packet.size};
    if (packet.size > mtu || (loss > 0 && dice_.unit() < loss) || (drop && drop(to_acceptor, view))) return;
    Instant leaves = now;
    if (rate > 0) {
      Instant& free_at = free_at_[to_acceptor ? 1 : 0];
      free_at =
          std::max(free_at, now) + Duration{static_cast<std::int64_t>(packet.size * 1'000'000'000ull / rate)};
      leaves = free_at;
    }
    wire_.emplace(std::pair{leaves + delay, sequence_++},
                  Packet{to_acceptor, packet.path, packet.ecn, to_bytes(view)});
  }
  void collect(TestEnd& side) {
    if (!side.connection || !keep_events) return;
    while (auto event = side.connection->poll_event()) {
      side.events.push_back(*event);
      if (event->kind == EventKind::stream_closed) side.connection->forget_stream(event->stream);
    }
    if (auto ticket = side.connection->poll_ticket()) side.ticket = std::move(ticket);
  }

  TestNetwork& network_;
  ConnectionOptions acceptor_options_;
  SeededRandom dice_{7};
  std::map<std::pair<Instant, std::uint64_t>, Packet> wire_;
  std::uint64_t sequence_ = 0;
  Instant free_at_[2];
  std::vector<OutgoingPacket> packets_;
};

}  // namespace ravine::session::test
