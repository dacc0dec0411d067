// HttpToCoap: requests of HTTP clients to CoAP servers and their responses back, by the default mapping of
// RFC 8075 (/hc/coap://HOST[:PORT]/PATH?QUERY), or all of them to one server. Only to servers from
// configuration. A machine by base/machine.h; one thread drives it.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gateway/coap/exchanger.h"
#include "gateway/coap/uri.h"
#include "gateway/core/near_gateway.h"
#include "gateway/core/text.h"

namespace ravine::gateway::coap_proxy {

using core::HttpAnswer;
using core::HttpId;

struct CoapServer {
  std::string host;  // as in the URI, lower case, without brackets
  std::uint16_t port = 5683;
  SocketAddress address;  // port 0: not known yet; requests get 502
};

struct HttpToCoapOptions {
  coap::ExchangerOptions exchanger;
  std::vector<CoapServer> servers;
  // Index into `servers`: where requests outside `prefix` go. nullopt: nowhere, 404.
  std::optional<std::size_t> everything_to;
  std::string prefix = "/hc/";
  // Matrix requests to that server by MSC3079: JSON as CBOR both ways, the access token as an option.
  bool matrix = false;
  core::TextLimits limits{.max_body = std::size_t{1} << 20};
  std::size_t waiting = 256;        // requests
  Duration gateway_timeout = 120s;  // then 504
};

class HttpToCoap {
 public:
  // `random` and `protection` (null: in the clear) outlive it.
  HttpToCoap(HttpToCoapOptions options, RandomSource& random, coap::Protection* protection = nullptr);

  // Whether a request is for this machine and not for a far gateway.
  bool is_ours(std::string_view target) const;
  void set_address(std::size_t server, const SocketAddress& address);  // resolved, or moved
  const std::vector<CoapServer>& servers() const { return options_.servers; }

  // Always ends in one answer, unless withdraw() comes first.
  void handle_request(Instant now, HttpId id, core::HttpRequest request);
  void withdraw(HttpId id);  // the client went away

  void handle_datagram(Instant now, const SocketAddress& from, ByteView datagram);
  void handle_timeout(Instant now);
  std::optional<coap::OutgoingDatagram> poll_transmit(Instant now) { return exchanger_.poll_transmit(now); }
  std::optional<HttpAnswer> poll_answer();
  Deadline next_deadline() const;
  std::size_t waiting() const { return calls_.size(); }

 private:
  struct Call {
    HttpId id = 0;
    std::string method;
    std::string base;  // before the path in a Location: "/hc/coap://host:port", or ""
    bool matrix = false;
    Instant deadline;
  };
  struct Target {
    std::size_t server = 0;
    std::string path;
    std::string base;
    bool matrix = false;
  };
  std::optional<Target> find_target(HttpId id, std::string_view target);
  std::optional<coap::Message> make_request(HttpId id, const core::HttpRequest& request,
                                            const Target& target);
  void add_matrix(const core::HttpRequest& request, coap::Message& message) const;
  bool add_conditions(HttpId id, const core::HttpRequest& request, coap::Message& message);
  core::HttpResponse response_of(const Call& call, coap::Message response) const;
  std::optional<core::HttpResponse> preflight(const core::HttpRequest& request) const;
  void refuse(HttpId id, std::uint16_t status, std::string_view reason);
  void drain(Instant now);

  HttpToCoapOptions options_;
  coap::Exchanger exchanger_;
  std::map<coap::CallId, Call> calls_;
  std::deque<HttpAnswer> answers_;
};

}  // namespace ravine::gateway::coap_proxy
