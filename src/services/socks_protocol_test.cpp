#include "services/socks_protocol.h"

#include <gtest/gtest.h>

#include "base/machine.h"

namespace ravine::services {
namespace {

const std::vector<Credential> kNone;
const std::vector<Credential> kUsers{{"ann", "secret"}, {"bob", "hunter2"}};

Bytes greeting_and(Bytes rest) {
  Bytes all{5, 1, 0};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

Bytes with_text(Bytes head, std::string_view text, Bytes tail) {
  head.push_back(static_cast<std::uint8_t>(text.size()));
  head.insert(head.end(), text.begin(), text.end());
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

TEST(SocksHandshake, reads_a_connect_to_a_name) {
  SocksHandshake handshake(kNone);
  Bytes out;
  const Bytes bytes = greeting_and(with_text({5, 1, 0, 3}, "web.fuse", {0, 80, 'x'}));
  EXPECT_EQ(handshake.feed(bytes, out), bytes.size() - 1) << "what follows belongs to the tunnel";
  EXPECT_EQ(handshake.state(), SocksHandshake::State::done);
  EXPECT_EQ(handshake.request().host, "web.fuse");
  EXPECT_EQ(handshake.request().port, 80);
  EXPECT_EQ(out, (Bytes{5, 0}));
}

TEST(SocksHandshake, reads_the_same_from_single_bytes) {
  SocksHandshake handshake(kNone);
  Bytes out, held;
  for (const std::uint8_t byte : greeting_and(with_text({5, 3, 0, 3}, "a.fuse", {1, 0}))) {
    held.push_back(byte);
    const std::size_t used = handshake.feed(held, out);
    held.erase(held.begin(), held.begin() + static_cast<std::ptrdiff_t>(used));
  }
  EXPECT_EQ(handshake.state(), SocksHandshake::State::done);
  EXPECT_EQ(handshake.request().command, SocksCommand::udp_associate);
  EXPECT_EQ(handshake.request().port, 256);
}

TEST(SocksHandshake, reads_addresses_and_unmaps_v4) {
  Bytes out;
  SocksHandshake v4(kNone);
  v4.feed(greeting_and({5, 1, 0, 1, 10, 1, 2, 3, 0, 80}), out);
  EXPECT_EQ(v4.request().host, "10.1.2.3");
  SocksHandshake mapped(kNone);
  mapped.feed(greeting_and({5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0, 80}), out);
  EXPECT_EQ(mapped.request().host, "127.0.0.1");
}

TEST(SocksHandshake, asks_for_credentials_and_checks_them) {
  for (const auto& [user, password, good] : {std::tuple{"ann", "secret", true},
                                             {"bob", "hunter2", true},
                                             {"ann", "hunter2", false},
                                             {"", "", false}}) {
    SocksHandshake handshake(kUsers);
    Bytes out;
    handshake.feed(Bytes{5, 2, 0, 2}, out);
    EXPECT_EQ(out, (Bytes{5, 2}));
    out.clear();
    Bytes login = with_text({1}, user, {});
    login = with_text(login, password, {});
    handshake.feed(login, out);
    EXPECT_EQ(out, (Bytes{1, static_cast<std::uint8_t>(good ? 0 : 1)})) << user;
    EXPECT_EQ(handshake.state(), good ? SocksHandshake::State::request : SocksHandshake::State::failed);
  }
}

TEST(SocksHandshake, refuses_a_client_that_offers_no_credentials) {
  SocksHandshake handshake(kUsers);
  Bytes out;
  handshake.feed(Bytes{5, 1, 0}, out);
  EXPECT_EQ(out, (Bytes{5, 0xff}));
  EXPECT_EQ(handshake.state(), SocksHandshake::State::failed);
}

TEST(SocksHandshake, answers_what_it_cannot_do) {
  const auto reply_to = [](Bytes request) {
    SocksHandshake handshake(kNone);
    Bytes out;
    handshake.feed(greeting_and(std::move(request)), out);
    EXPECT_EQ(handshake.state(), SocksHandshake::State::failed);
    return out.size() > 3 ? out[3] : 0xff;
  };
  EXPECT_EQ(reply_to({5, 2, 0, 1, 1, 2, 3, 4, 0, 80}), 7) << "BIND";
  EXPECT_EQ(reply_to({5, 1, 0, 2, 1, 2, 3, 4, 0, 80}), 8) << "address type 2";
  EXPECT_EQ(reply_to({5, 1, 0, 3, 0, 0, 80}), 1) << "empty name";
  EXPECT_EQ(reply_to({5, 1, 0, 3, 2, 'a', 0, 0, 80}), 1) << "NUL in the name";
  EXPECT_EQ(reply_to({5, 1, 9, 1, 1, 2, 3, 4, 0, 80}), 1) << "reserved byte";
}

TEST(SocksHandshake, stays_in_bounds_on_random_bytes) {
  SeededRandom random(7);
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes(random.below(40));
    random.fill(bytes);
    if (!bytes.empty() && random.below(4) != 0) bytes[0] = 5;
    SocksHandshake handshake(round % 2 == 0 ? kNone : kUsers);
    Bytes out;
    EXPECT_LE(handshake.feed(bytes, out), bytes.size());
    EXPECT_LE(out.size(), 64u);
  }
}

TEST(SocksDatagram, survives_a_round_trip_and_refuses_fragments) {
  const Bytes payload{1, 2, 3};
  for (const char* host : {"web.fuse", "10.0.0.1", "fdcc::1"}) {
    Bytes datagram = encode_socks_datagram(host, 53, payload);
    const auto decoded = decode_socks_datagram(datagram);
    ASSERT_TRUE(decoded) << host;
    EXPECT_EQ(decoded->host, host);
    EXPECT_EQ(decoded->port, 53);
    EXPECT_EQ(to_bytes(decoded->payload), payload);
    datagram[2] = 1;
    EXPECT_FALSE(decode_socks_datagram(datagram));
  }
  EXPECT_FALSE(decode_socks_datagram(Bytes{0, 0, 0}));
  EXPECT_FALSE(decode_socks_datagram(Bytes{0, 0, 0, 3, 200, 'a', 0, 80}));
}

}  // namespace
}  // namespace ravine::services
