#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/file.h"
#include "host/sockaddr.h"
#include "services/lab/https_meter.h"
#include "services/lab/link_relay.h"
#include "services/lab/pcap.h"
#include "services/socket.h"

namespace ravine::services {
namespace {

const SocketAddress kAnyPort = *SocketAddress::parse("127.0.0.1:0");

Socket taken(Result<Socket> socket) {
  EXPECT_TRUE(socket.ok());
  return std::move(*socket);
}

// A server that sends back what comes, and its clients, all in one loop.
class Relayed {
 public:
  explicit Relayed(lab::LinkProfile profile, std::size_t max_clients = 64, std::string capture = {})
      : server_(taken(bind_udp(loop, kAnyPort))) {
    auto started = LinkRelay::start(loop, {.listen = kAnyPort,
                                           .to = local_address(server_),
                                           .up = profile,
                                           .down = profile,
                                           .max_clients = max_clients,
                                           .capture = std::move(capture)});
    EXPECT_TRUE(started.ok());
    relay = std::move(*started);
  }
  Socket client() { return taken(connect_udp(loop, relay->address())); }
  void send(Socket& client, std::string_view text) {
    ASSERT_EQ(::send(client.native_handle(), text.data(), text.size(), 0), std::ssize(text));
  }
  // What the client has received within five seconds; the server echoes meanwhile.
  std::string receive(Socket& client, Duration limit = 5s) {
    std::array<char, 2000> buffer;
    for (const Instant end = host::monotonic_now() + limit; host::monotonic_now() < end;) {
      loop.poll_one();
      host::RawSocketAddress raw{};
      socklen_t size = sizeof raw;
      const ssize_t got =
          ::recvfrom(server_.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT, &raw.any, &size);
      if (got > 0)
        ::sendto(server_.native_handle(), buffer.data(), static_cast<std::size_t>(got), 0, &raw.any, size);
      const ssize_t back = ::recv(client.native_handle(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (back > 0) return {buffer.data(), static_cast<std::size_t>(back)};
    }
    return {};
  }

  boost::asio::io_context loop;
  std::unique_ptr<LinkRelay> relay;

 private:
  Socket server_;
};

TEST(LinkRelay, carries_both_ways_for_several_clients_and_counts_ip_bytes) {
  Relayed world({});
  Socket one = world.client(), two = world.client();
  world.send(one, "from one");
  world.send(two, "from two");
  EXPECT_EQ(world.receive(one), "from one");
  EXPECT_EQ(world.receive(two), "from two");
  const RelayTally tally = world.relay->tally();
  EXPECT_EQ(tally.clients, 2u);
  EXPECT_EQ(tally.up.bytes, 2 * (8u + 28));
  EXPECT_EQ(tally.down.bytes, 2 * (8u + 28));
}

TEST(LinkRelay, takes_the_time_of_the_link_each_way) {
  Relayed world({.rate_bps = 8000, .delay = 30ms});  // 36 bytes: 36 ms
  Socket client = world.client();
  const Instant begin = host::monotonic_now();
  world.send(client, "12345678");
  EXPECT_EQ(world.receive(client), "12345678");
  EXPECT_GE(host::monotonic_now() - begin, 2 * (36ms + 30ms));
}

TEST(LinkRelay, forgets_the_client_that_was_silent_longest_when_there_are_too_many) {
  Relayed world({}, 2);
  Socket one = world.client(), two = world.client(), three = world.client();
  for (Socket* client : {&one, &two, &three}) {
    world.send(*client, "x");
    EXPECT_EQ(world.receive(*client), "x");
  }
  world.send(one, "again");
  EXPECT_EQ(world.receive(one), "again");
  EXPECT_EQ(world.relay->tally().clients, 4u);
}

TEST(LinkRelay, lets_nothing_through_while_it_is_down) {
  Relayed world({});
  Socket client = world.client();
  world.relay->set_down(true);
  world.send(client, "lost");
  EXPECT_EQ(world.receive(client, 200ms), "");
  EXPECT_EQ(world.relay->tally().up.outage, 1u);
  world.relay->set_down(false);
  world.send(client, "through");
  EXPECT_EQ(world.receive(client), "through");
}

TEST(LinkRelay, refuses_two_families_and_a_port_that_is_taken) {
  boost::asio::io_context loop;
  const auto mixed = LinkRelay::start(loop, {.listen = kAnyPort, .to = *SocketAddress::parse("[::1]:1")});
  ASSERT_FALSE(mixed.ok());
  EXPECT_EQ(mixed.error().kind, ErrorKind::invalid_argument);
  const Socket busy = taken(bind_udp(loop, kAnyPort));
  const auto twice = LinkRelay::start(loop, {.listen = local_address(busy), .to = kAnyPort});
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().kind, ErrorKind::already_exists);
}

TEST(LinkRelay, writes_a_capture_with_a_packet_per_datagram) {
  const std::string path = testing::TempDir() + "/relay.pcap";
  {
    Relayed world({}, 64, path);
    Socket client = world.client();
    world.send(client, "captured");
    EXPECT_EQ(world.receive(client), "captured");
  }
  const auto file = host::read_file(path, 100000);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->size(), 24 + 2 * (16 + 28 + 8u));
  (void)host::remove_file(path);
}

TEST(Pcap, packets_have_right_checksums) {
  for (const auto& [from, to] :
       {std::pair{"192.0.2.1:1000", "192.0.2.2:53"}, {"[2001:db8::1]:1", "[::1]:2"}}) {
    const Bytes packet =
        make_udp_packet(*SocketAddress::parse(from), *SocketAddress::parse(to), as_bytes("odd size of text"));
    const bool v4 = packet[0] >> 4 == 4;
    const std::size_t ip = v4 ? 20 : 40, addresses = v4 ? 12 : 8;
    const auto sum = [&](std::size_t begin, std::size_t end, std::uint32_t start) {
      for (std::size_t i = begin; i < end; ++i) start += (i - begin) % 2 == 0 ? packet[i] * 256u : packet[i];
      while (start >> 16 != 0) start = (start & 0xffff) + (start >> 16);
      return start;
    };
    if (v4) {
      EXPECT_EQ(sum(0, 20, 0), 0xffffu);
    }
    const std::uint32_t pseudo = sum(addresses, ip, 17 + static_cast<std::uint32_t>(packet.size() - ip));
    EXPECT_EQ(sum(ip, packet.size(), pseudo), 0xffffu);
  }
}

TEST(SerialRelay, carries_bytes_between_two_terminals) {
  boost::asio::io_context loop;
  auto relay = SerialRelay::start(loop, {.overhead_bytes = 0}, {.overhead_bytes = 0}, 1);
  ASSERT_TRUE(relay.ok()) << relay.error().message;
  const int near = ::open((*relay)->near_path().c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK);
  const int far = ::open((*relay)->far_path().c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK);
  const std::string text("frame one\0frame two\0", 20);
  ASSERT_EQ(::write(near, text.data(), text.size()), std::ssize(text));
  std::string got;
  for (const Instant end = host::monotonic_now() + 5s;
       got.size() < text.size() && host::monotonic_now() < end;) {
    loop.poll_one();
    std::array<char, 64> buffer;
    if (const ssize_t n = ::read(far, buffer.data(), buffer.size()); n > 0)
      got.append(buffer.data(), static_cast<std::size_t>(n));
  }
  EXPECT_EQ(got, text);
  EXPECT_EQ((*relay)->tally().up.datagrams, 2u);
  ::close(near);
  ::close(far);
}

TEST(HttpsMeter, counts_what_a_kept_connection_costs) {
  lab::Trace trace;
  for (int i = 0; i < 3; ++i)
    trace.push_back(
        {"send", "PUT", "/send/1", "Bearer t", R"({"body":"Hello"})", 200, R"({"event_id":"$x"})"});
  trace.push_back({"sync", "GET", "/sync", "Bearer t", std::nullopt, 200, std::string(20000, 'x')});
  const auto figures = measure_https(trace);
  ASSERT_TRUE(figures.ok()) << figures.error().message;
  ASSERT_EQ(figures->exchanges.size(), 4u);
  EXPECT_GT(figures->handshake_up + figures->handshake_down, 1500u);
  const auto& send = figures->exchanges[1];
  const std::uint64_t request = 16 + 280, response = 17 + 350;  // about: bodies and heads
  EXPECT_NEAR(static_cast<double>(send.up_bytes), request + 22 + 2 * 52, 160);
  EXPECT_NEAR(static_cast<double>(send.down_bytes), response + 22 + 2 * 52, 160);
  // 20 kB are 14 segments, and some acknowledgements go back.
  EXPECT_NEAR(static_cast<double>(figures->exchanges[3].down_bytes), 20000 + 400 + 15 * 52, 300);
  EXPECT_GT(figures->exchanges[3].up_bytes, 250u);
}

}  // namespace
}  // namespace ravine::services
