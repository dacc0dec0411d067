#include "session/path_echo.h"

#include <gtest/gtest.h>

#include "base/machine.h"

namespace ravine::session {
namespace {

struct PathEcho : testing::Test {
  static std::array<std::uint8_t, 32> key() {
    std::array<std::uint8_t, 32> made{};
    for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<std::uint8_t>(i);
    return made;
  }
  Bytes packet(const Echo& echo, std::size_t size = kMinEchoSize) {
    Bytes bytes(size);
    EXPECT_TRUE(dialler.encode(label, echo, size, bytes));
    return bytes;
  }
  Label label{0x1122334455667788};
  EchoCodec dialler{key(), Role::dialler};
  EchoCodec acceptor{key(), Role::acceptor};
};

TEST_F(PathEcho, arrives_as_sent_at_any_size) {
  std::uint64_t nonce = 0;
  for (const std::size_t size : {kMinEchoSize, std::size_t{48}, std::size_t{1200}, kMaxEchoSize}) {
    const auto echo = acceptor.decode(packet({EchoType::answer, 3, ++nonce, 77}, size));
    ASSERT_TRUE(echo);
    EXPECT_EQ(echo->type, EchoType::answer);
    EXPECT_EQ(echo->path, 3);
    EXPECT_EQ(echo->nonce, nonce);
    EXPECT_EQ(echo->value, 77u);
  }
}

TEST_F(PathEcho, looks_like_a_short_header_packet_of_the_label) {
  const Bytes bytes = packet({EchoType::request, 1, 1, 0});
  EXPECT_EQ(bytes[0] & 0xc0, 0x40);
  EXPECT_EQ(Label::load(bytes.data() + 1), label);
  EXPECT_TRUE(is_echo(bytes));
}

TEST_F(PathEcho, every_flipped_bit_is_refused_but_those_that_no_key_covers) {
  const Bytes good = packet({EchoType::request, 1, 1, 0});
  for (std::size_t bit = 8; bit < good.size() * 8; ++bit) {
    Bytes bad = good;
    bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(acceptor.decode(bad)) << "bit " << bit;
  }
  EXPECT_TRUE(acceptor.decode(good));
}

TEST_F(PathEcho, a_replay_is_refused_and_reordering_is_not) {
  std::vector<Bytes> packets;
  for (std::uint64_t nonce = 1; nonce <= 70; ++nonce)
    packets.push_back(packet({EchoType::request, 0, nonce, 0}));
  EXPECT_TRUE(acceptor.decode(packets[9]));
  EXPECT_TRUE(acceptor.decode(packets[4]));
  EXPECT_FALSE(acceptor.decode(packets[9]));
  EXPECT_FALSE(acceptor.decode(packets[4]));
  EXPECT_TRUE(acceptor.decode(packets[69]));
  EXPECT_FALSE(acceptor.decode(packets[5])) << "64 behind the newest";
  EXPECT_TRUE(acceptor.decode(packets[6]));
}

TEST_F(PathEcho, an_echo_is_not_accepted_in_the_direction_it_came_from) {
  EXPECT_FALSE(dialler.decode(packet({EchoType::request, 0, 1, 0})));
}

TEST_F(PathEcho, truncated_and_foreign_packets_are_refused) {
  const Bytes good = packet({EchoType::request, 0, 1, 0}, 100);
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(acceptor.decode(ByteView(good).first(size))) << size;
  }
  SeededRandom random(1);
  for (int i = 0; i < 1000; ++i) {
    Bytes junk(random.below(200));
    random.fill(junk);
    EXPECT_FALSE(acceptor.decode(junk));
  }
}

}  // namespace
}  // namespace ravine::session
