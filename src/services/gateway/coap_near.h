// CoapNear: HTTP clients of the near gateway to CoAP servers (RFC 8075), over a UDP socket of its own. Thread
// rule: the loop's thread.
#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/coap_proxy/http_to_coap.h"
#include "host/deadline_timer.h"
#include "services/gateway/gateway_context.h"

namespace ravine::services {

struct CoapNearOptions {
  std::vector<std::string> servers;  // "HOST[:PORT]" that /hc/coap://… may name
  std::string target;                // "HOST[:PORT]" that all other requests go to; empty: they use the links
  bool matrix = false;               // Matrix requests to the target by MSC3079
  bool dump_payloads = false;        // into the log, at debug
  bool enabled() const { return !servers.empty() || !target.empty(); }
};

// Of a body, for the log: what prints, at most 2 KiB.
std::string dumped(ByteView body);

// "HOST", "HOST:PORT", "[v6]:PORT". Errors: invalid_argument, also for addresses of many (multicast).
Result<gateway::coap_proxy::CoapServer> parse_coap_server(std::string_view text);

class CoapNear {
 public:
  using Respond = std::function<void(gateway::core::HttpId id, gateway::core::HttpResponse response)>;

  // Errors: invalid_argument (a server), io.
  static Result<std::unique_ptr<CoapNear>> start(const GatewayContext& context,
                                                 const CoapNearOptions& options, const LinkTuning& tuning,
                                                 Duration timeout, Respond respond);
  ~CoapNear();  // ends everything; no call comes after it

  bool is_ours(std::string_view target) const { return machine_->is_ours(target); }
  void handle_request(gateway::core::HttpId id, gateway::core::HttpRequest request);
  void withdraw(gateway::core::HttpId id);
  std::size_t waiting() const { return machine_->waiting(); }
  boost::json::object status() const;

 private:
  CoapNear(const GatewayContext& context, Respond respond);
  Result<> prepare(const CoapNearOptions& options, const LinkTuning& tuning, Duration timeout);
  void resolve(std::size_t server);
  void turn();

  GatewayContext context_;
  Respond respond_;
  Log log_;
  std::optional<gateway::coap_proxy::HttpToCoap> machine_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<host::DeadlineTimer> timer_;
  std::vector<Instant> resolve_at_;  // of each server; never(): a literal, or under way
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  bool dump_payloads_ = false;
  std::uint64_t requests_ = 0;
};

}  // namespace ravine::services
