// FarGateway: messages of the thin link to HTTP requests for the upstream server, and its responses back.
// Keeps clients' tokens, gives transactions their numbers, polls /sync upstream and pushes what is new.
// Sans-I/O (base/machine.h), drives the link that it owns; one thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/core/http.h"
#include "gateway/core/stats.h"
#include "gateway/core/text.h"
#include "gateway/link/thin_link.h"

namespace ravine::gateway::core {

using UpstreamId = std::uint64_t;

struct FarOptions {
  bool matrix = true;
  bool alias_events = false;  // as the near side has it
  std::size_t max_body = std::size_t{4} << 20;
  std::vector<std::string> more_headers;
  Duration upstream_timeout = 60s;     // then 504
  Duration poll_timeout = 30s;         // what upstream long polls ask for
  Duration poll_retry = 10s;           // after a failed poll; doubled up to 16 times of it
  std::size_t max_unread_pushes = 16;  // then polling rests
  std::size_t max_upstream = 512;      // requests without a response, then 503
};

struct UpstreamRequest {
  UpstreamId id = 0;
  HttpRequest request;
  Duration timeout{0};
  bool long_poll = false;
};

enum class UpstreamError : std::uint8_t { unreachable, timed_out, too_large, malformed };

class FarGateway {
 public:
  FarGateway(FarOptions options, link::ThinLink link);
  FarGateway(FarGateway&&) noexcept;
  FarGateway& operator=(FarGateway&&) noexcept;
  ~FarGateway();

  std::optional<UpstreamRequest> poll_upstream();
  std::optional<UpstreamId> poll_withdrawn();  // not wanted any more
  void handle_response(Instant now, UpstreamId id, HttpResponse response);
  void handle_failure(Instant now, UpstreamId id, UpstreamError error);

  void handle_datagram(Instant now, const SocketAddress& source, ByteView datagram);
  void handle_timeout(Instant now);
  std::optional<link::LinkTransmit> poll_transmit(Instant now);
  Deadline next_deadline() const;

  GatewayStats stats() const;
  const link::ThinLink& link() const;
  link::ThinLink& link();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::gateway::core
