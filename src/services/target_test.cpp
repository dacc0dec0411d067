#include "services/target.h"

#include <gtest/gtest.h>

namespace ravine::services {
namespace {

// Spellings of loopback, unspecified, link-local metadata and private addresses that parsers elsewhere have
// taken for the real thing. None is in the overlay, so none may pass the near side.
constexpr const char* kSpellings[] = {
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.000.000.001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0x7F.1",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "0x0",
    "00000000000",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "::1",
    "[::1]",
    "::",
    "[::]",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
    "[::ffff:7f00:1]",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "::ffff:169.254.169.254",
    "10.0.0.1",
    "192.168.1.1",
    "fe80::1",
    "fe80::1%2",
    "ff02::1",
    "255.255.255.255",
    "224.0.0.1",
    "fdcd::1",
    "fc00::1",
    "example.com",
    "fuse",
    "fuse.",
    "a.fuse.example.com",
    "127.0.0.1.nip.io",
    "xfuse",
};

TEST(OverlayHost, refuses_every_spelling_of_what_is_not_ours) {
  for (const char* host : kSpellings) EXPECT_FALSE(check_overlay_host(host)) << host;
}

TEST(OverlayHost, refuses_what_is_no_name_at_all) {
  for (const char* host : {"", ".", "..fuse", ".fuse", "-a.fuse", "a b.fuse", "a\r\n.fuse", "a/b.fuse",
                           "a@b.fuse", "a:b.fuse", "[a.fuse]x", "a%00.fuse"}) {
    EXPECT_FALSE(check_overlay_host(host)) << host;
  }
  EXPECT_FALSE(check_overlay_host(std::string(300, 'a') + ".fuse"));
  EXPECT_FALSE(check_overlay_host(std::string_view("a\0.fuse", 7)));
}

TEST(OverlayHost, makes_one_spelling_of_a_name) {
  for (const char* host : {"web.fuse", "WEB.fuse", "web.fuse.", "Web.Fuse"}) {
    const auto checked = check_overlay_host(host);
    ASSERT_TRUE(checked) << host;
    EXPECT_EQ(*checked, "web.fuse");
  }
}

TEST(OverlayHost, makes_one_spelling_of_an_overlay_address) {
  for (const char* host : {"fdcc:1:2::3", "[fdcc:1:2::3]", "FDCC:0001:0002:0::3"}) {
    const auto checked = check_overlay_host(host);
    ASSERT_TRUE(checked) << host;
    EXPECT_EQ(*checked, "fdcc:1:2::3");
  }
}

TEST(LocalTarget, takes_strict_addresses_and_names) {
  for (const char* target : {"127.0.0.1:8080", "[::1]:80", "192.168.1.2:22", "[fe80::1%2]:80",
                             "db.internal:5432", "localhost:1"}) {
    EXPECT_TRUE(parse_local_target(target)) << target;
  }
}

TEST(LocalTarget, refuses_ambiguous_and_special_addresses) {
  for (const char* target : {"127.1:80",
                             "0x7f000001:80",
                             "2130706433:80",
                             "0177.0.0.1:80",
                             "127.000.000.001:80",
                             "0:80",
                             "0.0.0.0:80",
                             "[::]:80",
                             "[::ffff:0.0.0.0]:80",
                             "0.1.2.3:80",
                             "224.0.0.1:80",
                             "[ff02::1]:80",
                             "255.255.255.255:80",
                             "240.0.0.1:80",
                             "[64:ff9b::7f00:1]:80",
                             "[2002:7f00:1::]:80",
                             "[fdcc::1]:80",
                             "127.0.0.1",
                             "127.0.0.1:0",
                             "127.0.0.1:65536",
                             ":80",
                             "a b:80",
                             "-x:80",
                             "",
                             "host:80x"}) {
    EXPECT_FALSE(parse_local_target(target)) << target;
  }
}

TEST(LocalTarget, checks_looked_up_addresses_as_well) {
  EXPECT_TRUE(check_local_target(IpAddress::v4({127, 0, 0, 1})));
  EXPECT_FALSE(check_local_target(IpAddress::v4({0, 0, 0, 0})));
  EXPECT_FALSE(check_local_target(*IpAddress::parse("fdcc::1")));
  EXPECT_FALSE(check_local_target(*IpAddress::parse("64:ff9b::a00:1")));
}

}  // namespace
}  // namespace ravine::services
