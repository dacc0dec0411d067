// State of the driver; internal to this folder. driver.cpp has the turn, dispatch.cpp hands events to
// handlers.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "host/deadline_timer.h"
#include "host/interfaces.h"
#include "host/udp_port.h"
#include "host/udp_send.h"
#include "runtime/driver.h"

namespace ravine::runtime {

struct Driver::Impl : std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& io, DriverOptions made, RandomSource& random, const WallClock& clock,
       Log sink);

  // --- life
  Result<> open();
  void close(bool tell_peers);
  void shut();  // sockets and timers, without a word to anybody

  // --- input
  Instant enter();
  void wait_readable(std::size_t socket);
  void handle_readable(std::size_t socket);
  void handle_interfaces(const std::vector<host::InterfaceAddress>& found);
  void touch();

  // --- the turn
  void run_turn();
  bool transmit();  // true: something left, or waits
  void handle_blocked(int socket);
  void resume();
  void report_too_large();
  bool dispatch();  // true: there were events

  // --- dispatch.cpp
  void dispatch_event(const session::Event& event);
  void dispatch_stream(const session::Event& event, session::Session& session);
  void dispatch_session(const session::Event& event, session::Session& session);
  void dispatch_closed(const session::Event& event);
  void offer_stream(const session::Event& event, session::Session& session);
  template <class Call>
  void each_observer(const Call& call);

  boost::asio::io_context& loop;
  DriverOptions options;
  Log log;
  session::Endpoint endpoint;
  Instant now;
  Duration suspended{0};

  host::UdpPort udp;
  std::vector<std::unique_ptr<boost::asio::posix::stream_descriptor>>
      descriptors;  // one per socket, not owning
  host::ReceiveBuffers buffers;
  TransmitBatch batch;
  host::UdpSender sender;
  std::unique_ptr<host::DeadlineTimer> timer;
  std::unique_ptr<host::InterfaceWatch> watch;
  std::vector<host::InterfaceAddress> interfaces;

  boost::asio::steady_timer blocked_timer;
  Instant blocked_since = Instant::never();
  bool retry_by_timer = false;
  std::vector<std::size_t> unread;  // sockets whose reading waits until the sender is free

  std::vector<SessionObserver*> observers;  // null: removed during a turn
  bool is_open = false;
  bool in_turn = false;
  bool scheduled = false;
  std::uint64_t turns = 0, dropped_blocked = 0;
};

}  // namespace ravine::runtime
