// FarService: the far gateway as a running thing. One transport for all its near gateways, a FarGateway for
// each pairing, and HTTP clients for the servers behind it. Frames find their pairing by source address, else
// by connection ID. Thread rule: the loop's thread.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/core/far_gateway.h"
#include "services/gateway/coap_far.h"
#include "services/gateway/gateway_context.h"
#include "services/gateway/store.h"
#include "services/http/upstream.h"

namespace ravine::services {

struct FarServiceOptions {
  std::vector<SocketAddress> listen;  // of UDP; empty: `port` of all addresses
  std::uint16_t port = kGatewayPort;  // 0: any free one
  std::string line;                   // a pipe instead of UDP
  std::vector<std::string> pairings;  // names in the store; empty: all with the role `far`
  bool coap_only = false;             // no pairings at all
  http::UpstreamOptions upstream;
  LinkTuning tuning;
  Duration upstream_timeout = 60s;
  // Serves GET /.well-known/ravine-gateway there; empty: nowhere.
  std::vector<SocketAddress> well_known_listen;
  std::string public_address;  // HOST:PORT in that document
  CoapFarOptions coap;         // plain CoAP clients on the same port; with them, no pairing is needed
  // For programs that bring the wire themselves (bench, tests).
  std::function<std::unique_ptr<Transport>()> make_transport;
};

class FarService {
 public:
  // Errors: not_found (no pairing), already_exists (port or pairing in use), invalid_argument (upstream).
  static Result<std::unique_ptr<FarService>> start(GatewayContext context, const PairingStore& store,
                                                   FarServiceOptions options);
  ~FarService();  // as if the process were killed

  void stop(std::function<void()> done);
  std::vector<SocketAddress> addresses() const;  // of the transport, as bound
  std::vector<SocketAddress> well_known_addresses() const;
  boost::json::object status() const;
  // What /.well-known/ravine-gateway says, for whoever serves it elsewhere.
  boost::json::object well_known() const;

  // Plain CoAP datagrams (first byte 01……) on the same port; dropped while unset.
  using OnCoap = std::function<void(const SocketAddress& from, ByteView datagram)>;
  void set_on_coap(OnCoap on_coap);
  Transport& transport();
  http::UpstreamClient& upstream();

  struct Impl;

 private:
  explicit FarService(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
