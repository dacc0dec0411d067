// StreamPump: joins a local stream socket (TCP or UNIX) and a session stream until both directions ended.
// Bytes go from the socket straight into the session's send buffer and from its receive buffer straight into
// the socket: no copy of ours. Half-close passes both ways; a TCP reset and RESET_STREAM / STOP_SENDING
// become each other; slow readers hold the other side through flow control. Thread rule: the loop's thread.
#pragma once

#include <functional>
#include <memory>

#include "services/context.h"
#include "services/socket.h"

namespace ravine::services {

struct PumpCounters {
  std::uint64_t started = 0, active = 0, to_stream_bytes = 0, from_stream_bytes = 0, resets = 0;
};

struct PumpOptions {
  Bytes first;                       // bytes that were read from the socket already; go to the stream first
  PumpCounters* counters = nullptr;  // outlives the pump
  // Called once, when the socket is closed: bytes socket → stream, and stream → socket.
  std::function<void(std::uint64_t to_stream, std::uint64_t from_stream)> on_end;
};

// A running pump, for who may have to end it early. The pump keeps itself alive.
class StreamPump : public runtime::StreamHandler {
 public:
  virtual void abort(session::AppError code) = 0;  // resets both sides
};

// Makes a pump the handler of `stream` and starts it. `socket` is connected and non-blocking. Called in a
// turn, or after Driver::enter().
std::weak_ptr<StreamPump> start_pump(ServiceContext& context, session::Session& session,
                                     session::StreamId stream, Socket socket, PumpOptions options);

}  // namespace ravine::services
