// Transport: what carries the datagrams between two gateways: UDP, a serial line or pipe, or a Ravine
// session. Loses what it cannot send, as the wire may; the thin link repeats. Thread rule: the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/result.h"

namespace ravine::services {

struct TransportCounters {
  std::uint64_t datagrams_out = 0, datagrams_in = 0;
  std::uint64_t bytes_out = 0, bytes_in = 0;  // of datagrams, without what is below them
  std::uint64_t send_failures = 0;            // not sent: buffers full, no route, line closed
  std::uint64_t garbage_in = 0;               // bytes of a line that were in no intact frame
};

class Transport {
 public:
  using OnDatagram = std::function<void(const SocketAddress& from, ByteView bytes)>;
  virtual ~Transport() = default;

  // Datagrams come to `on_datagram` from the loop, never from inside a call, until stop().
  virtual Result<> start(OnDatagram on_datagram) = 0;
  virtual void stop() = 0;
  // `to` says nothing to a pipe or a session, which have one other end.
  virtual void send(const SocketAddress& to, ByteView datagram) = 0;

  // Bytes that the link below adds to each datagram: 28 UDP/IPv4, 48 UDP/IPv6, framing on a line.
  virtual std::uint32_t overhead_bytes(const SocketAddress& to) const = 0;
  virtual std::size_t max_frame() const = 0;                           // bytes of a datagram
  virtual bool is_point_to_point() const = 0;                          // a line that has two ends only
  virtual std::string describe() const = 0;                            // for people: "udp 127.0.0.1:5683"
  virtual std::vector<SocketAddress> addresses() const { return {}; }  // as bound; empty for what has none
  virtual std::string fault() const { return {}; }  // why nothing can be sent now; "": it can
  const TransportCounters& counters() const { return counters_; }

 protected:
  TransportCounters counters_;
};

// The one address that stands for the other end of a pipe or session.
SocketAddress only_peer();

// One UDP socket per address; port 0 takes a free one. `addresses` empty: port `port` of all IPv4 and IPv6.
struct UdpTransportOptions {
  std::vector<SocketAddress> addresses;
  std::uint16_t port = 0;
  std::size_t max_frame = 1200;
};
std::unique_ptr<Transport> make_udp_transport(boost::asio::io_context& loop, UdpTransportOptions options);

// "/dev/ttyUSB0", "/dev/ttyUSB0:9600", "stdio", "exec:COMMAND ARG…" (its standard input and output, run by
// /bin/sh). Frames: COBS of datagram ‖ CRC-16, ended by a zero byte, so that the reader finds its place again
// after garbage. A line that ends is opened again every few seconds (not stdio).
struct PipeTransportOptions {
  std::string line;
  std::size_t max_frame = 240;   // short ones: a repetition after a bit error costs less
  std::function<void()> on_end;  // stdio or a command has ended for good
};
bool is_pipe_spec(std::string_view text);
// Errors: invalid_argument for a line that is none of the above.
Result<std::unique_ptr<Transport>> make_pipe_transport(boost::asio::io_context& loop, Log log,
                                                       PipeTransportOptions options);
// Both ends of a connected stream that the caller made (socketpair, tests).
std::unique_ptr<Transport> make_stream_transport(boost::asio::io_context& loop, Log log, int descriptor,
                                                 std::size_t max_frame);

// To UDP port `port` that peer `host` ("box.fuse") exposes, over the node that answers at `control_path`.
// Connects again when the node or the flow ends.
struct SessionTransportOptions {
  std::string control_path;
  std::string host;
  std::uint16_t port = 0;
  std::size_t max_frame = 1100;
};
std::unique_ptr<Transport> make_session_transport(boost::asio::io_context& loop, Log log,
                                                  SessionTransportOptions options);

}  // namespace ravine::services
