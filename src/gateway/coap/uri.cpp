#include "gateway/coap/uri.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace ravine::gateway::coap {
namespace {

// RFC 3986 §3.3: what a path segment may hold unescaped beside unreserved characters.
constexpr std::string_view kSegmentAllowed = "!$&'()*+,;=:@";
// §3.4 without "&", which separates the parts (RFC 7252 §6.5 step 7).
constexpr std::string_view kQueryAllowed = "!$'()*+,;=:@/?";

bool is_unreserved(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

bool is_control(unsigned char c) {
  return c < 0x20 || c == 0x7f;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return is_control(static_cast<unsigned char>(c)); });
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

Error bad(std::string_view what, std::string_view argument) {
  return Error{ErrorKind::invalid_argument, fmt::format("{} in '{}'", what, argument.substr(0, 80))};
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t start = 0;;) {
    const std::size_t end = text.find(separator, start);
    parts.push_back(text.substr(start, end == std::string_view::npos ? end : end - start));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

Result<> add_part(Message& request, std::uint16_t number, std::string_view part) {
  Result<std::string> decoded = percent_decode(part);
  if (!decoded) return decoded.error();
  if (number == kUriPath && (*decoded == "." || *decoded == "..")) return bad("a dot segment", part);
  if (decoded->size() > kMaxSegment) {
    return Error{
        ErrorKind::limit_reached,
        fmt::format("a part of {} bytes: Uri-Path and Uri-Query hold 255, send the target as FETCH or "
                    "Proxy-Uri",
                    decoded->size())};
  }
  request.add(number, as_bytes(*decoded));
  return {};
}

Result<std::string> compose(const Message& message, std::uint16_t path, std::uint16_t query) {
  std::string target;
  char separator = '?';
  for (const std::uint16_t number : {path, query}) {
    for (const Option& option : message.options) {
      if (option.number != number) continue;
      const std::string_view text = as_text(option.value);
      if (has_control(text)) return bad("a control character", "the path or query options");
      if (number == path) {
        if (text == "." || text == "..") return bad("a dot segment", text);
        target += "/" + percent_encode(text, kSegmentAllowed);
      } else {
        if (target.empty()) target = "/";
        target += separator + percent_encode(text, kQueryAllowed);
        separator = '&';
      }
      if (target.size() > kMaxTarget) {
        return Error{ErrorKind::limit_reached, fmt::format("the target exceeds {} bytes", kMaxTarget)};
      }
    }
  }
  return target;
}

bool is_known_scheme(std::string_view scheme) {
  return scheme == "coap" || scheme == "coaps" || scheme == "http" || scheme == "https";
}

bool is_host_text(std::string_view host) {
  return !host.empty() && std::none_of(host.begin(), host.end(), [](char c) {
    return is_control(static_cast<unsigned char>(c)) ||
           std::string_view(" /?#@\\<>\"[]%").find(c) != std::string_view::npos;
  });
}

Result<> parse_authority(std::string_view authority, UriParts& parts) {
  if (authority.find('@') != std::string_view::npos) return bad("user information", authority);
  std::string_view host = authority;
  std::string_view port;
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) return bad("an unclosed bracket", authority);
    host = authority.substr(1, end - 1);
    const std::optional<IpAddress> address = IpAddress::parse(host);
    if (!address || !address->is_v6()) return bad("a bad IPv6 address", authority);
    parts.host = lower(host);
    const std::string_view rest = authority.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return bad("text after the address", authority);
    port = rest.empty() ? rest : rest.substr(1);
  } else {
    const std::size_t colon = authority.find(':');
    if (colon != std::string_view::npos) {
      host = authority.substr(0, colon);
      port = authority.substr(colon + 1);
    }
    Result<std::string> decoded = percent_decode(host);
    if (!decoded) return decoded.error();
    if (!is_host_text(*decoded) || decoded->size() > kMaxSegment) return bad("a bad host", authority);
    parts.host = lower(*decoded);
  }
  if (port.empty()) return {};
  unsigned value = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), value);
  if (error != std::errc{} || end != port.data() + port.size() || value == 0 || value > 65535) {
    return bad("a bad port", authority);
  }
  parts.port = static_cast<std::uint16_t>(value);
  return {};
}

}  // namespace

Result<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
      if (high < 0 || low < 0) return bad("a bad percent escape", text);
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (is_control(static_cast<unsigned char>(c))) return bad("a control character", "a URI");
    out.push_back(c);
  }
  return out;
}

std::string percent_encode(std::string_view text, std::string_view also_allowed) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_unreserved(byte) || also_allowed.find(c) != std::string_view::npos) {
      out.push_back(c);
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

Result<UriParts> parse_uri(std::string_view uri) {
  if (uri.size() > kMaxTarget) return Error{ErrorKind::limit_reached, "the URI is over 8192 bytes"};
  if (has_control(uri) || uri.find(' ') != std::string_view::npos)
    return bad("white space or a control", "a URI");
  const std::size_t mark = uri.find("://");
  if (mark == std::string_view::npos) return bad("no scheme", uri);
  UriParts parts;
  parts.scheme = lower(uri.substr(0, mark));
  if (!is_known_scheme(parts.scheme)) {
    return Error{ErrorKind::unsupported, fmt::format("scheme '{}': coap, coaps, http and https are known",
                                                     parts.scheme.substr(0, 20))};
  }
  std::string_view rest = uri.substr(mark + 3);
  if (rest.find('#') != std::string_view::npos) return bad("a fragment", uri);
  const std::size_t end = rest.find_first_of("/?");
  if (Result<> read = parse_authority(rest.substr(0, end), parts); !read) return read.error();
  const std::string_view target = end == std::string_view::npos ? "" : rest.substr(end);
  parts.target = target.starts_with('/') ? std::string(target) : "/" + std::string(target);
  return parts;
}

Result<> add_target(Message& request, std::string_view target) {
  if (target.size() > kMaxTarget) return Error{ErrorKind::limit_reached, "the target is over 8192 bytes"};
  if (!target.starts_with('/')) return bad("no leading slash", target);
  const std::size_t mark = target.find('?');
  const std::string_view path = target.substr(1, mark == std::string_view::npos ? mark : mark - 1);
  if (!path.empty()) {
    for (const std::string_view segment : split(path, '/')) {
      if (Result<> added = add_part(request, kUriPath, segment); !added) return added;
    }
  }
  if (mark == std::string_view::npos) return {};
  const std::string_view query = target.substr(mark + 1);
  if (query.find("%2B") != std::string_view::npos || query.find("%2b") != std::string_view::npos) {
    return Error{ErrorKind::unsupported,
                 "Uri-Query cannot tell %2B from +: send the target as FETCH or Proxy-Uri"};
  }
  for (const std::string_view part : split(query, '&')) {
    if (Result<> added = add_part(request, kUriQuery, part); !added) return added;
  }
  return {};
}

Result<std::string> target_of(const Message& request) {
  Result<std::string> target = compose(request, kUriPath, kUriQuery);
  if (target && target->empty()) return std::string("/");
  return target;
}

Result<std::string> location_of(const Message& response) {
  return compose(response, kLocationPath, kLocationQuery);
}

Result<> add_uri(Message& request, std::string_view uri, bool with_host) {
  Result<UriParts> parts = parse_uri(uri);
  if (!parts) return parts.error();
  if (parts->scheme != "coap" && parts->scheme != "coaps") return bad("a scheme that is not CoAP's", uri);
  if (with_host) request.add(kUriHost, as_bytes(parts->host));
  const std::uint16_t usual = parts->scheme == "coap" ? 5683 : 5684;
  if (with_host && parts->port != 0 && parts->port != usual) request.add_uint(kUriPort, parts->port);
  return add_target(request, parts->target);
}

Result<ProxyTarget> proxy_target_of(const Message& request) {
  ProxyTarget proxy;
  if (const Option* uri = request.find(kProxyUri)) {
    // RFC 7252 §5.10.2: Proxy-Uri takes precedence over Uri-*.
    Result<UriParts> parts = parse_uri(as_text(uri->value));
    if (!parts) return parts.error();
    proxy.wanted = true;
    proxy.uri = std::move(*parts);
    return proxy;
  }
  const Option* scheme = request.find(kProxyScheme);
  if (scheme == nullptr) return proxy;
  const Option* host = request.find(kUriHost);
  if (host == nullptr) return bad("no Uri-Host beside Proxy-Scheme", "the request");
  Result<std::string> target = target_of(request);
  if (!target) return target.error();
  std::string authority(as_text(host->value));
  if (authority.find(':') != std::string::npos && !authority.starts_with('['))
    authority = "[" + authority + "]";
  const std::uint64_t port = request.uint_option(kUriPort).value_or(0);
  if (port != 0) authority += fmt::format(":{}", port);
  Result<UriParts> parts = parse_uri(fmt::format("{}://{}{}", as_text(scheme->value), authority, *target));
  if (!parts) return parts.error();
  // A host option may not smuggle an authority or path of its own.
  if (parts->target != *target || parts->port != port) return bad("a bad Uri-Host", as_text(host->value));
  proxy.wanted = true;
  proxy.uri = std::move(*parts);
  return proxy;
}

}  // namespace ravine::gateway::coap
