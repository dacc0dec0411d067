#include "services/gateway/oscore_keys.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

namespace ravine::services {
namespace {

constexpr std::string_view kGood =
    R"({"secret_hex":"0102030405060708090a0b0c0d0e0f10","salt_hex":"9e7c","sender-id_ascii":"s",
        "recipient-id_hex":"63","id-context_hex":"37","algorithm":"AES-CCM-16-64-128"})";

struct Folder : testing::Test {
  Folder() {
    char text[] = "/tmp/ravine-oscore-XXXXXX";
    path = mkdtemp(text);
  }
  ~Folder() override { std::filesystem::remove_all(path); }
  std::string write(std::string_view name, std::string_view text) {
    const std::string file = path + "/" + std::string(name);
    EXPECT_TRUE(host::write_file(file, as_bytes(text), host::FileMode::owner_only).ok());
    return file;
  }
  std::string path;
};

TEST(OscoreFile, reads_both_spellings_of_a_key) {
  const auto read = parse_oscore_file(kGood, "keys.json");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(encode_hex(read->master_secret), "0102030405060708090a0b0c0d0e0f10");
  EXPECT_EQ(encode_hex(read->master_salt), "9e7c");
  EXPECT_EQ(as_text(read->sender_id), "s");
  EXPECT_EQ(as_text(read->recipient_id), "c");
  EXPECT_EQ(encode_hex(*read->id_context), "37");
}

TEST(OscoreFile, says_which_key_is_missing_or_wrong) {
  const std::pair<std::string_view, std::string_view> rows[] = {
      {"[]", "secret_hex"},
      {R"({"secret_hex":"01"})", "sender-id_hex"},
      {R"({"secret_hex":"zz"})", "secret_hex"},
      {R"({"secret_hex":"01","sender-id_hex":"","recipient-id_hex":"02"})", "16 bytes"},
      {R"({"algorithm":"AES-CCM-64-64-128"})", "algorithm"},
      {R"({"secret_hex":1})", "secret_hex"},
  };
  for (const auto& [text, word] : rows) {
    const auto read = parse_oscore_file(text, "keys.json");
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_NE(read.error().message.find(word), std::string::npos) << read.error().message;
    EXPECT_NE(read.error().message.find("keys.json"), std::string::npos);
  }
}

TEST_F(Folder, a_file_that_others_can_read_is_refused) {
  const std::string file = write("keys.json", kGood);
  ASSERT_EQ(chmod(file.c_str(), 0644), 0);
  EXPECT_EQ(OscoreKeys::open(file, path + "/state").error().kind, ErrorKind::refused);
}

TEST_F(Folder, numbers_go_on_after_a_restart_whatever_the_file_is_called) {
  std::uint64_t used = 0;
  {
    auto keys = OscoreKeys::open(write("a.json", kGood), path + "/state");
    ASSERT_TRUE(keys.ok());
    EXPECT_TRUE((*keys)->context().window_trusted());
    gateway::security::CoapContent request;
    request.code = 1;
    const auto sealed = (*keys)->context().protect_request(request);
    ASSERT_TRUE(sealed.ok()) << sealed.error().message;
    used = (*keys)->context().seals();
  }
  auto again = OscoreKeys::open(write("b.json", kGood), path + "/state");
  ASSERT_TRUE(again.ok());
  EXPECT_GE((*again)->context().seals(), used);
  EXPECT_FALSE((*again)->context().window_trusted());
}

TEST_F(Folder, a_context_that_only_answered_is_not_new_after_a_restart) {
  ASSERT_TRUE(OscoreKeys::open(write("a.json", kGood), path + "/state").ok());
  auto again = OscoreKeys::open(path + "/a.json", path + "/state");
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE((*again)->context().window_trusted());
}

TEST_F(Folder, keys_are_used_once_at_a_time) {
  auto first = OscoreKeys::open(write("a.json", kGood), path + "/state");
  ASSERT_TRUE(first.ok());
  const auto second = OscoreKeys::open(write("b.json", kGood), path + "/state");
  EXPECT_EQ(second.error().kind, ErrorKind::already_exists);
}

}  // namespace
}  // namespace ravine::services
