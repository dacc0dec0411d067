// One side of a benchmark as a Ravine node without configuration: a Driver on a loopback port with one
// network, used through the public session API exactly as services use it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>

#include "bench/harness.h"
#include "runtime/driver.h"

namespace ravine::bench {

// Two members of a made-up network, from an authority that lives as long as the run.
struct Members {
  session::NetworkOptions server;
  session::NetworkOptions client;
  identity::PeerId server_id;
};
// `strangers`: every session appears to be with another peer, so that many sessions between the two live side
// by side instead of converging to one. The certificates are checked all the same.
Result<Members> make_members(bool strangers = false);

// What a benchmark sets differently from a node's defaults.
struct NodeTuning {
  session::ProtectionBackend protection = session::ProtectionBackend::automatic;
  std::uint32_t max_udp_payload = 1452;
  std::uint64_t send_buffer = 0;  // bytes per stream; 0: the default
  Duration idle_timeout = 60s;
};

class LoopbackNode {
 public:
  LoopbackNode(SharedState& shared, SideState& mine, session::NetworkOptions network,
               const NodeTuning& tuning);
  ~LoopbackNode();

  // Binds 127.0.0.1 on a free port.
  Result<> open();
  runtime::Driver& driver() { return *driver_; }
  session::Endpoint& endpoint() { return driver_->endpoint(); }
  session::NetworkId network() const { return network_id_; }  // after open()
  SharedState& shared() { return shared_; }
  SideState& state() { return mine_; }
  boost::asio::io_context& loop() { return loop_; }
  // Dials the node whose port the server side published. `peer` empty: any member.
  Result<session::SessionId> dial(std::optional<identity::PeerId> peer);
  // Turns the loop until `shared.stop`, publishing the packet counters every few milliseconds.
  void run();
  // Ends the run with an error from inside a handler.
  void fail(Error error);
  Result<> outcome() const { return failure_ ? Result<>(*failure_) : Result<>(); }

 private:
  void tick();
  SharedState& shared_;
  SideState& mine_;
  session::NetworkOptions network_;
  NodeTuning tuning_;
  boost::asio::io_context loop_{1};
  boost::asio::steady_timer timer_{loop_};
  std::unique_ptr<RandomSource> random_;
  std::unique_ptr<WallClock> clock_;
  std::unique_ptr<runtime::Driver> driver_;
  session::NetworkId network_id_;
  std::optional<Error> failure_;
};

}  // namespace ravine::bench
