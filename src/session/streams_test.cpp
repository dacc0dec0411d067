// Streams and datagrams over a pair of connections.
#include "session/streams.h"

#include <gtest/gtest.h>

#include "session/datagrams.h"
#include "session/stop_scanner.h"
#include "session/test_pair.h"

namespace ravine::session {
namespace {

using test::TestNetwork;
using test::TestPair;

std::string read_all(Connection& connection, StreamId stream) {
  std::string out;
  for (ByteView view = connection.peek_stream(stream); !view.empty(); view = connection.peek_stream(stream)) {
    out += as_text(view);
    connection.consume_stream(stream, view.size());
  }
  return out;
}

std::uint8_t pattern(std::uint64_t offset) {
  return static_cast<std::uint8_t>((offset * 0x9e3779b97f4a7c15u) >> 56);
}

class StreamTest : public testing::Test {
 protected:
  void start(ConnectionOptions dialler_options, ConnectionOptions acceptor_options) {
    pair.emplace(network, std::move(dialler_options), std::move(acceptor_options));
    ASSERT_TRUE(pair->establish());
  }
  void SetUp() override { start(network.dialler_options(), network.acceptor_options()); }
  Connection& dialler() { return *pair->dialler.connection; }
  Connection& acceptor() { return *pair->acceptor.connection; }
  StreamId open(StreamKind kind = StreamKind::bidirectional, void* context = nullptr) {
    return dialler().open_stream(kind, context).value();
  }
  TestNetwork network;
  std::optional<TestPair> pair;
};

TEST_F(StreamTest, carry_a_request_and_its_answer_and_then_are_gone) {
  int mark = 0;
  const StreamId stream = open(StreamKind::bidirectional, &mark);
  EXPECT_EQ(dialler().write_stream(stream, as_bytes("question")), 8u);
  dialler().finish_stream(stream);
  EXPECT_EQ(dialler().write_stream(stream, as_bytes("too late")), 0u);
  pair->run(50ms);
  ASSERT_TRUE(pair->acceptor.saw(EventKind::stream_opened));
  ASSERT_EQ(pair->acceptor.count(EventKind::stream_readable), 1u);
  EXPECT_EQ(read_all(acceptor(), stream), "question");
  EXPECT_TRUE(acceptor().is_stream_finished(stream));
  acceptor().write_stream(stream, as_bytes("answer"));
  acceptor().finish_stream(stream);
  pair->run(100ms);
  EXPECT_FALSE(pair->dialler.saw(EventKind::stream_closed)) << "the answer is unread";
  EXPECT_EQ(read_all(dialler(), stream), "answer");
  pair->run(100ms);
  ASSERT_EQ(pair->dialler.count(EventKind::stream_closed), 1u);
  EXPECT_EQ(pair->dialler.find(EventKind::stream_closed)->context, &mark);
  EXPECT_EQ(pair->acceptor.count(EventKind::stream_closed), 1u);
  EXPECT_EQ(dialler().open_streams(), 0u);
  EXPECT_EQ(acceptor().open_streams(), 0u);
  EXPECT_TRUE(dialler().peek_stream(stream).empty());
}

TEST_F(StreamTest, deliver_ten_megabytes_both_ways_over_a_lossy_link) {
  pair->loss = 0.02;
  pair->delay = 5ms;
  const StreamId stream = open();
  constexpr std::uint64_t kTotal = 10'000'000;
  std::uint64_t sent[2] = {}, received[2] = {}, wrong = 0;
  Connection* ends[2] = {&dialler(), &acceptor()};
  pair->application = [&] {
    for (int i = 0; i < 2; ++i) {
      while (sent[i] < kTotal) {
        MutableBytes room = ends[i]->reserve_stream(stream, std::min<std::uint64_t>(10000, kTotal - sent[i]));
        if (room.empty()) break;
        for (std::size_t k = 0; k < room.size(); ++k) room[k] = pattern(sent[i] + k);
        ends[i]->commit_stream(stream, room.size());
        sent[i] += room.size();
        if (sent[i] == kTotal) ends[i]->finish_stream(stream);
      }
      for (ByteView view = ends[i]->peek_stream(stream); !view.empty(); view = ends[i]->peek_stream(stream)) {
        for (const std::uint8_t byte : view) wrong += byte != pattern(received[i]++);
        ends[i]->consume_stream(stream, view.size());
      }
    }
  };
  pair->application();
  EXPECT_TRUE(pair->run(300s, [&] { return received[0] == kTotal && received[1] == kTotal; }))
      << received[0] << " " << received[1];
  EXPECT_EQ(wrong, 0u);
  pair->run(1s);
  EXPECT_TRUE(pair->dialler.saw(EventKind::stream_closed));
  EXPECT_TRUE(pair->acceptor.saw(EventKind::stream_closed));
}

TEST_F(StreamTest, fill_most_of_a_link_under_either_congestion_control) {
  for (const auto congestion : {CongestionControl::cubic, CongestionControl::bbr}) {
    ConnectionOptions options = network.dialler_options();
    options.congestion = congestion;
    start(options, network.acceptor_options());
    pair->rate = 2'500'000;
    const StreamId stream = open(StreamKind::unidirectional);
    std::uint64_t received = 0;
    pair->application = [&] {
      while (dialler().stream_unacknowledged(stream) < 250'000 &&
             dialler().write_stream(stream, Bytes(16384, 1)) > 0) {
      }
      received += read_all(acceptor(), stream).size();
    };
    pair->application();
    pair->run(4s);
    EXPECT_GT(received, 4 * 2'000'000u);
  }
}

TEST_F(StreamTest, stop_the_writer_when_nobody_reads_and_wake_it_later) {
  const StreamId stream = open(StreamKind::unidirectional);
  const Bytes block(64 * 1024, 1);
  std::uint64_t sent = 0;
  const auto pump = [&] {
    for (std::size_t taken = 1; taken > 0;) sent += taken = dialler().write_stream(stream, block);
  };
  pump();
  const ConnectionLimits limits;
  EXPECT_EQ(sent, limits.send_buffer);
  pair->run(5s);
  EXPECT_LE(dialler().stream_unacknowledged(stream), limits.send_buffer);
  // The reader's window is full: what was acknowledged waits there, unread.
  EXPECT_EQ(sent - dialler().stream_unacknowledged(stream), limits.initial_receive_window);
  EXPECT_TRUE(pair->dialler.saw(EventKind::stream_writable));
  pair->dialler.events.clear();
  pump();
  std::uint64_t received = 0;
  pair->application = [&] {
    received += read_all(acceptor(), stream).size();
    if (!pair->dialler.saw(EventKind::stream_writable)) return;
    pair->dialler.events.clear();
    if (sent < 40'000'000) pump();
  };
  pair->application();
  EXPECT_TRUE(pair->run(60s, [&] { return received > 40'000'000; })) << received;
}

TEST_F(StreamTest, reset_drops_the_rest_and_tells_its_code) {
  const StreamId stream = open();
  dialler().write_stream(stream, as_bytes("beginning"));
  pair->run(50ms);
  dialler().reset_stream(stream, AppError::connection_reset);
  EXPECT_EQ(dialler().write_stream(stream, as_bytes("x")), 0u);
  pair->run(50ms);
  ASSERT_TRUE(pair->acceptor.saw(EventKind::stream_reset));
  EXPECT_EQ(pair->acceptor.find(EventKind::stream_reset)->code,
            static_cast<std::uint64_t>(AppError::connection_reset));
  acceptor().finish_stream(stream);
  pair->run(100ms);
  EXPECT_EQ(acceptor().open_streams(), 0u);
  EXPECT_EQ(dialler().open_streams(), 0u);
}

TEST_F(StreamTest, stop_tells_the_sender_its_code_even_when_blocked_by_flow_control) {
  const StreamId stream = open(StreamKind::unidirectional);
  while (dialler().write_stream(stream, Bytes(65536, 1)) > 0) continue;
  pair->run(1s);
  acceptor().stop_stream(stream, AppError::refused);
  pair->run(200ms);
  ASSERT_EQ(pair->dialler.count(EventKind::stream_stopped), 1u);
  EXPECT_EQ(pair->dialler.find(EventKind::stream_stopped)->code,
            static_cast<std::uint64_t>(AppError::refused));
  EXPECT_EQ(dialler().open_streams(), 0u);
  EXPECT_EQ(acceptor().open_streams(), 0u);
  // The connection's credit came back: another stream gets through in full.
  const StreamId next = open(StreamKind::unidirectional);
  dialler().write_stream(next, Bytes(1'000'000, 2));
  pair->run(1s);
  EXPECT_EQ(read_all(acceptor(), next).size(), 1'000'000u);
}

TEST_F(StreamTest, open_up_to_the_peers_limit_and_again_when_one_ended) {
  ConnectionOptions options = network.acceptor_options();
  options.limits.peer_streams_bidirectional = 3;
  start(network.dialler_options(), options);
  std::vector<StreamId> streams;
  for (int i = 0; i < 3; ++i) streams.push_back(open());
  const Result<StreamId> fourth = dialler().open_stream(StreamKind::bidirectional, nullptr);
  ASSERT_FALSE(fourth.ok());
  EXPECT_EQ(fourth.error().kind, ErrorKind::limit_reached);
  dialler().write_stream(streams[0], as_bytes("x"));
  dialler().finish_stream(streams[0]);
  pair->run(50ms);
  acceptor().finish_stream(streams[0]);
  pair->run(100ms);
  EXPECT_FALSE(pair->dialler.saw(EventKind::streams_available)) << "the acceptor has not read it";
  read_all(acceptor(), streams[0]);
  pair->run(100ms);
  EXPECT_EQ(pair->dialler.count(EventKind::streams_available), 1u);
  EXPECT_TRUE(dialler().open_stream(StreamKind::bidirectional, nullptr).ok());
}

TEST_F(StreamTest, of_higher_urgency_go_first_and_equal_ones_take_turns) {
  pair->rate = 1'000'000;
  const StreamId bulk = open(), first = open(), second = open();
  dialler().set_stream_priority(bulk, 7);
  for (const StreamId stream : {bulk, first, second}) dialler().write_stream(stream, Bytes(200'000, 1));
  std::map<StreamId, std::size_t> received;
  pair->application = [&] {
    for (const StreamId stream : {bulk, first, second})
      received[stream] += read_all(acceptor(), stream).size();
  };
  pair->run(10s, [&] { return received[first] >= 100'000; });
  EXPECT_EQ(received[bulk], 0u);
  EXPECT_NEAR(static_cast<double>(received[second]), 100'000, 20'000);
  EXPECT_TRUE(pair->run(10s, [&] { return received[bulk] == 200'000; }));
}

TEST_F(StreamTest, hold_no_memory_after_a_hundred_thousand_of_them) {
  auto pool = std::make_shared<BlockPool>();
  ConnectionOptions dialler_options = network.dialler_options(),
                    acceptor_options = network.acceptor_options();
  dialler_options.blocks = acceptor_options.blocks = pool;
  start(dialler_options, acceptor_options);
  pair->delay = 1ms;
  pair->keep_events = false;
  constexpr int kTotal = 100'000;
  int opened = 0, closed = 0;
  std::size_t answered = 0;
  std::size_t most_open = 0;
  const auto drain = [](Connection& connection, auto&& handle) {
    while (auto event = connection.poll_event()) {
      handle(*event);
      if (event->kind == EventKind::stream_closed) connection.forget_stream(event->stream);
    }
  };
  pair->application = [&] {
    drain(acceptor(), [&](const Event& event) {
      if (event.kind != EventKind::stream_readable) return;
      const std::string request = read_all(acceptor(), event.stream);
      acceptor().write_stream(event.stream, as_bytes(request));
      if (acceptor().is_stream_finished(event.stream)) acceptor().finish_stream(event.stream);
    });
    drain(dialler(), [&](const Event& event) {
      if (event.kind == EventKind::stream_readable) answered += read_all(dialler(), event.stream).size();
      if (event.kind == EventKind::stream_closed) ++closed;
    });
    most_open = std::max(most_open, dialler().open_streams());
    while (opened < kTotal && dialler().open_streams() < 256) {
      const auto stream = dialler().open_stream(StreamKind::bidirectional, nullptr);
      if (!stream) break;
      ++opened;
      dialler().write_stream(*stream, Bytes(64, 1));
      dialler().finish_stream(*stream);
    }
  };
  pair->application();
  ASSERT_TRUE(pair->run(600s, [&] { return closed == kTotal; }))
      << opened << " " << answered << " " << closed;
  EXPECT_EQ(answered, 64u * kTotal);
  EXPECT_LE(most_open, 256u);
  pair->run(1s);
  EXPECT_EQ(pool->bytes_in_use(), 0u);
  EXPECT_EQ(acceptor().open_streams(), 0u);
}

TEST_F(StreamTest, can_be_read_after_its_end_was_polled_until_it_is_forgotten) {
  pair->keep_events = false;
  const auto stream = dialler().open_stream(StreamKind::bidirectional, nullptr);
  ASSERT_TRUE(stream.ok());
  dialler().write_stream(*stream, as_bytes("x"));
  pair->run(1s);
  ASSERT_EQ(read_all(acceptor(), *stream), "x");
  int mark = 0;
  acceptor().set_stream_context(*stream, &mark);
  acceptor().finish_stream(*stream);
  pair->run(1s);
  dialler().finish_stream(*stream);
  pair->run(1s);
  std::vector<EventKind> kinds;
  while (const auto event = acceptor().poll_event()) {
    if (event->stream == *stream) kinds.push_back(event->kind);
  }
  ASSERT_FALSE(kinds.empty());
  EXPECT_EQ(kinds.back(), EventKind::stream_closed);
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), EventKind::stream_closed), 1);
  EXPECT_EQ(acceptor().open_streams(), 0u);
  EXPECT_TRUE(acceptor().is_stream_finished(*stream));
  EXPECT_EQ(acceptor().stream_context(*stream), &mark);
  EXPECT_EQ(acceptor().write_stream(*stream, as_bytes("y")), 0u);
  acceptor().forget_stream(*stream);
  EXPECT_FALSE(acceptor().is_stream_finished(*stream));
  EXPECT_EQ(acceptor().stream_context(*stream), nullptr);
}

TEST_F(StreamTest, reset_by_the_thousand_close_the_connection) {
  ConnectionOptions options = network.acceptor_options();
  options.limits.peer_resets_per_second = 100;
  start(network.dialler_options(), options);
  for (int i = 0; i < 300; ++i) {
    const StreamId stream = open();
    dialler().write_stream(stream, as_bytes("x"));
    pair->flush();
    dialler().reset_stream(stream, AppError::none);
  }
  pair->run(1s);
  EXPECT_TRUE(acceptor().is_closed());
  EXPECT_EQ(dialler().close_reason().cause, CloseCause::remote_application);
  EXPECT_EQ(dialler().close_reason().code, static_cast<std::uint64_t>(AppError::limit));
}

TEST_F(StreamTest, ignore_calls_on_unknown_ones) {
  for (const StreamId stream : {StreamId{-1}, StreamId{400}, StreamId{1}}) {
    EXPECT_EQ(dialler().write_stream(stream, as_bytes("x")), 0u);
    EXPECT_TRUE(dialler().reserve_stream(stream, 10).empty());
    dialler().commit_stream(stream, 10);
    dialler().finish_stream(stream);
    dialler().reset_stream(stream, AppError::none);
    dialler().stop_stream(stream, AppError::none);
    dialler().consume_stream(stream, 10);
    EXPECT_TRUE(dialler().peek_stream(stream).empty());
  }
  pair->run(100ms);
  EXPECT_FALSE(dialler().is_closed());
}

TEST_F(StreamTest, deliver_an_end_without_data) {
  const StreamId stream = open(StreamKind::unidirectional);
  dialler().finish_stream(stream);
  pair->run(50ms);
  EXPECT_TRUE(pair->acceptor.saw(EventKind::stream_readable));
  EXPECT_TRUE(pair->acceptor.saw(EventKind::stream_closed));
  EXPECT_EQ(acceptor().open_streams(), 0u);
}

using Datagrams = StreamTest;

TEST_F(Datagrams, arrive_in_order_and_whole) {
  for (int i = 0; i < 100; ++i) {
    const std::string text = "datagram " + std::to_string(i);
    ASSERT_EQ(dialler().send_datagram(as_bytes(text)), Connection::DatagramOutcome::queued);
  }
  ASSERT_EQ(dialler().send_datagram({}), Connection::DatagramOutcome::queued);
  pair->run(200ms);
  EXPECT_EQ(pair->acceptor.count(EventKind::datagram_readable), 1u);
  for (int i = 0; i < 100; ++i) {
    const auto datagram = acceptor().peek_datagram();
    ASSERT_TRUE(datagram.has_value());
    EXPECT_EQ(as_text(*datagram), "datagram " + std::to_string(i));
    acceptor().pop_datagram();
  }
  ASSERT_TRUE(acceptor().peek_datagram().has_value());
  EXPECT_TRUE(acceptor().peek_datagram()->empty());
  acceptor().pop_datagram();
  EXPECT_FALSE(acceptor().peek_datagram().has_value());
  dialler().send_datagram(as_bytes("again"));
  pair->run(50ms);
  EXPECT_EQ(pair->acceptor.count(EventKind::datagram_readable), 2u);
}

TEST_F(Datagrams, of_the_largest_size_pass_and_larger_ones_are_refused) {
  pair->run(2s);  // path MTU discovery
  const std::size_t largest = dialler().max_datagram_size();
  EXPECT_EQ(largest, 1452u - 36u);
  EXPECT_EQ(dialler().send_datagram(Bytes(largest + 1, 1)), Connection::DatagramOutcome::too_large);
  ASSERT_EQ(dialler().send_datagram(Bytes(largest, 1)), Connection::DatagramOutcome::queued);
  pair->run(100ms);
  ASSERT_TRUE(acceptor().peek_datagram().has_value());
  EXPECT_EQ(acceptor().peek_datagram()->size(), largest);
}

TEST_F(Datagrams, fill_the_queue_and_tell_when_there_is_room) {
  ConnectionOptions options = network.dialler_options();
  options.limits.datagram_queue = 10;
  start(options, network.acceptor_options());
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(dialler().send_datagram(Bytes(1000, 1)), Connection::DatagramOutcome::queued);
  }
  EXPECT_EQ(dialler().send_datagram(Bytes(1000, 1)), Connection::DatagramOutcome::queue_full);
  pair->run(500ms);
  EXPECT_EQ(pair->dialler.count(EventKind::datagram_writable), 1u);
  EXPECT_EQ(dialler().send_datagram(Bytes(1000, 1)), Connection::DatagramOutcome::queued);
}

TEST(DatagramQueue, keeps_order_over_many_sizes) {
  SeededRandom random(1);
  DatagramQueue queue(64, 100'000);
  std::deque<Bytes> model;
  for (int step = 0; step < 20'000; ++step) {
    if (random.below(2) == 0) {
      Bytes datagram(random.below(3000));
      random.fill(datagram);
      if (queue.push(datagram)) model.push_back(datagram);
    } else if (!model.empty()) {
      ASSERT_EQ(to_bytes(queue.front()), model.front());
      queue.pop();
      model.pop_front();
    }
    ASSERT_EQ(queue.count(), model.size());
    ASSERT_LE(queue.count(), 64u);
  }
}

TEST(StreamTable, finds_what_a_map_finds) {
  SeededRandom random(2);
  StreamTable table;
  std::map<StreamId, std::unique_ptr<Stream>> model;
  for (int step = 0; step < 20'000; ++step) {
    const auto id = static_cast<StreamId>(random.below(300) * 4);
    if (model.contains(id)) {
      ASSERT_EQ(table.find(id), model[id].get());
      table.erase(id);
      model.erase(id);
    } else {
      ASSERT_EQ(table.find(id), nullptr);
      model[id] = std::make_unique<Stream>();
      model[id]->id = id;
      table.insert(model[id].get());
    }
    ASSERT_EQ(table.size(), model.size());
  }
}

TEST(StopScanner, finds_stop_sending_among_other_frames) {
  // ACK with one extra range, STREAM with offset and length, STOP_SENDING, MAX_DATA, STOP_SENDING, padding.
  const Bytes payload = *decode_hex(
      "0205010100"
      "0000"
      "0e0401026162"
      "0508"
      "4007"
      "1010"
      "050c03"
      "0000");
  StopScanner scanner;
  scanner.scan(payload);
  ASSERT_EQ(scanner.found().size(), 2u);
  EXPECT_EQ(scanner.found()[0].stream, 8);
  EXPECT_EQ(scanner.found()[0].code, 7u);
  EXPECT_EQ(scanner.found()[1].stream, 12);
  EXPECT_EQ(scanner.found()[1].code, 3u);
}

TEST(StopScanner, ends_at_whatever_is_malformed) {
  SeededRandom random(5);
  StopScanner scanner;
  for (int i = 0; i < 50'000; ++i) {
    Bytes payload(random.below(60));
    random.fill(payload);
    scanner.scan(payload);
  }
  SUCCEED();
}

}  // namespace
}  // namespace ravine::session
