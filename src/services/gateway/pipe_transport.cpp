#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <utility>

#include "host/os_error.h"
#include "services/gateway/line_transport.h"

namespace ravine::services {
namespace {

constexpr std::string_view kExec = "exec:";

struct Baud {
  unsigned rate;
  speed_t speed;
};
constexpr Baud kBauds[] = {{300, B300},     {600, B600},      {1200, B1200},   {2400, B2400},
                           {4800, B4800},   {9600, B9600},    {19200, B19200}, {38400, B38400},
                           {57600, B57600}, {115200, B115200}};

Result<std::shared_ptr<Socket>> adopt_checked(boost::asio::io_context& loop, int descriptor,
                                              std::string_view name) {
  struct stat status{};
  // Readiness of a regular file or directory cannot be waited for.
  if (descriptor < 0 || ::fstat(descriptor, &status) != 0 || S_ISREG(status.st_mode) ||
      S_ISDIR(status.st_mode)) {
    if (descriptor >= 0) ::close(descriptor);
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{} is no pipe, socket or terminal; give a device or a pipe", name)};
  }
  return std::make_shared<Socket>(adopt(loop, descriptor));
}

Result<Line> open_device(boost::asio::io_context& loop, const std::string& path, unsigned baud) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return host::os_error(errno, fmt::format("cannot open {}", path));
  termios settings{};
  if (::tcgetattr(descriptor, &settings) == 0) {
    ::cfmakeraw(&settings);
    settings.c_cflag |= static_cast<tcflag_t>(CLOCAL | CREAD);
    for (const Baud& known : kBauds) {
      if (known.rate == baud) ::cfsetspeed(&settings, known.speed);
    }
    if (::tcsetattr(descriptor, TCSANOW, &settings) != 0) {
      const int error = errno;
      ::close(descriptor);
      return host::os_error(error, fmt::format("cannot set up the line {}", path));
    }
  }
  auto socket = adopt_checked(loop, descriptor, path);
  if (!socket) return socket.error();
  return Line{*socket, *socket, {}};
}

Result<Line> open_stdio(boost::asio::io_context& loop) {
  auto in = adopt_checked(loop, ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), "standard input");
  if (!in) return in.error();
  auto out = adopt_checked(loop, ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), "standard output");
  if (!out) return out.error();
  return Line{*in, *out, {}};
}

// Takes the exit status of a command that was told to end, and ends it for certain when it does not listen.
class Reaper : public std::enable_shared_from_this<Reaper> {
 public:
  Reaper(boost::asio::io_context& loop, pid_t pid) : timer_(loop), pid_(pid) {}
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;
  ~Reaper() {
    if (ended_) return;
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  void look(int times = 20) {
    ended_ = ::waitpid(pid_, nullptr, WNOHANG) != 0;
    if (ended_ || times == 0) return;
    timer_.expires_after(std::chrono::milliseconds(10));
    timer_.async_wait([self = shared_from_this(), times](boost::system::error_code error) {
      if (!error) self->look(times - 1);
    });
  }

 private:
  boost::asio::steady_timer timer_;
  pid_t pid_;
  bool ended_ = false;
};

// Ends the command, and what it started, with the line.
class Child {
 public:
  Child(boost::asio::io_context& loop, pid_t pid) : loop_(loop), pid_(pid) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    ::kill(-pid_, SIGTERM);
    std::make_shared<Reaper>(loop_, pid_)->look();
  }

 private:
  boost::asio::io_context& loop_;
  pid_t pid_;
};

Result<Line> open_command(boost::asio::io_context& loop, const std::string& command) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return host::os_error(errno, "no socket pair for the command");
  const pid_t child = ::fork();
  if (child < 0) {
    const int error = errno;
    ::close(ends[0]);
    ::close(ends[1]);
    return host::os_error(error, "no process for the command");
  }
  if (child == 0) {
    ::setpgid(0, 0);
    ::dup2(ends[1], STDIN_FILENO);
    ::dup2(ends[1], STDOUT_FILENO);
    std::signal(SIGPIPE, SIG_DFL);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::setpgid(child, child);
  ::close(ends[1]);
  auto socket = std::make_shared<Socket>(adopt(loop, ends[0]));
  return Line{socket, socket, {}, std::make_shared<Child>(loop, child)};
}

Result<LineOpener> opener_of(boost::asio::io_context& loop, const std::string& line) {
  if (line == "stdio") {
    return LineOpener([&loop](const LineOpened& done) {
      done(open_stdio(loop));
      return std::shared_ptr<void>();
    });
  }
  if (line.starts_with(kExec) && line.size() > kExec.size()) {
    return LineOpener([&loop, command = line.substr(kExec.size())](const LineOpened& done) {
      done(open_command(loop, command));
      return std::shared_ptr<void>();
    });
  }
  if (!line.starts_with('/'))
    return Error{ErrorKind::invalid_argument,
                 fmt::format("\"{}\" is no line; write /dev/ttyUSB0:9600, stdio or exec:COMMAND", line)};
  std::string path = line;
  unsigned baud = 0;
  if (const std::size_t colon = line.rfind(':'); colon != std::string::npos) {
    const char* end = line.data() + line.size();
    const auto [stop, fault] = std::from_chars(line.data() + colon + 1, end, baud);
    const bool known =
        fault == std::errc{} && stop == end &&
        std::any_of(std::begin(kBauds), std::end(kBauds), [&](const Baud& one) { return one.rate == baud; });
    if (!known)
      return Error{ErrorKind::invalid_argument,
                   fmt::format("\"{}\": no speed of serial lines behind the colon; write one of 300, 600, "
                               "1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200",
                               line)};
    path.resize(colon);
  }
  return LineOpener([&loop, path, baud](const LineOpened& done) {
    done(open_device(loop, path, baud));
    return std::shared_ptr<void>();
  });
}

}  // namespace

bool is_pipe_spec(std::string_view text) {
  return text == "stdio" || text.starts_with(kExec) || text.starts_with('/');
}

Result<std::unique_ptr<Transport>> make_pipe_transport(boost::asio::io_context& loop, Log log,
                                                       PipeTransportOptions options) {
  auto open = opener_of(loop, options.line);
  if (!open) return open.error();
  LineOptions line;
  line.open = std::move(*open);
  line.reopen = options.line != "stdio";
  line.on_end = std::move(options.on_end);
  line.max_frame = options.max_frame;
  line.name = "line " + options.line;
  return make_line_transport(loop, log, std::move(line));
}

std::unique_ptr<Transport> make_stream_transport(boost::asio::io_context& loop, Log log, int descriptor,
                                                 std::size_t max_frame) {
  LineOptions line;
  auto socket = std::make_shared<Socket>(adopt(loop, descriptor));
  line.open = [socket](const LineOpened& done) {
    done(Line{socket, socket, {}});
    return std::shared_ptr<void>();
  };
  line.reopen = false;
  line.max_frame = max_frame;
  line.name = "stream";
  return make_line_transport(loop, log, std::move(line));
}

}  // namespace ravine::services
