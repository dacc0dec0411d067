// The one policy for where user traffic may go. Near side (SOCKS, HTTP CONNECT, forwards): only .fuse names
// and overlay addresses. Far side (exposures): a target is written in one unambiguous spelling, looked up
// once, and each address is checked after normalisation. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/address.h"
#include "base/result.h"

namespace ravine::services {

inline constexpr std::size_t kMaxHostSize = 253;  // RFC 1035 §2.3.4, in text

// fdcc::/16, the overlay of every network.
bool is_overlay(const IpAddress& address);

// A near-side target: `host` in canonical form (lower case, no final dot, overlay addresses as RFC 5952
// text). refused for everything that is not ours, in whatever spelling; invalid_argument for what is no host
// at all.
Result<std::string> check_overlay_host(std::string_view host);

// True when some parser would take `host` for an IPv4 address although it is no strict dotted quad: "127.1",
// "0x7f.1", "2130706433", "0177.0.0.1" (WHATWG URL "ends in a number").
bool is_numeric_spelling(std::string_view host);

// A far-side target as configured: strict address literal or DNS name, and a port other than 0.
Result<HostPort> parse_local_target(std::string_view text);
// Whether an exposure may connect to `address`: not unspecified, multicast, broadcast, nor the overlay
// itself, and no address that embeds another (v4-mapped, v4-compatible, NAT64, 6to4).
Result<> check_local_target(const IpAddress& address);

}  // namespace ravine::services
