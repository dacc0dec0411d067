// The far service's state, and the steps that far_service.cpp (life, traffic) and far_status.cpp (what it
// tells) share. Internal.
#pragma once

#include <map>

#include "gateway/core/far_gateway.h"
#include "host/deadline_timer.h"
#include "services/gateway/far_service.h"
#include "services/gateway/gateway_status.h"
#include "services/gateway/paired.h"
#include "services/http/http_server.h"

namespace ravine::services {

struct FarService::Impl {
  Impl(GatewayContext given, FarServiceOptions wanted);

  struct Peer {
    std::optional<Paired<gateway::core::FarGateway>> paired;
    SocketAddress address;             // under which `by_address` knows it
    gateway::core::GatewayStats past;  // of cores that new keys replaced
  };
  // A request at the upstream server.
  struct Call {
    std::size_t peer = 0;
    gateway::core::UpstreamId id = 0;
  };

  // far_service.cpp
  Result<> start(const PairingStore& store);
  Result<> open_transport();
  Result<> open_peer(const PairingStore& store, const std::string& name);
  Result<> start_well_known();
  Result<> start_coap(const PairingStore& store);
  gateway::link::LinkOptions link_options() const;
  void handle_datagram(const SocketAddress& from, ByteView datagram);
  std::optional<std::size_t> owner_of(const SocketAddress& from, ByteView datagram);
  bool spend_handshake(Instant now);
  void turn(std::size_t index);
  void ask(std::size_t index, gateway::core::UpstreamRequest request);
  void handle_outcome(gateway::core::UpstreamId id, http::UpstreamClient::Outcome outcome);
  void handle_timer();
  void arm();

  // far_status.cpp
  boost::json::object status() const;
  boost::json::object well_known() const;
  boost::json::object peer_json(Instant now, const Peer& peer) const;

  GatewayContext context;
  FarServiceOptions options;
  Log log;
  std::unique_ptr<Transport> transport;
  std::vector<std::unique_ptr<Peer>> peers;
  std::map<SocketAddress, std::size_t> by_address;
  std::map<gateway::core::UpstreamId, Call> calls;
  gateway::core::UpstreamId next_call = 1;
  std::unique_ptr<http::UpstreamClient> upstream;
  std::unique_ptr<http::HttpServer> well_known_server;
  std::vector<SocketAddress> well_known_bound;
  std::unique_ptr<host::DeadlineTimer> timer;
  OnCoap on_coap;
  std::unique_ptr<CoapFar> coap;
  std::uint32_t overhead = 28;
  std::uint64_t coap_datagrams = 0, unknown = 0, handshakes_refused = 0;
  double handshake_tokens = 0;
  Instant tokens_at;
};

}  // namespace ravine::services
