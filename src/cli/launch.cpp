#include "cli/launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <charconv>

#include "cli/context.h"
#include "cli/daemon.h"
#include "cli/output.h"
#include "host/file.h"
#include "host/logging.h"
#include "host/process.h"
#include "host/random.h"
#include "host/signals.h"
#include "node/node.h"
#include "node/state_dir.h"

namespace ravine::cli {

namespace {

Error flag_error(std::string_view flag, std::string_view value, std::string_view wanted) {
  return {ErrorKind::invalid_argument, fmt::format("{} \"{}\" is wrong; write {}", flag, value, wanted)};
}

std::vector<std::string> split(std::string_view text, char separator, std::size_t limit) {
  std::vector<std::string> parts;
  while (parts.size() + 1 < limit) {
    const std::size_t at = text.find(separator);
    if (at == std::string_view::npos) break;
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + 1);
  }
  parts.emplace_back(text);
  return parts;
}

std::string toml_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + "\"";
}

std::string toml_texts(std::string_view comma_separated) {
  std::string out;
  for (const std::string& part : split(comma_separated, ',', 64)) {
    out += (out.empty() ? "" : ", ") + toml_text(part);
  }
  return "[" + out + "]";
}

// Flags become TOML and go through the parser of files, so that every check exists once.
Result<std::string> repeated_flags(const UpFlags& flags) {
  std::string toml;
  for (const std::string& flag : flags.networks) {
    const auto parts = split(flag, '=', 2);
    if (parts.size() != 2) return flag_error("--network", flag, "NAME=DIRECTORY");
    toml += fmt::format("[[network]]\nname = {}\ndirectory = {}\n", toml_text(parts[0]), toml_text(parts[1]));
  }
  for (const std::string& flag : flags.peers) {
    const auto parts = split(flag, '=', 2);
    if (parts.size() != 2)
      return flag_error("--peer", flag, "NAME=ADDRESS:PORT, for example box=192.0.2.1:4717");
    toml += fmt::format("[[peer]]\nname = {}\naddresses = {}\nkeep = {}\n", toml_text(parts[0]),
                        toml_texts(parts[1]), flags.keep);
  }
  for (const std::string& flag : flags.exposes) {
    const auto parts = split(flag, '=', 3);
    if (parts.size() < 2)
      return flag_error("--expose", flag, "PORT=HOST:PORT=ALLOW, for example 80=127.0.0.1:8080=*");
    const bool udp = parts[0].ends_with("/udp");
    const std::string port = udp ? parts[0].substr(0, parts[0].size() - 4) : parts[0];
    if (port.empty() || port.find_first_not_of("0123456789") != std::string::npos || port.front() == '0') {
      return flag_error("--expose", flag, "a port number first, for example 80=127.0.0.1:8080=*");
    }
    toml += fmt::format("[[expose]]\nport = {}\nto = {}\nudp = {}\n", port, toml_text(parts[1]), udp);
    if (parts.size() == 3) toml += fmt::format("allow = {}\n", toml_texts(parts[2]));
  }
  for (const std::string& flag : flags.forwards) {
    const bool udp = flag.starts_with("udp:");
    const auto parts = split(std::string_view(flag).substr(udp ? 4 : 0), '=', 2);
    if (parts.size() != 2)
      return flag_error("--forward", flag, "LISTEN=PEER:PORT, for example 127.0.0.1:2222=box:22");
    toml += fmt::format("[[forward]]\nlisten = {}\nto = {}\nudp = {}\n", toml_text(parts[0]),
                        toml_text(parts[1]), udp);
  }
  return toml;
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

Result<> apply_node_flags(const UpFlags& flags, node::Config& config) {
  std::string toml = "[node]\n";
  if (!flags.port.empty()) {
    std::uint16_t port = 0;
    const char* end = flags.port.data() + flags.port.size();
    const auto [stop, fault] = std::from_chars(flags.port.data(), end, port);
    if (fault != std::errc{} || stop != end)
      return flag_error("--port", flags.port, "a number from 0 to 65535");
    config.node.port = port;
  }
  if (!flags.name.empty()) toml += fmt::format("name = {}\n", toml_text(flags.name));
  if (!flags.listen.empty()) {
    std::string list;
    for (const std::string& address : flags.listen) list += (list.empty() ? "" : ",") + address;
    toml += fmt::format("listen = {}\n", toml_texts(list));
  }
  if (!flags.metrics.empty()) toml += fmt::format("metrics = {}\n", toml_text(flags.metrics));
  if (!flags.log_level.empty()) toml += fmt::format("log_level = {}\n", toml_text(flags.log_level));
  if (!flags.log_format.empty()) toml += fmt::format("log_format = {}\n", toml_text(flags.log_format));
  if (!flags.congestion.empty()) toml += fmt::format("congestion = {}\n", toml_text(flags.congestion));
  if (!flags.protection.empty()) toml += fmt::format("protection = {}\n", toml_text(flags.protection));
  if (!flags.proxy.empty()) toml += fmt::format("[proxy]\nlisten = {}\n", toml_text(flags.proxy));
  auto given = node::parse_config(toml, "flags");
  if (!given) return given.error();
  if (!flags.name.empty()) config.node.name = given->node.name;
  if (!flags.listen.empty()) config.node.listen = given->node.listen;
  if (!flags.metrics.empty()) config.node.metrics = given->node.metrics;
  if (!flags.log_level.empty()) config.node.log_level = given->node.log_level;
  if (!flags.log_format.empty()) config.node.log_format = given->node.log_format;
  if (!flags.congestion.empty()) config.node.congestion = given->node.congestion;
  if (!flags.protection.empty()) config.node.protection = given->node.protection;
  if (!flags.proxy.empty()) config.proxy.listen = given->proxy.listen;
  if (flags.no_proxy) config.proxy.enabled = false;
  return {};
}

void apply_levels(host::Logger& logger, const node::Config& config) {
  for (const auto& level : logger.levels()) {
    if (!level.component.empty()) (void)logger.set_component_level(level.component, std::nullopt).ok();
  }
  logger.set_level(config.node.log_level);
  for (const auto& [component, level] : config.node.log_levels) {
    (void)logger.set_component_level(component, level).ok();
  }
}

// What the loop of `ravine up` holds together.
class Launch {
 public:
  Launch(const Context& context, const UpFlags& flags) : context_(context), flags_(flags) {}

  // Returns once the node serves.
  Result<> start() {
    auto config = make_config(context_, flags_);
    if (!config) return config.error();
    auto opened = host::Logger::open(
        {.level = config->node.log_level, .format = config->node.log_format, .file = flags_.log_file});
    if (!opened) return opened.error();
    logger_ = std::move(*opened);
    apply_levels(*logger_, *config);
    host::raise_open_file_limit();
    host::forbid_core_dumps();
    node::NodeOptions options;
    options.state = !context_.state.empty() || config->node.state.empty() ? state_directory(context_)
                                                                          : config->node.state;
    if (!context_.control.empty()) config->node.control = context_.control;
    options.config = std::move(*config);
    options.read_config = [this]() -> Result<node::Config> {
      auto again = make_config(context_, flags_);
      if (again && !context_.control.empty()) again->node.control = context_.control;
      return again;
    };
    options.apply_log_levels = [this](const node::Config& wanted) { apply_levels(*logger_, wanted); };
    options.set_log_level = [this](std::string_view component, std::optional<LogLevel> level) -> Result<> {
      if (!component.empty()) return logger_->set_component_level(component, level);
      logger_->set_level(level.value_or(LogLevel::info));
      return {};
    };
    options.log_levels = [this] {
      std::map<std::string, LogLevel, std::less<>> levels;
      for (auto& [component, level] : logger_->levels()) levels.emplace(std::move(component), level);
      return levels;
    };
    options.on_shutdown_request = [this] { stop(); };
    signals_ = std::make_unique<host::SignalWatch>(loop_, [this](host::Signal signal) { handle(signal); });
    node_ = std::make_unique<node::Node>(loop_, std::move(options), random_, Log(logger_.get(), "node"));
    return node_->start();
  }

  void run() {
    (void)host::notify_service_manager("READY=1").ok();
    loop_.run();
    logger_->flush();
  }

  node::Node& node() { return *node_; }

 private:
  void handle(host::Signal signal) {
    if (signal != host::Signal::hang_up) return stop();
    (void)logger_->reopen().ok();
    auto report = node_->reload();
    Log log(logger_.get(), "node");
    if (!report) return log.warning("the configuration was not reloaded: {}", report.error().message);
    for (const std::string& key : report->needs_restart)
      log.warning("{} changed; restart the node for it", key);
  }

  void stop() {
    if (stopping_) return loop_.stop();  // asked twice: at once
    stopping_ = true;
    (void)host::notify_service_manager("STOPPING=1").ok();
    node_->stop([this] { loop_.stop(); });
  }

  const Context& context_;
  UpFlags flags_;
  boost::asio::io_context loop_{1};
  host::SystemRandom random_;
  std::unique_ptr<host::Logger> logger_;
  std::unique_ptr<host::SignalWatch> signals_;
  std::unique_ptr<node::Node> node_;
  bool stopping_ = false;
};

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

// The child's side: one byte of outcome (0: serving, otherwise 1 + ErrorKind) and the message, then the
// node's life.
[[noreturn]] void run_child(const Context& context, const UpFlags& flags, int report) {
  ::setsid();
  const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(nowhere, descriptor);
  Launch launch(context, flags);
  const Result<> started = launch.start();
  if (!started) {
    const char outcome = static_cast<char>(1 + static_cast<int>(started.error().kind));
    write_all(report, std::string(1, outcome) + started.error().message);
    ::_exit(exit_code(started.error().kind));
  }
  write_all(report, std::string_view("\0", 1));
  ::close(report);
  launch.run();
  ::_exit(kOk);
}

}  // namespace

Result<node::Config> make_config(const Context& context, const UpFlags& flags) {
  node::Config config;
  const std::string implied = node::StateDir(state_directory(context)).config();
  if (!flags.config.empty() || host::file_exists(implied)) {
    auto loaded = node::load_config(flags.config.empty() ? implied : flags.config);
    if (!loaded) return loaded.error();
    config = std::move(*loaded);
  }
  if (auto applied = apply_node_flags(flags, config); !applied) return applied.error();
  auto toml = repeated_flags(flags);
  if (!toml) return toml.error();
  auto given = node::parse_config(*toml, "flags");
  if (!given) return given.error();
  append(config.networks, given->networks);
  append(config.peers, given->peers);
  append(config.exposes, given->exposes);
  append(config.forwards, given->forwards);
  return config;
}

int run_in_foreground(const Context& context, const UpFlags& flags) {
  Launch launch(context, flags);
  if (auto started = launch.start(); !started) return fail(started.error());
  launch.run();
  return kOk;
}

Result<int> start_in_background(const Context& context, const UpFlags& given) {
  UpFlags flags = given;
  const node::StateDir state(state_directory(context));
  if (auto made = state.make(); !made) return made.error();
  if (flags.log_file.empty()) flags.log_file = state.path() + "/ravine.log";
  if (auto config = make_config(context, flags); !config) return config.error();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error{ErrorKind::io, "no pipe for the new process"};
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return Error{ErrorKind::io, "no new process could be made"};
  if (child == 0) {
    ::close(ends[0]);
    run_child(context, flags, ends[1]);
  }
  ::close(ends[1]);
  std::string report;
  char block[1024];
  for (;;) {
    const ssize_t size = ::read(ends[0], block, sizeof block);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    report.append(block, static_cast<std::size_t>(size));
  }
  ::close(ends[0]);
  if (report.size() == 1 && report[0] == 0) return static_cast<int>(child);
  ::waitpid(child, nullptr, 0);
  if (report.empty()) {
    return Error{ErrorKind::internal, fmt::format("the node ended while starting; see {}", flags.log_file)};
  }
  const auto kind = static_cast<ErrorKind>(report[0] - 1);
  return Error{kind, report.substr(1)};
}

}  // namespace ravine::cli
