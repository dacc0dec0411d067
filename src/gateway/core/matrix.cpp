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

RouteInfo classify(std::string_view method, std::string_view target) {
  RouteInfo info;
  const auto path = segments_of(target);
  if (path.size() < 3 || path[0] != "_matrix") return info;
  info.matrix = true;
  info.kind = RouteKind::plain;
  if (path[1] == "federation") {
    info.kind = RouteKind::federation;
    return info;
  }
  if (path[1] == "media" || (path.size() > 4 && path[3] == "media")) {
    info.kind = target.find("/thumbnail/") != std::string_view::npos ? RouteKind::avatar : RouteKind::media;
    return info;
  }
  if (path[1] != "client" || path.size() < 4) return info;
  const std::string_view what = path[3];
  if (what == "sync" && method == "GET") info.kind = RouteKind::sync;
  if ((what == "login" || what == "register") && method == "POST") info.kind = RouteKind::login;
  if (what == "presence" && method == "PUT") info.kind = RouteKind::presence;
  if (what == "sendToDevice" && method == "PUT" && path.size() == 6) info.kind = RouteKind::transaction;
  if (what != "rooms" || path.size() < 7) return info;
  info.room = path[4];
  const std::string_view action = path[5];
  if (method == "PUT" && (action == "send" || action == "redact") && path.size() == 8)
    info.kind = RouteKind::transaction;
  if (method == "PUT" && action == "typing") info.kind = RouteKind::typing;
  if (method == "POST" && action == "receipt") info.kind = RouteKind::receipt;
  return info;
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

std::string_view json_string(std::string_view json, std::string_view key) {
  const std::string quoted = "\"" + std::string(key) + "\"";
  std::size_t at = json.find(quoted);
  if (at == std::string_view::npos) return {};
  at += quoted.size();
  while (at < json.size() && (json[at] == ' ' || json[at] == ':')) ++at;
  if (at >= json.size() || json[at] != '"') return {};
  const std::size_t end = json.find('"', at + 1);
  if (end == std::string_view::npos) return {};
  const std::string_view value = json.substr(at + 1, end - at - 1);
  return value.find('\\') == std::string_view::npos ? value : std::string_view{};
}

bool is_empty_sync(std::string_view body) {
  constexpr std::array<std::string_view, 5> kNews{"\"rooms\"", "\"presence\"", "\"to_device\"",
                                                  "\"account_data\"", "\"device_lists\""};
  return std::none_of(kNews.begin(), kNews.end(),
                      [&](std::string_view key) { return body.find(key) != std::string_view::npos; });
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
  std::string value(as_text(text));
  for (std::size_t at = 0; (at = value.find(before, at)) != std::string::npos;) {
    const std::size_t digits = at + before.size() - prefix.size();
    value.replace(digits, prefix.size(), 1, kNumberMark);
    at = digits;
  }
  text.assign(value.begin(), value.end());
}

void unmark_transactions(Bytes& text, const std::function<std::string(std::uint64_t)>& name) {
  std::string value(as_text(text));
  for (std::size_t at = 0; (at = value.find(kNumberMark, at)) != std::string::npos;) {
    std::uint64_t number = 0;
    const char* begin = value.data() + at + 1;
    const auto [end, error] = std::from_chars(begin, value.data() + value.size(), number);
    const std::string id = error == std::errc{} ? name(number) : std::string();
    value.replace(at, static_cast<std::size_t>(end - begin) + 1, id);
    at += id.size();
  }
  text.assign(value.begin(), value.end());
}

link::LinkOptions link_options(link::LinkOptions base, bool matrix, bool alias_events) {
  base.runs_once = [](ByteView request) {
    const std::string_view text = as_text(request);
    const std::string_view line = text.substr(0, text.find('\n'));
    const std::string_view target = line.substr(std::min(line.find(' ') + 1, line.size()));
    if (line.starts_with("POST ") || line.starts_with("PATCH ")) return true;
    return line.starts_with("PUT ") && target.substr(0, target.find('?')).ends_with("/~");
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
    if (route.kind != RouteKind::transaction || !alias_events || route.room.empty()) return std::nullopt;
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
