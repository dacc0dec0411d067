#include "services/http/http_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>

#include "base/address.h"
#include "services/http/message_reader.h"

namespace ravine::services::http {
namespace {

using gateway::core::Headers;

constexpr std::size_t kCopiedBody = std::size_t{16} << 10;  // bytes that go out with the head in one call
constexpr std::array<std::string_view, 9> kHopByHop{"connection",          "keep-alive", "proxy-connection",
                                                    "proxy-authorization", "te",         "trailer",
                                                    "transfer-encoding",   "upgrade",    "content-length"};

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_visible(char c) {
  return static_cast<unsigned char>(c) > 0x20 && c != 0x7f;
}

bool is_port(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// One percent-encoded or plain character at the front of `text`, taken off.
char take_character(std::string_view& text) {
  if (text.front() == '%' && text.size() >= 3) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data() + 1, text.data() + 3, value, 16);
    if (error == std::errc() && end == text.data() + 3) {
      text.remove_prefix(3);
      return static_cast<char>(value);
    }
  }
  const char c = text.front();
  text.remove_prefix(1);
  return c;
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

// The length that a response without a body tells about the one it stands for.
std::string_view announced_length(const Headers& headers) {
  const std::string_view value = gateway::core::header_value(headers, "content-length");
  const bool good =
      !value.empty() && value.size() <= 18 && value.find_first_not_of("0123456789") == std::string_view::npos;
  return good ? value : std::string_view{};
}

void attach_body(Outgoing& out, Bytes body) {
  if (body.size() <= kCopiedBody) {
    out.head.append(as_text(body));
  } else {
    out.body = std::move(body);
  }
}

}  // namespace

bool is_field_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == ' ' || c == '\t' || is_visible(c); });
}

bool is_authority(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return false;
    const auto address = IpAddress::parse(text.substr(1, close - 1));
    if (!address || text.substr(1, close - 1).find(':') == std::string_view::npos) return false;
    text.remove_prefix(close + 1);
    return text.empty() || (text[0] == ':' && is_port(text.substr(1)));
  }
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  if (colon != std::string_view::npos && !is_port(text.substr(colon + 1))) return false;
  return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
    return is_alphanumeric(c) || std::string_view("-._~!$&'()*+;=%").find(c) != std::string_view::npos;
  });
}

bool is_origin_form(std::string_view target) {
  return target.starts_with('/') &&
         std::all_of(target.begin(), target.end(), [](char c) { return is_visible(c) && c != '#'; });
}

bool is_idempotent(std::string_view method) {
  constexpr std::array<std::string_view, 6> kIdempotent{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
  return std::find(kIdempotent.begin(), kIdempotent.end(), method) != kIdempotent.end();
}

bool climbs(std::string_view target) {
  std::string_view path = target.substr(0, target.find('?'));
  std::string segment;
  while (!path.empty()) {
    const char c = take_character(path);
    if (c != '/' && c != '\\') {
      segment += c;
      continue;
    }
    if (segment == "..") return true;
    segment.clear();
  }
  return segment == "..";
}

std::optional<Url> parse_url(std::string_view text) {
  Url url;
  const std::size_t colon = text.find("://");
  if (colon == std::string_view::npos) return std::nullopt;
  url.https = equals_ignoring_case(text.substr(0, colon), "https");
  if (!url.https && !equals_ignoring_case(text.substr(0, colon), "http")) return std::nullopt;
  text.remove_prefix(colon + 3);
  const std::size_t end = std::min(text.find_first_of("/?"), text.size());
  url.authority = text.substr(0, end);
  if (!is_authority(url.authority)) return std::nullopt;
  url.port = url.https ? 443 : 80;
  if (const auto split = HostPort::parse(url.authority)) {
    url.host = split->host;
    url.port = split->port;
  } else {
    url.host = url.authority;
  }
  if (url.host.starts_with('[')) url.host = url.host.substr(1, url.host.size() - 2);
  text.remove_prefix(end);
  url.has_path = text.starts_with('/');
  url.target = url.has_path ? std::string(text) : "/" + std::string(text);
  if (url.port == 0 || !is_origin_form(url.target)) return std::nullopt;
  return url;
}

HopByHop::HopByHop(const Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (!equals_ignoring_case(name, "connection") && !equals_ignoring_case(name, "proxy-connection"))
      continue;
    std::string_view rest = value;
    while (!rest.empty()) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      named_.push_back(trim(rest.substr(0, comma)));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
}

bool HopByHop::drops(std::string_view name) const {
  const auto same = [name](std::string_view other) { return equals_ignoring_case(name, other); };
  return std::any_of(kHopByHop.begin(), kHopByHop.end(), same) ||
         std::any_of(named_.begin(), named_.end(), same);
}

ByteView Outgoing::next() const {
  if (sent < head.size()) return as_bytes(std::string_view(head).substr(sent));
  return ByteView(body).subspan(sent - head.size());
}

Outgoing write_response(gateway::core::HttpResponse response, const ResponseFraming& framing) {
  const bool has_status = response.status >= 200 && response.status <= 599;
  const std::uint16_t status = has_status ? response.status : std::uint16_t{502};
  Outgoing out;
  out.head.reserve(512 + (response.body.size() <= kCopiedBody ? response.body.size() : 0));
  // A server answers with its own version, whatever the client's (RFC 9112 §2.3).
  out.head = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
  const HopByHop hop(response.headers);
  bool has_date = false, has_server = false;
  for (const auto& [name, value] : response.headers) {
    if (!is_token(name) || !is_field_value(value) || hop.drops(name)) continue;
    has_date = has_date || equals_ignoring_case(name, "date");
    has_server = has_server || equals_ignoring_case(name, "server");
    append_field(out.head, name, value);
  }
  if (!has_date) append_field(out.head, "Date", to_http_date(framing.now));
  if (!has_server && !framing.server.empty()) append_field(out.head, "Server", framing.server);
  const bool bodiless = framing.to_head || status == 204 || status == 304;
  if (!bodiless || (status != 204 && !response.body.empty())) {
    append_field(out.head, "Content-Length", fmt::format_int(response.body.size()).str());
  } else if (status != 204) {
    const std::string_view length = announced_length(response.headers);
    if (!length.empty()) append_field(out.head, "Content-Length", length);
  }
  if (!framing.keep_alive) {
    append_field(out.head, "Connection", "close");
  } else if (framing.http_1_0) {
    append_field(out.head, "Connection", "keep-alive");
  }
  out.head += "\r\n";
  if (!bodiless) attach_body(out, std::move(response.body));
  return out;
}

std::optional<Outgoing> write_request(gateway::core::HttpRequest request, std::string_view target,
                                      std::string_view host) {
  const bool whole_server = target == "*" && request.method == "OPTIONS";
  if (!is_token(request.method) || request.method == "CONNECT" || !(whole_server || is_origin_form(target)) ||
      !is_authority(host))
    return std::nullopt;
  Outgoing out;
  out.head.reserve(512 + target.size() + (request.body.size() <= kCopiedBody ? request.body.size() : 0));
  out.head.append(request.method).append(" ").append(target).append(" HTTP/1.1\r\n");
  append_field(out.head, "Host", host);
  const HopByHop hop(request.headers);
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name) || !is_field_value(value)) return std::nullopt;
    if (hop.drops(name) || equals_ignoring_case(name, "host") || equals_ignoring_case(name, "expect"))
      continue;
    append_field(out.head, name, value);
  }
  // RFC 9110 §8.6: methods that give a body a meaning say that it is empty.
  const bool wants_length = request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (wants_length || !request.body.empty())
    append_field(out.head, "Content-Length", fmt::format_int(request.body.size()).str());
  out.head += "\r\n";
  attach_body(out, std::move(request.body));
  return out;
}

std::string to_http_date(UnixTime at) {
  using namespace std::chrono;
  const sys_seconds time{seconds(at.seconds)};
  const auto midnight = floor<days>(time);
  const year_month_day date{midnight};
  const hh_mm_ss clock{time - midnight};
  constexpr std::array<std::string_view, 7> kDays{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT", kDays[weekday{midnight}.c_encoding()],
                     unsigned{date.day()}, kMonths[unsigned{date.month()} - 1], int{date.year()},
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

}  // namespace ravine::services::http
