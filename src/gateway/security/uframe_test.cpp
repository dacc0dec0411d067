#include "gateway/security/uframe.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/machine.h"

namespace ravine::gateway::security {
namespace {

TEST(Uframe, candidates_hold_the_true_number_within_95_of_what_is_expected) {
  for (std::uint64_t expected = 0; expected < 400; ++expected)
    for (std::uint64_t number = expected > 95 ? expected - 95 : 0; number < expected + 96; ++number) {
      const auto candidates = number_candidates(static_cast<std::uint8_t>(number & 63), expected);
      ASSERT_NE(std::find(candidates.begin(), candidates.end(), number), candidates.end())
          << expected << ' ' << number;
      ASSERT_LE(candidates.size(), 3U);
      const std::uint64_t distance = number > expected ? number - expected : expected - number;
      if (distance < 32) {
        ASSERT_EQ(candidates.front(), number) << expected;
      }
    }
}

TEST(Uframe, parses_each_layout_byte_by_byte) {
  const Bytes message_bytes{0x85, 1, 2};
  const auto short_message = parse_frame(message_bytes);
  ASSERT_TRUE(short_message);
  EXPECT_EQ(short_message->kind, FrameKind::message);
  EXPECT_EQ(short_message->low_bits, 5);
  EXPECT_EQ(to_bytes(short_message->aad), (Bytes{0x85}));
  EXPECT_EQ(to_bytes(short_message->body), (Bytes{1, 2}));

  const auto answer = parse_frame(Bytes{0xc1});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->kind, FrameKind::answer);

  const Bytes all_bytes{1, 9, 8, 7, 6, 5, 3, 0x41, 0x00, 0xee};
  const auto everything = parse_frame(all_bytes);
  ASSERT_TRUE(everything);
  EXPECT_EQ(everything->connection, (ConnectionId{9, 8, 7}));
  EXPECT_TRUE(everything->rekey);
  EXPECT_TRUE(everything->fragment);
  EXPECT_EQ(everything->number, 256U);
  EXPECT_EQ(to_bytes(everything->aad), (Bytes{6, 5, 3, 0x41, 0x00}));
  EXPECT_EQ(to_bytes(everything->body), (Bytes{0xee}));
}

TEST(Uframe, refuses_what_has_no_meaning) {
  for (const Bytes& bytes : std::vector<Bytes>{{},               // nothing
                                               {0x00},           // escape 0 is not given out
                                               {0x07, 0x80},     // nor is 7
                                               {0x40, 0, 0, 0},  // CoAP
                                               {1, 9, 8},        // cut connection ID
                                               {1, 9, 8, 7},     // nothing behind it
                                               {1, 9, 8, 7, 1, 9, 8, 7, 0x80},
                                               {1, 9, 8, 7, 0x41},  // CoAP behind it
                                               {2},                 // handshake without a step
                                               {3},
                                               {3, 0x40},      // cut number
                                               {5, 0xc0},      // a fragment of an answer
                                               {5, 6, 0x80},   // flags in the other order
                                               {5, 5, 0x80}})  // a flag twice
    EXPECT_FALSE(parse_frame(bytes)) << encode_hex(bytes);
}

TEST(Uframe, random_bytes_never_crash_the_parser) {
  SeededRandom random(1);
  for (int i = 0; i < 20000; ++i) {
    Bytes junk(random.below(12));
    random.fill(junk);
    if (!junk.empty()) junk[0] &= 0x07;
    const auto frame = parse_frame(junk);
    EXPECT_LE(frame ? frame->body.size() : 0, junk.size());
  }
}

TEST(Fragment, header_round_trips_and_its_index_is_bounded) {
  for (const std::uint32_t index : {0U, 31U, 32U, 8191U})
    for (const bool last : {false, true}) {
      ByteView rest;
      const Bytes encoded = encode_fragment({index, last}, Bytes{1, 2});
      const auto header = decode_fragment(encoded, rest);
      ASSERT_TRUE(header);
      EXPECT_EQ(header->index, index);
      EXPECT_EQ(header->last, last);
      EXPECT_EQ(to_bytes(rest), (Bytes{1, 2}));
    }
  ByteView rest;
  EXPECT_FALSE(decode_fragment({}, rest));
  EXPECT_FALSE(decode_fragment(encode_fragment({8192, false}, {}), rest));
}

}  // namespace
}  // namespace ravine::gateway::security
