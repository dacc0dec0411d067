// Datagrams as they cross the border between the machines and the host: where one came from or goes to,
// received trains, and batches to send. Plain values; nothing here does I/O.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"

namespace ravine {

// How a datagram travels on this host: which address it came to or leaves from, and the other end.
struct Route {
  SocketAddress remote;
  IpAddress local;                    // unspecified: the kernel chooses
  std::uint32_t interface_index = 0;  // 0: the kernel chooses
  std::uint8_t ttl = 0;               // 0: the system's default; traversal's openers set it low
  friend auto operator<=>(const Route&, const Route&) = default;
};

// One receive: a datagram, or a GRO train of equal-sized datagrams (the last may be shorter) from one
// 5-tuple. The receiver may overwrite label bytes in place.
struct Received {
  Route route;
  MutableBytes bytes;
  std::uint32_t segment_size = 0;  // bytes; == bytes.size() for a single datagram
  std::uint8_t ecn = 0;            // two bits, RFC 3168
};

struct Transmit {
  const std::uint8_t* data =
      nullptr;              // in the batch's storage, or in a receive buffer that is being forwarded
  std::uint32_t size = 0;   // bytes
  std::uint16_t route = 0;  // index in TransmitBatch::routes
  std::uint8_t ecn = 0;
};

// What poll_transmit fills and the host sends: packets in order, each naming its route. The host groups
// packets of one (route, ECN, size) into GSO sends. Storage never moves while the batch holds packets.
class TransmitBatch {
 public:
  // capacity in bytes; one poll writes no more than fits.
  explicit TransmitBatch(std::size_t capacity = std::size_t{256} * 1024) : storage_(capacity) {}

  MutableBytes space() { return MutableBytes(storage_).subspan(used_); }
  // Commits `size` bytes at the front of space() as one packet.
  void commit(std::size_t size, const Route& route, std::uint8_t ecn);
  // Adds a packet that lives elsewhere until the batch is cleared (forwarding).
  void add_view(ByteView packet, const Route& route, std::uint8_t ecn);
  void clear();
  bool empty() const { return packets_.empty(); }
  std::size_t used_bytes() const { return used_; }
  const std::vector<Transmit>& packets() const { return packets_; }
  const std::vector<Route>& routes() const { return routes_; }
  // The mutable bytes of a committed packet (label substitution).
  std::uint8_t* packet_data(std::size_t index) { return const_cast<std::uint8_t*>(packets_[index].data); }
  std::uint16_t intern(const Route& route);

 private:
  std::vector<std::uint8_t> storage_;
  std::size_t used_ = 0;
  std::vector<Transmit> packets_;
  std::vector<Route> routes_;
};

}  // namespace ravine
