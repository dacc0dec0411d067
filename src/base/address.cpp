#include "base/address.h"

#include <charconv>
#include <cstring>

#include "base/bytes.h"

namespace ravine {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::array<std::uint8_t, 12> kNat64Prefix{0x00, 0x64, 0xff, 0x9b};  // RFC 6052 §2.1

template <class T>
std::optional<T> parse_decimal(std::string_view text, std::size_t max_digits) {
  if (text.empty() || text.size() > max_digits) return std::nullopt;
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::array<std::uint8_t, 4>> parse_quad(std::string_view text) {
  std::array<std::uint8_t, 4> quad{};
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t dot = text.find('.');
    if ((dot == std::string_view::npos) != (i == 3)) return std::nullopt;
    const std::string_view part = text.substr(0, dot);
    if (part.size() > 1 && part[0] == '0') return std::nullopt;  // would be octal to some parsers
    const auto value = parse_decimal<std::uint8_t>(part, 3);
    if (!value) return std::nullopt;
    quad[i] = *value;
    if (i < 3) text.remove_prefix(dot + 1);
  }
  return quad;
}

// Appends the 16-bit groups of one side of "::"; a dotted quad may end the whole address.
bool parse_groups(std::string_view text, bool may_end_in_quad, std::array<std::uint8_t, 16>& out,
                  std::size_t& size) {
  while (!text.empty()) {
    const std::size_t colon = text.find(':');
    const std::string_view group = text.substr(0, colon);
    const bool last = colon == std::string_view::npos;
    if (last && may_end_in_quad && group.find('.') != std::string_view::npos) {
      const auto quad = parse_quad(group);
      if (!quad || size + 4 > 16) return false;
      std::memcpy(out.data() + size, quad->data(), 4);
      size += 4;
      return true;
    }
    if (group.empty() || group.size() > 4 || size + 2 > 16) return false;
    std::uint16_t value = 0;
    const auto [end, error] = std::from_chars(group.data(), group.data() + group.size(), value, 16);
    if (error != std::errc{} || end != group.data() + group.size()) return false;
    store_big_endian(out.data() + size, value);
    size += 2;
    if (last) return true;
    text.remove_prefix(colon + 1);
    if (text.empty()) return false;
  }
  return true;
}

std::optional<std::array<std::uint8_t, 16>> parse_v6(std::string_view text) {
  std::array<std::uint8_t, 16> head{}, tail{};
  std::size_t head_size = 0, tail_size = 0;
  const std::size_t gap = text.find("::");
  if (gap == std::string_view::npos) {
    if (text.empty() || !parse_groups(text, true, head, head_size) || head_size != 16) return std::nullopt;
    return head;
  }
  if (!parse_groups(text.substr(0, gap), false, head, head_size)) return std::nullopt;
  if (!parse_groups(text.substr(gap + 2), true, tail, tail_size)) return std::nullopt;
  if (head_size + tail_size > 14) return std::nullopt;
  std::memcpy(head.data() + 16 - tail_size, tail.data(), tail_size);
  return head;
}

std::string v6_to_text(const std::uint8_t* bytes) {
  std::array<std::uint16_t, 8> groups;
  for (std::size_t i = 0; i < 8; ++i) groups[i] = load_big_endian<std::uint16_t>(bytes + 2 * i);
  // RFC 5952 §4.2: the longest run of at least two zero groups, the first of equal ones, becomes "::".
  std::size_t best = 8, best_length = 1;
  for (std::size_t i = 0; i < 8;) {
    std::size_t length = 0;
    while (i + length < 8 && groups[i + length] == 0) ++length;
    if (length > best_length) {
      best = i;
      best_length = length;
    }
    i += length == 0 ? 1 : length;
  }
  std::string text;
  for (std::size_t i = 0; i < 8; ++i) {
    if (i == best) {
      text += "::";
      i += best_length - 1;
      continue;
    }
    if (!text.empty() && text.back() != ':') text += ':';
    char digits[4];
    const auto end = std::to_chars(digits, digits + 4, groups[i], 16).ptr;
    text.append(digits, end);
  }
  return text;
}

}  // namespace

IpAddress IpAddress::v4(std::array<std::uint8_t, 4> bytes) {
  IpAddress address;
  address.v4_ = true;
  std::memcpy(address.bytes_.data(), bytes.data(), 4);
  return address;
}

IpAddress IpAddress::v6(std::array<std::uint8_t, 16> bytes, std::uint32_t scope) {
  if (std::memcmp(bytes.data(), kMappedPrefix.data(), 12) == 0) {
    return v4({bytes[12], bytes[13], bytes[14], bytes[15]});
  }
  IpAddress address;
  address.bytes_ = bytes;
  if (address.is_link_local()) address.scope_ = scope;
  return address;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (const auto quad = parse_quad(text)) return v4(*quad);
  std::uint32_t scope = 0;
  if (const std::size_t zone = text.find('%'); zone != std::string_view::npos) {
    const auto index = parse_decimal<std::uint32_t>(text.substr(zone + 1), 9);
    if (!index) return std::nullopt;
    scope = *index;
    text = text.substr(0, zone);
  }
  const auto bytes = parse_v6(text);
  if (!bytes) return std::nullopt;
  return v6(*bytes, scope);
}

std::string IpAddress::to_text() const {
  if (!v4_) return v6_to_text(bytes_.data()) + (scope_ != 0 ? "%" + std::to_string(scope_) : "");
  std::string text;
  for (std::size_t i = 0; i < 4; ++i) text += (i == 0 ? "" : ".") + std::to_string(bytes_[i]);
  return text;
}

bool IpAddress::is_unspecified() const {
  for (std::size_t i = 0; i < size(); ++i) {
    if (bytes_[i] != 0) return false;
  }
  return true;
}

bool IpAddress::is_loopback() const {
  if (v4_) return bytes_[0] == 127;
  for (std::size_t i = 0; i < 15; ++i) {
    if (bytes_[i] != 0) return false;
  }
  return bytes_[15] == 1;
}

bool IpAddress::is_link_local() const {
  return v4_ ? bytes_[0] == 169 && bytes_[1] == 254 : bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool IpAddress::is_multicast() const {
  return v4_ ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

bool IpAddress::is_private() const {
  if (!v4_) return (bytes_[0] & 0xfe) == 0xfc;
  return bytes_[0] == 10 || (bytes_[0] == 172 && (bytes_[1] & 0xf0) == 16) ||
         (bytes_[0] == 192 && bytes_[1] == 168) || (bytes_[0] == 100 && (bytes_[1] & 0xc0) == 64);
}

std::optional<IpAddress> IpAddress::embedded_v4() const {
  if (v4_) return std::nullopt;
  const auto quad_at = [&](std::size_t i) {
    return v4({bytes_[i], bytes_[i + 1], bytes_[i + 2], bytes_[i + 3]});
  };
  if (bytes_[0] == 0x20 && bytes_[1] == 0x02) return quad_at(2);
  if (std::memcmp(bytes_.data(), kNat64Prefix.data(), 12) == 0) return quad_at(12);
  static constexpr std::array<std::uint8_t, 12> kZero{};
  if (std::memcmp(bytes_.data(), kZero.data(), 12) == 0 && !is_unspecified() && !is_loopback())
    return quad_at(12);
  return std::nullopt;
}

std::optional<SocketAddress> SocketAddress::parse(std::string_view text) {
  const auto split = HostPort::parse(text);
  if (!split) return std::nullopt;
  const auto ip = IpAddress::parse(split->host);
  if (!ip) return std::nullopt;
  return SocketAddress{*ip, split->port};
}

std::string SocketAddress::to_text() const {
  return (ip.is_v4() ? ip.to_text() : "[" + ip.to_text() + "]") + ":" + std::to_string(port);
}

std::optional<HostPort> HostPort::parse(std::string_view text) {
  std::string_view host, port;
  if (text.starts_with('[')) {
    const std::size_t close = text.find("]:");
    if (close == std::string_view::npos) return std::nullopt;
    host = text.substr(1, close - 1);
    port = text.substr(close + 2);
  } else {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (host.find(':') != std::string_view::npos) return std::nullopt;  // bare IPv6 needs brackets
  }
  const auto number = parse_decimal<std::uint16_t>(port, 5);
  if (!number) return std::nullopt;
  return HostPort{std::string(host), *number};
}

std::size_t SocketAddressHash::operator()(const SocketAddress& address) const {
  std::uint64_t a = 0, b = 0;
  std::memcpy(&a, address.ip.data(), address.ip.is_v4() ? 4 : 8);
  if (address.ip.is_v6()) std::memcpy(&b, address.ip.data() + 8, 8);
  std::uint64_t h = (a ^ (b * 0x9e3779b97f4a7c15u)) + address.port;
  h ^= h >> 31;
  h *= 0xbf58476d1ce4e5b9u;
  return static_cast<std::size_t>(h ^ (h >> 29));
}

}  // namespace ravine
