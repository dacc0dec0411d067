// ExposeService: overlay ports that lead to local targets, each with the list of peers that may use it.
// Default deny: without an exposure a port does not exist, without a matching rule it refuses.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "services/flow.h"
#include "services/forward.h"
#include "services/pump.h"
#include "services/streams.h"

namespace ravine::services {

struct Exposure {
  Protocol protocol = Protocol::tcp;
  std::uint16_t port = 0;          // overlay port, 1–65535
  std::string to;                  // "127.0.0.1:8080", "[::1]:8080", "host:8080"; see parse_local_target
  std::vector<std::string> allow;  // "name", 16-character ID, "group:NAME", "*"; empty: nobody
  std::optional<session::NetworkId> network;  // none: every network
};

class ExposeService {
 public:
  ExposeService(StreamRouter& router, FlowTable& flows);
  ~ExposeService();
  // Errors: invalid_argument (target, port or rule), already_exists (protocol, port and network taken).
  Result<> add(const Exposure& exposure);
  // Ends the exposure; open connections through it are reset. False when there is none.
  bool remove(Protocol protocol, std::uint16_t port);
  void clear();
  std::vector<Exposure> list() const;
  // Runs the rules again over open connections (after groups or rules changed).
  struct Counters {
    std::uint64_t accepted = 0, denied = 0, unknown = 0, failed = 0, over_limit = 0;
  };
  const Counters& counters() const;
  PumpCounters& pump_counters();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
