// What the commands print: exit codes, colours on terminals, aligned tables, figures for people, QR codes.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace ravine::cli {

// Exit codes of every command. `ravine --help` and docs/configuration.md list them.
enum ExitCode : int {
  kOk = 0,
  kFailed = 1,       // anything without a code of its own
  kUsage = 2,        // wrong arguments, or a configuration with faults
  kNotRunning = 3,   // no node answers on the control socket
  kRefused = 4,      // policy, certificate or file rights say no
  kUnreachable = 5,  // the peer, its port or the issuer cannot be reached, or did not answer in time
  kNotFound = 6,     // no such peer, file, invitation
  kExists = 7,       // port taken, already there
};
int exit_code(ErrorKind kind);

enum class Colour : std::uint8_t { none, green, yellow, red, bold, dim };
// Empty around the text unless standard output is a terminal, NO_COLOR is unset and --no-colour was not
// given.
std::string paint(Colour colour, std::string_view text);
void disable_colours();
bool is_terminal(int descriptor);

// Writes to standard output; a reader that went away ends the command quietly with exit code 1.
void print(std::string_view text);
void print_line(std::string_view text);
void print_json(const boost::json::value& value);  // one line, keys in the order they were made
void print_note(std::string_view text);            // standard error: progress and hints
// "ravine: MESSAGE" on standard error; returns the exit code of its kind.
int fail(const Error& error);

// Columns padded to the widest cell, two spaces between, no trailing spaces.
class Table {
 public:
  explicit Table(std::vector<std::string> titles) : titles_(std::move(titles)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string to_text() const;

 private:
  std::vector<std::string> titles_;
  std::vector<std::vector<std::string>> rows_;
};

std::size_t display_width(std::string_view text);  // columns: UTF-8 characters without escape sequences
std::string bytes_text(std::uint64_t bytes);       // "1.5 MB", powers of 1000
std::string duration_text(Duration duration);      // "12 ms", "3 min 4 s", "29 d 3 h"
std::string date_text(UnixTime at);                // "2026-11-20 06:45 UTC"

// UTF-8 half blocks, dark on light, with its quiet zone. Empty when the text does not fit a QR code.
std::string qr_text(std::string_view text);

}  // namespace ravine::cli
