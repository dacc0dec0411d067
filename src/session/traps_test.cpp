// The engine's traps: calls and circumstances that make ngtcp2 abort, stall or mislead. Each test is named by
// the rule that avoids one; docs/testing.md lists them.
#include <gnutls/gnutls.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "session/test_pair.h"

namespace ravine::session {
namespace {

using test::TestNetwork;
using test::TestPair;
using Outcome = Connection::MigrateOutcome;

class Traps : public testing::Test {
 protected:
  void start(ConnectionOptions dialler_options, ConnectionOptions acceptor_options) {
    pair.emplace(network, std::move(dialler_options), std::move(acceptor_options));
  }
  void SetUp() override { start(network.dialler_options(), network.acceptor_options()); }
  Connection& dialler() { return *pair->dialler.connection; }
  Connection& acceptor() { return *pair->acceptor.connection; }
  void write_endlessly(StreamId stream) {
    pair->application = [this, stream] {
      while (dialler().write_stream(stream, Bytes(65536, 1)) > 0) continue;
      for (ByteView view = acceptor().peek_stream(stream); !view.empty();
           view = acceptor().peek_stream(stream)) {
        received += view.size();
        acceptor().consume_stream(stream, view.size());
      }
    };
    pair->application();
  }
  TestNetwork network;
  std::optional<TestPair> pair;
  std::uint64_t received = 0;
};

TEST_F(Traps, no_01_time_that_goes_back_does_not_abort) {
  ASSERT_TRUE(pair->establish());
  const Instant past = pair->now - 500ms;
  Bytes space(65536);
  std::vector<OutgoingPacket> packets;
  dialler().handle_timeout(past);
  dialler().write(past, space, packets);
  dialler().read(past, {}, 0, Bytes(100, 0x40));
  dialler().close(past, AppError::none, "");
  EXPECT_TRUE(dialler().write_close(past, space).has_value());
}

TEST_F(Traps, no_01_streams_and_datagrams_share_half_made_packets) {
  ASSERT_TRUE(pair->establish());
  std::map<StreamId, std::size_t> expected;
  for (int i = 0; i < 50; ++i) {
    const StreamId stream = dialler().open_stream(StreamKind::bidirectional, nullptr).value();
    const std::size_t size = static_cast<std::size_t>(i) * 37;
    dialler().write_stream(stream, Bytes(size, 1));
    dialler().finish_stream(stream);
    if (i % 3 == 0) dialler().reset_stream(stream, AppError::none);
    dialler().send_datagram(Bytes(static_cast<std::size_t>(i) * 20, 2));
    if (i % 3 != 0) expected[stream] = size;
  }
  pair->run(1s);
  EXPECT_FALSE(dialler().is_closed()) << dialler().close_reason().text;
  for (const auto& [stream, size] : expected) {
    std::size_t got = 0;
    for (ByteView view = acceptor().peek_stream(stream); !view.empty();
         view = acceptor().peek_stream(stream)) {
      got += view.size();
      acceptor().consume_stream(stream, view.size());
    }
    EXPECT_EQ(got, size);
  }
}

TEST_F(Traps, no_02_only_a_confirmed_dialler_migrates) {
  EXPECT_EQ(dialler().migrate(pair->now, {1, 1}, false), Outcome::not_yet);
  ASSERT_TRUE(pair->establish());
  EXPECT_EQ(acceptor().migrate(pair->now, {1, 1}, false), Outcome::refused);
  EXPECT_EQ(acceptor().migrate(pair->now, {1, 1}, true), Outcome::refused);
  EXPECT_EQ(dialler().migrate(pair->now, dialler().current_path(), false), Outcome::refused);
  pair->run(200ms);
  EXPECT_EQ(dialler().migrate(pair->now, {1, 1}, false), Outcome::started);
  pair->run(1s);
  EXPECT_EQ(dialler().current_path(), (SyntheticPath{1, 1}));
  EXPECT_EQ(acceptor().current_path(), (SyntheticPath{1, 1}));
  const auto verdict = dialler().poll_path_verdict();
  ASSERT_TRUE(verdict.has_value());
  EXPECT_TRUE(verdict->validated);
}

TEST_F(Traps, no_03_packets_on_an_unknown_path_change_nothing_at_the_dialler) {
  ASSERT_TRUE(pair->establish());
  pair->drop = [&](bool to_acceptor, ByteView packet) {
    if (to_acceptor) return false;
    EXPECT_EQ(dialler().read(pair->now, {9, 9}, 0, packet), ReadOutcome::ok);
    return true;
  };
  const StreamId stream = acceptor().open_stream(StreamKind::unidirectional, nullptr).value();
  acceptor().write_stream(stream, as_bytes("x"));
  pair->run(100ms);
  EXPECT_TRUE(dialler().peek_stream(stream).empty());
  EXPECT_EQ(dialler().current_path(), SyntheticPath{});
  pair->drop = nullptr;
  pair->run(2s);
  EXPECT_FALSE(dialler().peek_stream(stream).empty());
}

TEST_F(Traps, no_04_thirty_flips_under_load_lose_nothing) {
  ASSERT_TRUE(pair->establish());
  pair->rate = 3'000'000;
  const StreamId stream = dialler().open_stream(StreamKind::unidirectional, nullptr).value();
  write_endlessly(stream);
  int flips = 0;
  for (std::uint16_t epoch = 1; epoch <= 30; ++epoch) {
    pair->run(500ms);
    flips += dialler().migrate(pair->now, {static_cast<PathId>(epoch % 3), epoch}, epoch % 2 == 0) ==
             Outcome::started;
  }
  pair->run(1s);
  EXPECT_EQ(flips, 30);
  EXPECT_EQ(acceptor().current_path(), (SyntheticPath{0, 30}));
  EXPECT_GT(received, 10'000'000u);
  EXPECT_FALSE(dialler().is_closed());
}

TEST_F(Traps, no_05_eight_connection_ids_are_issued_and_exhaustion_is_an_answer) {
  ASSERT_TRUE(pair->establish());
  pair->run(200ms);
  EXPECT_EQ(dialler().issued_cids().size(), 8u);
  EXPECT_EQ(acceptor().issued_cids().size(), 8u);
  for (const Bytes& cid : acceptor().issued_cids()) {
    EXPECT_EQ(Label::load(cid.data()), Label{0x2222});
    EXPECT_FALSE(std::all_of(cid.begin() + 8, cid.end(), [](std::uint8_t byte) { return byte == 0xff; }));
  }
  pair->drop = [](bool, ByteView) { return true; };  // nobody answers: spares run out
  Outcome last = Outcome::started;
  for (std::uint16_t epoch = 1; epoch < 20 && last == Outcome::started; ++epoch) {
    last = dialler().migrate(pair->now, {1, epoch}, true);
    pair->run(50ms);
  }
  EXPECT_EQ(last, Outcome::no_spare_id);
  EXPECT_FALSE(dialler().is_closed());
}

TEST_F(Traps, no_06_completed_is_not_confirmed) {
  network.acceptor_policy->revoked.insert(network.dialler_identity.id);
  bool was_complete = false, was_confirmed = false;
  pair->application = [&] {
    was_complete |= dialler().is_handshake_complete();
    was_confirmed |= dialler().is_confirmed();
  };
  pair->run(2s);
  EXPECT_TRUE(was_complete);
  EXPECT_FALSE(was_confirmed);
}

class ResumedTraps : public Traps {
 protected:
  void SetUp() override {
    Traps::SetUp();
    ASSERT_TRUE(pair->establish());
    pair->run(100ms);
    options = network.dialler_options();
    options.ticket = pair->dialler.ticket.value();
  }
  ConnectionOptions options;
};

TEST_F(ResumedTraps, no_07_the_acceptor_refuses_a_resumed_peer_that_was_revoked_since) {
  network.acceptor_policy->revoked.insert(network.dialler_identity.id);
  start(options, network.acceptor_options());
  pair->application = [&] {
    if (!dialler().is_handshake_complete() || dialler().open_streams() > 0) return;
    if (auto stream = dialler().open_stream(StreamKind::bidirectional, nullptr)) {
      dialler().write_stream(*stream, as_bytes("early"));
    }
  };
  EXPECT_FALSE(pair->establish());
  EXPECT_EQ(acceptor().close_reason().cause, CloseCause::verify_refused);
  EXPECT_EQ(dialler().close_reason().code, 0x100u + 44);
  EXPECT_FALSE(pair->acceptor.saw(EventKind::stream_opened));
}

TEST_F(ResumedTraps, no_07_the_dialler_refuses_a_resumed_peer_that_was_revoked_since) {
  network.dialler_policy->revoked.insert(network.acceptor_identity.id);
  start(options, network.acceptor_options());
  EXPECT_FALSE(pair->establish());
  EXPECT_EQ(dialler().close_reason().cause, CloseCause::verify_refused);
  EXPECT_EQ(acceptor().close_reason().code, 0x100u + 44);
}

TEST_F(ResumedTraps, no_08_a_resumed_dialler_sends_no_early_data) {
  start(options, network.acceptor_options());
  bool early = false;
  pair->drop = [&](bool, ByteView packet) {
    early |= (packet[0] & 0xb0) == 0x90;  // long header, type 0-RTT
    return false;
  };
  EXPECT_FALSE(dialler().open_stream(StreamKind::bidirectional, nullptr).ok());
  ASSERT_TRUE(pair->establish());
  EXPECT_TRUE(dialler().info().resumed);
  EXPECT_FALSE(early);
}

TEST_F(Traps, no_10_bursts_end_at_the_send_quantum_and_pacing_sets_the_deadline) {
  ASSERT_TRUE(pair->establish());
  pair->delay = 50ms;
  const StreamId stream = dialler().open_stream(StreamKind::unidirectional, nullptr).value();
  write_endlessly(stream);
  pair->run(1s);
  std::map<Instant, std::size_t> bursts;
  pair->drop = [&](bool to_acceptor, ByteView packet) {
    if (to_acceptor) bursts[pair->now] += packet.size();
    return false;
  };
  pair->run(200ms);
  EXPECT_GT(bursts.size(), 20u) << "packets leave all through a round trip, not at its start";
  for (const auto& [at, bytes] : bursts) EXPECT_LE(bytes, 65536u + 1452u);
}

TEST_F(Traps, no_11_path_mtu_is_found_up_to_the_cap) {
  for (const auto& [cap, link, found] :
       {std::tuple{1452u, 65535u, 1452u}, std::tuple{1452u, 1350u, 1300u}, std::tuple{8900u, 65535u, 8900u},
        std::tuple{8900u, 1500u, 1452u}, std::tuple{1200u, 65535u, 1200u},
        std::tuple{16000u, 65535u, 16000u}}) {
    ConnectionOptions options = network.dialler_options();
    options.max_udp_payload = cap;
    start(options, network.acceptor_options());
    pair->mtu = link;
    ASSERT_TRUE(pair->establish());
    pair->run(5s);
    EXPECT_EQ(dialler().path_mtu(), found) << cap << " over " << link;
  }
}

TEST_F(Traps, no_12_a_datagram_that_no_longer_fits_does_not_block_the_rest) {
  ASSERT_TRUE(pair->establish());
  pair->run(2s);
  ASSERT_EQ(dialler().path_mtu(), 1452u);
  ASSERT_EQ(dialler().send_datagram(Bytes(1400, 1)), Connection::DatagramOutcome::queued);
  ASSERT_EQ(dialler().send_datagram(Bytes(100, 2)), Connection::DatagramOutcome::queued);
  const StreamId stream = dialler().open_stream(StreamKind::unidirectional, nullptr).value();
  dialler().write_stream(stream, as_bytes("behind"));
  ASSERT_EQ(dialler().migrate(pair->now, {1, 1}, true), Outcome::started);
  EXPECT_EQ(dialler().path_mtu(), 1200u);
  pair->run(1s);
  ASSERT_TRUE(acceptor().peek_datagram().has_value());
  EXPECT_EQ(acceptor().peek_datagram()->size(), 100u);
  EXPECT_EQ(as_text(acceptor().peek_stream(stream)), "behind");
}

TEST_F(Traps, no_13_both_flow_credits_are_returned) {
  ConnectionOptions options = network.acceptor_options();
  options.limits.receive_window = options.limits.stream_receive_window =
      options.limits.initial_receive_window = 65536;
  start(network.dialler_options(), options);
  ASSERT_TRUE(pair->establish());
  const StreamId one = dialler().open_stream(StreamKind::unidirectional, nullptr).value();
  write_endlessly(one);
  EXPECT_TRUE(pair->run(60s, [&] { return received > 3'000'000; })) << received;
}

TEST_F(Traps, no_14_a_handshake_without_answer_times_out) {
  pair->drop = [](bool, ByteView) { return true; };
  pair->run(11s);
  EXPECT_EQ(dialler().close_reason().cause, CloseCause::handshake_timeout);
}

TEST_F(Traps, no_14_windows_grow_with_use) {
  ASSERT_TRUE(pair->establish());
  pair->delay = 50ms;
  const StreamId stream = dialler().open_stream(StreamKind::unidirectional, nullptr).value();
  write_endlessly(stream);
  pair->run(4s);
  received = 0;
  pair->run(1s);
  // A fixed window of 1 MiB would carry 10 MB/s over 100 ms.
  EXPECT_GT(received, 20'000'000u);
}

// GnuTLS reports each message that it queues with its size.
std::size_t certificate_request_size = 0;

void note_certificate_request(int, const char* line) {
  const std::string_view text = line;
  const std::size_t name = text.find("CERTIFICATE REQUEST was queued [");
  if (name == std::string_view::npos) return;
  certificate_request_size = std::stoul(std::string(text.substr(text.find('[', name) + 1)));
}

TEST_F(Traps, no_15_an_acceptor_names_no_authority_to_strangers) {
  certificate_request_size = 0;
  gnutls_global_set_log_function(&note_certificate_request);
  gnutls_global_set_log_level(4);
  const bool established = pair->establish();
  gnutls_global_set_log_level(0);
  ASSERT_TRUE(established);
  // Header 4, context 1, extensions' length 2, signature algorithms 12; one authority's name takes 21 and
  // more.
  EXPECT_GE(certificate_request_size, 7u);
  EXPECT_LT(certificate_request_size, 32u);
}

TEST_F(Traps, no_16_every_migration_resets_the_window_of_both_ends) {
  ASSERT_TRUE(pair->establish());
  const StreamId stream = acceptor().open_stream(StreamKind::unidirectional, nullptr).value();
  pair->application = [&] {
    while (acceptor().write_stream(stream, Bytes(65536, 1)) > 0) continue;
    for (ByteView view = dialler().peek_stream(stream); !view.empty(); view = dialler().peek_stream(stream)) {
      dialler().consume_stream(stream, view.size());
    }
  };
  pair->application();
  for (const SyntheticPath path : {SyntheticPath{0, 1}, SyntheticPath{1, 2}}) {  // other epoch, other path
    pair->run(250ms);
    ASSERT_GT(acceptor().congestion_window(), 100'000u);
    ASSERT_EQ(dialler().migrate(pair->now, path, true), Outcome::started);
    pair->run(30ms, [&] { return acceptor().current_path() == path; });
    EXPECT_LT(acceptor().congestion_window(), 50'000u);
  }
}

TEST_F(Traps, no_17_a_stateless_reset_token_is_recognised) {
  ASSERT_TRUE(pair->establish());
  pair->run(100ms);
  const auto token = make_reset_token(network.secret, dialler().current_dcid());
  EXPECT_TRUE(dialler().matches_reset_token(token));
  EXPECT_FALSE(dialler().matches_reset_token(Bytes(16, 0)));
  Bytes reset(60);
  network.random.fill(reset);
  reset[0] = 0x41;
  std::copy(token.begin(), token.end(), reset.end() - 16);
  EXPECT_EQ(dialler().read(pair->now, {}, 0, reset), ReadOutcome::draining);
  EXPECT_EQ(dialler().close_reason().cause, CloseCause::stateless_reset);
}

}  // namespace
}  // namespace ravine::session
