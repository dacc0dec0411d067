#include "gateway/cbor/json_cbor.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "gateway/cbor/key_table.h"

namespace ravine::gateway::cbor {
namespace {

std::string cbor(std::string_view json, Keys keys = Keys::text) {
  const auto made = cbor_of_json(as_bytes(json), keys);
  return made ? encode_hex(*made) : made.error().message;
}

std::string json(std::string_view hex, Keys keys = Keys::text) {
  const auto made = json_of_cbor(*decode_hex(hex), keys);
  return made ? std::string(as_text(*made)) : "error: " + made.error().message;
}

// RFC 8949 appendix A, rows that JSON has.
TEST(JsonCbor, gives_the_rfcs_examples) {
  const std::pair<const char*, const char*> rows[] = {
      {"0", "00"},
      {"23", "17"},
      {"24", "1818"},
      {"1000", "1903e8"},
      {"1000000", "1a000f4240"},
      {"18446744073709551615", "1bffffffffffffffff"},
      {"-1", "20"},
      {"-1000", "3903e7"},
      {"1.1", "fb3ff199999999999a"},
      {"100000.0", "fa47c35000"},
      {"false", "f4"},
      {"null", "f6"},
      {R"("\"\\")", "62225c"},
      {"[]", "80"},
      {"[1,[2,3],[4,5]]", "8301820203820405"},
      {R"({"a":1,"b":[2,3]})", "a26161016162820203"},
  };
  for (const auto& [text, hex] : rows) {
    EXPECT_EQ(cbor(text), hex) << text;
    EXPECT_EQ(json(hex), text);
  }
}

TEST(JsonCbor, reads_indefinite_lengths_halves_tags_and_byte_strings) {
  EXPECT_EQ(json("9f018202039f0405ffff"), "[1,[2,3],[4,5]]");
  EXPECT_EQ(json("bf61610161629f0203ffff"), R"({"a":1,"b":[2,3]})");
  EXPECT_EQ(json("7f657374726561646d696e67ff"), R"("streaming")");
  EXPECT_EQ(json("f93e00"), "1.5");
  EXPECT_EQ(json("f90001"), "5.960464477539063e-08");
  EXPECT_EQ(json("f97e00"), "null");
  EXPECT_EQ(json("f7"), "null");
  EXPECT_EQ(json("3bffffffffffffffff"), "-18446744073709551616");
  EXPECT_EQ(json("c11a514b67b0"), "1363896240");
  EXPECT_EQ(json("4401020304"), R"("AQIDBA")");
  EXPECT_EQ(json("6161"), R"("a")");
  EXPECT_EQ(json("6101"), R"("\u0001")");
}

// MSC3079's own example.
TEST(JsonCbor, reads_and_writes_integer_keys) {
  const std::string_view hex =
      "a5026e6d2e726f6f6d2e6d65737361676503a2181b6b48656c6c6f20576f726c64181c666d2e74657874056e21666f6f3a6c6f"
      "63616c686f7374067040616c6963653a6c6f63616c686f737409a26a626f6f6c5f76616c7565f56a6e756c6c5f76616c7565f"
      "6";
  const std::string text = json(hex, Keys::matrix);
  EXPECT_EQ(boost::json::parse(text), boost::json::parse(R"({"type":"m.room.message","content":{"msgtype":
      "m.text","body":"Hello World"},"sender":"@alice:localhost","room_id":"!foo:localhost",
      "unsigned":{"bool_value":true,"null_value":null}})"));
  EXPECT_EQ(cbor(text, Keys::matrix), hex);
  EXPECT_EQ(matrix_key(kMatrixKeys), "room_alias");
  EXPECT_EQ(matrix_key(kMatrixKeys + 1), "");
}

TEST(JsonCbor, keeps_the_order_of_keys) {
  const std::string_view text = R"({"z":1,"body":"x","a":{"sender":2,"b":3},"event_id":4})";
  for (const Keys keys : {Keys::text, Keys::matrix}) EXPECT_EQ(json(cbor(text, keys), keys), text);
}

TEST(JsonCbor, takes_the_text_key_when_its_integer_comes_too) {
  EXPECT_EQ(json("a202616164747970656162", Keys::matrix), R"({"type":"b"})");
  EXPECT_EQ(json("a364747970656162026161056163", Keys::matrix), R"({"type":"b","room_id":"c"})");
  EXPECT_EQ(json("a1613801", Keys::matrix), R"({"8":1})");
  EXPECT_EQ(json("a202010202", Keys::matrix).substr(0, 6), "error:");
}

TEST(JsonCbor, refuses_what_is_malformed) {
  for (const char* hex : {"",
                          "18",
                          "1c",
                          "5f",
                          "62c328",
                          "63eda080",
                          "82ff",
                          "ff",
                          "a1",
                          "a161",
                          "a16161",
                          "9f01",
                          "bf6161ff",
                          "f800",
                          "0000",
                          "7f4161ff",
                          "1f",
                          "df00",
                          "a10102",
                          "a1f501",
                          "c240",
                          "f0",
                          "f8ff",
                          "5bffffffffffffffff00",
                          "9bffffffffffffffff00"})
    EXPECT_EQ(json(hex).substr(0, 6), "error:") << hex;
  for (const char* text :
       {"", "{", "[1,]", "{\"a\"}", "nul", "1 2", "\"\\ud800\"", "\"\xff\"", "{'a':1}", "01"})
    EXPECT_FALSE(cbor_of_json(as_bytes(text), Keys::text).ok()) << text;
}

TEST(JsonCbor, is_exact_where_the_text_comes_back_byte_for_byte) {
  const std::string_view text = R"({"z":[1,-7,0.25,true,null,18446744073709551615],"z":"\n\"é"})";
  const auto item = exact_cbor_of_json(as_bytes(text));
  ASSERT_TRUE(item);
  EXPECT_LT(item->size(), text.size());
  EXPECT_EQ(json(encode_hex(*item)), text);
  for (const char* other : {"", "{", "1 ", "[1, 2]", "1.50000", "1e2", "-0", R"("\/")", R"("\u00e9")", "nan"})
    EXPECT_FALSE(exact_cbor_of_json(as_bytes(other))) << other;
  EXPECT_FALSE(exact_cbor_of_json(as_bytes(std::string(1000, '[') + std::string(1000, ']'))));
}

TEST(JsonCbor, refuses_numbers_that_would_lose_digits) {
  EXPECT_EQ(cbor_of_json(as_bytes("[18446744073709551616]"), Keys::text).error().kind,
            ErrorKind::unsupported);
  EXPECT_FALSE(cbor_of_json(as_bytes("1e999"), Keys::text).ok());
}

TEST(JsonCbor, a_bomb_ends_at_the_limit) {
  // Each two bytes ask for 29.
  Bytes bomb{0x9f};
  for (int i = 0; i < 100'000; ++i) bomb.insert(bomb.end(), {0xa1, 0x18, 72, 0x00});
  bomb.push_back(0xff);
  const auto large = json_of_cbor(bomb, Keys::matrix, {.bytes = 1 << 20});
  ASSERT_FALSE(large.ok());
  EXPECT_EQ(large.error().kind, ErrorKind::limit_reached);
  for (const int level : {0x81, 0x9f, 0xc1, 0xbf}) {
    const auto deep = json_of_cbor(Bytes(500'000, static_cast<std::uint8_t>(level)), Keys::text);
    ASSERT_FALSE(deep.ok());
    EXPECT_NE(deep.error().kind, ErrorKind::internal);
  }
  const std::string nested(100'000, '[');
  EXPECT_EQ(cbor_of_json(as_bytes(nested), Keys::text).error().kind, ErrorKind::limit_reached);
  const std::string wide = "[" + std::string(2'000'000, ' ') + "\"" + std::string(200, 'x') + "\"]";
  EXPECT_EQ(cbor_of_json(as_bytes(wide), Keys::text, {.bytes = 100}).error().kind, ErrorKind::limit_reached);
}

}  // namespace
}  // namespace ravine::gateway::cbor
