// Grammar checks, URLs, hop-by-hop fields and dates.
#include "services/http/http_text.h"

#include <gtest/gtest.h>

namespace ravine::services::http {
namespace {

TEST(HttpText, takes_urls_apart) {
  const auto url = parse_url("HTTPS://[2001:db8::1]:8448?q=/x");
  ASSERT_TRUE(url);
  EXPECT_TRUE(url->https);
  EXPECT_EQ(url->host, "2001:db8::1");
  EXPECT_EQ(url->authority, "[2001:db8::1]:8448");
  EXPECT_EQ(url->port, 8448);
  EXPECT_EQ(url->target, "/?q=/x");
  EXPECT_EQ(parse_url("http://a")->port, 80);
  EXPECT_EQ(parse_url("https://a/b")->port, 443);
  for (const char* bad :
       {"", "a", "://a", "http:/a", "http://", "http://:80", "http://a:", "http://a:0", "http://a:65536",
        "http://a b", "http://a/b c", "http://a/#b", "http://u@a", "http://[::1", "http://[1.2.3.4]"})
    EXPECT_FALSE(parse_url(bad)) << bad;
}

TEST(HttpText, sees_paths_that_climb) {
  for (const char* climbing :
       {"/..", "/../a", "/a/../b", "/a/..", "/%2e%2e/a", "/.%2E", "/a%2f..", "/a\\..", "/a%5c%2e./b"})
    EXPECT_TRUE(climbs(climbing)) << climbing;
  for (const char* fine : {"/", "/a..b", "/...", "/a/.../b", "/a?x=/../b", "/%2", "/%zz/..a"})
    EXPECT_FALSE(climbs(fine)) << fine;
}

TEST(HttpText, knows_the_fields_of_one_hop) {
  const gateway::core::Headers headers{{"connection", "close , X-One"}, {"Connection", "x-two"}};
  const HopByHop hop(headers);
  for (const char* dropped :
       {"CONNECTION", "x-one", "X-Two", "Keep-Alive", "TE", "transfer-encoding", "content-length"})
    EXPECT_TRUE(hop.drops(dropped)) << dropped;
  for (const char* kept : {"x-three", "content-type", "content-encoding", "host"})
    EXPECT_FALSE(hop.drops(kept)) << kept;
}

TEST(HttpText, writes_dates) {
  EXPECT_EQ(to_http_date({784111777}), "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110 §5.6.7
  EXPECT_EQ(to_http_date({0}), "Thu, 01 Jan 1970 00:00:00 GMT");
}

TEST(HttpText, answers_502_for_a_status_that_is_none) {
  for (const std::uint16_t status : std::initializer_list<std::uint16_t>{0, 100, 101, 199, 600, 65535})
    EXPECT_TRUE(write_response({status, {}, {}}, {}).head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
}

}  // namespace
}  // namespace ravine::services::http
