#include "cli/output.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <qrencode.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>

namespace ravine::cli {

namespace {

bool& colours_off() {
  static bool off = false;
  return off;
}

}  // namespace

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument:
      return kUsage;
    case ErrorKind::not_found:
      return kNotFound;
    case ErrorKind::already_exists:
      return kExists;
    case ErrorKind::refused:
    case ErrorKind::unauthenticated:
      return kRefused;
    case ErrorKind::unreachable:
    case ErrorKind::timed_out:
      return kUnreachable;
    case ErrorKind::limit_reached:
    case ErrorKind::closed:
    case ErrorKind::io:
    case ErrorKind::unsupported:
    case ErrorKind::internal:
      break;
  }
  return kFailed;
}

bool is_terminal(int descriptor) {
  return ::isatty(descriptor) == 1;
}
void disable_colours() {
  colours_off() = true;
}

std::string paint(Colour colour, std::string_view text) {
  static const bool plain = !is_terminal(STDOUT_FILENO) || std::getenv("NO_COLOR") != nullptr;
  if (plain || colours_off() || colour == Colour::none) return std::string(text);
  const char* code = "0";
  switch (colour) {
    case Colour::green:
      code = "32";
      break;
    case Colour::yellow:
      code = "33";
      break;
    case Colour::red:
      code = "31";
      break;
    case Colour::bold:
      code = "1";
      break;
    case Colour::dim:
      code = "2";
      break;
    case Colour::none:
      break;
  }
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) std::_Exit(kFailed);
}

void print_line(std::string_view text) {
  print(text);
  print("\n");
}

void print_json(const boost::json::value& value) {
  print_line(boost::json::serialize(value));
  std::fflush(stdout);
}

void print_note(std::string_view text) {
  fmt::print(stderr, "{}\n", text);
}

int fail(const Error& error) {
  std::fflush(stdout);
  fmt::print(stderr, "ravine: {}\n", error.message);
  return exit_code(error.kind);
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      while (i < text.size() && text[i] != 'm') ++i;
      continue;
    }
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) ++width;
  }
  return width;
}

std::string Table::to_text() const {
  std::vector<std::size_t> widths;
  for (const std::string& title : titles_) widths.push_back(display_width(title));
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(row[i]));
    }
  }
  std::string out;
  const auto append = [&](const std::vector<std::string>& cells, bool title) {
    std::string line;
    for (std::size_t i = 0; i < cells.size() && i < widths.size(); ++i) {
      line += title ? paint(Colour::bold, cells[i]) : cells[i];
      if (i + 1 < cells.size()) line.append(widths[i] - display_width(cells[i]) + 2, ' ');
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    out += line + "\n";
  };
  append(titles_, true);
  for (const auto& row : rows_) append(row, false);
  return out;
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes)
                   : fmt::format("{:.{}f} {}", value, value < 9.95 ? 1 : 0, kUnits[unit]);
}

std::string duration_text(Duration duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  if (duration.count() == 0) return "0 s";
  if (seconds < 0.001) return fmt::format("{:.0f} µs", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.{}f} ms", seconds * 1e3, seconds < 0.01 ? 1 : 0);
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

std::string date_text(UnixTime at) {
  const std::time_t seconds = at.seconds;
  std::tm parts{};
  if (::gmtime_r(&seconds, &parts) == nullptr) return "?";
  return fmt::format("{:%Y-%m-%d %H:%M} UTC", parts);
}

std::string qr_text(std::string_view text) {
  const std::unique_ptr<QRcode, decltype(&QRcode_free)> code(
      QRcode_encodeString(std::string(text).c_str(), 0, QR_ECLEVEL_L, QR_MODE_8, 1), &QRcode_free);
  if (!code) return {};
  const int quiet = 2;  // modules; four by the standard, two are read by every phone and save half the screen
  const auto dark = [&](int x, int y) {
    return x >= 0 && y >= 0 && x < code->width && y < code->width &&
           (code->data[y * code->width + x] & 1) != 0;
  };
  std::string out;
  for (int y = -quiet; y < code->width + quiet; y += 2) {
    out += "\x1b[30;47m";
    for (int x = -quiet; x < code->width + quiet; ++x) {
      const bool upper = dark(x, y);
      const bool lower = y + 1 < code->width + quiet && dark(x, y + 1);
      out += upper && lower ? "█" : upper ? "▀" : lower ? "▄" : " ";
    }
    out += "\x1b[0m\n";
  }
  return out;
}

}  // namespace ravine::cli
