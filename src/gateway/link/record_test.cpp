#include "gateway/link/record.h"

#include <gtest/gtest.h>

namespace ravine::gateway::link {
namespace {

CodedRecord plain_request(std::uint64_t state, std::size_t size) {
  CodedRecord record;
  record.state = state;
  record.check = 0xabcd;
  record.items.push_back({Bytes(size, 0x55), false});
  return record;
}

TEST(Record, a_plain_request_costs_one_byte_and_two_when_it_is_worth_a_check) {
  EXPECT_EQ(encode_coded(plain_request(5, 14), true, {}).size(), 15u);
  EXPECT_EQ(encode_coded(plain_request(5, 16), true, {}).size(), 18u);
  const auto read = decode_coded(encode_coded(plain_request(13, 16), true, {}), Lane::request, {});
  ASSERT_TRUE(read);
  EXPECT_EQ(read->state, 5u);  // three low bits
  EXPECT_EQ(read->check, 0xabc0);
  EXPECT_EQ(read->check_bits, 12u);
}

TEST(Record, everything_that_a_request_can_say_comes_back) {
  CodedRecord record = plain_request(70000, 3);
  record.reset = {.epoch = 1 << 20, .floor = 77, .first = (1 << 20) - 5, .coder = {1, 2, 3, 4}};
  record.named = 99;
  record.tail = Bytes(5, 1);
  record.items.push_back({Bytes(2, 9), true});
  for (const bool batch : {false, true}) {
    if (!batch) record.items.resize(1);
    const auto read = decode_coded(encode_coded(record, true, {}), Lane::request, {});
    ASSERT_TRUE(read);
    EXPECT_EQ(read->state, record.state);
    EXPECT_EQ(read->check, record.check);
    EXPECT_EQ(read->reset->epoch, record.reset->epoch);
    EXPECT_EQ(read->reset->first, record.reset->first);
    EXPECT_EQ(read->reset->coder, record.reset->coder);
    EXPECT_EQ(read->named, record.named);
    EXPECT_EQ(read->tail, record.tail);
    EXPECT_EQ(read->items.size(), record.items.size());
    EXPECT_EQ(read->items.back().one_way, record.items.back().one_way);
  }
}

TEST(Record, a_resync_lists_coders_and_where_numbers_go_on) {
  ControlRecord record{.type = RecordType::resync};
  record.skip = {.generation = 2, .number = 900};
  record.coders = {{1, 2, 3, 4}, {5, 6, 7, 8}};
  const auto read = decode_control(encode_control(record));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->coders, record.coders);
  EXPECT_EQ(read->skip->number, 900u);
  record.coders.assign(kMaxCoders + 1, {});
  EXPECT_FALSE(decode_control(encode_control(record)));
}

TEST(Record, an_epoch_that_began_before_epochs_did_is_malformed) {
  CodedRecord record = plain_request(0, 3);
  record.reset = {.epoch = 4, .floor = 1, .first = 1, .coder = {}};
  Bytes bytes = encode_coded(record, true, {});
  ASSERT_EQ(bytes[3], 3);  // epochs since
  bytes[3] = 5;
  EXPECT_FALSE(decode_coded(bytes, Lane::request, {}));
}

TEST(Record, cut_short_it_is_malformed_or_something_else_but_never_read_past_its_end) {
  CodedRecord record = plain_request(3, 40);
  record.reset = {.epoch = 400, .floor = 300, .first = 400, .coder = {}};
  record.named = 12;
  record.tail = Bytes(3, 2);
  const Bytes whole = encode_coded(record, false, {});
  for (std::size_t size = 0; size < 12; ++size)
    EXPECT_FALSE(decode_coded(ByteView(whole).first(size), Lane::request, {})) << size;
}

TEST(Record, an_answer_takes_a_push_along_for_two_bytes) {
  CodedRecord record{.lane = Lane::answer, .joint = true, .expected = true};
  record.state = 40;
  record.unit = 43;
  record.check = 0xabcd;
  record.items = {{Bytes(100, 7), false}};
  const Bytes bytes = encode_coded(record, true, {40});
  EXPECT_EQ(bytes.size(), 102u);
  const auto again = decode_coded(bytes, Lane::answer, {40});
  ASSERT_TRUE(again && again->joint && again->expected);
  EXPECT_EQ(again->state, 40u);
  EXPECT_EQ(again->unit, 43u);
  EXPECT_EQ(again->check >> 8, 0xab);
  EXPECT_EQ(again->check_bits, 8u);
  ASSERT_EQ(again->items.size(), 1u);
  EXPECT_EQ(again->items[0].coded, record.items[0].coded);
  record.expected = false;
  record.items.insert(record.items.begin(), {Bytes(3, 1), false});
  const auto both = decode_coded(encode_coded(record, true, {40}), Lane::answer, {40});
  ASSERT_TRUE(both && both->joint && !both->expected && both->items.size() == 2);
  EXPECT_EQ(both->items[0].coded, record.items[0].coded);
  record.unit = 45;
  EXPECT_FALSE(fits_short_answer(record, {40}));
}

}  // namespace
}  // namespace ravine::gateway::link
