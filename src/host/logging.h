// The log: text or JSON lines to stderr or a file, with a level for each component that can change at run
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"

namespace ravine::host {

enum class LogFormat : std::uint8_t { text, json };

struct LogOptions {
  LogLevel level = LogLevel::info;
  LogFormat format = LogFormat::text;
  std::string file;  // appended to; empty: stderr, in colours when it is a terminal and NO_COLOR is not set
};

std::optional<LogLevel> parse_log_level(std::string_view text);  // "trace" … "error", "off"
std::string_view to_text(LogLevel level);

// Text: "2026-11-20T06:42:00.123Z info  session: message". JSON:
// {"time":…,"level":…,"component":…,"message":…}. Control characters in messages are escaped, so that no name
// from outside can forge a line or drive a terminal. Safe from any thread.
class Logger final : public LogSink {
 public:
  // Error: the file cannot be opened.
  static Result<std::unique_ptr<Logger>> open(const LogOptions& options);
  ~Logger() override;

  bool enabled(LogLevel level, std::string_view component) const override;
  void write(LogLevel level, std::string_view component, std::string_view message) override;

  void set_level(LogLevel level);  // of all components without their own
  // nullopt gives the component back to the common level. At most 64 components have their own:
  // limit_reached.
  Result<> set_component_level(std::string_view component, std::optional<LogLevel> level);
  struct ComponentLevel {
    std::string component;  // empty: the common one, always first
    LogLevel level;
  };
  std::vector<ComponentLevel> levels() const;
  Result<> reopen();  // after the file was moved away by a log rotator
  void flush();

 private:
  Logger();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::host
