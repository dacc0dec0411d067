#include "services/gateway/gateway_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace ravine::services {
namespace {

constexpr double kLeastRate = 10, kMostRate = 10e9;  // bit/s

}  // namespace

Result<double> parse_rate(std::string_view text) {
  double value = 0;
  const auto [stop, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string unit(stop, static_cast<std::size_t>(text.data() + text.size() - stop));
  double factor = 0;
  if (unit.size() > 1 && !unit.empty()) {
    const char prefix = unit.front();
    const double scale = prefix == 'k' || prefix == 'K' ? 1e3 : prefix == 'M' ? 1e6 : prefix == 'G' ? 1e9 : 0;
    if (scale != 0) unit.erase(0, 1);
    if (unit == "bps" || unit == "bit/s" || unit == "bit") factor = scale != 0 ? scale : 1;
  }
  if (fault != std::errc{} || factor == 0 || value * factor < kLeastRate || value * factor > kMostRate)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("\"{}\" is no rate; write 100bps, 9.6kbps or 1Mbps (at least 10bps)", text)};
  return value * factor;
}

std::string rate_text(double bits_per_second) {
  if (bits_per_second <= 0) return "learned";
  if (bits_per_second >= 1e6) return fmt::format("{:g} Mbit/s", bits_per_second / 1e6);
  if (bits_per_second >= 1e3) return fmt::format("{:g} kbit/s", bits_per_second / 1e3);
  return fmt::format("{:g} bit/s", bits_per_second);
}

Result<PeerSpec> PeerSpec::parse(std::string_view text) {
  PeerSpec spec;
  if (is_pipe_spec(text)) {
    spec.kind = Kind::pipe;
    spec.host = text;
    return spec;
  }
  std::string host(text);
  std::uint16_t port = kGatewayPort;
  if (const auto parsed = HostPort::parse(text); parsed && parsed->port != 0) {
    host = parsed->host;
    port = parsed->port;
  } else if (text.find(':') != std::string_view::npos && !IpAddress::parse(text)) {
    host.clear();
  }
  const bool plain = !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '/' && c != '[' && c != ']';
  });
  if (!plain)
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("\"{}\" is no peer; write HOST[:PORT], NAME.fuse[:PORT], /dev/ttyUSB0:9600, stdio "
                    "or exec:COMMAND",
                    text)};
  spec.kind = host.ends_with(".fuse") ? Kind::session : Kind::udp;
  spec.host = std::move(host);
  spec.port = port;
  return spec;
}

std::string PeerSpec::to_text() const {
  if (kind == Kind::pipe) return host;
  return host.find(':') != std::string::npos ? fmt::format("[{}]:{}", host, port)
                                             : fmt::format("{}:{}", host, port);
}

}  // namespace ravine::services
