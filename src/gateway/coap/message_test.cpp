#include "gateway/coap/message.h"

#include <gtest/gtest.h>

#include "base/machine.h"

namespace ravine::gateway::coap {
namespace {

TEST(Message, random_bytes_never_decode_to_something_that_encodes_longer) {
  SeededRandom random(7);
  std::size_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes(random.below(40));
    random.fill(bytes);
    if (!bytes.empty()) bytes[0] = static_cast<std::uint8_t>(0x40 | (bytes[0] & 0x33));
    const Decoded decoded = decode_message(bytes);
    if (!decoded.ok()) continue;
    ++accepted;
    const Bytes again = encode_message(decoded.message);
    EXPECT_LE(again.size(), bytes.size());
    EXPECT_EQ(decode_message(again).message, decoded.message);
  }
  EXPECT_GT(accepted, 100u);
}

TEST(Message, more_options_than_allowed_are_refused) {
  Bytes bytes = {0x40, 0x01, 0, 1};
  bytes.insert(bytes.end(), kMaxOptions, 0x00);
  bytes[4] = 0xb0;
  EXPECT_TRUE(decode_message(bytes).ok());
  bytes.push_back(0x00);
  EXPECT_EQ(decode_message(bytes).fault, MessageFault::too_many_options);
}

TEST(Options, unsigned_values_take_the_shortest_form) {
  EXPECT_EQ(encode_uint(0), Bytes{});
  EXPECT_EQ(encode_uint(255), Bytes{255});
  EXPECT_EQ(encode_uint(256), (Bytes{1, 0}));
  EXPECT_EQ(decode_uint(Bytes{0, 0, 5}), 5u);
  EXPECT_EQ(decode_uint(Bytes(9)), std::nullopt);
}

TEST(Options, unknown_critical_ones_are_named_and_elective_ones_dropped) {
  Message message;
  message.code = Code::get;
  message.add(kUriPath, as_bytes("a"));
  message.add(2049, as_bytes("x"));  // critical, unknown
  message.add(2050, as_bytes("x"));  // elective, unknown
  const OptionVerdict verdict = classify_options(message);
  EXPECT_EQ(verdict.refused, std::vector<std::uint16_t>{2049});
  EXPECT_EQ(message.options.size(), 1u);
}

TEST(Options, a_wrong_length_or_repetition_counts_as_unknown) {
  Message message;
  message.code = Code::get;
  message.add(kUriPort, Bytes(3));        // critical, at most two bytes
  message.add(kContentFormat, Bytes(3));  // elective
  message.add(kUriHost, as_bytes("a"));
  message.add(kUriHost, as_bytes("b"));  // critical, once
  message.add(kMaxAge, Bytes{1});
  message.add(kMaxAge, Bytes{2});  // elective, once
  const OptionVerdict verdict = classify_options(message);
  EXPECT_EQ(verdict.refused, (std::vector<std::uint16_t>{kUriPort, kUriHost}));
  EXPECT_FALSE(message.has(kContentFormat));
  EXPECT_EQ(message.uint_option(kMaxAge), 1u);
}

}  // namespace
}  // namespace ravine::gateway::coap
