#include "base/bytes.h"

#include <gtest/gtest.h>

#include "base/address.h"
#include "base/machine.h"
#include "base/time.h"

namespace ravine {
namespace {

// RFC 9000 §A.1: the sample varints.
TEST(Varint, decodes_the_samples_of_rfc_9000) {
  const std::pair<const char*, std::uint64_t> samples[] = {{"c2197c5eff14e88c", 151288809941952652u},
                                                           {"9d7f3e7d", 494878333u},
                                                           {"7bbd", 15293u},
                                                           {"25", 37u},
                                                           {"4025", 37u}};
  for (const auto& [hex, value] : samples) {
    const Bytes bytes = *decode_hex(hex);
    ByteReader reader(bytes);
    EXPECT_EQ(reader.read_varint(), value) << hex;
    EXPECT_TRUE(reader.ok());
    EXPECT_EQ(reader.remaining(), 0u);
  }
}

TEST(Varint, round_trips_at_every_size_boundary) {
  for (std::uint64_t value :
       {0ull, 63ull, 64ull, 16383ull, 16384ull, 1073741823ull, 1073741824ull, (1ull << 62) - 1}) {
    ByteWriter writer;
    writer.write_varint(value);
    EXPECT_EQ(writer.size(), varint_size(value));
    ByteReader reader(writer.view());
    EXPECT_EQ(reader.read_varint(), value);
  }
}

TEST(ByteReader, fails_for_good_after_the_first_short_read) {
  const Bytes bytes{1, 2, 3};
  ByteReader reader(bytes);
  EXPECT_EQ(reader.read_u16(), 0x0102);
  EXPECT_EQ(reader.read_u32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.read_u8(), 0u);
  EXPECT_FALSE(reader.ok());
}

// RFC 4648 §10.
TEST(Base32, matches_rfc_4648_vectors) {
  EXPECT_EQ(encode_base32(as_bytes("foobar")), "mzxw6ytboi");
  EXPECT_EQ(as_text(*decode_base32("MZXW6YTBOI")), "foobar");
  EXPECT_EQ(encode_base32(as_bytes("f")), "my");
  EXPECT_FALSE(decode_base32("mz1"));
  EXPECT_FALSE(decode_base32("mz"));  // trailing bits are not zero
}

TEST(Base64url, round_trips_and_refuses_foreign_digits) {
  for (std::size_t size = 0; size < 9; ++size) {
    const Bytes bytes(size, 0xfb);
    EXPECT_EQ(*decode_base64url(encode_base64url(bytes)), bytes);
  }
  EXPECT_FALSE(decode_base64url("a+b"));
}

TEST(IpAddress, prints_the_recommended_text_of_rfc_5952) {
  const std::pair<const char*, const char*> pairs[] = {{"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
                                                       {"2001:DB8::0001", "2001:db8::1"},
                                                       {"::", "::"},
                                                       {"::1", "::1"},
                                                       {"fe80::1%3", "fe80::1%3"},
                                                       {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"},
                                                       {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
                                                       {"1::", "1::"},
                                                       {"::ffff:192.0.2.1", "192.0.2.1"},
                                                       {"10.0.0.1", "10.0.0.1"}};
  for (const auto& [in, out] : pairs) {
    const auto address = IpAddress::parse(in);
    ASSERT_TRUE(address) << in;
    EXPECT_EQ(address->to_text(), out);
  }
}

TEST(IpAddress, refuses_second_spellings_of_ipv4) {
  for (const char* text :
       {"0177.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "127.0.0.1.", "1.2.3", "256.1.1.1", "", "1..2.3",
        ":::", "1:2", "::1::", "g::", "1:2:3:4:5:6:7:8:9", "fe80::1%eth0"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
}

TEST(IpAddress, finds_the_ipv4_address_inside_transition_prefixes) {
  EXPECT_EQ(IpAddress::parse("64:ff9b::7f00:1")->embedded_v4()->to_text(), "127.0.0.1");
  EXPECT_EQ(IpAddress::parse("2002:7f00:1::")->embedded_v4()->to_text(), "127.0.0.1");
  EXPECT_EQ(IpAddress::parse("::127.0.0.1")->embedded_v4()->to_text(), "127.0.0.1");
  EXPECT_FALSE(IpAddress::parse("2001:db8::1")->embedded_v4());
}

TEST(SocketAddress, needs_brackets_for_ipv6_and_a_port) {
  EXPECT_EQ(SocketAddress::parse("[::1]:80")->to_text(), "[::1]:80");
  EXPECT_EQ(SocketAddress::parse("192.0.2.1:65535")->to_text(), "192.0.2.1:65535");
  for (const char* text :
       {"::1:80", "192.0.2.1", "192.0.2.1:65536", "192.0.2.1:", "[::1]", "host:80", "192.0.2.1:-1"}) {
    EXPECT_FALSE(SocketAddress::parse(text)) << text;
  }
}

TEST(Instant, saturates_instead_of_wrapping) {
  EXPECT_TRUE((Instant::never() + 1s).is_never());
  EXPECT_EQ((Instant{5} - 10ns).nanoseconds, 0u);
  EXPECT_EQ(Instant{10} - Instant{4}, 6ns);
}

TEST(SeededRandom, repeats_for_a_seed_and_stays_below_its_bound) {
  SeededRandom a(7), b(7), c(8);
  EXPECT_EQ(a.next_u64(), b.next_u64());
  EXPECT_NE(a.next_u64(), c.next_u64());
  for (int i = 0; i < 1000; ++i) EXPECT_LT(a.below(7), 7u);
}

}  // namespace
}  // namespace ravine
