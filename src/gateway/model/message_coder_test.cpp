#include "gateway/model/message_coder.h"

#include <gtest/gtest.h>

#include <string>

#include "base/machine.h"
#include "gateway/model/logistic.h"
#include "gateway/model/range_coder.h"
#include "gateway/model/trainer.h"

namespace ravine::gateway {
namespace {

std::string send_body(int i) {
  return R"({"msgtype":"m.text","body":"the bridge is open )" + std::to_string(i) + R"("})";
}

// A small prior of its own kind of text: training takes a second, so tests share it.
std::shared_ptr<const Prior> trained() {
  static const std::shared_ptr<const Prior> prior = [] {
    std::vector<TrainingMessage> messages;
    for (int i = 0; i < 24; ++i) {
      messages.push_back(
          {to_bytes(as_bytes(send_body(i * 7))), TextPhase::body, 0, static_cast<std::uint32_t>(i)});
      messages.push_back(
          {to_bytes(as_bytes(R"({"event_id":"$abc)" + std::to_string(i) + R"(:example.org"})")),
           TextPhase::body, 0, static_cast<std::uint32_t>(i)});
    }
    TrainerOptions options;
    options.slot_bits = 15;
    options.least_units = 1;
    return std::make_shared<const Prior>(Trainer(options).train(messages, as_bytes(send_body(1))));
  }();
  return prior;
}

constexpr std::size_t kLimit = 1 << 20;

void expect_round_trip(MessageCoder& coder, std::string_view text, TextPhase phase) {
  const Bytes coded = coder.encode(as_bytes(text), phase, 0);
  const auto decoded = coder.decode(coded, phase, 0, kLimit);
  ASSERT_TRUE(decoded) << text;
  EXPECT_EQ(as_text(*decoded), text);
}

TEST(Logistic, stretches_and_squashes_symmetrically) {
  EXPECT_EQ(squash(0), 32768);
  for (int x = -kStretchLimit; x <= kStretchLimit; x += 5) {
    EXPECT_NEAR(squash(x) + squash(-x), 65536, 1);
    EXPECT_LE(squash(stretch(squash(x)) - 1), squash(x));
    EXPECT_GE(squash(stretch(squash(x))), squash(x));
  }
}

TEST(RangeCoder, gives_back_bits_of_any_probability) {
  SeededRandom random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::pair<bool, std::uint32_t>> bits;
    const std::size_t count = random.below(300);
    for (std::size_t i = 0; i < count; ++i) {
      const auto one = static_cast<std::uint32_t>(1 + random.below(65535));
      bits.emplace_back(random.below(65536) < one, one);
    }
    RangeEncoder encoder;
    for (const auto& [bit, one] : bits) encoder.encode(bit, one);
    const Bytes coded = encoder.finish();
    RangeDecoder decoder(coded);
    for (const auto& [bit, one] : bits) ASSERT_EQ(decoder.decode(one), bit);
  }
}

TEST(MessageCoder, gives_back_every_byte_of_any_text) {
  MessageCoder coder(trained());
  for (const char* text :
       {"", "{}", "[]", "null", "{\"a\":1}", "{\"a\":1} ", "{\"a\":1}\n{}", "{\"open", "}}]]",
        "\"\\\"\\u00e9\"", "plain text", "{\"k\": [1, 2.50, -3e9, true], \"k\": \"dup\"}"}) {
    expect_round_trip(coder, text, TextPhase::body);
  }
  expect_round_trip(coder, "PUT /_matrix/client/v3/rooms/%21a/send/m.room.message/1\n\n" + send_body(3),
                    TextPhase::start_line);
  expect_round_trip(coder, "200\ncontent-type: text/plain\n\nhello", TextPhase::start_line);
  SeededRandom random(9);
  for (int round = 0; round < 60; ++round) {
    std::string bytes(random.below(200), '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    expect_round_trip(coder, bytes, round % 2 == 0 ? TextPhase::body : TextPhase::start_line);
  }
}

TEST(MessageCoder, takes_nesting_deeper_than_it_follows) {
  MessageCoder coder(trained());
  expect_round_trip(coder, std::string(500, '[') + "1" + std::string(500, ']'), TextPhase::body);
}

TEST(MessageCoder, codes_what_it_was_trained_on_in_few_bytes) {
  MessageCoder coder(trained());
  EXPECT_LE(coder.encode(as_bytes(send_body(5)), TextPhase::body, 0).size(), 6u);
}

TEST(MessageCoder, changes_nothing_by_coding_and_gains_by_committing) {
  MessageCoder coder(trained());
  const std::string text =
      R"({"msgtype":"m.text","body":"zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich"})";
  const Bytes first = coder.encode(as_bytes(text), TextPhase::body, 0);
  EXPECT_EQ(coder.encode(as_bytes(text), TextPhase::body, 0), first);
  coder.commit(as_bytes(text), TextPhase::body, 0);
  const Bytes again = coder.encode(as_bytes(text), TextPhase::body, 0);
  EXPECT_LT(again.size() * 4, first.size());
  coder.reset();
  EXPECT_EQ(coder.encode(as_bytes(text), TextPhase::body, 0), first);
}

TEST(MessageCoder, takes_back_a_message_of_any_length) {
  MessageCoder coder(trained());
  const Bytes before = coder.encode(as_bytes(send_body(5)), TextPhase::body, 0);
  std::string text;
  for (int i = 0; i < 600; ++i) text += send_body(i * 31) + "\n";
  for (const std::size_t size : {std::size_t{100}, std::size_t{3000}, text.size()}) {
    expect_round_trip(coder, text.substr(0, size), TextPhase::body);
    EXPECT_EQ(coder.encode(as_bytes(send_body(5)), TextPhase::body, 0), before) << size;
  }
}

TEST(MessageCoder, agrees_with_another_that_committed_the_same_messages) {
  MessageCoder near(trained()), far(trained());
  for (int i = 0; i < 20; ++i) {
    const std::string text = send_body(i * i);
    const Bytes coded = near.encode(as_bytes(text), TextPhase::body, 0);
    const auto decoded = far.decode(coded, TextPhase::body, 0, kLimit);
    ASSERT_TRUE(decoded);
    ASSERT_EQ(as_text(*decoded), text);
    near.commit(as_bytes(text), TextPhase::body, 0);
    far.commit(*decoded, TextPhase::body, 0);
  }
}

TEST(MessageCoder, stops_at_the_limit_of_a_bomb) {
  MessageCoder coder(trained());
  SeededRandom random(3);
  for (int round = 0; round < 300; ++round) {
    Bytes noise(random.below(40));
    random.fill(noise);
    const auto text = coder.decode(noise, TextPhase::body, 0, 2000);
    EXPECT_LE(text ? text->size() : 0, 2000u);
  }
}

TEST(Prior, survives_its_file_and_refuses_damage) {
  const Bytes file = trained()->encode();
  auto loaded = Prior::decode(file);
  ASSERT_TRUE(loaded);
  MessageCoder a(trained()), b(std::make_shared<const Prior>(std::move(loaded).value()));
  const std::string text = send_body(77);
  EXPECT_EQ(a.encode(as_bytes(text), TextPhase::body, 0), b.encode(as_bytes(text), TextPhase::body, 0));
  EXPECT_FALSE(Prior::decode(ByteView(file).first(file.size() / 2)));
  EXPECT_FALSE(Prior::decode({}));
  Bytes other = file;
  other[0] = 0;
  EXPECT_FALSE(Prior::decode(other));
}

}  // namespace
}  // namespace ravine::gateway
