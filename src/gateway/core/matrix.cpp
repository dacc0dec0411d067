#include "gateway/core/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace ravine::gateway::core {
namespace {

constexpr std::array<std::string_view, 4> kSecretKeys{"access_token", "refresh_token", "password",
                                                      "login_token"};
constexpr std::size_t kMaxSecrets = 16;

std::vector<std::string_view> segments_of(std::string_view target) {
  target = target.substr(0, target.find('?'));
  std::vector<std::string_view> segments;
  while (!target.empty()) {
    target.remove_prefix(1);
    const std::size_t end = std::min(target.find('/'), target.size());
    segments.push_back(target.substr(0, end));
    target.remove_prefix(end);
  }
  return segments;
}

std::string errcode_of(std::uint16_t status) {
  switch (status) {
    case 401:
      return "M_UNKNOWN_TOKEN";
    case 404:
      return "M_NOT_FOUND";
    case 405:
      return "M_UNRECOGNIZED";
    case 413:
      return "M_TOO_LARGE";
    case 429:
    case 503:
      return "M_LIMIT_EXCEEDED";
    default:
      return "M_UNKNOWN";
  }
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out;
}

}  // namespace

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  return error == std::errc{} && end == text.end() ? std::optional(number) : std::nullopt;
}

std::string_view to_text(RouteKind kind) {
  constexpr std::array<std::string_view, kRouteKinds> kNames{
      "other",  "plain",    "login", "logout", "send",   "typing",    "receipt",
      "marker", "presence", "sync",  "media",  "avatar", "federation"};
  return kNames[static_cast<std::size_t>(kind)];
}

namespace {

bool is_media(const std::vector<std::string_view>& path) {
  return path[1] == "media" || (path.size() > 4 && path[1] == "client" && path[3] == "media");
}

RouteInfo classify_room(std::string_view method, const std::vector<std::string_view>& path) {
  RouteInfo info{.kind = RouteKind::plain, .matrix = true, .room = std::string(path[4]), .subject = {}};
  const std::string_view action = path[5];
  if (method == "PUT" && (action == "send" || action == "redact") && path.size() == 8)
    info.kind = RouteKind::transaction;
  if (method == "PUT" && action == "typing" && path.size() == 7) {
    info.kind = RouteKind::typing;
    info.subject = info.room;
  }
  if (method == "POST" && action == "receipt" && path.size() == 8) {
    info.kind = RouteKind::receipt;
    info.subject = info.room + "/" + std::string(path[6]);
  }
  if (method == "POST" && action == "read_markers" && path.size() == 6) {
    info.kind = RouteKind::marker;
    info.subject = info.room;
  }
  return info;
}

}  // namespace

RouteInfo classify(std::string_view method, std::string_view target) {
  RouteInfo info;
  const auto path = segments_of(target);
  if (path.size() < 3 || path[0] != "_matrix") return info;
  info.matrix = true;
  info.kind = RouteKind::plain;
  if (path[1] == "federation" || path[1] == "key") {
    info.kind = RouteKind::federation;
    return info;
  }
  if (is_media(path)) {
    const bool small = std::find(path.begin(), path.end(), "thumbnail") != path.end();
    info.kind = small ? RouteKind::avatar : RouteKind::media;
    return info;
  }
  const bool known = path[2] == "r0" || path[2] == "v1" || path[2] == "v3";
  if (path[1] != "client" || !known || path.size() < 4) return info;
  const std::string_view what = path[3];
  if (what == "rooms" && path.size() >= 6) return classify_room(method, path);
  if (what == "sync" && method == "GET" && path.size() == 4) info.kind = RouteKind::sync;
  if ((what == "login" || what == "register" || what == "refresh") && method == "POST" && path.size() == 4)
    info.kind = RouteKind::login;
  if (what == "logout" && method == "POST") info.kind = RouteKind::logout;
  if (what == "presence" && method == "PUT" && path.size() == 6) {
    info.kind = RouteKind::presence;
    info.subject = path[4];
  }
  if (what == "sendToDevice" && method == "PUT" && path.size() == 6) info.kind = RouteKind::transaction;
  return info;
}

bool may_alias(const RouteInfo& route, std::string_view target) {
  return route.kind == RouteKind::transaction && !route.room.empty() &&
         target.find("/send/m.room.encrypted/") == std::string_view::npos;
}

std::string json_text_of(std::string_view segment) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  std::string text;
  for (std::size_t i = 0; i < segment.size(); ++i) {
    const bool coded = segment[i] == '%' && i + 2 < segment.size() && digit(segment[i + 1]) >= 0 &&
                       digit(segment[i + 2]) >= 0;
    text += coded ? static_cast<char>(digit(segment[i + 1]) * 16 + digit(segment[i + 2])) : segment[i];
    if (coded) i += 2;
  }
  return escaped(text);
}

std::string without_transaction(std::string_view target, std::string& transaction) {
  const std::size_t query = std::min(target.find('?'), target.size());
  const std::size_t slash = target.substr(0, query).rfind('/');
  transaction = target.substr(slash + 1, query - slash - 1);
  return std::string(target.substr(0, slash + 1)) + "~" + std::string(target.substr(query));
}

std::string with_transaction(std::string_view target, std::string_view transaction) {
  const std::size_t query = std::min(target.find('?'), target.size());
  const std::size_t slash = target.substr(0, query).rfind('/');
  return std::string(target.substr(0, slash + 1)) + std::string(transaction) +
         std::string(target.substr(query));
}

std::string_view query_value(std::string_view target, std::string_view name) {
  std::size_t at = target.find('?');
  while (at != std::string_view::npos) {
    const std::string_view rest = target.substr(at + 1);
    if (rest.size() > name.size() && rest.starts_with(name) && rest[name.size()] == '=') {
      const std::string_view value = rest.substr(name.size() + 1);
      return value.substr(0, value.find('&'));
    }
    const std::size_t next = rest.find('&');
    at = next == std::string_view::npos ? next : at + 1 + next;
  }
  return {};
}

std::string without_query(std::string_view target, std::string_view name) {
  const std::size_t question = target.find('?');
  if (question == std::string_view::npos) return std::string(target);
  std::string out(target.substr(0, question));
  std::string_view rest = target.substr(question + 1);
  char joint = '?';
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view part = rest.substr(0, end);
    if (!(part.starts_with(name) && part.size() > name.size() && part[name.size()] == '=')) {
      out += joint;
      out += part;
      joint = '&';
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

namespace {

constexpr std::array<std::string_view, 3> kCounts{"device_one_time_keys_count",
                                                  "device_unused_fallback_key_types",
                                                  "org.matrix.msc2732.device_unused_fallback_key_types"};

// Past the string that begins at `at`; npos when it does not end.
std::size_t after_string(std::string_view json, std::size_t at) {
  for (++at; at < json.size(); ++at) {
    if (json[at] == '\\') {
      ++at;
    } else if (json[at] == '"') {
      return at + 1;
    }
  }
  return std::string_view::npos;
}

std::size_t after_space(std::string_view json, std::size_t at) {
  while (at < json.size() && (json[at] == ' ' || json[at] == '\n' || json[at] == '\r' || json[at] == '\t'))
    ++at;
  return at;
}

// Past the value that begins at `at`: to the comma or bracket behind it. npos when it does not end.
std::size_t after_value(std::string_view json, std::size_t at) {
  std::size_t depth = 0;
  while (at < json.size()) {
    const char c = json[at];
    if (c == '"') {
      at = after_string(json, at);
      if (at == std::string_view::npos) return at;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') {
      if (depth == 0) return at;
      --depth;
    }
    if (c == ',' && depth == 0) return at;
    ++at;
  }
  return std::string_view::npos;
}

// Calls `see` with each member's name and value until it says false; false when the text is no object.
bool each_member(std::string_view json,
                 const std::function<bool(std::string_view name, std::string_view value)>& see) {
  std::size_t at = after_space(json, 0);
  if (at >= json.size() || json[at] != '{') return false;
  at = after_space(json, at + 1);
  while (at < json.size() && json[at] == '"') {
    const std::size_t end = after_string(json, at);
    if (end == std::string_view::npos) return false;
    const std::string_view name = json.substr(at + 1, end - at - 2);
    at = after_space(json, end);
    if (at >= json.size() || json[at] != ':') return false;
    const std::size_t begin = after_space(json, at + 1);
    at = after_value(json, begin);
    if (at == std::string_view::npos) return false;
    std::string_view value = json.substr(begin, at - begin);
    while (!value.empty() && after_space(value, value.size() - 1) == value.size()) value.remove_suffix(1);
    if (!see(name, value)) return true;
    if (json[at] != ',') break;
    at = after_space(json, at + 1);
  }
  return at < json.size() && json[at] == '}';
}

// Lists and objects in which nothing stands, two deep at most: a room's ID would be news.
bool is_hollow(std::string_view value) {
  std::size_t depth = 0;
  for (std::size_t at = 0; at < value.size();) {
    const char c = value[at];
    if (c == '"') {
      at = after_string(value, at);
      if (at == std::string_view::npos) return false;
      at = after_space(value, at);
      if (at >= value.size() || value[at] != ':') return false;
      continue;
    }
    if (c == '{' || c == '[') {
      if (++depth > 2) return false;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c != ',' && c != ':' && after_space(value, at) == at) {
      return false;
    }
    ++at;
  }
  return true;
}

}  // namespace

std::string_view json_member(std::string_view json, std::string_view key) {
  std::string_view found;
  each_member(json, [&](std::string_view name, std::string_view value) {
    if (name == key) found = value;
    return name != key;
  });
  return found;
}

std::string_view json_text(std::string_view json, std::string_view key) {
  const std::string_view value = json_member(json, key);
  if (value.size() < 2 || value.front() != '"' || value.find('\\') != std::string_view::npos) return {};
  return value.substr(1, value.size() - 2);
}

bool is_empty_sync(std::string_view body) {
  bool empty = true;
  const bool good = each_member(body, [&](std::string_view name, std::string_view value) {
    const bool counted = std::find(kCounts.begin(), kCounts.end(), name) != kCounts.end();
    empty = name == "next_batch" || counted || is_hollow(value);
    return empty;
  });
  return good && empty;
}

std::string key_counts(std::string_view body) {
  std::string counts;
  each_member(body, [&](std::string_view name, std::string_view value) {
    if (std::find(kCounts.begin(), kCounts.end(), name) != kCounts.end())
      counts += fmt::format(R"(,"{}":{})", name, value);
    return true;
  });
  return counts;
}

void add_secret(link::Message& message, std::size_t text_position, std::string_view secret) {
  // Secrets stand in the tail in the order of their marks.
  const auto marks = static_cast<std::size_t>(
      std::count(message.text.begin(), message.text.begin() + static_cast<std::ptrdiff_t>(text_position),
                 static_cast<std::uint8_t>(kSecretMark)));
  ByteReader in(message.tail);
  for (std::size_t i = 0; i < marks; ++i) in.read_view(in.read_varint());
  const auto place = static_cast<std::ptrdiff_t>(message.tail.size() - in.remaining());
  ByteWriter out;
  out.write_varint(secret.size());
  out.write(as_bytes(secret));
  message.tail.insert(message.tail.begin() + place, out.view().begin(), out.view().end());
  message.text.insert(message.text.begin() + static_cast<std::ptrdiff_t>(text_position),
                      static_cast<std::uint8_t>(kSecretMark));
}

void hide_secrets(link::Message& message) {
  std::string text(as_text(message.text));
  for (std::size_t round = 0; round < kMaxSecrets; ++round) {
    bool found = false;
    for (const std::string_view key : kSecretKeys) {
      const std::string quoted = "\"" + std::string(key) + "\"";
      std::size_t at = 0;
      while ((at = text.find(quoted, at)) != std::string::npos) {
        at += quoted.size();
        std::size_t open = at;
        while (open < text.size() && (text[open] == ' ' || text[open] == ':')) ++open;
        if (open >= text.size() || text[open] != '"') continue;
        std::size_t end = open + 1;
        while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
        if (end >= text.size() || end == open + 1 || text[open + 1] == kSecretMark) continue;
        const std::string secret = text.substr(open + 1, end - open - 1);
        text.erase(open + 1, secret.size());
        message.text.assign(text.begin(), text.end());
        add_secret(message, open + 1, secret);
        text = as_text(message.text);
        found = true;
        break;
      }
    }
    if (!found) return;
  }
}

bool reveal_secrets(link::Message& message) {
  const auto mark = static_cast<std::uint8_t>(kSecretMark);
  if (std::find(message.text.begin(), message.text.end(), mark) == message.text.end()) return true;
  ByteReader in(message.tail);
  Bytes text;
  for (const std::uint8_t byte : message.text) {
    if (byte != mark) {
      text.push_back(byte);
      continue;
    }
    const ByteView secret = in.read_view(in.read_varint());
    text.insert(text.end(), secret.begin(), secret.end());
  }
  if (!in.ok()) return false;
  message.tail = to_bytes(in.rest());
  message.text = std::move(text);
  return true;
}

void mark_transactions(Bytes& text, std::string_view prefix) {
  const std::string before = "\"transaction_id\":\"" + std::string(prefix);
  const std::string_view value = as_text(text);
  std::string out;
  std::size_t done = 0, marks = 0;
  for (std::size_t at = 0; marks < kMaxMarks && (at = value.find(before, at)) != std::string_view::npos;) {
    const std::size_t digits = at + before.size();
    const std::string_view number = value.substr(digits, value.find('"', digits) - digits);
    // Only what comes back the same: a number as we write it.
    if (const auto parsed = parse_number(number); parsed && fmt::format("{}", *parsed) == number) {
      out += value.substr(done, digits - prefix.size() - done);
      out += kNumberMark;
      done = digits;
      ++marks;
    }
    at = digits;
  }
  if (marks == 0) return;
  out += value.substr(done);
  text.assign(out.begin(), out.end());
}

bool unmark_transactions(Bytes& text, const std::function<std::string(std::uint64_t)>& name) {
  const std::string_view value = as_text(text);
  std::string out;
  std::size_t done = 0, marks = 0;
  for (std::size_t at = 0; (at = value.find(kNumberMark, at)) != std::string_view::npos;) {
    const std::size_t digits = at + 1;
    at = std::min(value.find_first_not_of("0123456789", digits), value.size());
    const auto number = parse_number(value.substr(digits, at - digits));
    if (!number || ++marks > kMaxMarks) return false;
    out += value.substr(done, digits - 1 - done);
    out += name(*number);
    done = at;
  }
  if (marks == 0) return true;
  out += value.substr(done);
  text.assign(out.begin(), out.end());
  return true;
}

link::LinkOptions link_options(link::LinkOptions base, bool matrix, bool alias_events) {
  base.runs_once = [](ByteView request) {
    const std::string_view text = as_text(request);
    const std::string_view line = text.substr(0, text.find('\n'));
    const std::string_view target = line.substr(std::min(line.find(' ') + 1, line.size()));
    if (line.starts_with("POST ") || line.starts_with("PATCH ")) return true;
    if (!line.starts_with("PUT ")) return false;
    std::string transaction;
    without_transaction(target, transaction);
    return transaction.starts_with('~');
  };
  if (!matrix) return base;
  base.push_request = to_bytes(as_bytes("GET /_matrix/client/r0/sync\n\n"));
  base.expected_response = [alias_events](ByteView request) -> std::optional<Bytes> {
    const std::string_view text = as_text(request);
    const std::string_view line = text.substr(0, text.find('\n'));
    const std::size_t blank = line.find(' ');
    if (blank == std::string_view::npos) return std::nullopt;
    const RouteInfo route = classify(line.substr(0, blank), line.substr(blank + 1));
    if (route.kind == RouteKind::typing || route.kind == RouteKind::receipt ||
        route.kind == RouteKind::presence)
      return to_bytes(as_bytes("200\n\n{}"));
    if (route.kind == RouteKind::marker) return to_bytes(as_bytes("200\n\n{}"));
    if (!alias_events || !may_alias(route, line)) return std::nullopt;
    return to_bytes(as_bytes("200\n\n{\"event_id\":\"\x03\"}"));
  };
  return base;
}

HttpResponse error_response(bool matrix, std::uint16_t status, std::string_view reason) {
  HttpResponse response;
  response.status = status;
  std::string body;
  if (matrix) {
    response.headers.emplace_back("content-type", "application/json");
    body = fmt::format(R"({{"errcode":"{}","error":"{}"}})", errcode_of(status), escaped(reason));
  } else {
    response.headers.emplace_back("content-type", "text/plain; charset=utf-8");
    body = std::string(reason) + "\n";
  }
  response.body = to_bytes(as_bytes(body));
  return response;
}

}  // namespace ravine::gateway::core
