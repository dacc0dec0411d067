// A program's TCP connection through proxy, session and exposure, against the same over plain TCP.
#include <thread>

#include "services/two_nodes.h"

namespace ravine::services::test {
namespace {

using Tunnel = TwoNodes;

// An accepted connection at the server, and the client's end, joined through SOCKS.
struct Joined {
  Program client, server;
};

std::string pattern(std::size_t size) {
  std::string out(size, '\0');
  std::uint32_t state = 1;
  for (char& c : out) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

class JoinedTunnel : public TwoNodes {
 protected:
  JoinedTunnel() {
    listener_ = Program::tcp();
    listener_.listen();
    expose(80, listener_);
    client_ = Program::tcp();
    EXPECT_EQ(ask_socks(client_, "far.fuse", 80), 0);
    server_ = listener_.accept();
  }
  Program listener_, client_, server_;
};

TEST_F(JoinedTunnel, carries_bytes_both_ways) {
  client_.send("ping");
  EXPECT_EQ(server_.receive(4), "ping");
  server_.send("pong");
  EXPECT_EQ(client_.receive(4), "pong");
}

TEST_F(JoinedTunnel, passes_half_close_on_in_both_directions) {
  client_.send("question");
  client_.finish();
  EXPECT_EQ(server_.receive_all(), "question");
  server_.send("answer");
  server_.finish();
  EXPECT_EQ(client_.receive_all(), "answer");
  EXPECT_EQ(client_.last_error(), 0);
}

TEST_F(JoinedTunnel, turns_a_reset_of_the_client_into_one_at_the_server) {
  client_.send("x");
  EXPECT_EQ(server_.receive(1), "x");
  client_.close_with_reset();
  EXPECT_EQ(server_.receive(1), "");
  EXPECT_EQ(server_.last_error(), ECONNRESET);
}

TEST_F(JoinedTunnel, turns_a_reset_of_the_server_into_one_at_the_client) {
  client_.send("x");
  EXPECT_EQ(server_.receive(1), "x");
  server_.close_with_reset();
  EXPECT_EQ(client_.receive(1), "");
  EXPECT_EQ(client_.last_error(), ECONNRESET);
}

TEST_F(JoinedTunnel, holds_a_writer_back_while_the_reader_sleeps) {
  Program echoes = Program::tcp();
  echoes.listen();
  expose(81, echoes);
  Program asker = Program::tcp();
  ASSERT_EQ(ask_socks(asker, "far.fuse", 81), 0);
  Program echo = echoes.accept();
  const std::string sent = pattern(32u << 20);
  std::thread writer([&] {
    client_.send(sent);
    client_.finish();
  });
  std::string received = server_.receive(1000);
  // Nobody reads now, and another stream of the session works on. Once all windows are full, nothing but its
  // round trips arrives.
  constexpr std::uint64_t kRoundTrips = 20, kBytesPerTrip = 2000;
  std::uint64_t arrived = 0, before = 0;
  do {
    before = arrived;
    for (std::uint64_t i = 0; i < kRoundTrips; ++i) {
      asker.send("?");
      ASSERT_EQ(echo.receive(1), "?");
      echo.send("!");
      ASSERT_EQ(asker.receive(1), "!");
    }
    on_loop([&] { arrived = far_->driver.endpoint().counters().bytes_received; });
  } while (arrived > before + kRoundTrips * kBytesPerTrip);
  // A stream's window of 1 MiB, and what the kernel holds of the connection to the server: 4 MiB of sending
  // buffer and 6 MiB of receiving buffer at most.
  EXPECT_LT(arrived, 12u << 20);
  received += server_.receive_all();
  writer.join();
  EXPECT_EQ(received.size(), sent.size());
  EXPECT_TRUE(received == sent);
}

TEST_F(JoinedTunnel, resets_the_client_when_the_session_is_lost) {
  client_.send("x");
  EXPECT_EQ(server_.receive(1), "x");
  on_loop([&] {
    near_->driver.enter();
    near_->driver.endpoint().close_all(near_->driver.now(), session::AppError::shutdown);
    near_->driver.touch();
  });
  EXPECT_EQ(client_.receive(1), "");
  EXPECT_EQ(client_.last_error(), ECONNRESET);
  EXPECT_EQ(server_.receive(1), "");
  EXPECT_EQ(server_.last_error(), ECONNRESET);
}

TEST_F(JoinedTunnel, ends_open_connections_when_the_port_is_unexposed) {
  on_loop([&] { EXPECT_TRUE(far_->expose.remove(Protocol::tcp, 80)); });
  EXPECT_EQ(client_.receive(1), "");
  EXPECT_EQ(client_.last_error(), ECONNRESET);
  Program again = Program::tcp();
  EXPECT_EQ(ask_socks(again, "far.fuse", 80), 5);
}

TEST_F(Tunnel, answers_with_the_right_socks_code) {
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener, {"somebody-else"});
  Program closed = Program::tcp();
  closed.bind();
  expose(81, closed);
  on_loop([&] { near_->knows("away", closed.port()); });
  const auto code = [&](const std::string& host, std::uint16_t port) {
    Program client = Program::tcp();
    return ask_socks(client, host, port);
  };
  EXPECT_EQ(code("far.fuse", 80), 2) << "not allowed by the exposing peer";
  EXPECT_EQ(code("far.fuse", 81), 5) << "the target's port is closed";
  EXPECT_EQ(code("far.fuse", 82), 5) << "not exposed";
  EXPECT_EQ(code("nobody.fuse", 80), 4) << "unknown name";
  EXPECT_EQ(code("example.com", 80), 2) << "not in the overlay";
  EXPECT_EQ(code("127.0.0.1", 80), 2) << "no open proxy";
  EXPECT_EQ(code("localhost", 80), 2) << "no open proxy";
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(code("away.fuse", 80), 4) << "offline";
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
}

TEST_F(Tunnel, says_within_three_seconds_that_a_peer_vanished) {
  std::promise<bool> connected;
  on_loop([&] {
    near_->connector.connect("far.fuse",
                             [&](Result<session::SessionId> id) { connected.set_value(id.ok()); });
  });
  ASSERT_TRUE(connected.get_future().get());
  on_loop([&] {
    far_->vanishes = true;
    far_.reset();
  });
  const auto before = std::chrono::steady_clock::now();
  Program again = Program::tcp();
  EXPECT_EQ(ask_socks(again, "far.fuse", 80), 4);
  const auto took = std::chrono::steady_clock::now() - before;
  EXPECT_LT(took, std::chrono::seconds(5)) << "3 s, and what a busy machine adds";
}

TEST_F(Tunnel, allows_by_name_id_and_group) {
  Program listener = Program::tcp();
  listener.listen();
  std::uint16_t port = 90;
  for (const std::string& rule :
       {std::string("near"), near_->id.to_text(), std::string("group:ops"), std::string("*")}) {
    expose(++port, listener, {rule});
    Program client = Program::tcp();
    EXPECT_EQ(ask_socks(client, "far.fuse", port), 0) << rule;
  }
  expose(++port, listener, {"group:other", "far"});
  Program client = Program::tcp();
  EXPECT_EQ(ask_socks(client, "far.fuse", port), 2);
}

TEST_F(Tunnel, reaches_a_peer_by_short_id_and_overlay_address) {
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener);
  Program by_name = Program::tcp();
  ASSERT_EQ(ask_socks(by_name, "far.fuse", 80), 0);
  Program by_id = Program::tcp();
  EXPECT_EQ(ask_socks(by_id, far_->id.to_text() + ".fuse", 80), 0);
  std::string overlay;
  on_loop([&] { overlay = take(near_->directory.find("far"))->overlay->to_text(); });
  Program by_address = Program::tcp();
  EXPECT_EQ(ask_socks(by_address, overlay, 80), 0) << overlay;
}

TEST_F(Tunnel, serves_http_connect_and_bytes_sent_early) {
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener);
  Program client = Program::tcp();
  ASSERT_TRUE(client.connect(proxy_port_));
  client.send("CONNECT far.fuse:80 HTTP/1.1\r\nHost: far.fuse:80\r\n\r\nearly");
  const std::string_view wanted = "HTTP/1.1 200 ";
  EXPECT_EQ(client.receive(wanted.size()), wanted);
  Program server = listener.accept();
  EXPECT_EQ(server.receive(5), "early");
}

TEST_F(Tunnel, tells_an_http_client_what_the_proxy_speaks) {
  Program client = Program::tcp();
  ASSERT_TRUE(client.connect(proxy_port_));
  client.send("GET http://far.fuse/ HTTP/1.1\r\nHost: far.fuse\r\n\r\n");
  const std::string answer = client.receive_all();
  EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 405");
  EXPECT_NE(answer.find("CONNECT"), std::string::npos);
}

TEST_F(Tunnel, forwards_a_local_port) {
  Program listener = Program::tcp();
  listener.listen();
  expose(22, listener);
  std::uint16_t port = 0;
  on_loop([&] {
    const auto added = near_->forwards.add({.protocol = Protocol::tcp,
                                            .listen = {IpAddress::v4({127, 0, 0, 1}), 0},
                                            .host = "far.fuse",
                                            .port = 22});
    ASSERT_TRUE(added.ok());
    port = added->port;
  });
  Program client = Program::tcp();
  ASSERT_TRUE(client.connect(port));
  client.send("hello");
  Program server = listener.accept();
  EXPECT_EQ(server.receive(5), "hello");
}

TEST_F(Tunnel, carries_udp_through_an_association) {
  Program server = Program::udp();
  server.bind();
  expose(53, server, {"near"}, Protocol::udp);
  Program control = Program::tcp();
  ASSERT_TRUE(control.connect(proxy_port_));
  Bytes request{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0};
  control.send(request);
  const std::string reply = control.receive(12);
  ASSERT_EQ(reply.size(), 12u);
  ASSERT_EQ(reply[3], 0);
  const auto relay = static_cast<std::uint16_t>((static_cast<unsigned char>(reply[10]) << 8) |
                                                static_cast<unsigned char>(reply[11]));
  Program client = Program::udp();
  ASSERT_TRUE(client.connect(relay));
  client.send(encode_socks_datagram("far.fuse", 53, as_bytes("query")));
  ASSERT_TRUE(server.wait_readable());
  char buffer[64];
  sockaddr_in from{};
  socklen_t size = sizeof from;
  ASSERT_EQ(
      ::recvfrom(server.descriptor(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size),
      5);
  EXPECT_EQ(std::string_view(buffer, 5), "query");
  ::sendto(server.descriptor(), "answer", 6, 0, reinterpret_cast<sockaddr*>(&from), size);
  ASSERT_TRUE(client.wait_readable());
  const ssize_t got = ::recv(client.descriptor(), buffer, sizeof buffer, 0);
  ASSERT_GT(got, 0);
  const auto answer =
      decode_socks_datagram({reinterpret_cast<std::uint8_t*>(buffer), static_cast<std::size_t>(got)});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->host, "far.fuse");
  EXPECT_EQ(as_text(answer->payload), "answer");
}

TEST_F(Tunnel, asks_for_credentials_in_both_protocols) {
  on_loop([&] {
    proxy_ = std::make_unique<ProxyServer>(
        near_->tunnels,
        ProxyOptions{.listen = {IpAddress::v4({127, 0, 0, 1}), 0}, .credentials = {{"ann", "secret"}}});
    ASSERT_TRUE(proxy_->start().ok());
    proxy_port_ = proxy_->address().port;
  });
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener);
  Program socks = Program::tcp();
  ASSERT_TRUE(socks.connect(proxy_port_));
  socks.send(Bytes{5, 1, 0});
  EXPECT_EQ(socks.receive_all(), std::string("\5\xff", 2));
  const auto status = [&](const std::string& field) {
    Program client = Program::tcp();
    EXPECT_TRUE(client.connect(proxy_port_));
    client.send("CONNECT far.fuse:80 HTTP/1.1\r\nHost: far.fuse:80\r\n" + field + "\r\n");
    return client.receive(12);
  };
  EXPECT_EQ(status(""), "HTTP/1.1 407");
  EXPECT_EQ(status("Proxy-Authorization: Basic YW5uOndyb25n\r\n"), "HTTP/1.1 407");
  EXPECT_EQ(status("Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"), "HTTP/1.1 200");
}

TEST_F(Tunnel, refuses_to_listen_for_others_without_credentials) {
  on_loop([&] {
    ProxyServer open(near_->tunnels, {.listen = {IpAddress::v4({0, 0, 0, 0}), 0}});
    const auto started = open.start();
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().kind, ErrorKind::invalid_argument);
  });
}

TEST_F(Tunnel, frees_a_client_that_never_finishes_its_handshake) {
  on_loop([&] {
    proxy_ = std::make_unique<ProxyServer>(
        near_->tunnels,
        ProxyOptions{.listen = {IpAddress::v4({127, 0, 0, 1}), 0}, .handshake_timeout = 200ms});
    ASSERT_TRUE(proxy_->start().ok());
    proxy_port_ = proxy_->address().port;
  });
  Program client = Program::tcp();
  ASSERT_TRUE(client.connect(proxy_port_));
  client.send(Bytes{5});
  EXPECT_EQ(client.receive_all(), "");
  on_loop([&] { EXPECT_EQ(proxy_->counters().timed_out, 1u); });
}

TEST_F(Tunnel, leaves_nothing_behind_after_many_short_connections) {
  Program listener = Program::tcp();
  listener.listen();
  expose(80, listener);
  for (int i = 0; i < 200; ++i) {
    Program client = Program::tcp();
    ASSERT_EQ(ask_socks(client, "far.fuse", 80), 0) << i;
    Program server = listener.accept();
    if (i % 2 == 0) server.close_with_reset();
    server.close();
    client.receive_all();
  }
  std::uint64_t active = 1;
  for (int i = 0; i < 100 && active != 0; ++i) {
    on_loop([&] { active = near_->tunnels.pump_counters().active + far_->expose.pump_counters().active; });
    if (active != 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(active, 0u);
}

}  // namespace
}  // namespace ravine::services::test
