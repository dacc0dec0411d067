// Two endpoints and a list of operations: streams, datagrams, loss, damage, duplicates, reordering, a NAT
// that rebinds, closing. Whatever happens, each stream delivers exactly the bytes that were written, in
// order, and nothing aborts.
#include <map>

#include "fuzz/fuzz_network.h"

using namespace ravine;
using fuzz::expect;
using session::AppError;
using session::Session;
using session::SessionId;
using session::StreamId;
using session::StreamKind;

namespace {

constexpr std::size_t kOperations = 300;
constexpr std::size_t kQueue = 512;

// The byte at `offset` of a stream, the same for writer and reader.
std::uint8_t content(StreamId stream, std::uint64_t offset, bool dialler) {
  return static_cast<std::uint8_t>(offset * 31 + static_cast<std::uint64_t>(stream) * 7 + (dialler ? 1 : 2) +
                                   (offset >> 8));
}

class Side {
 public:
  Side(const session::NetworkOptions& network, std::uint64_t seed, SocketAddress at, bool dialler)
      : peer_(network, seed, at), dialler_(dialler) {}

  fuzz::Peer& peer() { return peer_; }
  Session* session() { return peer_.endpoint().find(id_); }

  void poll_events(Instant now) {
    while (const auto event = peer_.endpoint().poll_event()) {
      switch (event->kind) {
        case session::EventKind::session_established:
          id_ = event->session;
          break;
        case session::EventKind::session_closed:
          if (event->session == id_) {
            id_ = {};
            streams_.clear();
            received_.clear();
          }
          break;
        case session::EventKind::stream_opened:
          if (event->session == id_) streams_.push_back(event->stream);
          break;
        case session::EventKind::stream_readable:
          read(event->session, event->stream);
          break;
        case session::EventKind::datagram_readable:
          if (Session* found = peer_.endpoint().find(event->session)) {
            while (found->peek_datagram()) found->pop_datagram();
          }
          break;
        default:
          break;
      }
    }
    (void)now;
  }

  void open(fuzz::Input& input) {
    Session* found = session();
    if (found == nullptr) return;
    auto stream =
        found->open_stream(input.below(2) == 0 ? StreamKind::bidirectional : StreamKind::unidirectional);
    if (stream.ok()) streams_.push_back(*stream);
  }
  void act_on_stream(fuzz::Input& input) {
    Session* found = session();
    if (found == nullptr || streams_.empty()) return;
    const StreamId stream = streams_[input.below(streams_.size())];
    switch (input.below(8)) {
      case 0:
        found->finish(stream);
        break;
      case 1:
        found->reset(stream, AppError::internal);
        break;
      case 2:
        found->stop(stream, AppError::refused);
        break;
      case 3:
        found->set_priority(stream, static_cast<std::uint8_t>(input.below(8)));
        break;
      default:
        write(*found, stream, 1 + input.u16() % 8000);
    }
  }
  void send_datagram(fuzz::Input& input) {
    if (Session* found = session()) (void)found->send_datagram(Bytes(input.u16() % 1600, 0x44));
  }
  void close(Instant now) {
    if (Session* found = session()) found->close(now, AppError::none);
  }
  void local_change(Instant now) { peer_.endpoint().handle_local_change(now); }

 private:
  void write(Session& session, StreamId stream, std::size_t size) {
    std::uint64_t& offset = written_[{id_, stream}];
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = content(stream, offset + i, dialler_);
    const std::size_t taken = session.write(stream, bytes);
    expect(taken <= size);
    offset += taken;
  }
  void read(SessionId id, StreamId stream) {
    Session* found = peer_.endpoint().find(id);
    if (found == nullptr) return;
    for (ByteView view = found->peek(stream); !view.empty(); view = found->peek(stream)) {
      std::uint64_t& offset = received_[{id, stream}];
      for (const std::uint8_t byte : view) expect(byte == content(stream, offset++, !dialler_));
      found->consume(stream, view.size());
    }
  }

  fuzz::Peer peer_;
  bool dialler_;
  SessionId id_;
  std::vector<StreamId> streams_;
  std::map<std::pair<SessionId, StreamId>, std::uint64_t> written_, received_;
};

class World {
 public:
  World()
      : server_(fuzz::members().server, 11, fuzz::address(1, 4433), false),
        client_(fuzz::members().client, 12, fuzz::address(2, 5000), true) {
    client_.peer().dial(now_, server_.peer().at());
    settle();
  }

  void step(fuzz::Input& input) {
    Side& side = input.below(2) == 0 ? client_ : server_;
    switch (input.below(13)) {
      case 0:
        side.open(input);
        break;
      case 1:
      case 2:
        side.act_on_stream(input);
        break;
      case 3:
        side.send_datagram(input);
        break;
      case 4:
        now_ = now_ + std::chrono::milliseconds(1 + input.below(2000));
        break;
      case 5:
        lose(input);
        break;
      case 6:
        damage(input);
        break;
      case 7:
        duplicate(input);
        break;
      case 8:
        reorder(input);
        break;
      case 9:
        client_.peer().move_to(fuzz::address(2, static_cast<std::uint16_t>(5000 + input.below(8))));
        break;
      case 10:
        if (input.below(16) == 0) side.close(now_);
        if (input.below(8) == 1) side.local_change(now_);
        break;
      default:
        deliver(1 + input.below(16));
    }
    settle();
  }
  bool is_up() { return client_.session() != nullptr && server_.session() != nullptr; }
  void run_quietly() {
    for (int i = 0; i < 40; ++i) {
      deliver(kQueue);
      now_ = now_ + std::chrono::milliseconds(25);
      settle();
    }
  }

 private:
  void settle() {
    for (Side* side : {&client_, &server_}) {
      side->peer().timeout(now_);
      side->poll_events(now_);
      side->peer().drain(now_, wire_);
      side->poll_events(now_);
    }
    while (wire_.size() > kQueue) wire_.pop_back();
  }
  void deliver(std::size_t count) {
    for (; count > 0 && !wire_.empty(); --count) {
      const fuzz::Datagram datagram = std::move(wire_.front());
      wire_.pop_front();
      hand_over(datagram);
      now_ = now_ + std::chrono::microseconds(200);
      settle();
    }
  }
  void hand_over(const fuzz::Datagram& datagram) {
    for (Side* side : {&client_, &server_}) {
      if (side->peer().at() == datagram.to)
        side->peer().receive(now_, datagram.from, datagram.bytes, datagram.ecn, 0);
    }
  }
  fuzz::Datagram* pick(fuzz::Input& input) {
    return wire_.empty() ? nullptr : &wire_[input.below(wire_.size())];
  }
  void lose(fuzz::Input& input) {
    if (wire_.empty()) return;
    wire_.erase(wire_.begin() + static_cast<std::ptrdiff_t>(input.below(wire_.size())));
  }
  void damage(fuzz::Input& input) {
    if (fuzz::Datagram* found = pick(input)) {
      found->bytes[input.u16() % found->bytes.size()] ^= static_cast<std::uint8_t>(1u << input.below(8));
    }
  }
  void duplicate(fuzz::Input& input) {
    if (const fuzz::Datagram* found = pick(input)) wire_.push_back(fuzz::Datagram(*found));
  }
  void reorder(fuzz::Input& input) {
    if (fuzz::Datagram* found = pick(input)) std::swap(*found, wire_.front());
  }

  Instant now_{1'000'000'000};
  Side server_, client_;
  std::deque<fuzz::Datagram> wire_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input({data, size});
  World world;
  world.run_quietly();
  expect(world.is_up());
  for (std::size_t i = 0; i < kOperations && !input.empty(); ++i) world.step(input);
  world.run_quietly();
  return 0;
}
