// Driver: joins an Endpoint (pure) with host's UDP sockets, clock and timers in a Boost.Asio loop, and hands
// the endpoint's events to the handlers that services registered. One turn: read batches → endpoint → events
// → transmit → arm the timer. Thread rule: everything on the io_context's one thread, except post() of Asio
// itself.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "base/log.h"
#include "host/udp.h"
#include "session/endpoint.h"

namespace ravine::runtime {

// What a service attaches to a stream as its context: a void* made from a StreamHandler*, never from a
// derived class's pointer. The driver calls it from inside a turn; calls back into the session are allowed,
// deleting itself is allowed in on_closed alone.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  virtual void on_readable(session::Session& session, session::StreamId stream) = 0;
  virtual void on_writable(session::Session& session, session::StreamId stream) = 0;
  virtual void on_reset(session::Session& session, session::StreamId stream, session::AppError code) = 0;
  virtual void on_stopped(session::Session& session, session::StreamId stream, session::AppError code) = 0;
  // Last call: the stream is over, or its session is (then `session` is null and code says why). Nothing
  // refers to the handler afterwards.
  virtual void on_closed(session::Session* session, session::StreamId stream, session::AppError code) = 0;
};

// Listens to sessions. Several observers may be registered; all get every event except stream_opened, which
// goes to the first that returns true.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  virtual void on_established(session::Session&) {}
  virtual void on_closed(session::SessionId, const session::SessionInfo&, const session::CloseReason&) {}
  virtual bool on_stream_opened(session::Session&, session::StreamId) { return false; }
  virtual void on_streams_available(session::Session&) {}
  virtual void on_datagrams(session::Session&) {}
  virtual void on_datagrams_writable(session::Session&) {}
  virtual void on_path_changed(session::Session&) {}
  virtual void on_path_state(session::Session&, session::PathId) {}
  virtual void on_control(session::Session&) {}  // poll_control() until empty
  // Every path of the session is silent: look names up again, dial anew.
  virtual void on_addresses_stale(session::Session&) {}
};

struct DriverOptions {
  std::uint16_t port = 0;         // UDP port, IPv6 and IPv4; 0: any free one
  std::vector<IpAddress> listen;  // empty: all addresses of both families
  session::EndpointOptions endpoint;
  host::UdpOptions udp;
  bool watch_interfaces = true;
};

class Driver {
 public:
  Driver(boost::asio::io_context& loop, DriverOptions options, RandomSource& random, const WallClock& clock,
         Log log);
  ~Driver();

  // Binds the sockets. Errors: already_exists when the port is taken, unsupported when no address works, io.
  Result<> open();
  // Closes every session politely (handlers and observers hear it), then the sockets. Not from inside a
  // handler.
  void close();
  // The same without a word to peers, as if the process died: handlers and observers alone hear it.
  void abandon();

  session::Endpoint& endpoint();
  // The time of this turn: read once at its start, never goes backwards.
  Instant now() const;
  std::uint16_t port() const;
  std::vector<SocketAddress> local_addresses() const;  // usable by peers, best first
  void add_observer(SessionObserver* observer);
  void remove_observer(SessionObserver* observer);
  // After commands to the endpoint or a session from outside a handler (a TCP socket became readable, a
  // control call): schedules one drain at the end of this loop turn. Cheap to call many times.
  void touch();
  // Starts a turn for code outside of a handler: reads the clock so that now() is fresh.
  Instant enter();

  struct Counters {
    std::uint64_t receive_calls = 0, send_calls = 0, send_errors = 0, gso_fallbacks = 0, turns = 0;
    std::uint64_t blocked = 0;          // sends for which the kernel had no room
    std::uint64_t dropped_blocked = 0;  // batches given up because it had none for too long
    std::uint64_t messages_received = 0, packets_sent = 0;
  };
  Counters counters() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::runtime
