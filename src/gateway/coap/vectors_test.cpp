// Messages of RFC 7252 appendix A, RFC 8824, and of a second implementation (aiocoap), and messages that are
// no CoAP.
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "gateway/coap/message.h"

namespace ravine::gateway::coap {
namespace {

struct VectorOption {
  std::uint16_t number;
  std::string_view value;  // hex
};
struct ValidVector {
  std::string_view name, source, bytes;  // bytes in hex, as all below
  MessageType type;
  unsigned code_class, code_detail;
  std::uint16_t id;
  std::string_view token;
  std::vector<VectorOption> options;
  std::string_view payload;
};
struct MalformedVector {
  std::string_view name, bytes;
};

const std::vector<ValidVector> kValidVectors = {
    {"fig16 request",
     "RFC 7252 A fig.16",
     "40017d34bb74656d7065726174757265",
     MessageType::confirmable,
     0,
     1,
     32052,
     "",
     {{11, "74656d7065726174757265"}},
     ""},
    {"fig16 response",
     "RFC 7252 A fig.16",
     "60457d34ff32322e332043",
     MessageType::acknowledgement,
     2,
     5,
     32052,
     "",
     {},
     "32322e332043"},
    {"fig17 request",
     "RFC 7252 A fig.17",
     "41017d3520bb74656d7065726174757265",
     MessageType::confirmable,
     0,
     1,
     32053,
     "20",
     {{11, "74656d7065726174757265"}},
     ""},
    {"fig17 response",
     "RFC 7252 A fig.17",
     "61457d3520ff32322e332043",
     MessageType::acknowledgement,
     2,
     5,
     32053,
     "20",
     {},
     "32322e332043"},
    {"8824 fig8",
     "RFC 8824 fig.8",
     "4101000182bb74656d7065726174757265",
     MessageType::confirmable,
     0,
     1,
     1,
     "82",
     {{11, "74656d7065726174757265"}},
     ""},
    {"8824 fig9",
     "RFC 8824 fig.9",
     "6145000182ff32332043",
     MessageType::acknowledgement,
     2,
     5,
     1,
     "82",
     {},
     "32332043"},
    {"option len 12",
     "generated with aiocoap 0.4.12",
     "4101000101bc616161616161616161616161",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{11, "616161616161616161616161"}},
     ""},
    {"option len 13 (ext1)",
     "generated with aiocoap 0.4.12",
     "4101000101bd0061616161616161616161616161",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{11, "61616161616161616161616161"}},
     ""},
    {"option len 255",
     "generated with aiocoap 0.4.12",
     "4101000101bdf262626262626262626262626262626262626262626262626262626262626262626262626262"
     "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
     "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
     "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
     "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
     "626262626262626262626262626262626262626262626262626262626262626262626262626262626262",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{11,
       "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
       "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
       "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
       "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
       "6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262"
       "6262626262626262626262626262626262626262626262626262626262626262626262"}},
     ""},
    {"option len 268",
     "generated with aiocoap 0.4.12",
     "4101000101ed06f4ff6363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "63636363636363636363636363",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{2049,
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "63636363"}},
     ""},
    {"option len 269 (ext2)",
     "generated with aiocoap 0.4.12",
     "4101000101ee06f4000063636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
     "636363636363636363636363636363",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{2049,
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363636363636363636363636363636363636363636363636363636363636363636363636363636363"
       "6363636363"}},
     ""},
    {"delta 12/13",
     "generated with aiocoap 0.4.12",
     "4101000101c0d10078",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{12, ""}, {25, "78"}},
     ""},
    {"delta 268->269",
     "generated with aiocoap 0.4.12",
     "41010001011178e1000079",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{1, "78"}, {270, "79"}},
     ""},
    {"repeat uri-query",
     "generated with aiocoap 0.4.12",
     "4101000101b16143783d3103793d32",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{11, "61"}, {15, "783d31"}, {15, "793d32"}},
     ""},
    {"empty token NON",
     "generated with aiocoap 0.4.12",
     "50010001b174",
     MessageType::non_confirmable,
     0,
     1,
     1,
     "",
     {{11, "74"}},
     ""},
    {"token 8",
     "generated with aiocoap 0.4.12",
     "480100010000000000000000b174",
     MessageType::confirmable,
     0,
     1,
     1,
     "0000000000000000",
     {{11, "74"}},
     ""},
    {"request-tag",
     "generated with aiocoap 0.4.12",
     "4103000101b174d10308d1fc01ff70",
     MessageType::confirmable,
     0,
     3,
     1,
     "01",
     {{11, "74"}, {27, "08"}, {292, "01"}},
     "70"},
    {"observe reg",
     "generated with aiocoap 0.4.12",
     "4101000101605173",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{6, ""}, {11, "73"}},
     ""},
    {"fetch w/ body",
     "generated with aiocoap 0.4.12",
     "4105000101b173113cff71717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171",
     MessageType::confirmable,
     0,
     5,
     1,
     "01",
     {{11, "73"}, {12, "3c"}},
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "7171717171717171717171717171717171717171717171717171717171717171717171717171717171717171"
     "717171717171717171717171717171717171717171717171717171717171717171717171"},
    {"echo",
     "generated with aiocoap 0.4.12",
     "4101000101b173d8e43132333435363738",
     MessageType::confirmable,
     0,
     1,
     1,
     "01",
     {{11, "73"}, {252, "3132333435363738"}},
     ""},
    {"no-response 26",
     "generated with aiocoap 0.4.12",
     "4103000101b173d1ea1a",
     MessageType::confirmable,
     0,
     3,
     1,
     "01",
     {{11, "73"}, {258, "1a"}},
     ""},
};

const std::vector<MalformedVector> kMalformedVectors = {
    {"truncated header", "4001"},
    {"version 0", "00010001"},
    {"version 2", "80010001"},
    {"TKL 9 (reserved in 7252)", "4901000100000000000000000000"},
    {"token truncated", "48010001aabb"},
    {"payload marker, no payload", "40010001ff"},
    {"option delta 15", "40010001f1aa"},
    {"option length 15", "400100011f"},
    {"option ext1 truncated", "40010001d0"},
    {"option ext2 truncated", "40010001e000"},
    {"option value truncated", "40010001b5616263"},
    {"empty msg with token", "4100000101"},
    {"empty msg with payload", "40000001ff00"},
    {"code class 1 reserved", "40200001"},
    {"code class 6", "40c00001"},
    {"code class 7 on UDP (7.02)", "40e20001"},
    {"option number overflow >65535", "40010001e0fefee0ffff"},
};

TEST(Message, decodes_and_encodes_every_valid_vector) {
  ASSERT_EQ(kValidVectors.size(), 21u);
  for (const ValidVector& vector : kValidVectors) {
    SCOPED_TRACE(vector.name);
    const Bytes bytes = *decode_hex(vector.bytes);
    const Decoded decoded = decode_message(bytes);
    ASSERT_TRUE(decoded.ok()) << to_text(decoded.fault);
    const Message& message = decoded.message;
    EXPECT_EQ(message.type, vector.type);
    EXPECT_EQ(message.code, make_code(vector.code_class, vector.code_detail));
    EXPECT_EQ(message.id, vector.id);
    EXPECT_EQ(message.token, *decode_hex(vector.token));
    ASSERT_EQ(message.options.size(), vector.options.size());
    for (std::size_t i = 0; i < vector.options.size(); ++i) {
      EXPECT_EQ(message.options[i].number, vector.options[i].number);
      EXPECT_EQ(message.options[i].value, *decode_hex(vector.options[i].value));
    }
    EXPECT_EQ(message.payload, *decode_hex(vector.payload));
    EXPECT_EQ(encode_message(message), bytes);
    EXPECT_EQ(encoded_size(message), bytes.size());
  }
}

TEST(Message, refuses_every_malformed_vector) {
  ASSERT_EQ(kMalformedVectors.size(), 17u);
  for (const MalformedVector& vector : kMalformedVectors) {
    EXPECT_FALSE(decode_message(*decode_hex(vector.bytes)).ok()) << vector.name;
  }
}

TEST(Message, a_truncated_message_is_refused_or_is_a_shorter_message) {
  for (const ValidVector& vector : kValidVectors) {
    const Bytes bytes = *decode_hex(vector.bytes);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      const ByteView part = ByteView(bytes).first(size);
      const Decoded decoded = decode_message(part);
      // What is accepted must be exactly what the bytes say.
      if (decoded.ok()) {
        EXPECT_EQ(encode_message(decoded.message), to_bytes(part)) << vector.name << " at " << size;
      }
    }
  }
}

}  // namespace
}  // namespace ravine::gateway::coap
