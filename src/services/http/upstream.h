// UpstreamClient: requests to one HTTP(S)/1.1 server over connections that are kept and used again. Its
// server comes from configuration alone; nothing in a request chooses where it goes. Redirects are not
// followed, bodies are not decoded. Thread rule: the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "gateway/core/far_gateway.h"
#include "services/context.h"

namespace ravine::services::http {

using gateway::core::UpstreamError;
using gateway::core::UpstreamId;

// How HTTPS servers prove who they are.
struct TlsOptions {
  bool verify = true;   // false only by an explicit option that status shows
  std::string ca_file;  // PEM; empty: the system's authorities
};

struct UpstreamOptions {
  std::string base;         // "http(s)://HOST[:PORT][/PREFIX]"; requests' targets are put behind PREFIX
  std::string host_header;  // sent as Host instead of the base's authority
  TlsOptions tls;
  std::size_t max_connections = 16;              // for requests; more wait
  std::size_t max_poll_connections = 64;         // for long polls, which take no other's connection
  std::size_t max_waiting = 4096;                // requests without a connection; more are unreachable
  std::size_t max_head = std::size_t{64} << 10;  // bytes of status line and fields, else too_large
  std::size_t max_body = std::size_t{4} << 20;   // bytes, else too_large
  Duration connect_timeout = 10s;                // look-up, TCP and TLS
  Duration keep_timeout = 55s;                   // idle connections are closed after it
};

class UpstreamClient {
 public:
  // A final response (never 1xx), Transfer-Encoding undone, trailers dropped; or why there is none:
  //   unreachable  no address, no connection, or a certificate that is not accepted; nothing was sent
  //   timed_out    no whole response in the request's time, waiting for a connection included
  //   too_large    head or body over the limit
  //   malformed    no HTTP, a connection closed within the exchange, or a request that must not be sent: a
  //                target that is not in origin form or climbs out of PREFIX, a field that is not valid
  using Outcome = std::variant<gateway::core::HttpResponse, UpstreamError>;
  using Done = std::function<void(UpstreamId id, Outcome outcome)>;

  // Errors: invalid_argument (base URL, host_header), io (ca_file cannot be read). No connection is made yet.
  static Result<std::unique_ptr<UpstreamClient>> make(boost::asio::io_context& loop, UpstreamOptions options,
                                                      Resolver resolve, Log log);
  ~UpstreamClient();  // ends everything; no call comes after it

  // Calls back once, from the loop, never from inside send(). `id` must not be in use. Host, framing and
  // hop-by-hop fields of the request are replaced by the client's own; everything else goes out as it is.
  // A kept connection that the server has closed before a byte of response is replaced by a fresh one once,
  // when the request is idempotent (RFC 9110 §9.2.2) or none of it was sent.
  void send(UpstreamId id, gateway::core::HttpRequest request, Duration timeout, bool long_poll, Done done);
  // Ends the exchange without a call. An exchange at work costs its connection. Unknown IDs are ignored.
  void cancel(UpstreamId id);

  struct Counters {
    std::uint64_t requests = 0, responses = 0, failed = 0, waiting = 0, retried = 0;
    std::uint64_t connects = 0, failed_connects = 0, open = 0;  // connections
    std::uint64_t bytes_in = 0, bytes_out = 0;
  };
  const Counters& counters() const;
  // What the last failed connection or exchange met, with what to do; "" when none failed since the last
  // response. For status, may name the server.
  const std::string& last_error() const;

 private:
  struct Impl;
  explicit UpstreamClient(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services::http
