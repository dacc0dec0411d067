#include <gtest/gtest.h>
#include <poll.h>

#include <cerrno>
#include <map>

#include "host/udp_port.h"
#include "host/udp_send.h"

namespace ravine::host {
namespace {

const IpAddress kLoopback4 = IpAddress::v4({127, 0, 0, 1});
const IpAddress kLoopback6 = *IpAddress::parse("::1");

bool wait_for(const UdpSocket& socket, short what) {
  pollfd entry{socket.descriptor(), what, 0};
  return ::poll(&entry, 1, 2000) == 1;
}

UdpSocket open_loopback(const UdpOptions& options = {}, const IpAddress& ip = kLoopback4) {
  auto socket = UdpSocket::open({ip, 0}, options);
  EXPECT_TRUE(socket.ok());
  return std::move(*socket);
}

struct Datagram {
  Bytes bytes;
  Route route;
  std::uint8_t ecn = 0;
};

// Receives until `count` datagrams are here (trains cut) or nothing comes for two seconds.
std::vector<Datagram> receive_datagrams(UdpSocket& socket, std::size_t count, std::size_t* trains = nullptr) {
  ReceiveBuffers buffers;
  std::vector<Datagram> out;
  while (out.size() < count && wait_for(socket, POLLIN)) {
    buffers.rewind();
    for (const Received& received : socket.receive(buffers, 32).datagrams) {
      if (trains != nullptr && received.segment_size < received.bytes.size()) ++*trains;
      for (std::size_t at = 0; at < received.bytes.size(); at += received.segment_size) {
        const std::size_t size = std::min<std::size_t>(received.segment_size, received.bytes.size() - at);
        const auto piece = received.bytes.subspan(at, size);
        out.push_back({Bytes(piece.begin(), piece.end()), received.route, received.ecn});
      }
    }
  }
  return out;
}

void add_packet(TransmitBatch& batch, std::size_t size, int mark, const Route& route, std::uint8_t ecn = 0) {
  std::fill_n(batch.space().data(), size, static_cast<std::uint8_t>(mark));
  batch.commit(size, route, ecn);
}

void send_all(UdpSender& sender, std::span<UdpSocket> sockets, const TransmitBatch& batch) {
  sender.start(batch);
  for (int index = sender.send(sockets); index >= 0; index = sender.send(sockets))
    ASSERT_TRUE(wait_for(sockets[static_cast<std::size_t>(index)], POLLOUT));
}

TEST(TrainPlan, gathers_interleaved_routes_without_reordering_any) {
  TransmitBatch batch;
  const Route a{{kLoopback4, 1}}, b{{kLoopback4, 2}};
  for (int i = 0; i < 8; ++i) add_packet(batch, 1200, i, i % 2 == 0 ? a : b);
  TrainPlan plan;
  plan.make(batch);
  ASSERT_EQ(plan.trains().size(), 2u);
  EXPECT_EQ(plan.trains()[0].packets, 4u);
  std::uint32_t index = plan.trains()[1].first;
  for (const int expected : {1, 3, 5, 7}) {
    EXPECT_EQ(batch.packets()[index].data[0], expected);
    if (expected != 7) index = plan.next(index);
  }
}

TEST(TrainPlan, shorter_packet_ends_a_train_and_longer_begins_one) {
  TransmitBatch batch;
  const Route route{{kLoopback4, 1}};
  for (const std::size_t size : {1000u, 1000u, 40u, 1000u, 1100u}) add_packet(batch, size, 1, route);
  TrainPlan plan;
  plan.make(batch);
  ASSERT_EQ(plan.trains().size(), 3u);
  EXPECT_EQ(plan.trains()[0].bytes, 2040u);
  EXPECT_EQ(plan.trains()[1].bytes, 1000u);
  EXPECT_EQ(plan.trains()[2].bytes, 1100u);
}

TEST(TrainPlan, keeps_ecn_apart_and_respects_the_kernels_limits) {
  TransmitBatch batch(1 << 20);
  const Route route{{kLoopback4, 1}};
  for (int i = 0; i < 70; ++i) add_packet(batch, 100, 1, route, 2);
  add_packet(batch, 100, 1, route, 0);
  for (int i = 0; i < 45; ++i) add_packet(batch, 1452, 1, route, 0);
  TrainPlan plan;
  plan.make(batch);
  std::uint32_t packets = 0;
  for (const Train& train : plan.trains()) {
    EXPECT_LE(train.packets, kMaxTrainPackets);
    EXPECT_LE(train.bytes, kMaxTrainBytes);
    packets += train.packets;
  }
  EXPECT_EQ(packets, 116u);
  EXPECT_EQ(plan.trains()[0].packets, 64u);
}

TEST(Udp, train_of_sixty_four_arrives_intact_in_order_and_as_a_train) {
  auto receiver = open_loopback();
  std::vector<UdpSocket> senders;
  senders.push_back(open_loopback());
  TransmitBatch batch;
  for (int i = 0; i < 64; ++i) add_packet(batch, i == 63 ? 300 : 1000, i, {receiver.local_address()}, 1);
  UdpSender sender;
  send_all(sender, senders, batch);
  std::size_t trains = 0;
  const auto got = receive_datagrams(receiver, 64, &trains);
  ASSERT_EQ(got.size(), 64u);
  for (std::uint8_t i = 0; i < 64; ++i) {
    EXPECT_EQ(got[i].bytes.size(), i == 63 ? 300u : 1000u);
    EXPECT_EQ(got[i].bytes.front(), i);
    EXPECT_EQ(got[i].bytes.back(), i);
  }
  EXPECT_EQ(senders[0].counters().send_calls, 1u);
  EXPECT_EQ(senders[0].counters().packets_sent, 64u);
  EXPECT_EQ(trains, receiver.has_gro() ? 1u : 0u);
}

TEST(Udp, scattered_views_form_one_train_without_copies) {
  auto receiver = open_loopback();
  std::vector<UdpSocket> senders;
  senders.push_back(open_loopback());
  const Bytes one(500, 1), two(500, 2);
  TransmitBatch batch;
  batch.add_view(one, {receiver.local_address()}, 0);
  add_packet(batch, 500, 3, {receiver.local_address()});
  batch.add_view(two, {receiver.local_address()}, 0);
  UdpSender sender;
  send_all(sender, senders, batch);
  const auto got = receive_datagrams(receiver, 3);
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0].bytes, one);
  EXPECT_EQ(got[1].bytes, Bytes(500, 3));
  EXPECT_EQ(got[2].bytes, two);
  EXPECT_EQ(senders[0].counters().send_calls, 1u);
}

TEST(Udp, mixed_sizes_and_receivers_all_arrive) {
  auto first = open_loopback();
  auto second = open_loopback();
  std::vector<UdpSocket> senders;
  senders.push_back(open_loopback());
  TransmitBatch batch;
  for (int i = 0; i < 60; ++i)
    add_packet(batch, static_cast<std::size_t>(50 + (i * 37) % 1300), i,
               {(i % 3 == 0 ? first : second).local_address()});
  UdpSender sender;
  send_all(sender, senders, batch);
  EXPECT_EQ(receive_datagrams(first, 20).size(), 20u);
  const auto got = receive_datagrams(second, 40);
  ASSERT_EQ(got.size(), 40u);
  for (std::size_t i = 1; i < got.size(); ++i) EXPECT_LT(got[i - 1].bytes[0], got[i].bytes[0]);
}

class UdpFamily : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!GetParam() && !UdpSocket::open({kLoopback6, 0}).ok()) GTEST_SKIP() << "no IPv6 on this machine";
  }
  IpAddress loopback() const { return GetParam() ? kLoopback4 : kLoopback6; }
  IpAddress any() const { return GetParam() ? IpAddress::v4({0, 0, 0, 0}) : IpAddress(); }
};

TEST_P(UdpFamily, ecn_bits_and_source_are_seen) {
  auto receiver = open_loopback({}, loopback());
  std::vector<UdpSocket> senders;
  senders.push_back(open_loopback({}, loopback()));
  TransmitBatch batch;
  for (std::uint8_t ecn = 0; ecn < 4; ++ecn) add_packet(batch, 100, ecn, {receiver.local_address()}, ecn);
  UdpSender sender;
  send_all(sender, senders, batch);
  const auto got = receive_datagrams(receiver, 4);
  ASSERT_EQ(got.size(), 4u);
  for (std::uint8_t ecn = 0; ecn < 4; ++ecn) EXPECT_EQ(got[ecn].ecn, ecn);
  EXPECT_EQ(got[0].route.remote, senders[0].local_address());
}

TEST_P(UdpFamily, wildcard_socket_learns_the_local_address_and_answers_from_it) {
  auto wildcard = UdpSocket::open({any(), 0});
  ASSERT_TRUE(wildcard.ok());
  std::vector<UdpSocket> peers;
  peers.push_back(open_loopback({}, loopback()));
  // 127.0.0.5 is ours as well: the answer must not come from 127.0.0.1.
  const IpAddress target = GetParam() ? IpAddress::v4({127, 0, 0, 5}) : kLoopback6;
  TransmitBatch batch;
  add_packet(batch, 10, 1, {{target, wildcard->local_address().port}});
  UdpSender sender;
  send_all(sender, peers, batch);
  auto got = receive_datagrams(*wildcard, 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].route.local, target);
  EXPECT_GT(got[0].route.interface_index, 0u);

  std::vector<UdpSocket> answering;
  answering.push_back(std::move(*wildcard));
  TransmitBatch answer;
  add_packet(answer, 10, 2, got[0].route);
  send_all(sender, answering, answer);
  got = receive_datagrams(peers[0], 1);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].route.remote.ip, target);
}

INSTANTIATE_TEST_SUITE_P(Families, UdpFamily, testing::Bool(),
                         [](const auto& family) { return family.param ? "v4" : "v6"; });

TEST(Udp, refused_trains_leave_packet_by_packet_and_stop_being_tried) {
  for (const int error : {EIO, EINVAL}) {
    auto receiver = open_loopback();
    std::vector<UdpSocket> senders;
    senders.push_back(open_loopback({.faults = {.gso_error = error}}));
    UdpSender sender;
    for (int round = 0; round < 2; ++round) {
      TransmitBatch batch;
      for (int i = 0; i < 20; ++i) add_packet(batch, 1000, i, {receiver.local_address()});
      send_all(sender, senders, batch);
      EXPECT_EQ(receive_datagrams(receiver, 20).size(), 20u);
    }
    EXPECT_EQ(senders[0].counters().send_calls, 40u);
    EXPECT_EQ(senders[0].counters().gso_refused, 1u);
    EXPECT_EQ(senders[0].counters().send_errors, 0u);
  }
}

TEST(Udp, packets_above_the_interface_mtu_are_reported_and_the_rest_leaves) {
  auto receiver = open_loopback();
  std::vector<UdpSocket> senders;
  senders.push_back(open_loopback({.faults = {.gso_error = EMSGSIZE}}));
  TransmitBatch batch(1 << 20);
  const Bytes huge(65507 + 1, 7);  // more than any IPv4 packet holds
  batch.add_view(huge, {receiver.local_address()}, 0);
  for (int i = 0; i < 5; ++i) add_packet(batch, 1000, i, {receiver.local_address()});
  UdpSender sender;
  send_all(sender, senders, batch);
  ASSERT_EQ(sender.too_large().size(), 1u);
  EXPECT_EQ(sender.too_large()[0].size, huge.size());
  EXPECT_EQ(receive_datagrams(receiver, 5).size(), 5u);
}

TEST(Udp, remainder_waits_when_the_kernel_has_no_room) {
  for (const int error : {EAGAIN, ENOBUFS}) {
    auto receiver = open_loopback();
    std::vector<UdpSocket> senders;
    senders.push_back(open_loopback({.gso = false, .faults = {.send_error = error, .send_error_after = 3}}));
    TransmitBatch batch;
    for (int i = 0; i < 10; ++i) add_packet(batch, 1000, i, {receiver.local_address()});
    UdpSender sender;
    sender.start(batch);
    EXPECT_EQ(sender.send(senders), 0);
    EXPECT_FALSE(sender.done());
    EXPECT_EQ(receive_datagrams(receiver, 3).size(), 3u);
    senders[0] = open_loopback();  // room again
    EXPECT_EQ(sender.send(senders), -1);
    EXPECT_TRUE(sender.done());
    const auto rest = receive_datagrams(receiver, 7);
    ASSERT_EQ(rest.size(), 7u);
    EXPECT_EQ(rest[0].bytes[0], 3);
  }
}

TEST(Udp, empty_datagrams_count_in_the_budget_and_hide_nothing) {
  auto receiver = open_loopback();
  auto sender = open_loopback();
  const std::uint8_t byte = 9;
  const UdpSocket::Piece none{&byte, 0}, one{&byte, 1};
  for (int i = 0; i < 5; ++i)
    ASSERT_EQ(sender.send({receiver.local_address()}, 0, {&none, 1}, 0), UdpSocket::SendOutcome::sent);
  ASSERT_EQ(sender.send({receiver.local_address()}, 0, {&one, 1}, 0), UdpSocket::SendOutcome::sent);
  ASSERT_TRUE(wait_for(receiver, POLLIN));
  ReceiveBuffers buffers;
  ReceiveRound round = receiver.receive(buffers, 4);
  EXPECT_EQ(round.messages, 4u);
  EXPECT_TRUE(round.datagrams.empty());
  EXPECT_TRUE(round.more);
  round = receiver.receive(buffers, 4);
  EXPECT_EQ(round.messages, 2u);
  ASSERT_EQ(round.datagrams.size(), 1u);
  EXPECT_EQ(round.datagrams[0].bytes[0], 9);
  EXPECT_EQ(receiver.counters().empty, 5u);
}

TEST(Udp, port_taken_says_so) {
  auto first = UdpPort::open(0, {});
  ASSERT_TRUE(first.ok());
  const auto second = UdpPort::open(first->port, {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ErrorKind::already_exists);
  EXPECT_NE(second.error().message.find(std::to_string(first->port)), std::string::npos);
}

TEST(Udp, both_families_share_one_free_port) {
  auto port = UdpPort::open(0, {});
  ASSERT_TRUE(port.ok());
  for (const UdpSocket& socket : port->sockets) EXPECT_EQ(socket.local_address().port, port->port);
  EXPECT_TRUE(port->has_v4 || port->has_v6);
}

TEST(Udp, foreign_address_is_refused) {
  const IpAddress foreign = IpAddress::v4({192, 0, 2, 1});
  const auto port = UdpPort::open(0, {&foreign, 1});
  ASSERT_FALSE(port.ok());
  EXPECT_EQ(port.error().kind, ErrorKind::unsupported);
}

}  // namespace
}  // namespace ravine::host
