// HttpServer: HTTP/1.1 and 1.0 (RFC 9110, 9112) for programs on this machine or network, without TLS. Turns
// bytes into requests and responses into bytes; who answers is the caller's business. A client is held to the
// strict grammar: what two parsers could read in two ways is answered with 400 and the connection closed.
// Thread rule: the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "base/address.h"
#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "gateway/core/http.h"

namespace ravine::services::http {

using HttpId = std::uint64_t;  // one request until its response; never used again

struct HttpServerOptions {
  std::vector<SocketAddress> listen;                 // port 0: any free one
  std::size_t max_target = 8192;                     // bytes; more is answered with 414
  std::size_t max_head = std::size_t{24} << 10;      // bytes of request line and fields, else 431
  std::size_t max_body = std::size_t{4} << 20;       // bytes, else 413 before the body is read
  std::size_t max_buffered = std::size_t{64} << 20;  // bytes of all bodies that arrive or wait, else 503
  std::size_t max_connections = 1024;                // then idle ones make room; none idle: reset
  Duration head_timeout = 10s;                       // from a request's first byte to its last field
  Duration body_timeout = 120s;                      // for the whole body
  Duration idle_timeout = 75s;                       // without a request
  Duration write_timeout = 30s;                      // without a byte that the client takes
  std::string name = "ravine";                       // in the Server field, when a response has none
};

class HttpServer {
 public:
  // A whole, well-formed request. Its target is in origin form ("/…", or "*" with OPTIONS): an absolute one
  // is taken apart and Host replaced by its authority (RFC 9112 §3.2.2). Headers are as received, in order,
  // at most one Host; trailers are dropped. The body is without chunks, its content coding untouched. CONNECT
  // never comes here (501). May call respond().
  using OnRequest = std::function<void(HttpId id, gateway::core::HttpRequest request)>;
  // The client left before its response; `id` means nothing any more. A client that ends its sending half
  // counts as gone, since nothing tells it from one that closed.
  using OnGone = std::function<void(HttpId id)>;

  HttpServer(boost::asio::io_context& loop, HttpServerOptions options, OnRequest on_request, OnGone on_gone,
             Log log);
  ~HttpServer();  // closes everything; no call comes after it

  // Addresses as bound, in the order of `listen`. Errors: already_exists (port taken), invalid_argument
  // (nothing to listen on), io. After an error nothing listens.
  Result<std::vector<SocketAddress>> start();
  // Takes no more connections, closes idle ones and others after their response.
  void stop();

  // Sends the response in the connection's order of requests. The server frames it: hop-by-hop fields and
  // Content-Length are replaced (a response to HEAD, or with 304, keeps its Content-Length), fields that are
  // not valid are dropped, Date is added when missing. A status outside 200–599 becomes 502. Unknown IDs are
  // ignored: the client has left.
  void respond(HttpId id, gateway::core::HttpResponse response);

  struct Counters {
    std::uint64_t accepted = 0, active = 0, over_limit = 0;  // connections
    std::uint64_t requests = 0, waiting = 0, responses = 0;  // whole requests
    std::uint64_t gone = 0;                                  // clients that left before their response
    std::uint64_t malformed = 0, too_large = 0, timed_out = 0, unsupported = 0, overloaded = 0;  // refused
    std::uint64_t bytes_in = 0, bytes_out = 0;
  };
  const Counters& counters() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services::http
