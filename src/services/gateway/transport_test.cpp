// Frames on lines, and gateways that speak over pipes, serial lines and commands.
#include <fcntl.h>
#include <pty.h>
#include <sys/stat.h>
#include <unistd.h>

#include "services/gateway/cobs.h"
#include "services/gateway/test_gateways.h"

namespace ravine::services::test {
namespace {

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes out;
  for (const int value : values) out.push_back(static_cast<std::uint8_t>(value));
  return out;
}

TEST(LineFrames, carry_any_bytes) {
  for (const std::size_t size : {1u, 252u, 253u, 254u, 255u, 256u, 600u}) {
    for (const int fill : {0, 1, 255}) {
      const Bytes datagram(size, static_cast<std::uint8_t>(fill));
      const Bytes frame = encode_line_frame(datagram);
      EXPECT_EQ(std::count(frame.begin(), frame.end(), 0), 1) << size;
      LineReader reader(1000);
      std::vector<Bytes> got;
      for (const std::uint8_t byte : frame)
        reader.feed(ByteView(&byte, 1), [&](ByteView one) { got.push_back(to_bytes(one)); });
      ASSERT_EQ(got.size(), 1u) << size << " of " << fill;
      EXPECT_EQ(got[0], datagram);
      EXPECT_EQ(reader.garbage(), 0u);
    }
  }
}

TEST(LineFrames, are_found_again_behind_garbage) {
  const Bytes good = encode_line_frame(bytes_of({1, 0, 2}));
  Bytes stream = bytes_of({9, 9, 9});  // the end of a frame that began before us
  Bytes broken = good;
  broken[1] ^= 1;
  stream.push_back(0);
  stream.insert(stream.end(), broken.begin(), broken.end());
  stream.insert(stream.end(), good.begin(), good.end());
  LineReader reader(100);
  std::vector<Bytes> got;
  reader.feed(stream, [&](ByteView one) { got.push_back(to_bytes(one)); });
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0], bytes_of({1, 0, 2}));
  EXPECT_GE(reader.garbage(), 3u);
}

TEST(LineFrames, without_an_end_take_no_memory) {
  LineReader reader(100);
  int got = 0;
  for (int i = 0; i < 1000; ++i) reader.feed(Bytes(1000, 7), [&](ByteView) { ++got; });
  EXPECT_EQ(got, 0);
  const Bytes good = encode_line_frame(bytes_of({5}));
  reader.feed(bytes_of({0}), [&](ByteView) { ++got; });
  reader.feed(good, [&](ByteView) { ++got; });
  EXPECT_EQ(got, 1);
  EXPECT_GE(reader.garbage(), 1000000u);
}

class Lines : public Gateways {
 protected:
  NearServiceOptions near_on(const std::string& line) const {
    auto options = near_options();
    options.peers[0].peer = line;
    return options;
  }
  FarServiceOptions far_on(const std::string& line) const {
    auto options = far_options();
    options.line = line;
    return options;
  }
  // Both ends of a connected stream.
  void start_on_stream(bool plain) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pair();
    auto far = far_options();
    far.tuning.plain_point_to_point = plain;
    far.make_transport = [this, end = ends[0]] { return make_stream_transport(loop_, Log(), end, 240); };
    start_far(far);
    auto near = near_options();
    near.tuning.plain_point_to_point = plain;
    near.peers[0].make_transport = [this, end = ends[1]] {
      return make_stream_transport(loop_, Log(), end, 240);
    };
    start_near(near);
  }
};

TEST_F(Lines, carry_a_request_over_a_stream) {
  start_on_stream(false);
  EXPECT_EQ(get("/over/a/stream").status, 200);
  EXPECT_EQ(upstream_->requests.at(0).target, "/over/a/stream");
  EXPECT_EQ(near_->status().at("pairings").at(0).at("link").at("overhead_bytes"), 4);
}

TEST_F(Lines, go_without_encryption_when_both_sides_are_told_to_and_say_so) {
  start_on_stream(true);
  EXPECT_EQ(get("/").status, 200);
  for (const auto& status : {near_->status(), far_->status()})
    EXPECT_NE(peer_field(status, "protection").find("none"), std::string::npos)
        << peer_field(status, "protection");
}

TEST_F(Lines, carry_a_request_over_a_serial_line) {
  int master = -1, slave = -1;
  char name[128];
  ASSERT_EQ(::openpty(&master, &slave, name, nullptr, nullptr), 0);
  ASSERT_EQ(::fcntl(master, F_SETFD, FD_CLOEXEC), 0);
  pair();
  start_far(far_on(std::string(name) + ":9600"));
  ::close(slave);
  auto near = near_options();
  near.peers[0].make_transport = [this, master] { return make_stream_transport(loop_, Log(), master, 240); };
  start_near(near);
  EXPECT_EQ(ask(send_request("1", std::string(500, 'x'))).status, 200);
}

TEST_F(Lines, carry_a_request_over_commands) {
  const std::string up = directory_ + "/up", down = directory_ + "/down";
  ASSERT_EQ(::mkfifo(up.c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo(down.c_str(), 0600), 0);
  pair();
  start_far(far_on("exec:cat < " + up + " & exec cat > " + down));
  start_near(near_on("exec:cat < " + down + " & exec cat > " + up));
  EXPECT_EQ(get("/over/commands").status, 200);
}

TEST_F(Lines, end_without_waiting_for_a_command_that_does_not_want_to) {
  pair();
  start_far(far_on("exec:trap '' TERM; cat > /dev/null; read never < " + directory_ + "/fifo"));
  const auto before = std::chrono::steady_clock::now();
  far_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::milliseconds(100));
}

TEST_F(Lines, that_cannot_be_opened_are_tried_again_and_say_why) {
  pair();
  const std::pair<std::string, std::string> rows[] = {{directory_ + "/none", "cannot open"},
                                                      {directory_ + "/file", "no pipe, socket or terminal"}};
  ASSERT_TRUE(host::write_file(directory_ + "/file", {}, host::FileMode::owner_only).ok());
  for (const auto& [line, word] : rows) {
    auto options = near_on(line);
    options.gateway_timeout = 50ms;
    start_near(options);
    const auto response = get("/");
    EXPECT_EQ(response.status, 504);
    EXPECT_NE(text_of(response.body).find(word), std::string::npos) << text_of(response.body);
    near_.reset();
  }
}

TEST_F(Lines, of_no_known_speed_are_refused) {
  pair();
  const auto refused = FarService::start(context(), far_store_, far_on("/dev/ttyUSB0:123"));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("9600"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace ravine::services::test
