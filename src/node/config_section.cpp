#include "node/config_section.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace ravine::node {

void ConfigIssues::add(toml::source_position at, std::string_view what) {
  if (lines_.size() >= kMaxConfigErrors) {
    ++left_out_;
    return;
  }
  lines_.push_back(fmt::format("{}:{}:{}: {}", file_, at.line, at.column, what));
}

Error ConfigIssues::to_error() const {
  std::string message = fmt::format("{}", fmt::join(lines_, "\n"));
  if (left_out_ > 0) message += fmt::format("\n{}: {} more faults; correct these first", file_, left_out_);
  return {ErrorKind::invalid_argument, std::move(message)};
}

const toml::node* Section::take(std::string_view key) {
  known_.push_back(key);
  return table_.get(key);
}

namespace {

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
    case toml::node_type::none:
      break;
  }
  return "nothing";
}

}  // namespace

void Section::wrong_type(std::string_view key, const toml::node& node, std::string_view wanted,
                         std::string_view example) {
  issue_at(node, fmt::format("{} in {} is {}, but has to be {}; write for example: {} = {}", key, title_,
                             type_name(node), wanted, key, example));
}

void Section::read(std::string_view key, std::string& out) {
  const toml::node* node = take(key);
  if (node == nullptr) return;
  const auto* value = node->as_string();
  if (value == nullptr) return wrong_type(key, *node, "a string", "\"text\"");
  out = value->get();
}

void Section::read(std::string_view key, bool& out) {
  const toml::node* node = take(key);
  if (node == nullptr) return;
  const auto* value = node->as_boolean();
  if (value == nullptr) return wrong_type(key, *node, "true or false", "true");
  out = value->get();
}

void Section::read(std::string_view key, std::uint16_t& out, std::uint16_t minimum) {
  const toml::node* node = take(key);
  if (node == nullptr) return;
  const auto* value = node->as_integer();
  if (value == nullptr) return wrong_type(key, *node, "a port number", "8080");
  if (value->get() < minimum || value->get() > 65535) {
    return issue_at(*node, fmt::format("{} = {} is no port; use {} to 65535", key, value->get(), minimum));
  }
  out = static_cast<std::uint16_t>(value->get());
}

void Section::read(std::string_view key, Duration& out, Duration minimum, Duration maximum) {
  const toml::node* node = take(key);
  if (node == nullptr) return;
  const auto* value = node->as_string();
  if (value == nullptr) return wrong_type(key, *node, "a duration in quotes", "\"30s\"");
  const auto duration = parse_duration(value->get());
  if (!duration) {
    return issue_at(
        *node, fmt::format("{} = \"{}\" is no duration; write a number and ms, s, m, h or d: \"30s\"", key,
                           value->get()));
  }
  if (*duration < minimum || *duration > maximum) {
    const auto seconds = [](Duration d) {
      return std::chrono::duration_cast<std::chrono::seconds>(d).count();
    };
    return issue_at(*node, fmt::format("{} = \"{}\" is out of range; use {}s to {}s", key, value->get(),
                                       seconds(minimum), seconds(maximum)));
  }
  out = *duration;
}

void Section::read(std::string_view key, SocketAddress& out) {
  const toml::node* node = take(key);
  if (node == nullptr) return;
  const auto* value = node->as_string();
  if (value == nullptr) return wrong_type(key, *node, "an address and port", "\"127.0.0.1:1080\"");
  const auto address = SocketAddress::parse(value->get());
  if (!address) {
    return issue_at(
        *node,
        fmt::format("{} = \"{}\" is no address with a port; write \"127.0.0.1:1080\" or \"[::1]:1080\"", key,
                    value->get()));
  }
  out = *address;
}

void Section::read(std::string_view key, std::vector<std::string>& out) {
  const toml::node* node = take(key);
  if (node == nullptr) return;
  const auto* array = node->as_array();
  if (array == nullptr) return wrong_type(key, *node, "an array of strings", "[\"one\", \"two\"]");
  std::vector<std::string> values;
  for (const toml::node& item : *array) {
    const auto* value = item.as_string();
    if (value == nullptr) {
      return issue_at(
          item, fmt::format("{} holds {}, but takes only strings; put it in quotes", key, type_name(item)));
    }
    values.push_back(value->get());
  }
  out = std::move(values);
}

std::optional<std::size_t> Section::read_word(std::string_view key,
                                              const std::vector<std::string_view>& words) {
  std::string text;
  const bool present = has(key);
  read(key, text);
  if (!present || text.empty()) {
    if (const auto* value = present ? table_.get(key)->as_string() : nullptr; value != nullptr) {
      issue(key, fmt::format("{} is empty; use one of: {}", key, fmt::join(words, ", ")));
    }
    return std::nullopt;
  }
  const auto found = std::ranges::find(words, text);
  if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
  const auto near = nearest_word(text, words);
  issue(key, near ? fmt::format("{} = \"{}\" is unknown; did you mean \"{}\"?", key, text, *near)
                  : fmt::format("{} = \"{}\" is unknown; use one of: {}", key, text, fmt::join(words, ", ")));
  return std::nullopt;
}

void Section::issue(std::string_view key, std::string_view what) {
  const toml::node* node = table_.get(key);
  issues_.add(node != nullptr ? node->source().begin : table_.source().begin, what);
}

void Section::issue_at(const toml::node& node, std::string_view what) {
  issues_.add(node.source().begin, what);
}

void Section::finish() {
  for (const auto& [key, value] : table_) {
    if (std::ranges::find(known_, key.str()) != known_.end()) continue;
    const auto near = nearest_word(key.str(), known_);
    issues_.add(key.source().begin,
                near ? fmt::format("unknown key \"{}\" in {}; did you mean \"{}\"?", key.str(), title_, *near)
                     : fmt::format("unknown key \"{}\" in {}; known are: {}", key.str(), title_,
                                   fmt::join(known_, ", ")));
  }
}

}  // namespace ravine::node
