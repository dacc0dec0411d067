#include "cli/secrets.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/bytes.h"
#include "host/file.h"

namespace ravine::cli {

namespace {

constexpr std::size_t kMaxPassphrase = 1024;  // bytes

Result<std::string> read_line(int descriptor) {
  std::string line;
  for (;;) {
    char c = 0;
    const ssize_t size = ::read(descriptor, &c, 1);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0 || c == '\n') break;
    line += c;
    if (line.size() > kMaxPassphrase)
      return Error{ErrorKind::invalid_argument, "the passphrase is longer than 1024 bytes"};
  }
  return line;
}

// The terminal without echo for as long as it lives.
class QuietTerminal {
 public:
  explicit QuietTerminal(int descriptor) : descriptor_(descriptor) {
    if (::tcgetattr(descriptor_, &before_) != 0) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    changed_ = ::tcsetattr(descriptor_, TCSAFLUSH, &quiet) == 0;
  }
  ~QuietTerminal() {
    if (changed_) ::tcsetattr(descriptor_, TCSADRAIN, &before_);
  }
  QuietTerminal(const QuietTerminal&) = delete;
  QuietTerminal& operator=(const QuietTerminal&) = delete;

 private:
  int descriptor_;
  termios before_{};
  bool changed_ = false;
};

Result<std::string> ask(int terminal, std::string_view prompt) {
  const std::string text = fmt::format("{}: ", prompt);
  // Quiet before the prompt: who answers at once must not see it, and nothing typed may get lost.
  const QuietTerminal quiet(terminal);
  if (::write(terminal, text.data(), text.size()) < 0)
    return Error{ErrorKind::io, "the terminal cannot be written to"};
  Result<std::string> line = read_line(terminal);
  if (::write(terminal, "\n", 1) < 0) return Error{ErrorKind::io, "the terminal cannot be written to"};
  return line;
}

Result<std::string> from_terminal(std::string_view prompt, bool confirm) {
  const int terminal = ::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (terminal < 0) {
    return Error{
        ErrorKind::invalid_argument,
        "there is no terminal to ask for the passphrase; use --passphrase-file FILE or RAVINE_PASSPHRASE"};
  }
  auto first = ask(terminal, prompt);
  if (first && confirm) {
    auto second = ask(terminal, "the same again");
    if (!second || *second != *first)
      first = Error{ErrorKind::invalid_argument, "the two passphrases differ; try again"};
  }
  ::close(terminal);
  return first;
}

}  // namespace

Result<std::string> read_passphrase(const PassphraseSource& source, std::string_view prompt, bool confirm) {
  Result<std::string> passphrase = std::string();
  if (source.file == "-") {
    passphrase = read_line(STDIN_FILENO);
  } else if (!source.file.empty()) {
    auto bytes = host::read_secret_file(source.file, kMaxPassphrase);
    if (!bytes) return bytes.error();
    std::string text(as_text(*bytes));
    wipe(*bytes);
    passphrase = text.substr(0, text.find('\n'));
  } else if (source.ask) {
    const char* given = std::getenv("RAVINE_PASSPHRASE");
    passphrase = given != nullptr ? std::string(given) : from_terminal(prompt, confirm);
  } else {
    return passphrase;
  }
  if (passphrase && passphrase->empty()) return Error{ErrorKind::invalid_argument, "the passphrase is empty"};
  return passphrase;
}

}  // namespace ravine::cli
