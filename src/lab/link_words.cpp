#include "lab/link_words.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>

namespace ravine::lab {
namespace {

struct Unit {
  std::string_view name;
  double scale;
};

// A decimal number followed by one of the units.
std::optional<double> parse_number(std::string_view text, std::span<const Unit> units) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value) || value < 0 || text.starts_with('-'))
    return std::nullopt;
  const std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const Unit& unit : units)
    if (rest == unit.name) return value * unit.scale;
  return std::nullopt;
}

template <class T>
Result<> store(T& field, std::optional<T> value, std::string_view name, std::string_view text,
               std::string_view example) {
  if (!value)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{} \"{}\" is not understood; write for example {}", name, text, example)};
  field = *value;
  return {};
}

std::optional<double> parse_count(std::string_view text, double most) {
  constexpr std::array<Unit, 1> kUnits{{{"", 1}}};
  const auto value = parse_number(text, kUnits);
  return value && *value <= most ? value : std::nullopt;
}

Result<> set_outage(LinkProfile& profile, std::string_view value) {
  const std::size_t slash = std::min(value.find('/'), value.size());
  const auto length = parse_span(value.substr(0, slash));
  const Duration period = parse_span(value.substr(std::min(slash + 1, value.size()))).value_or(Duration{0});
  if (!length || *length > period || period <= Duration{0})
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("outage \"{}\" is not understood; write LENGTH/PERIOD, for example 30s/10m", value)};
  profile.outage = *length;
  profile.outage_period = period;
  return {};
}

std::string span_text(Duration span) {
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(span).count();
  return milliseconds % 1000 == 0 ? fmt::format("{}s", milliseconds / 1000)
                                  : fmt::format("{}ms", milliseconds);
}

}  // namespace

std::optional<double> parse_rate(std::string_view text) {
  constexpr std::array<Unit, 6> kUnits{
      {{"bps", 1}, {"kbps", 1e3}, {"Mbps", 1e6}, {"Gbps", 1e9}, {"", 1}, {"mbps", 1e6}}};
  const auto rate = parse_number(text, kUnits);
  // Less than one bit in ten seconds is a slip of the pen.
  return rate && *rate <= 1e12 && (*rate == 0 || *rate >= 0.1) ? rate : std::nullopt;
}

std::optional<double> parse_share(std::string_view text) {
  constexpr std::array<Unit, 2> kUnits{{{"%", 0.01}, {"", 1}}};
  const auto share = parse_number(text, kUnits);
  return share && *share <= 1 ? share : std::nullopt;
}

std::optional<Duration> parse_span(std::string_view text) {
  constexpr std::array<Unit, 4> kUnits{{{"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  const auto span = parse_number(text, kUnits);
  constexpr double kWeek = 7 * 86400e9;
  if (!span || *span > kWeek) return std::nullopt;
  return Duration{static_cast<std::int64_t>(*span)};
}

Result<> set_field(LinkProfile& profile, std::string_view name, std::string_view value) {
  if (name == "rate") return store(profile.rate_bps, parse_rate(value), name, value, "100bps or 9.6kbps");
  if (name == "loss") return store(profile.loss, parse_share(value), name, value, "10%");
  if (name == "delay") return store(profile.delay, parse_span(value), name, value, "2s or 150ms");
  if (name == "jitter") return store(profile.jitter, parse_span(value), name, value, "300ms");
  if (name == "duplicate") return store(profile.duplicate, parse_share(value), name, value, "1%");
  if (name == "reorder") return store(profile.reorder, parse_share(value), name, value, "5%");
  if (name == "corrupt") return store(profile.corrupt, parse_share(value), name, value, "1%");
  if (name == "outage") return set_outage(profile, value);
  if (name == "burst") {
    const auto burst = parse_count(value, 1e6);
    return store(profile.burst, burst && *burst >= 1 ? burst : std::nullopt, name, value,
                 "3: the mean length of a run of losses");
  }
  if (name == "queue" || name == "overhead") {
    const auto bytes = parse_count(value, name == "queue" ? 1e9 : 1000);
    if (!bytes)
      return Error{ErrorKind::invalid_argument,
                   fmt::format("{} \"{}\" is not understood; write a number of bytes", name, value)};
    if (name == "queue") profile.queue_bytes = static_cast<std::size_t>(*bytes);
    if (name == "overhead") profile.overhead_bytes = static_cast<std::uint32_t>(*bytes);
    return {};
  }
  return Error{
      ErrorKind::invalid_argument,
      fmt::format("a link has no \"{}\"; it has rate, loss, delay, jitter, burst, duplicate, reorder, "
                  "corrupt, outage, queue and overhead",
                  name)};
}

Result<LinkProfile> parse_profile(std::string_view text, LinkProfile base) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    const std::string_view field = text.substr(0, end);
    const std::size_t equals = field.find('=');
    if (equals == std::string_view::npos)
      return Error{ErrorKind::invalid_argument,
                   fmt::format("\"{}\" in a link is no NAME=VALUE; write for example "
                               "rate=100bps,loss=10%,delay=2s",
                               field)};
    if (auto set = set_field(base, field.substr(0, equals), field.substr(equals + 1)); !set)
      return set.error();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return base;
}

std::string to_text(const LinkProfile& profile) {
  const LinkProfile plain;
  std::string out = profile.rate_bps > 0 ? fmt::format("rate={}bps", profile.rate_bps) : "rate=0";
  const auto share = [&](std::string_view name, double value) {
    if (value > 0) out += fmt::format(",{}={:g}%", name, value * 100);
  };
  share("loss", profile.loss);
  if (profile.burst > 1) out += fmt::format(",burst={:g}", profile.burst);
  if (profile.delay > Duration{0}) out += ",delay=" + span_text(profile.delay);
  if (profile.jitter > Duration{0}) out += ",jitter=" + span_text(profile.jitter);
  share("duplicate", profile.duplicate);
  share("reorder", profile.reorder);
  share("corrupt", profile.corrupt);
  if (profile.outage > Duration{0})
    out += fmt::format(",outage={}/{}", span_text(profile.outage), span_text(profile.outage_period));
  if (profile.queue_bytes != plain.queue_bytes) out += fmt::format(",queue={}", profile.queue_bytes);
  if (profile.overhead_bytes != plain.overhead_bytes)
    out += fmt::format(",overhead={}", profile.overhead_bytes);
  return out;
}

}  // namespace ravine::lab
