// NearGateway: HTTP requests of local clients to messages of the thin link, and what comes back to responses.
// Refuses what a strict proxy must, answers locally what the other side need not see, keeps secrets out of
// the texts, and answers a Matrix client's long polls from pushes. Sans-I/O (base/machine.h), drives the link
// that it owns; one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/core/http.h"
#include "gateway/core/stats.h"
#include "gateway/core/text.h"
#include "gateway/link/thin_link.h"

namespace ravine::gateway::core {

using HttpId = std::uint64_t;  // chosen by the HTTP end; names one request until its response

struct NearOptions {
  bool matrix = true;         // the Matrix profile: sync by push, superseding, transaction numbers
  bool alias_events = false;  // real event IDs come with the sync echo only; must be equal at both ends
  bool cors = true;           // answer preflights locally
  std::size_t max_body = std::size_t{4} << 20;
  std::size_t max_target = 8192;
  std::size_t max_headers = std::size_t{16} << 10;  // bytes, names and values
  std::size_t max_waiting = 512;                    // HTTP requests
  std::vector<std::string> more_headers;            // beside the allow list, both ways
  struct Suppress {
    bool avatars = false, receipts = false, typing = false, presence = false;
  } suppress;
  Duration gateway_timeout = 600s;  // without progress; then 504
  Duration sync_hold = 300s;        // without a poll for so long, the other side is told to stop
  Duration sync_check = 900s;       // nothing heard for so long: a poll goes through, the other side may have
                                    // lost its memory
};

struct HttpAnswer {
  HttpId id = 0;
  HttpResponse response;
};

class NearGateway {
 public:
  NearGateway(NearOptions options, link::ThinLink link);
  NearGateway(NearGateway&&) noexcept;
  NearGateway& operator=(NearGateway&&) noexcept;
  ~NearGateway();

  // Always ends in one answer, unless withdraw() comes first.
  void handle_request(Instant now, HttpId id, HttpRequest request);
  void withdraw(Instant now, HttpId id);  // the client went away

  void handle_datagram(Instant now, const SocketAddress& source, ByteView datagram);
  void handle_timeout(Instant now);
  std::optional<link::LinkTransmit> poll_transmit(Instant now);
  std::optional<HttpAnswer> poll_answer();
  Deadline next_deadline() const;

  const link::ThinLink& link() const;
  link::ThinLink& link();
  std::size_t waiting() const;  // HTTP requests without an answer
  GatewayStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Which far gateway serves a request: by its Host, with one for all others. Filled from configuration.
class HostTable {
 public:
  // `host` in any case, with or without a port. Errors: already_exists.
  Result<> add(std::string_view host, std::size_t gateway);
  void set_default(std::size_t gateway) { default_ = gateway; }
  std::optional<std::size_t> find(std::string_view host) const;

 private:
  std::vector<std::pair<std::string, std::size_t>> entries_;
  std::optional<std::size_t> default_;
};

}  // namespace ravine::gateway::core
