#include "cli/gateway_training.h"

#include <fmt/format.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "gateway/core/matrix.h"
#include "gateway/core/text.h"
#include "host/file.h"

namespace ravine::cli {
namespace {

namespace json = boost::json;
using gateway::TextPhase;
using gateway::TrainingMessage;

constexpr std::size_t kMaxFile = std::size_t{256} << 20;

Error bad(const std::string& path, std::size_t line, std::string_view what) {
  return {ErrorKind::invalid_argument, fmt::format("{}:{}: {}", path, line, what)};
}

std::string_view text_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

std::uint32_t hash_of(std::string_view text) {
  std::uint32_t hash = 0;
  for (const char c : text) hash = gateway::mix_hash(hash, static_cast<std::uint8_t>(c));
  return hash;
}

// Calls `take(object, line number)` for each line; blank lines are passed over.
template <class Take>
Result<> each_line(const std::string& path, Take take) {
  auto file = host::read_file(path, kMaxFile);
  if (!file) return file.error();
  std::string_view rest = as_text(*file);
  for (std::size_t line = 1; !rest.empty(); ++line) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view text = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (text.empty()) continue;
    boost::system::error_code error;
    const json::value value = json::parse(text, error);
    if (error || !value.is_object() || !value.get_object().contains("body"))
      return bad(path, line, "a line is a JSON object with \"body\"");
    if (!value.get_object().at("body").is_string())
      return bad(path, line, "\"body\" is a string: the text of the body");
    take(value.get_object(), line);
  }
  return {};
}

Result<> read_lines(const std::string& path, TrainingSet& set, std::size_t dictionary_bytes) {
  return each_line(path, [&](const json::object& record, std::size_t line) {
    const std::string_view body = text_of(record, "body");
    TrainingMessage message;
    message.text = to_bytes(as_bytes(body));
    const std::string_view family = text_of(record, "family");
    message.group = family.empty() ? static_cast<std::uint32_t>(line) : hash_of(family) & 0x7fffffff;
    if (set.dictionary.size() + body.size() < dictionary_bytes) {
      set.dictionary.insert(set.dictionary.end(), message.text.begin(), message.text.end());
      set.dictionary.push_back('\n');
    }
    set.messages.push_back(std::move(message));
  });
}

// The texts that the gateways would send for an exchange.
void add_exchange(const json::object& exchange, std::uint32_t group, TrainingSet& set) {
  namespace core = gateway::core;
  core::HttpRequest request;
  request.method = text_of(exchange, "method");
  request.target = text_of(exchange, "path");
  request.body = to_bytes(as_bytes(text_of(exchange, "req")));
  if (!request.body.empty()) request.headers.emplace_back("content-type", "application/json");
  if (core::classify(request.method, request.target).kind == core::RouteKind::transaction) {
    std::string transaction;
    request.target = core::without_transaction(request.target, transaction);
  }
  core::HttpResponse response;
  const json::value* status = exchange.if_contains("status");
  response.status =
      status != nullptr && status->is_int64() ? static_cast<std::uint16_t>(status->get_int64()) : 200;
  response.body = to_bytes(as_bytes(text_of(exchange, "resp")));
  if (!response.body.empty()) response.headers.emplace_back("content-type", "application/json");
  gateway::link::Message sent = core::request_text(request, {}), got = core::response_text(response, {});
  core::hide_secrets(sent);
  core::hide_secrets(got);
  const std::uint32_t hint = gateway::MessageCoder::route_of(sent.text);
  set.messages.push_back({std::move(sent.text), TextPhase::start_line, 0, group, false});
  set.messages.push_back({std::move(got.text), TextPhase::start_line, hint, group, false});
}

Result<> read_conversations(const std::string& path, TrainingSet& set) {
  auto file = host::read_file(path, kMaxFile);
  if (!file) return file.error();
  boost::system::error_code error;
  const json::value all = json::parse(as_text(*file), error);
  const auto wrong = [&] { return bad(path, 1, "not a JSON array of arrays of exchanges"); };
  if (error || !all.is_array()) return wrong();
  for (const json::value& conversation : all.get_array()) {
    if (!conversation.is_array()) return wrong();
    const auto group = static_cast<std::uint32_t>(set.messages.size());
    for (const json::value& exchange : conversation.get_array()) {
      if (!exchange.is_object()) return wrong();
      add_exchange(exchange.get_object(), group, set);
    }
  }
  return {};
}

}  // namespace

Result<TrainingSet> read_training_set(const std::vector<std::string>& paths, std::size_t dictionary_bytes) {
  TrainingSet set;
  for (const bool lines : {false, true}) {
    for (const std::string& path : paths) {
      if (path.ends_with(".jsonl") != lines) continue;
      const auto read = lines ? read_lines(path, set, dictionary_bytes) : read_conversations(path, set);
      if (!read) return read.error();
    }
  }
  if (set.messages.empty())
    return Error{ErrorKind::invalid_argument, "the files hold no message to learn from"};
  return set;
}

Result<std::vector<Bytes>> read_bodies(const std::string& path) {
  std::vector<Bytes> bodies;
  const auto read = each_line(path, [&](const json::object& record, std::size_t) {
    bodies.push_back(to_bytes(as_bytes(text_of(record, "body"))));
  });
  if (!read) return read.error();
  return bodies;
}

}  // namespace ravine::cli
