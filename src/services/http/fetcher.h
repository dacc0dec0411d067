// Fetcher: single requests to servers by absolute URL, for .well-known look-ups and for plain HTTPS past the
// thin link. Which hosts may be reached comes from configuration alone, so that it is no open proxy. Keeps
// one UpstreamClient per origin. Thread rule: the loop's thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "services/http/upstream.h"

namespace ravine::services::http {

struct FetcherOptions {
  // "HOST" (ports 443 and 8448) or "HOST:PORT". No wildcards; an empty list allows nothing.
  std::vector<std::string> allowed;
  bool allow_http = false;  // else https alone
  TlsOptions tls;
  std::size_t max_body = std::size_t{4} << 20;
  std::size_t max_connections = 4;  // to each origin
  std::size_t max_redirects = 5;    // GET and HEAD follow them, to allowed hosts only
};

class Fetcher {
 public:
  using Done = std::function<void(UpstreamId id, UpstreamClient::Outcome outcome)>;

  // Errors: invalid_argument (an entry of `allowed`), io (ca_file).
  static Result<std::unique_ptr<Fetcher>> make(boost::asio::io_context& loop, FetcherOptions options,
                                               Resolver resolve, Log log);
  ~Fetcher();  // ends everything; no call comes after it

  // Sends `request` to `url` (its own target is not looked at) and calls back as UpstreamClient does. A
  // redirect that may not be followed is the response. Errors, without a call: invalid_argument (no http or
  // https URL), refused (the host is not allowed).
  Result<> fetch(UpstreamId id, const std::string& url, gateway::core::HttpRequest request, Duration timeout,
                 Done done);
  void cancel(UpstreamId id);

 private:
  struct Impl;
  explicit Fetcher(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services::http
