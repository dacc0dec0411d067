#include "gateway/core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.h"

namespace ravine::gateway::core {
namespace {

// "~" is ours: whose token the request is made with.
constexpr std::array<std::string_view, 19> kPassing{"content-type",
                                                    "content-encoding",
                                                    "content-language",
                                                    "content-disposition",
                                                    "location",
                                                    "etag",
                                                    "if-match",
                                                    "if-none-match",
                                                    "if-modified-since",
                                                    "last-modified",
                                                    "range",
                                                    "content-range",
                                                    "accept-ranges",
                                                    "retry-after",
                                                    "www-authenticate",
                                                    "accept",
                                                    "allow",
                                                    "cache-control",
                                                    "~"};
// What clients send without meaning it; only other values go through.
constexpr std::string_view kJson = "application/json";
constexpr std::size_t kTailFrom = 65536;  // bytes of body that the coder is not asked to read

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
  });
}

// Well-formed UTF-8 without controls but white space: what the text coder was made for.
bool is_text(ByteView body) {
  for (std::size_t i = 0; i < body.size();) {
    const std::uint8_t first = body[i];
    if (first < 0x80) {
      if (first < 0x20 && first != '\n' && first != '\r' && first != '\t') return false;
      ++i;
      continue;
    }
    const std::size_t more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || i + more >= body.size()) return false;
    for (std::size_t k = 1; k <= more; ++k)
      if ((body[i + k] & 0xc0) != 0x80) return false;
    i += more + 1;
  }
  return true;
}

bool goes_in_tail(const Headers& headers, ByteView body) {
  return body.size() > kTailFrom || has_header(headers, "content-encoding") || !is_text(body);
}

void write_headers(std::string& out, const Headers& headers, const std::vector<std::string>& more,
                   bool has_body) {
  // Names that Connection lists belong to one hop (RFC 9110 §7.6.1).
  const std::string connection = to_lower(header_value(headers, "connection"));
  for (const auto& [name, value] : headers) {
    const std::string key = to_lower(name);
    // A signature belongs to its request; a token does not, and never gets into a text.
    const bool signature = key == "authorization" && value.starts_with("X-Matrix ");
    if ((!passes(key, more) && !signature) ||
        (!connection.empty() && connection.find(key) != std::string::npos))
      continue;
    if (key == "content-type" && value == kJson) continue;
    if (key == "accept" && (value == "*/*" || value == kJson)) continue;
    out += key + ": " + value + "\n";
  }
  // Absence means JSON, so a body without a type says so.
  if (has_body && !has_header(headers, "content-type")) out += "content-type: \n";
  out += "\n";
}

link::Message finish(std::string head, const Headers& headers, const Bytes& body) {
  link::Message message;
  message.text.assign(head.begin(), head.end());
  if (goes_in_tail(headers, body)) {
    message.tail = body;
  } else {
    message.text.insert(message.text.end(), body.begin(), body.end());
  }
  return message;
}

const Error kMalformed{ErrorKind::invalid_argument, "the other gateway sent a text that is no HTTP message"};

// Reads `name: value` lines up to the empty one; what follows is the body.
bool read_headers(std::string_view& text, Headers& headers) {
  for (;;) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return false;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line.empty()) return true;
    const std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)) || has_control(line))
      return false;
    headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
  }
}

void finish_headers(Headers& headers, bool has_body) {
  const auto typed = std::find_if(headers.begin(), headers.end(),
                                  [](const auto& header) { return header.first == "content-type"; });
  if (typed == headers.end()) {
    if (has_body) headers.emplace_back("content-type", kJson);
  } else if (typed->second.empty()) {
    headers.erase(typed);
  }
}

}  // namespace

std::string_view header_value(const Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers)
    if (equals_ignoring_case(key, name)) return value;
  return {};
}

bool has_header(const Headers& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(),
                     [&](const auto& h) { return equals_ignoring_case(h.first, name); });
}

namespace {

std::size_t size_of(const Headers& headers, const Bytes& body) {
  std::size_t size = body.size() + 2;
  for (const auto& [name, value] : headers) size += name.size() + value.size() + 4;
  return size;
}

}  // namespace

std::size_t http_size(const HttpRequest& request) {
  return request.method.size() + request.target.size() + 12 + size_of(request.headers, request.body);
}

std::size_t http_size(const HttpResponse& response) {
  return 17 + size_of(response.headers, response.body);  // with a reason of two letters
}

bool passes(std::string_view lower_name, const std::vector<std::string>& more) {
  return std::find(kPassing.begin(), kPassing.end(), lower_name) != kPassing.end() ||
         std::find(more.begin(), more.end(), lower_name) != more.end();
}

std::optional<Refusal> check_request(const HttpRequest& request, const TextLimits& limits) {
  if (!is_token(request.method)) return Refusal{400, "the method is no token"};
  if (request.method == "CONNECT" || request.method == "TRACE")
    return Refusal{405, request.method + " is not passed on"};
  if (request.target.size() > limits.max_target)
    return Refusal{414,
                   fmt::format("a target of {} bytes: {} at most", request.target.size(), limits.max_target)};
  if (request.target.empty() || (request.target[0] != '/' && request.target != "*"))
    return Refusal{400, "the target is not in origin form"};
  for (const char c : request.target)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || c == '#')
      return Refusal{400, "the target has a blank, a control or a fragment"};
  std::size_t bytes = 0, lengths = 0, codings = 0, hosts = 0;
  for (const auto& [name, value] : request.headers) {
    bytes += name.size() + value.size() + 4;
    if (!is_token(name)) return Refusal{400, "a header's name is no token"};
    if (has_control(value)) return Refusal{400, fmt::format("a control in the value of {}", to_lower(name))};
    const std::string key = to_lower(name);
    if (key == "content-length") {
      ++lengths;
      if (value.empty() || value.size() > 18 || value.find_first_not_of("0123456789") != std::string::npos)
        return Refusal{400, "Content-Length is no number"};
    }
    if (key == "transfer-encoding") {
      ++codings;
      if (to_lower(value) != "chunked") return Refusal{400, "a Transfer-Encoding other than chunked"};
    }
    if (key == "host") ++hosts;
    if (key == "~") return Refusal{400, "a header named ~"};
  }
  // RFC 9112 §6.3: two framings are how requests are smuggled.
  if (lengths > 1 || codings > 1 || (lengths > 0 && codings > 0))
    return Refusal{400, "the body's length is given twice"};
  if (hosts > 1) return Refusal{400, "more than one Host"};
  if (bytes > limits.max_headers)
    return Refusal{431, fmt::format("{} bytes of headers: {} at most", bytes, limits.max_headers)};
  if (request.body.size() > limits.max_body)
    return Refusal{413, fmt::format("a body of {} bytes: {} at most", request.body.size(), limits.max_body)};
  return std::nullopt;
}

link::Message request_text(const HttpRequest& request, const std::vector<std::string>& more) {
  std::string head = request.method + " " + request.target + "\n";
  write_headers(head, request.headers, more, !request.body.empty());
  return finish(std::move(head), request.headers, request.body);
}

link::Message response_text(const HttpResponse& response, const std::vector<std::string>& more) {
  std::string head = fmt::format("{}\n", response.status);
  write_headers(head, response.headers, more, !response.body.empty());
  return finish(std::move(head), response.headers, response.body);
}

Result<HttpRequest> parse_request_text(const link::Message& message) {
  std::string_view text = as_text(message.text);
  const std::size_t blank = text.find(' ');
  const std::size_t end = text.find('\n');
  if (blank == std::string_view::npos || end == std::string_view::npos || blank > end) return kMalformed;
  HttpRequest request;
  request.method = text.substr(0, blank);
  request.target = text.substr(blank + 1, end - blank - 1);
  text.remove_prefix(end + 1);
  if (!read_headers(text, request.headers)) return kMalformed;
  request.body = text.empty() ? message.tail : to_bytes(as_bytes(text));
  finish_headers(request.headers, !request.body.empty());
  Headers own;
  std::swap(own, request.headers);
  for (const auto& header : own)
    if (header.first != "~") request.headers.push_back(header);
  if (check_request(request, {SIZE_MAX, SIZE_MAX, SIZE_MAX})) return kMalformed;
  request.headers = std::move(own);
  return request;
}

Result<HttpResponse> parse_response_text(const link::Message& message) {
  std::string_view text = as_text(message.text);
  HttpResponse response;
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return kMalformed;
  const std::string_view line = text.substr(0, end);
  const auto [stop, error] = std::from_chars(line.begin(), line.end(), response.status);
  if (error != std::errc{} || stop != line.end() || response.status < 100 || response.status > 999)
    return kMalformed;
  text.remove_prefix(end + 1);
  if (!read_headers(text, response.headers)) return kMalformed;
  response.body = text.empty() ? message.tail : to_bytes(as_bytes(text));
  finish_headers(response.headers, !response.body.empty());
  return response;
}

}  // namespace ravine::gateway::core
