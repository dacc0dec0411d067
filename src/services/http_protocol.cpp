#include "services/http_protocol.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"

namespace ravine::services {
namespace {

bool is_field_text(std::string_view text) {  // RFC 9110 §5.5, without obsolete bytes
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '\t' || (c >= 0x20 && c < 0x7f); });
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool parse_request_line(std::string_view line, HttpHead& head) {  // RFC 9112 §3
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return false;
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(method) || (version != "HTTP/1.1" && version != "HTTP/1.0")) return false;
  if (target.empty() ||
      !std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f; })) {
    return false;
  }
  head.method.assign(method);
  head.target.assign(target);
  return true;
}

bool parse_field(std::string_view line, HttpHead& head) {  // RFC 9112 §5
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || head.fields.size() >= kMaxHttpFields) return false;
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = trim(line.substr(colon + 1));
  if (!is_token(name) || !is_field_text(value)) return false;
  std::string lower = to_lower(name);
  if (lower == "host" && head.field("host") != nullptr) return false;  // RFC 9112 §3.2
  head.fields.emplace_back(std::move(lower), value);
  return true;
}

std::optional<std::string> decode_base64(std::string_view text) {  // RFC 4648 §4, padding optional
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    std::uint32_t value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<std::uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<std::uint32_t>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      value = static_cast<std::uint32_t>(c - '0' + 52);
    } else if (c == '+') {
      value = 62;
    } else if (c == '/') {
      value = 63;
    } else {
      return std::nullopt;
    }
    bits = (bits << 6) | value;
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>((bits >> count) & 0xff));
    }
  }
  return count >= 6 ? std::nullopt : std::optional(out);
}

}  // namespace

const std::string* HttpHead::field(std::string_view lower_case_name) const {
  const std::string* found = nullptr;
  for (const auto& [name, value] : fields) {
    if (name != lower_case_name) continue;
    if (found != nullptr) return nullptr;
    found = &value;
  }
  return found;
}

HttpParse parse_http_head(ByteView bytes) {
  HttpParse parse;
  const std::string_view text = as_text(bytes.first(std::min(bytes.size(), kMaxHttpHead)));
  std::size_t at = 0;
  bool first = true;
  while (true) {
    const std::size_t end = text.find_first_of(std::string_view("\r\n\0", 3), at);
    if (end == std::string_view::npos || end + 1 >= text.size()) {
      if (end != std::string_view::npos && text[end] != '\r')
        parse.outcome = HttpOutcome::malformed;
      else if (bytes.size() >= kMaxHttpHead)
        parse.outcome = HttpOutcome::too_large;
      return parse;
    }
    if (text[end] != '\r' || text[end + 1] != '\n') {
      parse.outcome = HttpOutcome::malformed;
      return parse;
    }
    const std::string_view line = text.substr(at, end - at);
    at = end + 2;
    if (line.empty() && !first) break;
    if (first ? !parse_request_line(line, parse.head) : !parse_field(line, parse.head)) {
      parse.outcome = HttpOutcome::malformed;
      return parse;
    }
    first = false;
  }
  parse.outcome = HttpOutcome::ready;
  parse.size = at;
  return parse;
}

std::optional<std::pair<std::string, std::string>> parse_basic(std::string_view value) {
  constexpr std::string_view kScheme = "basic ";
  if (value.size() < kScheme.size() || value.size() > 1024) return std::nullopt;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    if ((value[i] | 0x20) != (kScheme[i] | 0x20)) return std::nullopt;
  }
  const auto decoded = decode_base64(trim(value.substr(kScheme.size())));
  if (!decoded) return std::nullopt;
  const std::size_t colon = decoded->find(':');
  if (colon == std::string::npos) return std::nullopt;
  return std::pair{decoded->substr(0, colon), decoded->substr(colon + 1)};
}

std::string make_http_answer(int status, std::string_view reason, std::string_view content_type,
                             std::string_view body, std::string_view extra_fields) {
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{}", status,
      reason, content_type, body.size(), extra_fields, body);
}

bool is_host_allowed(const HttpHead& head, std::uint16_t port, const std::vector<std::string>& extra_hosts) {
  const std::string* host = head.field("host");
  if (host == nullptr) return false;
  std::string name = *host;
  if (const auto split = HostPort::parse(*host)) {
    if (split->port != port) return false;
    name = split->host;
  }
  if (name.size() >= 2 && name.front() == '[' && name.back() == ']') name = name.substr(1, name.size() - 2);
  if (name == "localhost") return true;
  if (const auto address = IpAddress::parse(name); address && address->is_loopback()) return true;
  return std::find(extra_hosts.begin(), extra_hosts.end(), name) != extra_hosts.end();
}

}  // namespace ravine::services
