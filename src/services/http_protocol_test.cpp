#include "services/http_protocol.h"

#include <gtest/gtest.h>

#include "base/machine.h"

namespace ravine::services {
namespace {

HttpParse parse(std::string_view text) {
  return parse_http_head(as_bytes(text));
}

TEST(HttpHead, reads_a_connect_and_leaves_the_rest) {
  const std::string_view text = "CONNECT web.fuse:443 HTTP/1.1\r\nHost: web.fuse:443\r\nX-A:  b \r\n\r\nrest";
  const HttpParse head = parse(text);
  ASSERT_EQ(head.outcome, HttpOutcome::ready);
  EXPECT_EQ(head.head.method, "CONNECT");
  EXPECT_EQ(head.head.target, "web.fuse:443");
  EXPECT_EQ(text.substr(head.size), "rest");
  ASSERT_NE(head.head.field("x-a"), nullptr);
  EXPECT_EQ(*head.head.field("x-a"), "b");
}

TEST(HttpHead, wants_more_of_every_prefix) {
  const std::string_view text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_EQ(parse(text.substr(0, size)).outcome, HttpOutcome::need_more) << size;
  }
}

TEST(HttpHead, refuses_what_two_parsers_could_read_differently) {
  for (const char* text :
       {"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET /\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA: \x01\r\n\r\n", "GET / HTTP/1.1\r\n: a\r\n\r\n"}) {
    EXPECT_EQ(parse(text).outcome, HttpOutcome::malformed) << text;
  }
}

TEST(HttpHead, is_bounded_in_size_and_fields) {
  EXPECT_EQ(parse("GET /" + std::string(kMaxHttpHead, 'a')).outcome, HttpOutcome::too_large);
  std::string many = "GET / HTTP/1.1\r\n";
  for (std::size_t i = 0; i <= kMaxHttpFields; ++i) many += "a: b\r\n";
  EXPECT_EQ(parse(many + "\r\n").outcome, HttpOutcome::malformed);
}

TEST(HttpHead, stays_in_bounds_on_random_bytes) {
  SeededRandom random(3);
  constexpr std::string_view kAlphabet = "GET / HTTP/1.1\r\n\r\n:aH\t\x01";
  for (int round = 0; round < 20000; ++round) {
    std::string text = round % 2 == 0 ? "GET / HTTP/1.1\r\n" : "";
    for (std::uint64_t i = random.below(40); i > 0; --i) text += kAlphabet[random.below(kAlphabet.size())];
    EXPECT_LE(parse(text).size, text.size());
  }
}

TEST(Basic, decodes_credentials) {
  const auto pair = parse_basic("Basic YW5uOnNlY3JldA==");
  ASSERT_TRUE(pair);
  EXPECT_EQ(pair->first, "ann");
  EXPECT_EQ(pair->second, "secret");
  for (const char* bad : {"", "Basic", "Bearer YW5uOnNlY3JldA==", "Basic YW5u", "Basic ####", "Basic Y"}) {
    EXPECT_FALSE(parse_basic(bad)) << bad;
  }
}

TEST(HostCheck, lets_only_loopback_and_listed_names_pass) {
  const auto allowed = [](std::string_view host) {
    return is_host_allowed(parse("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n").head, 9100,
                           {"box.lan"});
  };
  EXPECT_TRUE(allowed("localhost:9100"));
  EXPECT_TRUE(allowed("127.0.0.1:9100"));
  EXPECT_TRUE(allowed("[::1]:9100"));
  EXPECT_TRUE(allowed("box.lan:9100"));
  EXPECT_FALSE(allowed("evil.example:9100"));
  EXPECT_FALSE(allowed("localhost:80"));
  EXPECT_FALSE(is_host_allowed(parse("GET / HTTP/1.1\r\n\r\n").head, 9100, {}));
}

}  // namespace
}  // namespace ravine::services
