#include "gateway/coder/coder.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "base/machine.h"
#include "gateway/coder/choice.h"
#include "gateway/model/message_coder.h"

namespace ravine::gateway::coder {
namespace {

constexpr std::size_t kLimit = 1 << 20;

const std::string& sync_body() {
  static const std::string body =
      R"({"next_batch":"s72595_4483_1934","rooms":{"join":{"!bridge:ravine.example":{"timeline":{"events":[)"
      R"({"type":"m.room.message","sender":"@ana:ravine.example",)"
      R"("content":{"msgtype":"m.text","body":"Hello"},)"
      R"("event_id":"$Xb1qVoCtCIf1VdBkVmb2H1pMn8M2cMyTzd8kQn4Tj3o","origin_server_ts":1767225600123}],)"
      R"("limited":false,"prev_batch":"t34_2"}}}}})";
  return body;
}

std::unique_ptr<Coder> coder_named(std::string_view name) {
  auto made = make_coder(name, shipped_model());
  EXPECT_TRUE(made) << name;
  return std::move(made).value();
}

class EachCoder : public testing::TestWithParam<std::string_view> {};

TEST_P(EachCoder, gives_back_every_byte_of_any_text) {
  const auto near = coder_named(GetParam()), far = coder_named(GetParam());
  for (const std::string& text : std::vector<std::string>{
           std::string(), std::string("{}"), std::string("200\n\n"), "200\n\n" + sync_body(),
           "PUT /_matrix/client/v3/rooms/%21a%3Ab/typing/%40ana%3Ab\n\n{\"typing\":true,\"timeout\":30000}",
           std::string(R"(200)"
                       "\n\n"
                       R"({"a": 1, "b":[ ]})"),
           std::string("[1.50,1e3,-0,0.1,-7,18446744073709551615]"), std::string(R"({"k":1,"k":2})"),
           std::string(R"("\u00e9\/")"), std::string("{\"open"), std::string(3000, '['),
           std::string(5000, 'a')}) {
    const Bytes coded = near->encode(as_bytes(text), {});
    const auto decoded = far->decode(coded, {}, kLimit);
    ASSERT_TRUE(decoded) << text;
    EXPECT_EQ(as_text(*decoded), text);
  }
  SeededRandom random(11);
  for (int round = 0; round < 100; ++round) {
    Bytes text(random.below(600));
    random.fill(text);
    const auto decoded = far->decode(near->encode(text, {}), {}, kLimit);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(*decoded, text);
  }
}

TEST_P(EachCoder, adds_at_most_two_bytes_to_what_it_cannot_shorten) {
  const auto coder = coder_named(GetParam());
  SeededRandom random(12);
  for (const std::size_t size : {0, 1, 2, 3, 40, 5000, 70000}) {
    Bytes text(size);
    random.fill(text);
    EXPECT_LE(coder->encode(text, {}).size(), size + 2);
  }
}

TEST_P(EachCoder, decodes_no_more_than_the_limit) {
  const auto coder = coder_named(GetParam());
  const std::string text = "200\n\n{\"a\":\"" + std::string(20000, 'x') + "\"}";
  const Bytes coded = coder->encode(as_bytes(text), {});
  EXPECT_FALSE(coder->decode(coded, {}, text.size() - 1));
  EXPECT_FALSE(coder->decode(coded, {}, 10));
  const auto whole = coder->decode(coded, {}, text.size());
  ASSERT_TRUE(whole);
  EXPECT_EQ(as_text(*whole), text);
}

TEST_P(EachCoder, survives_bytes_that_no_encoder_made) {
  const auto coder = coder_named(GetParam());
  SeededRandom random(13);
  for (int round = 0; round < 500; ++round) {
    Bytes noise(random.below(60));
    random.fill(noise);
    const auto text = coder->decode(noise, {}, 500);
    EXPECT_LE(text ? text->size() : 0, 500u);
  }
}

TEST_P(EachCoder, is_named_by_its_identity_and_keeps_it_in_a_copy) {
  const auto coder = coder_named(GetParam());
  EXPECT_EQ(coder->name(), GetParam());
  EXPECT_EQ(coder->clone()->id(), coder->id());
  for (const std::string_view other : kCoderNames)
    EXPECT_EQ(coder_named(other)->id() == coder->id(), other == GetParam());
}

INSTANTIATE_TEST_SUITE_P(Coders, EachCoder, testing::ValuesIn(kCoderNames), [](const auto& each) {
  std::string name(each.param);
  std::erase(name, '-');
  return name;
});

TEST(Coders, that_stand_earlier_in_the_order_code_a_sync_in_fewer_bytes) {
  const std::string text = "200\n\n" + sync_body();
  std::size_t last = 0;
  for (const std::string_view name : kCoderNames) {
    const std::size_t size = coder_named(name)->encode(as_bytes(text), {}).size();
    EXPECT_GT(size, last) << name;
    last = size;
  }
}

TEST(Coders, know_no_other_name) {
  const auto made = make_coder("gzip", shipped_model());
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("cbor-deflate"), std::string::npos);
}

TEST(Coders, with_different_dictionaries_have_different_identities) {
  const auto own = make_cbor_deflate_coder(as_bytes("m.room.message")), other = make_cbor_deflate_coder({});
  EXPECT_NE(own->id(), other->id());
  EXPECT_NE(make_zstd_coder(as_bytes("m.room.message"))->id(), make_zstd_coder(as_bytes("m.room"))->id());
}

TEST(ChooseCommon, takes_the_best_that_both_have) {
  const CoderId model{1}, old_model{2}, zstd{3}, none{4};
  const std::array near{model, zstd, none}, far{old_model, zstd, none};
  EXPECT_EQ(choose_common(near, near), model);
  EXPECT_EQ(choose_common(near, far), zstd);
  EXPECT_EQ(choose_common(far, near), zstd);
  EXPECT_EQ(choose_common(std::span(&model, 1), std::span(&old_model, 1)), std::nullopt);
  EXPECT_EQ(choose_common({}, near), std::nullopt);
}

TEST(Maps, become_the_dictionary_of_the_old_proxy) {
  const std::vector<std::string> lists{R"(["m.room.message","m.presence"])", R"(["content"])", "[]", "[]"};
  const auto dictionary = dictionary_of_maps(lists, "plain\n  \"a\\tb\"  \n");
  ASSERT_TRUE(dictionary);
  EXPECT_EQ(as_text(*dictionary), "m.room.messagem.presencecontentplaina\tb");
  EXPECT_FALSE(dictionary_of_maps(std::vector<std::string>{R"({"a":1})"}, ""));
  EXPECT_FALSE(dictionary_of_maps(std::vector<std::string>{R"([1])"}, ""));
}

TEST(ShippedModel, codes_an_encrypted_message_in_little_more_than_its_raw_bits) {
  SeededRandom random(14);
  std::string ciphertext = "AwgA";
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (ciphertext.size() < 268) ciphertext += kAlphabet[random.below(64)];
  const std::string text =
      R"({"algorithm":"m.megolm.v1.aes-sha2","ciphertext":")" + ciphertext +
      R"(","device_id":"KQWERTYUIO","sender_key":"Wb1qVoCtCIf1VdBkVmb2H1pMn8M2cMyTzd8kQn4Tj3o",)"
      R"("session_id":"s8nYh0LqL4hEeVxT6rWq3pZ5JmGd1u7KcFvBtRaXoNk"})";
  const std::size_t raw_bits = (264 + 10 + 43 + 43) * 6;
  EXPECT_LE(coder_named("model")->encode(as_bytes(text), {.direction = Direction::body}).size() * 8,
            raw_bits * 104 / 100 + 64);
}

TEST(ShippedModel, stays_within_its_memory) {
  const Prior& prior = *shipped_model().prior;
  EXPECT_LE(prior.memory_bytes(), std::size_t{16} << 20);
  EXPECT_LE(MessageCoder(shipped_model().prior).memory_bytes(), std::size_t{1} << 20);
}

TEST(ShippedModel, takes_a_few_microseconds_a_byte) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
  GTEST_SKIP() << "speed is measured in release builds";
#else
  const auto coder = coder_named("model");
  const std::string text = "200\n\n" + sync_body();
  coder->encode(as_bytes(text), {});
  constexpr int kRounds = 50;
  const std::clock_t start = std::clock();  // of the processor: other programs do not count
  for (int i = 0; i < kRounds; ++i) coder->encode(as_bytes(text), {});
  const double micros = 1e6 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_LE(micros / kRounds / static_cast<double>(text.size()), 5 * 3.0);
#endif
}

TEST(ShippedModel, is_named_by_its_file_and_another_is_refused_or_named_otherwise) {
  const auto again = load_model(shipped_model_file());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->id, shipped_model().id);
  Bytes damaged = to_bytes(shipped_model_file());
  damaged.resize(damaged.size() / 2);
  EXPECT_FALSE(load_model(damaged));
}

}  // namespace
}  // namespace ravine::gateway::coder
