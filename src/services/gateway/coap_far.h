// CoapFar: plain CoAP clients of the far gateway, on its UDP port: their requests go to its server, with
// OSCORE or, when switched on, in the clear. Thread rule: the loop's thread.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gateway/coap_proxy/coap_to_http.h"
#include "host/deadline_timer.h"
#include "services/gateway/gateway_context.h"
#include "services/gateway/oscore_keys.h"
#include "services/http/upstream.h"

namespace ravine::services {

struct CoapFarOptions {
  bool clear = false;                // requests without OSCORE; status shows it
  std::vector<std::string> oscore;   // files of contexts
  std::vector<std::string> forward;  // hosts for Proxy-Uri; empty: none
  std::string maps_dir;              // of short paths; empty: those of MSC3079
  bool dump_payloads = false;        // into the log, at debug
  bool enabled() const { return clear || !oscore.empty(); }
};

class CoapFar {
 public:
  struct Surroundings {
    http::UpstreamOptions upstream;
    LinkTuning tuning;
    Duration upstream_timeout = 60s;
    std::string state_directory;  // for sequence numbers
    std::uint32_t overhead_bytes = 28;
    std::size_t max_frame = 1152;
    bool point_to_point = false;  // the other end needs no proof of its address
  };
  using Send = std::function<void(const SocketAddress& to, ByteView datagram)>;

  // Errors: of the files, the maps, the hosts and the upstream.
  static Result<std::unique_ptr<CoapFar>> start(const GatewayContext& context, CoapFarOptions options,
                                                Surroundings surroundings, Send send);
  ~CoapFar();  // ends everything; no call comes after it

  void handle_datagram(const SocketAddress& from, ByteView datagram);
  boost::json::object status() const;

 private:
  struct Call {
    gateway::coap_proxy::UpstreamId id = 0;
    http::UpstreamClient* client = nullptr;
  };
  CoapFar(const GatewayContext& context, CoapFarOptions options, Surroundings surroundings, Send send);
  Result<> prepare();
  void turn();
  void ask(gateway::coap_proxy::CoapUpstreamRequest request);
  http::UpstreamClient* client_for(const std::string& origin);
  void handle_outcome(gateway::coap_proxy::UpstreamId id, http::UpstreamClient::Outcome outcome);

  GatewayContext context_;
  CoapFarOptions options_;
  Surroundings surroundings_;
  Send send_;
  Log log_;
  std::vector<std::unique_ptr<OscoreKeys>> keys_;
  std::optional<gateway::coap_proxy::CoapToHttp> machine_;
  std::unique_ptr<http::UpstreamClient> upstream_;
  std::map<std::string, std::unique_ptr<http::UpstreamClient>> forwards_;  // by origin
  std::map<gateway::coap_proxy::UpstreamId, Call> calls_;
  std::unique_ptr<host::DeadlineTimer> timer_;
};

// Reads routes.json, event_types.json and query_params.json. Errors: not_found without routes.json,
// invalid_argument.
Result<gateway::coap_proxy::PathTable> read_path_maps(const std::string& directory);

}  // namespace ravine::services
