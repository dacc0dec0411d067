#include "session/connection.h"

#include <gtest/gtest.h>

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

TEST(Handshake, verifies_both_sides_and_tells_who_is_there) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish()) << pair.dialler.connection->close_reason().text << " / "
                                << (pair.acceptor.connection ? pair.acceptor.connection->close_reason().text : "none");
  const SessionInfo& dialler = pair.dialler.connection->info();
  const SessionInfo& acceptor = pair.acceptor.connection->info();
  EXPECT_EQ(dialler.peer.id, network.acceptor_identity.id);
  EXPECT_EQ(acceptor.peer.id, network.dialler_identity.id);
  EXPECT_EQ(dialler.chain, network.acceptor_identity.chain);
  EXPECT_EQ(acceptor.chain, network.dialler_identity.chain);
  EXPECT_EQ(dialler.alpn, "test/1");
  EXPECT_EQ(acceptor.alpn, "test/1");
  EXPECT_EQ(dialler.network.value, 3u);
  EXPECT_EQ(acceptor.network.value, 5u);
  EXPECT_EQ(dialler.tls_cipher, "AES-128-GCM");
  EXPECT_FALSE(dialler.resumed);
  EXPECT_TRUE(dialler.has_certificate && acceptor.has_certificate);
  EXPECT_EQ(dialler.handshake_time, 40ms);
}

TEST(Streams, carry_a_request_and_its_answer) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish());
  Connection& dialler = *pair.dialler.connection;
  Connection& acceptor = *pair.acceptor.connection;
  int mark = 0;
  const StreamId stream = dialler.open_stream(StreamKind::bidirectional, &mark).value();
  EXPECT_EQ(dialler.write_stream(stream, as_bytes("question")), 8u);
  dialler.finish_stream(stream);
  pair.run(50ms);
  ASSERT_TRUE(pair.acceptor.saw(EventKind::stream_opened));
  ASSERT_TRUE(pair.acceptor.saw(EventKind::stream_readable));
  EXPECT_EQ(read_all(acceptor, stream), "question");
  EXPECT_TRUE(acceptor.is_stream_finished(stream));
  acceptor.write_stream(stream, as_bytes("answer"));
  acceptor.finish_stream(stream);
  pair.run(100ms);
  EXPECT_EQ(read_all(dialler, stream), "answer");
  pair.run(100ms);
  ASSERT_EQ(pair.dialler.count(EventKind::stream_closed), 1u);
  EXPECT_EQ(pair.dialler.find(EventKind::stream_closed)->context, &mark);
  EXPECT_EQ(pair.acceptor.count(EventKind::stream_closed), 1u);
  EXPECT_EQ(dialler.open_streams(), 0u);
  EXPECT_EQ(acceptor.open_streams(), 0u);
}

}  // namespace
}  // namespace ravine::session
