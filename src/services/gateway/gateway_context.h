// What the gateway services are given, and the tuning that both sides share.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/machine.h"
#include "gateway/link/thin_link.h"
#include "services/context.h"
#include "services/gateway/transport.h"

namespace ravine::services {

struct GatewayContext {
  boost::asio::io_context& loop;
  RandomSource& random;
  Log log;
  Resolver resolve;
  // Coders in their first state, for each link, the best one first; a link takes the first that both ends
  // have.
  std::function<gateway::link::Coders()> make_coders = [] { return gateway::link::Coders(); };
  // Nodes of Ravine sessions: their control socket.
  std::string control_path;
};

// Of the links. What both sides must set alike says so.
struct LinkTuning {
  double rate_bps = 0;        // 0: learned
  bool matrix = true;         // equal at both ends
  bool alias_events = false;  // equal at both ends
  std::size_t max_body = std::size_t{4} << 20;
  std::vector<std::string> more_headers;
  // Why frames may go without encryption; unset: they never do. For pipes alone; equal at both ends.
  bool plain_point_to_point = false;
  gateway::coap::RtoOptions rto;  // how long an answer may take, at first
  Duration silence = 60s;  // without an authentic frame though one is due: ask whether keys still match
};

// "100bps", "9.6kbps", "1Mbit/s": bits a second. Errors: invalid_argument.
Result<double> parse_rate(std::string_view text);
std::string rate_text(double bits_per_second);

// "host:port", "name.fuse[:port]", or a line (transport.h).
struct PeerSpec {
  enum class Kind : std::uint8_t { udp, session, pipe } kind = Kind::udp;
  std::string host;  // or the line
  std::uint16_t port = 0;
  // Errors: invalid_argument, with what a peer looks like.
  static Result<PeerSpec> parse(std::string_view text);
  std::string to_text() const;
};

inline constexpr std::uint16_t kGatewayPort = 5683;  // CoAP's, which the far gateway speaks as well

}  // namespace ravine::services
