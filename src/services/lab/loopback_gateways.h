// LoopbackGateways: a far and a near gateway in one loop, paired, with UDP on loopback or whatever the caller
// puts between them. State is in a directory of its own that goes with it. Thread rule: the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

#include "host/random.h"
#include "services/gateway/far_service.h"
#include "services/gateway/near_service.h"

namespace ravine::services {

struct LoopbackOptions {
  std::string upstream;  // the far side's, http://…
  LinkTuning tuning;
  Duration gateway_timeout = 600s;
  std::string far_line;  // a pipe in place of UDP; empty: UDP
  // Where the near side sends to, given the far side as it listens. Absent: to the far side itself.
  std::function<Result<std::string>(const FarService& far)> way;
  std::function<gateway::link::Coders()> make_coders;
};

class LoopbackGateways {
 public:
  // Errors: io (no room for the state), and what the services say.
  static Result<std::unique_ptr<LoopbackGateways>> start(boost::asio::io_context& loop,
                                                         LoopbackOptions options);
  ~LoopbackGateways();
  LoopbackGateways(const LoopbackGateways&) = delete;
  LoopbackGateways& operator=(const LoopbackGateways&) = delete;

  NearService& near() { return *near_; }
  FarService& far() { return *far_; }
  std::string near_url() const;

 private:
  LoopbackGateways(boost::asio::io_context& loop, std::string directory);
  Result<> pair();
  Result<> open(LoopbackOptions options);

  boost::asio::io_context& loop_;
  host::SystemRandom random_;
  std::string directory_;
  PairingStore near_store_, far_store_;
  std::unique_ptr<FarService> far_;
  std::unique_ptr<NearService> near_;
};

// For clients and services that are given addresses alone.
Resolver no_names();

}  // namespace ravine::services
