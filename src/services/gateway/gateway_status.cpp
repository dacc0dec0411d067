#include "services/gateway/gateway_status.h"

#include "services/gateway/gateway_context.h"

namespace ravine::services {
namespace {

namespace json = boost::json;
using gateway::core::Headers;

std::size_t header_bytes(const Headers& headers) {
  std::size_t size = 2;
  for (const auto& [name, value] : headers) size += name.size() + value.size() + 4;
  return size;
}

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

std::size_t http_bytes(const gateway::core::HttpRequest& request) {
  constexpr std::size_t kLine = 12;  // spaces, HTTP/1.1, CRLF
  return request.method.size() + request.target.size() + kLine + header_bytes(request.headers) +
         request.body.size();
}

std::size_t http_bytes(const gateway::core::HttpResponse& response) {
  constexpr std::size_t kLine = 17;  // HTTP/1.1 200 OK, CRLF
  return kLine + header_bytes(response.headers) + response.body.size();
}

void ExchangeCounts::add(gateway::core::RouteKind kind, std::size_t request, std::size_t response,
                         Duration time, bool failed) {
  Count& count = counts_.at(static_cast<std::size_t>(kind));
  ++count.exchanges;
  count.failed += failed ? 1 : 0;
  count.request_bytes += request;
  count.response_bytes += response;
  count.time += time;
}

ExchangeCounts::Count ExchangeCounts::total() const {
  Count sum;
  for (const Count& count : counts_) {
    sum.exchanges += count.exchanges;
    sum.failed += count.failed;
    sum.request_bytes += count.request_bytes;
    sum.response_bytes += count.response_bytes;
    sum.time += count.time;
  }
  return sum;
}

json::array ExchangeCounts::to_json() const {
  json::array kinds;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    const Count& count = counts_.at(i);
    if (count.exchanges == 0) continue;
    kinds.push_back(
        json::object{{"kind", json::string(to_text(static_cast<gateway::core::RouteKind>(i)))},
                     {"exchanges", count.exchanges},
                     {"failed", count.failed},
                     {"request_bytes", count.request_bytes},
                     {"response_bytes", count.response_bytes},
                     {"mean_seconds", seconds(count.time) / static_cast<double>(count.exchanges)}});
  }
  return kinds;
}

json::object link_json(Instant now, const gateway::link::ThinLink* link, const LinkFacts& facts) {
  json::object out{{"keys", link != nullptr},
                   {"rate_bps", facts.rate_bps},
                   {"overhead_bytes", facts.overhead_bytes},
                   {"http_bytes", facts.http_bytes},
                   {"handshakes", facts.handshakes}};
  out["heard_seconds_ago"] =
      facts.last_heard.is_never() ? json::value() : json::value(seconds(now - facts.last_heard));
  out["silent_seconds"] = facts.silent_since.is_never() ? 0.0 : seconds(now - facts.silent_since);
  if (link == nullptr) return out;
  const auto& stats = link->stats();
  const std::uint64_t out_air = stats.bytes_out + stats.frames_out * facts.overhead_bytes;
  const std::uint64_t in_air = stats.bytes_in + stats.frames_in * facts.overhead_bytes;
  out["air_bytes_out"] = out_air;
  out["air_bytes_in"] = in_air;
  out["ratio"] =
      out_air + in_air == 0
          ? json::value()
          : json::value(static_cast<double>(facts.http_bytes) / static_cast<double>(out_air + in_air));
  out["air_seconds"] = facts.rate_bps > 0
                           ? json::value(static_cast<double>(out_air + in_air) * 8 / facts.rate_bps)
                           : json::value();
  out["frames_out"] = stats.frames_out;
  out["frames_in"] = stats.frames_in;
  out["retransmissions"] = stats.copies_out;
  out["duplicates_in"] = stats.duplicates_in;
  out["dropped_in"] = stats.dropped_in;
  out["acknowledgements_out"] = stats.acks_out;
  out["resyncs"] = stats.resyncs;
  out["text_bytes_out"] = stats.text_bytes_out;
  out["coded_bytes_out"] = stats.coded_bytes_out;
  out["text_bytes_in"] = stats.text_bytes_in;
  out["waiting"] = link->waiting();
  out["in_flight"] = link->in_flight();
  const auto smoothed = link->rto().smoothed();
  out["rtt_seconds"] = smoothed ? json::value(seconds(*smoothed)) : json::value();
  json::array transfers;
  for (const auto& transfer : link->transfers())
    transfers.push_back(
        json::object{{"direction", transfer.incoming ? "in" : "out"},
                     {"bytes", transfer.bytes},
                     {"total", transfer.total == 0 ? json::value() : json::value(transfer.total)}});
  out["transfers"] = std::move(transfers);
  return out;
}

json::object transport_json(const Transport& transport) {
  const TransportCounters& counters = transport.counters();
  return {{"name", transport.describe()},           {"datagrams_out", counters.datagrams_out},
          {"datagrams_in", counters.datagrams_in},  {"bytes_out", counters.bytes_out},
          {"bytes_in", counters.bytes_in},          {"send_failures", counters.send_failures},
          {"garbage_bytes_in", counters.garbage_in}};
}

json::object pairing_json(const StoredPairing& pairing) {
  return {{"name", pairing.name},
          {"role", pairing.role == gateway::security::Role::near ? "near" : "far"},
          {"keys_from", !pairing.peer.empty()                  ? "certificates"
                        : pairing.keys == KeySource::handshake ? "handshake"
                                                               : "code"},
          {"peer", pairing.peer},
          {"made_here", pairing.made_here},
          {"used", pairing.begun}};
}

}  // namespace ravine::services
