#include "cli/daemon.h"

#include <fmt/format.h>

#include "cli/context.h"
#include "cli/output.h"
#include "node/state_dir.h"

namespace ravine::cli {

namespace json = boost::json;

std::string state_directory(const Context& context) {
  return context.state.empty() ? node::default_state_directory() : context.state;
}

std::string control_path(const Context& context) {
  return context.control.empty() ? node::default_control_path(state_directory(context)) : context.control;
}

std::optional<Daemon> Daemon::open(const Context& context, int& code) {
  auto client = services::ControlClient::connect(control_path(context));
  if (client) return Daemon(std::move(*client));
  code = fail(client.error());
  if (client.error().kind == ErrorKind::unreachable || client.error().kind == ErrorKind::not_found)
    code = kNotRunning;
  return std::nullopt;
}

std::optional<json::value> Daemon::call(std::string_view method, json::object params, int& code,
                                        Duration limit, const services::ControlClient::Notify& notify) {
  auto answer = client_.call(method, std::move(params), limit, notify);
  if (answer) return std::move(*answer);
  code = fail(answer.error());
  return std::nullopt;
}

bool is_running(const Context& context) {
  return services::ControlClient::connect(control_path(context)).ok();
}

const json::value& value_of(const json::value& object, std::string_view key) {
  static const json::value kNull;
  const auto* fields = object.if_object();
  const auto* found = fields != nullptr ? fields->if_contains(key) : nullptr;
  return found != nullptr ? *found : kNull;
}

std::string text_of(const json::value& object, std::string_view key) {
  const auto* text = value_of(object, key).if_string();
  return text != nullptr ? std::string(*text) : std::string();
}

std::int64_t number_of(const json::value& object, std::string_view key) {
  const json::value& value = value_of(object, key);
  if (const auto* number = value.if_int64()) return *number;
  if (const auto* number = value.if_uint64()) return static_cast<std::int64_t>(*number);
  if (const auto* number = value.if_double()) return static_cast<std::int64_t>(*number);
  return 0;
}

double real_of(const json::value& object, std::string_view key) {
  const json::value& value = value_of(object, key);
  if (const auto* number = value.if_double()) return *number;
  return static_cast<double>(number_of(object, key));
}

bool flag_of(const json::value& object, std::string_view key) {
  const auto* flag = value_of(object, key).if_bool();
  return flag != nullptr && *flag;
}

const json::array& list_of(const json::value& object, std::string_view key) {
  static const json::array kEmpty;
  const auto* list = value_of(object, key).if_array();
  return list != nullptr ? *list : kEmpty;
}

std::string joined(const json::array& values, std::string_view separator) {
  std::string out;
  for (const json::value& value : values) {
    if (!out.empty()) out += separator;
    if (const auto* text = value.if_string()) out += std::string_view(*text);
  }
  return out;
}

}  // namespace ravine::cli
