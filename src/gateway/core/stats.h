// What the gateway cores count, per kind of route, for `ravine gateway stats`. Plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/time.h"
#include "gateway/core/matrix.h"

namespace ravine::gateway::core {

struct RouteCounters {
  std::uint64_t exchanges = 0;  // answered
  std::uint64_t failed = 0;     // of them: by a gateway or the link, not by the server
  std::uint64_t local = 0;      // of them: without a byte on the link
  // HTTP: start line, headers and body, as the client or the server has them.
  std::uint64_t request_bytes = 0, response_bytes = 0;
  // Link (near side): plaintexts of frames, repetitions too; a batch is shared out.
  std::uint64_t link_bytes_out = 0, link_bytes_in = 0;
  std::uint64_t copies = 0;  // repetitions
  Duration time{0};          // from request to answer, summed up
  std::size_t waiting = 0;   // now
};

struct GatewayStats {
  std::array<RouteCounters, kRouteKinds> routes;  // by RouteKind
  std::uint64_t pushes = 0;                       // near: arrived; far: sent
  std::uint64_t push_bytes = 0;                   // bodies
  std::size_t clients = 0;                        // tokens known
  std::size_t streams = 0;                        // syncs that news are pushed for

  RouteCounters& of(RouteKind kind) { return routes[static_cast<std::size_t>(kind)]; }
  const RouteCounters& of(RouteKind kind) const { return routes[static_cast<std::size_t>(kind)]; }
};

}  // namespace ravine::gateway::core
