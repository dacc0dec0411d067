#include "host/sockaddr.h"

#include <cstring>

namespace ravine::host {

socklen_t encode_socket_address(const SocketAddress& address, RawSocketAddress& raw) {
  if (address.ip.is_v4()) {
    raw.v4 = {};
    raw.v4.sin_family = AF_INET;
    raw.v4.sin_port = htons(address.port);
    std::memcpy(&raw.v4.sin_addr, address.ip.data(), 4);
    return sizeof raw.v4;
  }
  raw.v6 = {};
  raw.v6.sin6_family = AF_INET6;
  raw.v6.sin6_port = htons(address.port);
  raw.v6.sin6_scope_id = address.ip.scope();
  std::memcpy(&raw.v6.sin6_addr, address.ip.data(), 16);
  return sizeof raw.v6;
}

IpAddress decode_v4(const in_addr& raw) {
  std::array<std::uint8_t, 4> bytes;
  std::memcpy(bytes.data(), &raw, bytes.size());
  return IpAddress::v4(bytes);
}

IpAddress decode_v6(const in6_addr& raw, std::uint32_t interface_index) {
  std::array<std::uint8_t, 16> bytes;
  std::memcpy(bytes.data(), &raw, bytes.size());
  const bool link_local = bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
  return IpAddress::v6(bytes, link_local ? interface_index : 0);
}

SocketAddress decode_socket_address(const RawSocketAddress& raw) {
  if (raw.any.sa_family == AF_INET) return {decode_v4(raw.v4.sin_addr), ntohs(raw.v4.sin_port)};
  return {decode_v6(raw.v6.sin6_addr, raw.v6.sin6_scope_id), ntohs(raw.v6.sin6_port)};
}

}  // namespace ravine::host
