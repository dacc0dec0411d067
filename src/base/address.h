// Internet addresses as plain values, their text forms, and the one normaliser that every policy check uses.
// Pure: no look-ups, no sockets.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace ravine {

// IPv4 or IPv6 address. IPv4 is held as its own family, never as v4-mapped IPv6: parse() and from_bytes()
// unmap.
class IpAddress {
 public:
  IpAddress() = default;  // unspecified IPv6 "::"
  static IpAddress v4(std::array<std::uint8_t, 4> bytes);
  static IpAddress v6(std::array<std::uint8_t, 16> bytes, std::uint32_t scope = 0);  // unmaps ::ffff:a.b.c.d
  // Strict text form: dotted quad of four decimals, or RFC 4291 text with an optional numeric zone
  // ("fe80::1%2"). Refuses octal, hexadecimal and short IPv4 spellings, so that one address has one meaning.
  static std::optional<IpAddress> parse(std::string_view text);

  bool is_v4() const { return v4_; }
  bool is_v6() const { return !v4_; }
  // 4 bytes for IPv4, 16 for IPv6, network order.
  const std::uint8_t* data() const { return bytes_.data(); }
  std::size_t size() const { return v4_ ? 4 : 16; }
  std::uint32_t scope() const { return scope_; }  // interface index of a link-local address, 0 otherwise
  std::string to_text() const;                    // RFC 5952

  bool is_unspecified() const;
  bool is_loopback() const;
  bool is_link_local() const;
  bool is_multicast() const;
  bool is_private() const;  // RFC 1918, 6598, 4193

  // The IPv4 address that an IPv6 address embeds (v4-compatible, NAT64 64:ff9b::/96, 6to4 2002::/16), if any:
  // policy checks apply to it as well.
  std::optional<IpAddress> embedded_v4() const;

  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
  std::uint32_t scope_ = 0;
  bool v4_ = false;
};

struct SocketAddress {
  IpAddress ip;
  std::uint16_t port = 0;

  // "192.0.2.1:80" or "[2001:db8::1]:80". The port is required and decimal.
  static std::optional<SocketAddress> parse(std::string_view text);
  std::string to_text() const;

  friend auto operator<=>(const SocketAddress&, const SocketAddress&) = default;
};

// "host:port", "[v6]:port" or ":port" split without resolving; nullopt when the port is missing or not
// 0–65535.
struct HostPort {
  std::string host;  // empty for ":port"
  std::uint16_t port = 0;
  static std::optional<HostPort> parse(std::string_view text);
};

struct SocketAddressHash {
  std::size_t operator()(const SocketAddress& address) const;
};

}  // namespace ravine
