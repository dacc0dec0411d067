// The log interface that the folders above host write to. Pure folders do not log: they return events and
// reasons. The implementation (spdlog, text or JSON) lives in host.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string_view>

namespace ravine {

enum class LogLevel : std::uint8_t { trace, debug, info, warning, error, off };

// Addresses and names never above debug; per-packet lines at trace; an error line means that somebody has to
// act, and fails a test that did not expect it.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual bool enabled(LogLevel level, std::string_view component) const = 0;
  virtual void write(LogLevel level, std::string_view component, std::string_view message) = 0;
};

// A component's name bound to a sink; cheap to copy. A default Log writes nowhere.
class Log {
 public:
  Log() = default;
  Log(LogSink* sink, std::string_view component) : sink_(sink), component_(component) {}
  Log named(std::string_view component) const { return {sink_, component}; }  // requires static text

  template <class... Args>
  void trace(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::trace, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::debug, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::info, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::warning, format, std::forward<Args>(args)...);
  }
  template <class... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    write(LogLevel::error, format, std::forward<Args>(args)...);
  }

 private:
  template <class... Args>
  void write(LogLevel level, fmt::format_string<Args...> format, Args&&... args) const {
    if (sink_ == nullptr || !sink_->enabled(level, component_)) return;
    sink_->write(level, component_, fmt::format(format, std::forward<Args>(args)...));
  }
  LogSink* sink_ = nullptr;
  std::string_view component_;
};

}  // namespace ravine
