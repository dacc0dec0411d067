#include "host/logging.h"

#include <fmt/chrono.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <shared_mutex>

namespace ravine::host {
namespace {

constexpr std::size_t kMaxComponents = 64;
constexpr std::array<std::string_view, 6> kLevelNames{"trace", "debug", "info", "warning", "error", "off"};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return spdlog::level::trace;
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::off:
      break;
  }
  return spdlog::level::off;
}

// Bytes as they may stand inside a JSON string or on a terminal's line: control characters become \n, \t or
// \u00XX; in JSON also the quote and the backslash.
void append_escaped(fmt::memory_buffer& out, std::string_view text, bool json) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '\n') {
      out.append(std::string_view("\\n"));
    } else if (byte == '\t') {
      out.append(std::string_view("\\t"));
    } else if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(byte));
    } else {
      if (json && (c == '"' || c == '\\')) out.push_back('\\');
      out.push_back(c);
    }
  }
}

void append_time(fmt::memory_buffer& out) {
  const auto now = std::chrono::system_clock::now();
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  fmt::format_to(std::back_inserter(out), "{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                 fmt::gmtime(std::chrono::system_clock::to_time_t(now)), millis);
}

}  // namespace

std::optional<LogLevel> parse_log_level(std::string_view text) {
  for (std::size_t i = 0; i < kLevelNames.size(); ++i)
    if (text == kLevelNames[i]) return static_cast<LogLevel>(i);
  return std::nullopt;
}

std::string_view to_text(LogLevel level) {
  return kLevelNames[static_cast<std::size_t>(level)];
}

struct Logger::Impl {
  LogOptions options;
  std::shared_ptr<spdlog::logger> output;
  std::atomic<LogLevel> level{LogLevel::info};
  std::atomic<bool> has_components{false};
  mutable std::shared_mutex mutex;  // guards components and output
  std::map<std::string, LogLevel, std::less<>> components;

  Result<> open_output() {
    try {
      spdlog::sink_ptr sink;
      if (!options.file.empty()) {
        sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file);
      } else if (options.format == LogFormat::text && ::isatty(STDERR_FILENO) &&
                 std::getenv("NO_COLOR") == nullptr) {
        sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(spdlog::color_mode::always);
      } else {
        sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
      }
      sink->set_pattern("%^%v%$");
      output = std::make_shared<spdlog::logger>("ravine", std::move(sink));
      output->set_level(spdlog::level::trace);
      output->flush_on(spdlog::level::trace);  // a line that a crash swallows is of no use
    } catch (const spdlog::spdlog_ex& problem) {
      return Error{ErrorKind::io, fmt::format("open log file {}: {}", options.file, problem.what())};
    }
    return {};
  }
};

Logger::Logger() : impl_(std::make_unique<Impl>()) {}
Logger::~Logger() = default;

Result<std::unique_ptr<Logger>> Logger::open(const LogOptions& options) {
  std::unique_ptr<Logger> logger(new Logger);
  logger->impl_->options = options;
  logger->impl_->level = options.level;
  if (auto opened = logger->impl_->open_output(); !opened) return opened.error();
  return logger;
}

bool Logger::enabled(LogLevel level, std::string_view component) const {
  LogLevel least = impl_->level.load(std::memory_order_relaxed);
  if (impl_->has_components.load(std::memory_order_relaxed)) {
    const std::shared_lock lock(impl_->mutex);
    const auto own = impl_->components.find(component);
    if (own != impl_->components.end()) least = own->second;
  }
  return level >= least && level != LogLevel::off;
}

void Logger::write(LogLevel level, std::string_view component, std::string_view message) {
  fmt::memory_buffer line;
  if (impl_->options.format == LogFormat::json) {
    line.append(std::string_view("{\"time\":\""));
    append_time(line);
    fmt::format_to(std::back_inserter(line), "\",\"level\":\"{}\",\"component\":\"", to_text(level));
    append_escaped(line, component, true);
    line.append(std::string_view("\",\"message\":\""));
    append_escaped(line, message, true);
    line.append(std::string_view("\"}"));
  } else {
    append_time(line);
    fmt::format_to(std::back_inserter(line), " {:<7} ", to_text(level));
    append_escaped(line, component, false);
    line.append(std::string_view(": "));
    append_escaped(line, message, false);
  }
  const std::shared_lock lock(impl_->mutex);
  impl_->output->log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

void Logger::set_level(LogLevel level) {
  impl_->level = level;
}

Result<> Logger::set_component_level(std::string_view component, std::optional<LogLevel> level) {
  const std::unique_lock lock(impl_->mutex);
  if (!level) {
    impl_->components.erase(std::string(component));
  } else if (impl_->components.size() >= kMaxComponents && !impl_->components.contains(component)) {
    return Error{ErrorKind::limit_reached,
                 fmt::format("{} components have log levels of their own already", kMaxComponents)};
  } else {
    impl_->components.insert_or_assign(std::string(component), *level);
  }
  impl_->has_components = !impl_->components.empty();
  return {};
}

std::vector<Logger::ComponentLevel> Logger::levels() const {
  const std::shared_lock lock(impl_->mutex);
  std::vector<ComponentLevel> out{{"", impl_->level}};
  for (const auto& [component, level] : impl_->components) out.push_back({component, level});
  return out;
}

Result<> Logger::reopen() {
  const std::unique_lock lock(impl_->mutex);
  return impl_->open_output();
}

void Logger::flush() {
  const std::shared_lock lock(impl_->mutex);
  impl_->output->flush();
}

}  // namespace ravine::host
