// Replays a trace through both gateways in virtual time and says where the bytes went. The client asks one
// exchange after the other, each when the one before is answered. Pure; one thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lab/trace.h"
#include "lab/virtual_gateway.h"

namespace ravine::lab {

// Which exchange a datagram belongs to: answers of the link to what was answered, messages downward to what
// the server answered last, upward to what the client asked last. Quiet things count where they travel.
class Attribution {
 public:
  void asked(std::size_t exchange) { asked_ = exchange; }
  // By the server. `news`: on a poll of the far gateway's own.
  void answered(std::size_t exchange, bool news);
  std::size_t of(bool up, ByteView datagram);

 private:
  std::size_t asked_ = 0, answered_ = 0, handed_ = 0, message_ = 0;
};

// Bytes and time of a replay, by whichever means it ran. "Up" is towards the server.
struct ReplayFigures {
  struct Part {
    std::string kind;
    std::uint64_t exchanges = 0;
    std::uint64_t up_bytes = 0, down_bytes = 0;  // IP bytes offered to the link
    std::uint64_t http_bytes = 0;                // bodies and targets as they stand in the trace
    Duration elapsed{0};                         // request to response
    Duration median{0};                          // likewise; of a sum over exchanges
    std::uint64_t made_once = 0;                 // of them: what the server ran exactly once
  };
  std::vector<Part> exchanges;
  std::uint64_t up_datagrams = 0, down_datagrams = 0;
  Duration air_up{0}, air_down{0}, elapsed{0};
  gateway::link::LinkStats near, far;
  std::string coder;  // that the links agreed on
  // Of a minute of long polls without news, after the trace. Absent when the trace has no sync.
  std::optional<std::uint64_t> idle_minute_bytes;
  std::vector<std::string> faults;  // responses that differ, requests that the server did not know
  std::vector<unsigned> made;       // by exchange: how often the server ran it, as TraceServer counts

  void take_made(std::vector<unsigned> counts);
  std::vector<Part> by_kind() const;  // in the order of their first exchange
  Part total() const;
};

// What happens to a gateway, so long after an exchange began or, when that was answered sooner, before the
// next one.
struct Disturbance {
  enum class What : std::uint8_t { restart_near, restart_far, rebind_near };
  std::size_t exchange = 0;
  Duration after{0};
  What what = What::restart_near;
};

struct ReplayOptions {
  VirtualOptions gateway;
  std::vector<Disturbance> disturbances;  // in the order of their exchanges and times
  Duration think{0};                      // between a response and the next request
  Duration server_time = 20ms;
  Duration patience = 6h;  // per exchange, of virtual time
};

// Errors: timed_out when an exchange has no response.
Result<ReplayFigures> replay(const Trace& trace, ReplayOptions options);

}  // namespace ravine::lab
