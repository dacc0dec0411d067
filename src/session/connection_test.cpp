// Handshakes, resumption, endings.
#include "session/connection.h"

#include <gtest/gtest.h>

#include "session/test_pair.h"

namespace ravine::session {
namespace {

using test::TestAuthority;
using test::TestNetwork;
using test::TestPair;
using test::TestPolicy;

constexpr std::uint64_t kCryptoError = 0x100;

TEST(Handshake, verifies_both_sides_and_tells_who_is_there) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish());
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

TEST(Handshake, yields_one_secret_to_both_sides) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish());
  const auto dialler = pair.dialler.connection->export_keying_material("label");
  EXPECT_EQ(dialler, pair.acceptor.connection->export_keying_material("label"));
  EXPECT_NE(dialler, pair.dialler.connection->export_keying_material("other"));
}

TEST(Handshake, works_with_either_packet_protection_and_between_them) {
  for (const auto dialler : {ProtectionBackend::automatic, ProtectionBackend::gnutls}) {
    for (const auto acceptor : {ProtectionBackend::automatic, ProtectionBackend::gnutls}) {
      TestNetwork network;
      ConnectionOptions dialler_options = network.dialler_options(),
                        acceptor_options = network.acceptor_options();
      dialler_options.protection = dialler;
      acceptor_options.protection = acceptor;
      TestPair pair(network, dialler_options, acceptor_options);
      EXPECT_TRUE(pair.establish());
    }
  }
}

TEST(Handshake, survives_a_third_of_packets_lost) {
  for (int seed = 0; seed < 10; ++seed) {
    TestNetwork network;
    TestPair pair(network);
    pair.loss = 0.3;
    for (int skipped = 0; skipped < seed; ++skipped) pair.roll();
    EXPECT_TRUE(pair.establish()) << "seed " << seed;
  }
}

TEST(Handshake, tells_a_foreign_dialler_which_alert_the_acceptor_chose) {
  TestNetwork network;
  TestAuthority other("other");
  const identity::LocalIdentity stranger = other.issue("stranger");
  ConnectionOptions options = network.dialler_options();
  options.tls = TlsContext::make(&stranger, network.secret).value();
  TestPair pair(network, options, network.acceptor_options());
  EXPECT_FALSE(pair.establish());
  const CloseReason& dialler = pair.dialler.connection->close_reason();
  const CloseReason& acceptor = pair.acceptor.connection->close_reason();
  EXPECT_EQ(acceptor.cause, CloseCause::verify_refused);
  EXPECT_EQ(acceptor.text, "signed by another authority");
  EXPECT_EQ(acceptor.code, kCryptoError + 48);
  EXPECT_EQ(dialler.cause, CloseCause::remote_transport);
  EXPECT_EQ(dialler.code, kCryptoError + 48);
  EXPECT_NE(dialler.text.find("unknown_ca"), std::string::npos) << dialler.text;
}

TEST(Handshake, tells_a_foreign_acceptor_which_alert_the_dialler_chose) {
  TestNetwork network;
  TestAuthority other("other");
  ConnectionOptions options = network.dialler_options();
  options.policy = std::make_shared<TestPolicy>(other);
  TestPair pair(network, options, network.acceptor_options());
  EXPECT_FALSE(pair.establish());
  EXPECT_EQ(pair.dialler.connection->close_reason().cause, CloseCause::verify_refused);
  EXPECT_EQ(pair.acceptor.connection->close_reason().cause, CloseCause::remote_transport);
  EXPECT_EQ(pair.acceptor.connection->close_reason().code, kCryptoError + 48);
}

TEST(Handshake, tells_a_revoked_dialler_that_it_is_revoked) {
  TestNetwork network;
  network.acceptor_policy->revoked.insert(network.dialler_identity.id);
  TestPair pair(network);
  EXPECT_FALSE(pair.establish());
  EXPECT_EQ(pair.dialler.connection->close_reason().code, kCryptoError + 44);
}

TEST(Handshake, refuses_another_peer_than_the_expected_one) {
  TestNetwork network;
  ConnectionOptions options = network.dialler_options();
  options.expected_peer = network.dialler_identity.id;
  TestPair pair(network, options, network.acceptor_options());
  EXPECT_FALSE(pair.establish());
  EXPECT_EQ(pair.dialler.connection->close_reason().text, "not the peer that was dialled");
}

TEST(Handshake, demands_a_certificate_from_members_and_none_from_guests) {
  TestNetwork network;
  ConnectionOptions options = network.dialler_options();
  options.tls = TlsContext::make(nullptr, network.secret).value();
  TestPair member(network, options, network.acceptor_options());
  EXPECT_FALSE(member.establish());
  EXPECT_EQ(member.dialler.connection->close_reason().code, kCryptoError + 116);

  options.alpn = "guest/1";
  TestPair guest(network, options, network.acceptor_options());
  ASSERT_TRUE(guest.establish());
  EXPECT_FALSE(guest.acceptor.connection->info().has_certificate);
  EXPECT_EQ(guest.acceptor.connection->info().alpn, "guest/1");
  guest.run(1s);
  EXPECT_FALSE(guest.dialler.ticket.has_value());
}

TEST(Handshake, refuses_unknown_names_and_protocols_with_their_alerts) {
  TestNetwork network;
  ConnectionOptions options = network.dialler_options();
  options.server_name = "elsewhere.example";
  TestPair name(network, options, network.acceptor_options());
  EXPECT_FALSE(name.establish());
  EXPECT_EQ(name.dialler.connection->close_reason().code, kCryptoError + 112);

  options = network.dialler_options();
  options.alpn = "unheard/1";
  TestPair protocol(network, options, network.acceptor_options());
  EXPECT_FALSE(protocol.establish());
  EXPECT_EQ(protocol.dialler.connection->close_reason().code, kCryptoError + 120);
}

TEST(Handshake, drops_garbage_and_goes_on) {
  TestNetwork network;
  TestPair pair(network);
  SeededRandom random(3);
  for (int i = 0; i < 200; ++i) {
    Bytes junk(20 + random.below(1300));
    random.fill(junk);
    if (i % 2 == 0) junk[0] |= 0x80;
    pair.dialler.connection->read(pair.now, {}, 0, junk);
  }
  EXPECT_FALSE(pair.dialler.connection->is_closed());
  EXPECT_TRUE(pair.establish());
}

class Resumption : public testing::Test {
 protected:
  void SetUp() override {
    TestPair first(network);
    ASSERT_TRUE(first.establish());
    first.run(100ms);
    ASSERT_TRUE(first.dialler.ticket.has_value());
    EXPECT_TRUE(first.dialler.saw(EventKind::ticket_received));
    options = network.dialler_options();
    options.ticket = *first.dialler.ticket;
  }
  TestNetwork network;
  ConnectionOptions options;
};

TEST_F(Resumption, is_taken_and_runs_both_policies_again) {
  const int dialler_calls = network.dialler_policy->calls, acceptor_calls = network.acceptor_policy->calls;
  TestPair pair(network, options, network.acceptor_options());
  ASSERT_TRUE(pair.establish());
  EXPECT_TRUE(pair.dialler.connection->info().resumed);
  EXPECT_TRUE(pair.acceptor.connection->info().resumed);
  EXPECT_EQ(network.dialler_policy->calls, dialler_calls + 1);
  EXPECT_EQ(network.acceptor_policy->calls, acceptor_calls + 1);
  EXPECT_EQ(pair.acceptor.connection->info().peer.id, network.dialler_identity.id);
  EXPECT_EQ(pair.dialler.connection->info().peer.id, network.acceptor_identity.id);
}

TEST_F(Resumption, outlives_the_acceptors_tls_context) {
  network.selector.choice.tls = TlsContext::make(&network.acceptor_identity, network.secret).value();
  TestPair pair(network, options, network.acceptor_options());
  ASSERT_TRUE(pair.establish());
  EXPECT_TRUE(pair.acceptor.connection->info().resumed);
}

TEST_F(Resumption, falls_back_to_a_full_handshake_when_the_ticket_is_not_ours) {
  network.selector.choice.tls = TlsContext::make(&network.acceptor_identity, Bytes(32, 9)).value();
  TestPair pair(network, options, network.acceptor_options());
  ASSERT_TRUE(pair.establish());
  EXPECT_FALSE(pair.acceptor.connection->info().resumed);
}

TEST_F(Resumption, ignores_a_damaged_ticket) {
  options.ticket = Bytes(100, 1);
  TestPair pair(network, options, network.acceptor_options());
  EXPECT_TRUE(pair.establish());
}

TEST(Close, tells_the_peer_code_and_text_and_ends_streams) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish());
  int mark = 0;
  const StreamId stream = pair.dialler.connection->open_stream(StreamKind::bidirectional, &mark).value();
  pair.dialler.connection->write_stream(stream, as_bytes("x"));
  pair.run(50ms);
  pair.acceptor.connection->close(pair.now, AppError::revoked, "your certificate was revoked");
  pair.run(100ms);
  const CloseReason& dialler = pair.dialler.connection->close_reason();
  EXPECT_EQ(dialler.cause, CloseCause::remote_application);
  EXPECT_EQ(dialler.code, static_cast<std::uint64_t>(AppError::revoked));
  EXPECT_EQ(dialler.text, "your certificate was revoked");
  EXPECT_EQ(pair.acceptor.connection->close_reason().cause, CloseCause::local_application);
  ASSERT_EQ(pair.dialler.count(EventKind::stream_closed), 1u);
  EXPECT_EQ(pair.dialler.find(EventKind::stream_closed)->context, &mark);
  EXPECT_EQ(pair.dialler.find(EventKind::stream_closed)->code, static_cast<std::uint64_t>(AppError::revoked));
  EXPECT_EQ(pair.acceptor.count(EventKind::stream_closed), 1u);
  EXPECT_EQ(pair.dialler.connection->open_streams(), 0u);
  EXPECT_EQ(pair.dialler.last_read, ReadOutcome::draining);
  EXPECT_TRUE(pair.dialler.connection->next_deadline().at.is_never());
}

TEST(Close, before_the_handshake_reaches_the_peer) {
  TestNetwork network;
  TestPair pair(network);
  pair.run(15ms, [&] { return pair.acceptor.connection != nullptr; });
  ASSERT_NE(pair.acceptor.connection, nullptr);
  pair.acceptor.connection->close(pair.now, AppError::limit, "full");
  pair.run(100ms);
  EXPECT_TRUE(pair.dialler.connection->is_closed());
  EXPECT_EQ(pair.dialler.connection->close_reason().cause, CloseCause::remote_transport);
}

TEST(Close, repeats_its_packet_and_answers_calls_with_nothing) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish());
  Connection& dialler = *pair.dialler.connection;
  dialler.close(pair.now, AppError::shutdown, "");
  Bytes space(1500), first;
  auto packet = dialler.write_close(pair.now, space);
  ASSERT_TRUE(packet.has_value());
  first.assign(packet->data, packet->data + packet->size);
  packet = dialler.write_close(pair.now, space);
  ASSERT_TRUE(packet.has_value());
  EXPECT_TRUE(std::equal(first.begin(), first.end(), packet->data, packet->data + packet->size));
  std::vector<OutgoingPacket> packets;
  EXPECT_EQ(dialler.write(pair.now, space, packets), 0u);
  EXPECT_FALSE(dialler.open_stream(StreamKind::bidirectional, nullptr).ok());
  EXPECT_EQ(dialler.write_stream(0, as_bytes("x")), 0u);
  EXPECT_EQ(dialler.migrate(pair.now, {1, 1}, true), Connection::MigrateOutcome::refused);
  EXPECT_EQ(dialler.read(pair.now, {}, 0, first), ReadOutcome::failed);
}

TEST(Timeouts, end_an_idle_connection_and_keep_alive_prevents_it) {
  TestNetwork network;
  ConnectionOptions options = network.dialler_options();
  options.idle_timeout = 5s;
  TestPair idle(network, options, network.acceptor_options());
  ASSERT_TRUE(idle.establish());
  idle.run(20s);
  EXPECT_TRUE(idle.dialler.connection->is_closed());
  EXPECT_EQ(idle.dialler.connection->close_reason().cause, CloseCause::idle_timeout);
  EXPECT_EQ(idle.acceptor.connection->close_reason().cause, CloseCause::idle_timeout);

  options.keep_alive = 2s;
  TestPair alive(network, options, network.acceptor_options());
  ASSERT_TRUE(alive.establish());
  alive.run(60s);
  EXPECT_FALSE(alive.dialler.connection->is_closed());
  EXPECT_FALSE(alive.acceptor.connection->is_closed());
}

TEST(Tokens, reach_the_dialler) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish());
  const Bytes token(40, 3);
  pair.acceptor.connection->send_token(token);
  pair.run(50ms);
  EXPECT_EQ(pair.dialler.connection->poll_token(), token);
}

TEST(TlsState, is_freed_without_harm) {
  TestNetwork network;
  TestPair pair(network);
  ASSERT_TRUE(pair.establish());
  pair.dialler.connection->release_tls();
  pair.acceptor.connection->release_tls();
  pair.run(100ms);
  EXPECT_TRUE(pair.dialler.ticket.has_value());
  const StreamId stream = pair.dialler.connection->open_stream(StreamKind::unidirectional, nullptr).value();
  pair.dialler.connection->write_stream(stream, as_bytes("still here"));
  pair.run(50ms);
  EXPECT_EQ(as_text(pair.acceptor.connection->peek_stream(stream)), "still here");
}

TEST(Keys, are_updated_on_request_and_by_packet_count) {
  TestNetwork network;
  ConnectionOptions options = network.dialler_options(), acceptor_options = network.acceptor_options();
  options.packets_per_key = acceptor_options.packets_per_key = 800;
  TestPair pair(network, options, acceptor_options);
  ASSERT_TRUE(pair.establish());
  pair.dialler.connection->initiate_key_update(pair.now);
  Connection& dialler = *pair.dialler.connection;
  const StreamId stream = dialler.open_stream(StreamKind::unidirectional, nullptr).value();
  std::size_t sent = 0, received = 0;
  constexpr std::size_t kTotal = 4'000'000;  // about 3,000 packets: several keys
  const Bytes block(16384, 1);
  pair.application = [&] {
    // Slow enough for an update to be confirmed before the next one is due.
    while (sent < kTotal && dialler.stream_unacknowledged(stream) < 2 * block.size()) {
      sent += dialler.write_stream(stream, block);
    }
    for (ByteView view = pair.acceptor.connection->peek_stream(stream); !view.empty();
         view = pair.acceptor.connection->peek_stream(stream)) {
      received += view.size();
      pair.acceptor.connection->consume_stream(stream, view.size());
    }
  };
  pair.application();
  EXPECT_TRUE(pair.run(60s, [&] { return received >= kTotal; })) << received;
  EXPECT_FALSE(dialler.is_closed()) << dialler.close_reason().text;
}

}  // namespace
}  // namespace ravine::session
