#include "services/target.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace ravine::services {
namespace {

bool is_label_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

// Labels of 1–63 letters, digits, hyphens and underscores; one final dot is allowed.
bool is_dns_name(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  if (host.empty() || host.size() > kMaxHostSize) return false;
  while (true) {
    const std::size_t dot = host.find('.');
    const std::string_view label = host.substr(0, dot);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
    if (!std::all_of(label.begin(), label.end(), is_label_character)) return false;
    if (dot == std::string_view::npos) return true;
    host.remove_prefix(dot + 1);
  }
}

}  // namespace

bool is_overlay(const IpAddress& address) {
  return address.is_v6() && address.scope() == 0 && address.data()[0] == 0xfd && address.data()[1] == 0xcc;
}

bool is_numeric_spelling(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  const std::size_t dot = host.rfind('.');
  std::string_view last = dot == std::string_view::npos ? host : host.substr(dot + 1);
  if (last.empty()) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (std::all_of(last.begin(), last.end(), is_digit)) return true;
  if (last.size() < 2 || last[0] != '0' || (last[1] != 'x' && last[1] != 'X')) return false;
  last.remove_prefix(2);
  return std::all_of(last.begin(), last.end(),
                     [&](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
}

Result<std::string> check_overlay_host(std::string_view host) {
  const std::string_view given = host;
  const auto refuse = [&] {
    return Error{
        ErrorKind::refused,
        fmt::format("'{}' is not in the overlay: use NAME.fuse or an fdcc… address", given.substr(0, 253))};
  };
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (const auto address = IpAddress::parse(host)) {
    if (!is_overlay(*address)) return refuse();
    return address->to_text();
  }
  if (is_numeric_spelling(host)) return refuse();
  if (!is_dns_name(host)) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("'{}' is no host name (letters, digits, '-' and dots, at most {} bytes)",
                             given.substr(0, 64), kMaxHostSize)};
  }
  std::string name = to_lower(host);
  if (name.ends_with('.')) name.pop_back();
  if (!name.ends_with(".fuse")) return refuse();
  return name;
}

Result<HostPort> parse_local_target(std::string_view text) {
  auto target = HostPort::parse(text);
  if (!target || target->port == 0 || target->host.empty()) {
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("target '{}' is not HOST:PORT, for example \"127.0.0.1:8080\" or \"[::1]:8080\"", text)};
  }
  if (const auto address = IpAddress::parse(target->host)) {
    const auto checked = check_local_target(*address);
    if (!checked) return checked.error().with_context(fmt::format("target '{}'", text));
    return std::move(*target);
  }
  if (is_numeric_spelling(target->host)) {
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("target '{}' is an ambiguous address: write IPv4 as four decimal numbers", text)};
  }
  if (!is_dns_name(target->host)) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("target '{}' has no valid host name or address", text)};
  }
  return std::move(*target);
}

Result<> check_local_target(const IpAddress& address) {
  const auto refuse = [&](std::string_view why) {
    return Error{ErrorKind::refused, fmt::format("{} is {}: it cannot be a target", address.to_text(), why)};
  };
  if (address.is_unspecified()) return refuse("the unspecified address");
  if (address.is_multicast()) return refuse("a multicast address");
  if (is_overlay(address)) return refuse("an overlay address");
  if (address.is_v4()) {
    if (address.data()[0] == 0) return refuse("in 0.0.0.0/8");
    if (address.data()[0] >= 240) return refuse("reserved or broadcast");
  }
  if (address.embedded_v4()) return refuse("an IPv6 spelling of an IPv4 address");
  return {};
}

}  // namespace ravine::services
