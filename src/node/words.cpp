// The small text forms of the configuration: durations, log levels, names, and the nearest word to a misspelt
// one.
#include <algorithm>
#include <charconv>

#include "identity/fuse_name.h"
#include "node/config.h"

namespace ravine::node {

namespace {

// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({replaced, cost[i - 1][j] + 1, cost[i][j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc{} || count < 0) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  constexpr std::int64_t kTenYearsSeconds = 3650LL * 86400;
  if (unit == "ms") {
    if (count > kTenYearsSeconds * 1000) return std::nullopt;
    return std::chrono::milliseconds(count);
  }
  const std::int64_t scale = unit == "s"   ? 1
                             : unit == "m" ? 60
                             : unit == "h" ? 3600
                             : unit == "d" ? 86400
                                           : 0;
  if (scale == 0 || count > kTenYearsSeconds / scale) return std::nullopt;
  return std::chrono::seconds(count * scale);
}

std::optional<std::string_view> nearest_word(std::string_view word,
                                             const std::vector<std::string_view>& candidates) {
  constexpr std::size_t kLongest = 64;  // letters; nobody means anything by a longer word
  if (word.size() > kLongest) return std::nullopt;
  std::optional<std::string_view> best;
  std::size_t best_distance = 0;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance > std::max<std::size_t>(1, std::max(word.size(), candidate.size()) / 3)) continue;
    if (!best || distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

bool is_valid_name(std::string_view name) {
  if (name.empty() || name.size() > 63 || name.front() == '-' || name.back() == '-') return false;
  return std::ranges::all_of(
      name, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

std::string name_of_machine(std::string_view host_name) {
  std::string name;
  for (const char c : host_name.substr(0, host_name.find('.'))) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (is_valid_name(std::string_view(&lower, 1)) || (lower == '-' && !name.empty())) name += lower;
  }
  while (name.ends_with('-')) name.pop_back();
  return identity::is_valid_node_name(name) ? name : "node";
}

std::string_view default_config_text() {
  return R"(# Ravine's configuration. "ravine config check" says what is wrong in it, "ravine reload" takes
# changes over. Every key: docs/configuration.md.

[node]
# port = 4717               # UDP, for peers
# log_level = "info"
# metrics = "127.0.0.1:9464"

[proxy]
# listen = "127.0.0.1:1080"  # SOCKS5 and HTTP CONNECT

# [[expose]]                 # let peers reach a port of this machine
# port = 80
# to = "127.0.0.1:8080"
# allow = ["laptop", "group:ops"]

# [[forward]]                # a local port that leads to a peer
# listen = "127.0.0.1:2222"
# to = "box.fuse:22"

# [[peer]]                   # where to find a peer that has moved
# name = "box"
# addresses = ["192.0.2.1:4717"]
# keep = true
)";
}

}  // namespace ravine::node
