#include "gateway/coap_proxy/path_table.h"

#include <fmt/format.h>

#include <array>
#include <boost/json.hpp>

#include "gateway/coap/uri.h"

namespace ravine::gateway::coap_proxy {
namespace {

constexpr std::string_view kClient = "/_matrix/client/";
constexpr std::string_view kEntries = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstu";
// After /_matrix/client/, in the order of kEntries.
constexpr std::array<std::string_view, 57> kMatrixPaths{
    "versions",
    "r0/login",
    "r0/capabilities",
    "r0/logout",
    "r0/register",
    "r0/user/{userId}/filter",
    "r0/user/{userId}/filter/{filterId}",
    "r0/sync",
    "r0/rooms/{roomId}/state/{eventType}/{stateKey}",
    "r0/rooms/{roomId}/send/{eventType}/{txnId}",
    "r0/rooms/{roomId}/event/{eventId}",
    "r0/rooms/{roomId}/state",
    "r0/rooms/{roomId}/members",
    "r0/rooms/{roomId}/joined_members",
    "r0/rooms/{roomId}/messages",
    "r0/rooms/{roomId}/redact/{eventId}/{txnId}",
    "r0/createRoom",
    "r0/directory/room/{roomAlias}",
    "r0/joined_rooms",
    "r0/rooms/{roomId}/invite",
    "r0/rooms/{roomId}/join",
    "r0/join/{roomIdOrAlias}",
    "r0/rooms/{roomId}/leave",
    "r0/rooms/{roomId}/forget",
    "r0/rooms/{roomId}/kick",
    "r0/rooms/{roomId}/ban",
    "r0/rooms/{roomId}/unban",
    "r0/directory/list/room/{roomId}",
    "r0/publicRooms",
    "r0/user_directory/search",
    "r0/profile/{userId}/displayname",
    "r0/profile/{userId}/avatar_url",
    "r0/profile/{userId}",
    "r0/voip/turnServer",
    "r0/rooms/{roomId}/typing/{userId}",
    "r0/rooms/{roomId}/receipt/{receiptType}/{eventId}",
    "r0/rooms/{roomId}/read_markers",
    "r0/presence/{userId}/status",
    "r0/sendToDevice/{eventType}/{txnId}",
    "r0/devices",
    "r0/devices/{deviceId}",
    "r0/delete_devices",
    "r0/keys/upload",
    "r0/keys/query",
    "r0/keys/claim",
    "r0/keys/changes",
    "r0/pushers",
    "r0/pushers/set",
    "r0/notifications",
    "r0/pushrules/",
    "r0/search",
    "r0/user/{userId}/rooms/{roomId}/tags",
    "r0/user/{userId}/rooms/{roomId}/tags/{tag}",
    "r0/user/{userId}/account_data/{type}",
    "r0/user/{userId}/rooms/{roomId}/account_data/{type}",
    "r0/rooms/{roomId}/context/{eventId}",
    "r0/rooms/{roomId}/report/{eventId}",
};
static_assert(kMatrixPaths.size() == kEntries.size());

// What an identifier begins with; "" for arguments of any shape.
std::string_view sigils_of(std::string_view pattern) {
  if (pattern == "{roomId}") return "!";
  if (pattern == "{userId}") return "@";
  if (pattern == "{eventId}") return "$";
  if (pattern == "{roomAlias}") return "#";
  if (pattern == "{roomIdOrAlias}") return "!#";
  return "";
}

std::string base_32(std::size_t number) {
  constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuv";
  std::string text;
  do {
    text.insert(text.begin(), kDigits[number % 32]);
    number /= 32;
  } while (number > 0);
  return text;
}

// An index in plain decimal form below `size`.
std::optional<std::size_t> index_of(std::string_view text, std::size_t size) {
  if (text.empty() || text.size() > 6 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  std::size_t index = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    index = index * 10 + static_cast<std::size_t>(c - '0');
  }
  return index < size ? std::optional(index) : std::nullopt;
}

Error bad_map(std::string_view file, std::string_view why) {
  return Error{ErrorKind::invalid_argument, fmt::format("{}: {}", file, why)};
}

Result<std::vector<std::string>> read_names(std::string_view file, const std::string& text) {
  std::vector<std::string> names;
  if (text.empty()) return names;
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(text, error);
  if (error) return bad_map(file, error.message());
  if (!value.is_array()) return bad_map(file, "an array of texts is expected");
  for (const boost::json::value& name : value.get_array()) {
    if (!name.is_string()) return bad_map(file, fmt::format("entry {} is no text", names.size()));
    names.emplace_back(name.get_string());
  }
  return names;
}

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  return text;
}

constexpr std::string_view kSegmentAllowed = "!$&'()*+,;=:@";
constexpr std::string_view kQueryAllowed = "!$'()*+,;=:@/?";

}  // namespace

PathTable::Route PathTable::make_route(std::string_view path, std::string_view method) {
  Route route;
  route.method = method;
  route.trailing_slash = path.ends_with('/');
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::size_t end = std::min(path.find('/'), path.size());
    if (end > 0) route.segments.emplace_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return route;
}

PathTable PathTable::matrix() {
  PathTable table;
  for (std::size_t i = 0; i < kEntries.size(); ++i)
    table.routes_.emplace(std::string(1, kEntries[i]),
                          make_route(std::string(kClient) + std::string(kMatrixPaths[i]), ""));
  return table;
}

Result<PathTable> PathTable::from_maps(const MapFiles& files) {
  PathTable table;
  table.sigils_ = false;
  auto events = read_names("event_types.json", files.event_types);
  if (!events) return events.error();
  auto queries = read_names("query_params.json", files.query_params);
  if (!queries) return queries.error();
  table.event_types_ = std::move(*events);
  table.query_params_ = std::move(*queries);
  if (files.routes.empty()) return table;
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(files.routes, error);
  if (error) return bad_map("routes.json", error.message());
  if (!value.is_array()) return bad_map("routes.json", "an array of routes is expected");
  for (const boost::json::value& entry : value.get_array()) {
    const boost::json::object* route = entry.if_object();
    const boost::json::value* path = route == nullptr ? nullptr : route->if_contains("path");
    const boost::json::value* method = route == nullptr ? nullptr : route->if_contains("method");
    const std::size_t number = table.routes_.size();
    if (path == nullptr || !path->is_string() || !path->get_string().starts_with('/'))
      return bad_map("routes.json", fmt::format("entry {} has no path", number));
    if (method == nullptr || !method->is_string())
      return bad_map("routes.json", fmt::format("entry {} has no method", number));
    table.routes_.emplace(base_32(number), make_route(std::string(path->get_string()),
                                                      upper(std::string(method->get_string()))));
  }
  return table;
}

bool PathTable::put_argument(std::string& target, std::string_view pattern, std::string_view argument) const {
  const std::string_view sigils = sigils_of(pattern);
  if (argument.empty()) return false;
  if (!sigils.empty() && sigils_ && sigils.find(argument[0]) == std::string_view::npos) return false;
  std::string text(argument);
  if (!sigils_ && sigils.size() == 1) text.insert(0, sigils);
  if (!sigils_ && pattern == "{eventType}") {
    if (const auto index = index_of(argument, event_types_.size())) text = event_types_[*index];
  }
  target += '/';
  target += coap::percent_encode(text, kSegmentAllowed);
  return true;
}

std::optional<PathTable::Expanded> PathTable::expand(const coap::Message& request,
                                                     std::string_view method) const {
  std::vector<std::string_view> path, queries;
  for (const coap::Option& option : request.options) {
    if (option.number == coap::kUriPath) path.push_back(as_text(option.value));
    if (option.number == coap::kUriQuery) queries.push_back(as_text(option.value));
  }
  if (path.empty()) return std::nullopt;
  const auto at = routes_.find(path[0]);
  if (at == routes_.end()) return std::nullopt;
  const Route& route = at->second;
  if (!route.method.empty() && route.method != method) return std::nullopt;
  const bool slash = path.size() > 1 && path.back().empty();
  if (slash) path.pop_back();
  Expanded out;
  out.method = route.method;
  std::size_t used = 1;
  for (const std::string& segment : route.segments) {
    if (!segment.starts_with('{')) {
      out.target += "/" + segment;
      continue;
    }
    if (used >= path.size() || !put_argument(out.target, segment, path[used])) return std::nullopt;
    ++used;
  }
  if (used != path.size()) return std::nullopt;
  if (slash || route.trailing_slash) out.target += '/';
  char joint = '?';
  for (const std::string_view query : queries) {
    const std::size_t equals = std::min(query.find('='), query.size());
    const auto index = index_of(query.substr(0, equals), query_params_.size());
    const std::string named =
        index ? query_params_[*index] + std::string(query.substr(equals)) : std::string(query);
    out.target += joint + coap::percent_encode(named, kQueryAllowed);
    joint = '&';
  }
  return out;
}

}  // namespace ravine::gateway::coap_proxy
