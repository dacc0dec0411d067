// NearService: the near gateway as a running thing. An HTTP server for local clients, and for each far
// gateway a pairing, a transport and a NearGateway; the request's Host says which. Survives lost peers,
// restarts and changed addresses without a handshake. Thread rule: the loop's thread.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/core/near_gateway.h"
#include "services/gateway/coap_near.h"
#include "services/gateway/gateway_context.h"
#include "services/gateway/store.h"

namespace ravine::services {

// One far gateway.
struct NearPeer {
  std::string pairing;             // name in the store
  std::string peer;                // PeerSpec; empty: the address in the pairing code
  std::vector<std::string> hosts;  // that it serves; empty: all that no other does
  // For programs that bring the wire themselves (bench, tests); unset: as `peer` says.
  std::function<std::unique_ptr<Transport>()> make_transport;
};

struct NearServiceOptions {
  std::vector<SocketAddress> listen{{IpAddress::v4({127, 0, 0, 1}), 8888}};
  bool allow_remote = false;  // listening beyond loopback: whoever reaches the port uses the link
  std::vector<NearPeer> peers;
  LinkTuning tuning;
  gateway::core::NearOptions::Suppress suppress;
  Duration gateway_timeout = 600s;
  std::size_t max_waiting = 512;  // HTTP requests
  // Where requests go when the far gateway has been silent for `fallback_after`: "" never, "https" to
  // https://HOST of the request, or a base URL.
  std::string fallback;
  CoapNearOptions coap;  // CoAP servers; with them, no peer is needed
  Duration fallback_after = 120s;
  Duration fallback_retry = 300s;  // then the link is tried again
};

class NearService {
 public:
  // Opens and locks the pairings, then listens. Errors: not_found (no such pairing), refused (beyond loopback
  // without allow_remote), already_exists (port or pairing in use), and what the parts say.
  static Result<std::unique_ptr<NearService>> start(GatewayContext context, const PairingStore& store,
                                                    NearServiceOptions options);
  ~NearService();  // as if the process were killed: nothing is sent, what is durable stays

  // Takes no more requests, answers those that wait with 503; `done` comes when their answers left or after
  // 2 s.
  void stop(std::function<void()> done);
  std::vector<SocketAddress> addresses() const;  // of the HTTP server, as bound
  boost::json::object status() const;            // for `ravine gateway stats`
  bool is_idle() const;                          // no request waits and no link has anything under way

  struct Impl;

 private:
  explicit NearService(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
