#include "host/logging.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "host/file.h"

namespace ravine::host {
namespace {

class Logging : public testing::Test {
 protected:
  void SetUp() override {
    file_ = (std::filesystem::temp_directory_path() / ("ravine-log-" + std::to_string(::getpid()))).string();
    std::filesystem::remove(file_);
  }
  void TearDown() override { std::filesystem::remove(file_); }
  std::unique_ptr<Logger> open(LogFormat format) {
    auto logger = Logger::open({.level = LogLevel::info, .format = format, .file = file_});
    EXPECT_TRUE(logger.ok());
    return std::move(*logger);
  }
  std::string written() const {
    const auto content = read_file(file_, 1 << 20);
    return content ? std::string(as_text(*content)) : "";
  }
  std::string file_;
};

TEST_F(Logging, text_line_has_time_level_component_and_no_colour_in_a_file) {
  const auto logger = open(LogFormat::text);
  const Log log(logger.get(), "session");
  log.info("{} peers", 3);
  log.debug("not shown");
  const std::string text = written();
  EXPECT_NE(text.find("Z info    session: 3 peers\n"), std::string::npos) << text;
  EXPECT_EQ(text[10], 'T');
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find("not shown"), std::string::npos);
}

TEST_F(Logging, json_lines_escape_what_would_break_them) {
  const auto logger = open(LogFormat::json);
  Log(logger.get(), "node").warning("a \"quoted\"\\\n\x01name");
  EXPECT_NE(written().find(R"("level":"warning","component":"node","message":"a \"quoted\"\\\n\u0001name"})"
                           "\n"),
            std::string::npos)
      << written();
}

TEST_F(Logging, foreign_bytes_cannot_forge_a_line_or_drive_a_terminal) {
  const auto logger = open(LogFormat::text);
  Log(logger.get(), "node").info("x\n2026-01-01T00:00:00.000Z error  node: forged\x1b[2J");
  const std::string text = written();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST_F(Logging, component_levels_change_at_run_time) {
  const auto logger = open(LogFormat::text);
  EXPECT_FALSE(logger->enabled(LogLevel::trace, "udp"));
  ASSERT_TRUE(logger->set_component_level("udp", LogLevel::trace).ok());
  EXPECT_TRUE(logger->enabled(LogLevel::trace, "udp"));
  EXPECT_FALSE(logger->enabled(LogLevel::debug, "session"));
  logger->set_level(LogLevel::off);
  EXPECT_FALSE(logger->enabled(LogLevel::error, "session"));
  EXPECT_TRUE(logger->enabled(LogLevel::error, "udp"));
  ASSERT_TRUE(logger->set_component_level("udp", std::nullopt).ok());
  EXPECT_FALSE(logger->enabled(LogLevel::error, "udp"));
  ASSERT_EQ(logger->levels().size(), 1u);
}

TEST_F(Logging, components_with_levels_are_limited) {
  const auto logger = open(LogFormat::text);
  int accepted = 0;
  for (int i = 0; i < 100; ++i)
    accepted += logger->set_component_level(std::to_string(i), LogLevel::debug).ok();
  EXPECT_EQ(accepted, 64);
}

TEST_F(Logging, reopen_follows_a_rotated_file) {
  const auto logger = open(LogFormat::text);
  Log(logger.get(), "a").info("one");
  std::filesystem::remove(file_);
  ASSERT_TRUE(logger->reopen().ok());
  Log(logger.get(), "a").info("two");
  EXPECT_NE(written().find("two"), std::string::npos);
}

TEST(LogLevels, names_round_trip) {
  for (const LogLevel level :
       {LogLevel::trace, LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error, LogLevel::off})
    EXPECT_EQ(parse_log_level(to_text(level)), level);
  EXPECT_EQ(parse_log_level("loud"), std::nullopt);
}

TEST(Logger, unwritable_file_is_an_error) {
  EXPECT_FALSE(Logger::open({.file = "/dev/null/log"}).ok());
}

}  // namespace
}  // namespace ravine::host
