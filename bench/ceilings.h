// What the machine allows without us: other people's or the kernel's ways to do the same work, measured
// beside ours.
#pragma once

#include <cstddef>

#include "base/result.h"
#include "bench/harness.h"

namespace ravine::bench {

// One stream of TLS 1.3 (AES-128-GCM) over TCP by OpenSSL, in writes of 64 KiB: payload in Gbit/s, and each
// side's CPU per 1452 payload bytes so that it compares with a packet's.
struct StreamCeiling {
  double gigabits = 0;
  double send_ns_per_packet = 0;
  double receive_ns_per_packet = 0;
};
Result<StreamCeiling> measure_tls_stream(double seconds);

// Full TLS 1.3 handshakes over TCP by OpenSSL, both ends with Ed25519 certificates and checking the other's,
// X25519, no resumption: handshakes per CPU second of the side that spends more. With `resume`, PSK
// resumption with (EC)DHE.
Result<double> measure_tls_handshakes(double seconds, bool resume);

// UDP with generic segmentation and receive offload, nothing done to the bytes.
struct DatagramCeiling {
  double gigabits = 0;
  double million_packets = 0;  // received, per second
  double send_ns_per_packet = 0;
  double receive_ns_per_packet = 0;
};
Result<DatagramCeiling> measure_udp_gso(std::size_t packet_size, double seconds);

// One UDP datagram there and one back, blocking calls: median round trip in µs.
Result<double> measure_udp_round_trip(std::size_t size, double seconds);
// `outstanding` datagrams there and back, one system call each: round trips per second.
Result<double> measure_udp_echoes(std::size_t size, unsigned outstanding, double seconds);

}  // namespace ravine::bench
