// Section: one TOML table being read. Each key is taken once with the type that it must have; what was not
// taken is an unknown key. Faults are collected with their place, so that one run shows them all. Used by
// config.cpp and gateway_config.cpp.
#pragma once

#include <toml++/toml.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "node/config.h"

namespace ravine::node {

class ConfigIssues {
 public:
  explicit ConfigIssues(std::string_view file) : file_(file) {}
  void add(toml::source_position at, std::string_view what);
  bool empty() const { return lines_.empty(); }
  Error to_error() const;

 private:
  std::string file_;
  std::vector<std::string> lines_;
  std::size_t left_out_ = 0;
};

class Section {
 public:
  // `title` as people write it: "[node]", "[[peer]]".
  Section(ConfigIssues& issues, const toml::table& table, std::string_view title)
      : issues_(issues), table_(table), title_(title) {}

  // Null when absent. Marks the key as known.
  const toml::node* take(std::string_view key);
  // Each leaves `out` alone when the key is absent or wrong; the latter is an issue.
  void read(std::string_view key, std::string& out);
  void read(std::string_view key, bool& out);
  void read(std::string_view key, std::uint16_t& out, std::uint16_t minimum);
  void read(std::string_view key, Duration& out, Duration minimum, Duration maximum);
  void read(std::string_view key, SocketAddress& out);
  void read(std::string_view key, std::vector<std::string>& out);
  // The words and what each means; `out` is the index.
  std::optional<std::size_t> read_word(std::string_view key, const std::vector<std::string_view>& words);

  bool has(std::string_view key) const { return table_.contains(key); }
  void issue(std::string_view key, std::string_view what);  // at the key's value, or at the table
  void issue_at(const toml::node& node, std::string_view what);
  // Reports keys that nothing took.
  void finish();

 private:
  void wrong_type(std::string_view key, const toml::node& node, std::string_view wanted,
                  std::string_view example);
  ConfigIssues& issues_;
  const toml::table& table_;
  std::string title_;
  std::vector<std::string_view> known_;
};

}  // namespace ravine::node
