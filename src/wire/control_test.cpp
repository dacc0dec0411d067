#include "wire/control.h"

#include <gtest/gtest.h>

namespace ravine::wire {
namespace {

ControlMessage ping(std::uint64_t nonce) {
  ControlMessage message;
  message.mutable_ping()->set_nonce(nonce);
  return message;
}

TEST(ControlDecoder, yields_messages_that_arrive_byte_by_byte) {
  Bytes stream = encode_control(ping(1));
  const Bytes second = encode_control(ping(1u << 30));
  stream.insert(stream.end(), second.begin(), second.end());
  ControlDecoder decoder;
  std::vector<std::uint64_t> nonces;
  for (std::uint8_t byte : stream) {
    decoder.feed({&byte, 1});
    ControlMessage message;
    if (decoder.poll(message) == ControlDecoder::Outcome::message) nonces.push_back(message.ping().nonce());
  }
  EXPECT_EQ(nonces, (std::vector<std::uint64_t>{1, 1u << 30}));
}

TEST(ControlDecoder, refuses_a_length_above_the_limit_before_the_body_arrives) {
  ByteWriter writer;
  writer.write_varint(kMaxControlMessage + 1);
  ControlDecoder decoder;
  decoder.feed(writer.view());
  ControlMessage message;
  EXPECT_EQ(decoder.poll(message), ControlDecoder::Outcome::malformed);
  decoder.feed(encode_control(ping(1)));
  EXPECT_EQ(decoder.poll(message), ControlDecoder::Outcome::malformed);
}

TEST(ControlDecoder, refuses_bytes_that_are_not_protobuf) {
  const Bytes bytes{2, 0xff, 0xff};
  ControlDecoder decoder;
  decoder.feed(bytes);
  ControlMessage message;
  EXPECT_EQ(decoder.poll(message), ControlDecoder::Outcome::malformed);
}

TEST(ControlDecoder, takes_a_message_of_an_unknown_kind_as_empty) {
  const Bytes bytes{3, 0xfa, 0x07, 0x00};  // field 127, length-delimited, empty
  ControlDecoder decoder;
  decoder.feed(bytes);
  ControlMessage message;
  EXPECT_EQ(decoder.poll(message), ControlDecoder::Outcome::message);
  EXPECT_EQ(message.body_case(), ControlMessage::BODY_NOT_SET);
}

}  // namespace
}  // namespace ravine::wire
