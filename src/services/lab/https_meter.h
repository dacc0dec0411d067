// What a trace costs over HTTPS with one kept connection (HTTP/1.1, TLS 1.3, TCP over IPv4): a client and a
// server of ours on loopback exchange it, and the kernel says how many segments that took. Segments are as on
// an Ethernet of 1500 bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "lab/trace.h"

namespace ravine::services {

struct HttpsFigures {
  struct Part {
    std::string kind;
    std::uint64_t exchanges = 0;
    std::uint64_t up_bytes = 0, down_bytes = 0;  // IP bytes
  };
  std::vector<Part> exchanges;                         // in the order of the trace
  std::uint64_t handshake_up = 0, handshake_down = 0;  // of TCP and TLS; not in `exchanges`
  std::uint64_t ip_bytes() const;                      // all of it
};

// Blocks for about a second. Errors: io, internal (TLS).
Result<HttpsFigures> measure_https(const lab::Trace& trace);

}  // namespace ravine::services
