// CoapToHttp: any CoAP client's requests as HTTP requests for a server, and the responses back. Reverse proxy
// for one configured server, forward proxy towards allowed hosts; OSCORE by the contexts that were added,
// clear text only when it is switched on. Observes by polling. A machine by base/machine.h; one thread drives
// it.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "gateway/coap/oscore_protection.h"
#include "gateway/coap_proxy/mapping.h"
#include "gateway/core/far_gateway.h"

namespace ravine::gateway::coap_proxy {

using core::UpstreamError;
using core::UpstreamId;

struct CoapToHttpOptions {
  coap::ExchangerOptions exchanger;  // its limits of bodies become those of `mapping`
  MappingOptions mapping;
  bool allow_clear = false;           // requests without OSCORE
  bool trust_loopback = true;         // such addresses cannot be forged from afar: no proof of them is asked
  std::size_t waiting = 256;          // requests at servers
  std::size_t waiting_per_peer = 32;  // of one address
  std::size_t watched = 64;           // observed resources
  Duration upstream_timeout = 60s;    // then 5.04
  Duration watch_interval = 30s;      // between polls of a resource that says nothing of its age
  Duration poll_timeout = 30s;        // what long polls of an observed /sync ask for
};

struct CoapUpstreamRequest {
  UpstreamId id = 0;
  std::string origin;  // "http://host:port"; "" for the configured server
  core::HttpRequest request;
  Duration timeout{0};
  bool long_poll = false;
};

struct CoapToHttpCounters {
  std::uint64_t requests = 0, secured = 0;    // that came
  std::uint64_t refused = 0, overloaded = 0;  // answered without a server
  std::uint64_t upstream = 0, failed = 0;     // at servers, and those without a response
  std::uint64_t notifications = 0;
};

class CoapToHttp {
 public:
  // `random` outlives it.
  CoapToHttp(CoapToHttpOptions options, RandomSource& random);
  CoapToHttp(CoapToHttp&&) noexcept;
  ~CoapToHttp();

  // Requests under `context`, which outlives it, are served.
  void add(security::OscoreContext& context);

  void handle_datagram(Instant now, const SocketAddress& from, ByteView datagram);
  void handle_timeout(Instant now);
  std::optional<coap::OutgoingDatagram> poll_transmit(Instant now);
  Deadline next_deadline() const;

  std::optional<CoapUpstreamRequest> poll_upstream();
  std::optional<UpstreamId> poll_withdrawn();  // not wanted any more
  void handle_response(Instant now, UpstreamId id, core::HttpResponse response);
  void handle_failure(Instant now, UpstreamId id, UpstreamError error);

  const CoapToHttpCounters& counters() const;
  const coap::Exchanger& exchanger() const;
  std::size_t waiting() const;
  std::size_t watched() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::gateway::coap_proxy
