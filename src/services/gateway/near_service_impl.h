// The near service's state, and the steps that near_service.cpp (life, traffic) and near_status.cpp (what it
// tells) share. Internal.
#pragma once

#include <deque>
#include <map>

#include "gateway/core/matrix.h"
#include "gateway/core/near_gateway.h"
#include "host/deadline_timer.h"
#include "host/resolver.h"
#include "services/gateway/gateway_status.h"
#include "services/gateway/near_service.h"
#include "services/gateway/paired.h"
#include "services/http/http_server.h"
#include "services/http/upstream.h"

namespace ravine::services {

using gateway::core::HttpId;
using gateway::core::HttpRequest;
using gateway::core::HttpResponse;

struct NearService::Impl : std::enable_shared_from_this<Impl> {
  Impl(GatewayContext given, NearServiceOptions wanted);

  // A request that has no response yet.
  struct Exchange {
    std::size_t peer = 0;
    bool matrix = false;
    Instant started;
    bool by_fallback = false;
    std::optional<HttpRequest> copy;  // what may go another way later
  };
  struct Waiting {
    HttpId id = 0;
    HttpRequest request;
  };
  struct Peer {
    NearPeer config;
    PeerSpec spec;
    std::unique_ptr<Transport> transport;
    std::optional<Paired<gateway::core::NearGateway>> paired;
    std::deque<Waiting> waiting;  // for keys
    Instant resolve_at = Instant::never();
    bool resolving = false;
    std::string resolve_error;
    gateway::core::GatewayStats past;  // of cores that new keys replaced
    std::uint64_t refused = 0;         // requests that no core answered
    std::uint32_t overhead = 0;
    Instant tried_at = Instant::never();  // the link, while it seemed down
    std::uint64_t fallbacks = 0;
  };

  // near_service.cpp
  Result<> start(const PairingStore& store);
  Result<> open_peer(const PairingStore& store, Peer& peer);
  Result<> open_transport(Peer& peer);
  gateway::link::LinkOptions link_options(const Peer& peer) const;
  void resolve(std::size_t index);
  void handle_request(HttpId id, HttpRequest request);
  void handle_gone(HttpId id);
  void enter_link(Instant now, Peer& peer, HttpId id, HttpRequest request);
  void handle_replaced(std::size_t index);
  void turn(std::size_t index);
  void handle_timer();
  void expire(Instant now, Peer& peer);
  void arm();
  void answer(HttpId id, HttpResponse response);
  void refuse(HttpId id, std::uint16_t status, std::string_view reason);

  // near_status.cpp
  bool is_down(Instant now, const Peer& peer) const;
  bool goes_by_fallback(Instant now, Peer& peer, const Exchange& exchange);
  http::UpstreamClient* fallback_client(const Peer& peer, const HttpRequest& request);
  bool fall_back(HttpId id, const HttpRequest& request);
  void handle_fallback(const http::UpstreamClient& client, HttpId id, http::UpstreamClient::Outcome outcome);
  void move_to_fallback(Instant now, std::size_t index);
  std::string silence_reason(Instant now, const Peer& peer) const;
  boost::json::object status() const;
  boost::json::object peer_json(Instant now, const Peer& peer) const;

  GatewayContext context;
  NearServiceOptions options;
  Log log;
  host::Resolver resolver;
  gateway::core::HostTable table;
  std::vector<std::unique_ptr<Peer>> peers;
  std::map<HttpId, Exchange> exchanges;
  std::map<std::string, std::unique_ptr<http::UpstreamClient>, std::less<>> fallbacks;  // by base URL
  std::unique_ptr<http::HttpServer> server;
  std::unique_ptr<host::DeadlineTimer> timer;
  std::vector<SocketAddress> bound;
  std::unique_ptr<CoapNear> coap;
  bool stopping = false;
};

}  // namespace ravine::services
