// Observation (RFC 7641) of resources of HTTP servers: they are polled, and what changed goes to the
// observers. A Matrix /sync is polled as its clients do it, from where the last news ended.
#include <fmt/format.h>

#include <algorithm>

#include "gateway/coap_proxy/coap_to_http_impl.h"
#include "gateway/core/matrix.h"

namespace ravine::gateway::coap_proxy {
namespace {

constexpr unsigned kMaxFailures = 5;  // polls in a row, then the observation ends with an error
constexpr Duration kSyncPause = 1s;   // for servers that answer long polls at once

}  // namespace

std::string watch_name(const MappedRequest& mapped) {
  const std::string_view accept = core::header_value(mapped.http.headers, "accept");
  std::string name = mapped.origin + mapped.http.target;
  for (const std::string_view part : {accept, std::string_view(mapped.authorization)})
    name.append(1, '\0').append(part);
  return name + (mapped.cbor ? "\1" : "\2");
}

bool CoapToHttp::Impl::is_observed(const std::string& name) const {
  return !exchanger.observers().observers_of(name).empty();
}

// As long as the server says that the last answer holds, else as configured.
Duration CoapToHttp::Impl::interval_of(const coap::Message& message) const {
  const auto fresh = message.uint_option(coap::kMaxAge).value_or(0);
  if (fresh == 0) return options.watch_interval;
  return std::chrono::seconds(std::min<std::uint64_t>(fresh, 3600));
}

void CoapToHttp::Impl::begin_watch(Instant now, const Open& open_request, const core::HttpResponse& response,
                                   const coap::Message& message) {
  if (message.code != coap::Code::content && message.code != coap::Code::valid) return;
  const std::string& name = open_request.watch;
  const auto known = watches.find(name);
  if (known == watches.end() && watches.size() >= options.watched) return;  // answered without Observe
  if (!exchanger.accept_observer(now, open_request.request, name)) return;
  if (known != watches.end()) return;
  Watch watch;
  watch.mapped = open_request.mapped;
  watch.mapped.etags.clear();
  std::erase_if(watch.mapped.http.headers,
                [](const auto& header) { return header.first == "if-none-match"; });
  const auto route = core::classify("GET", watch.mapped.http.target);
  const std::string_view next = core::json_text(as_text(response.body), "next_batch");
  watch.sync = watch.mapped.matrix && route.kind == core::RouteKind::sync && !next.empty();
  watch.since = next;
  watch.held = watch.sync;  // until the first answer is out
  if (!watch.sync) watch.next = now + interval_of(message);
  watch.last = message;
  watches.emplace(name, std::move(watch));
}

void CoapToHttp::Impl::poll_watch(Instant now, const std::string& name, Watch& watch) {
  watch.next = Instant::never();
  if (!is_observed(name)) return end_watch(name);
  core::HttpRequest request = watch.mapped.http;
  if (watch.sync) {
    const std::string base = core::without_query(core::without_query(request.target, "since"), "timeout");
    const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(options.poll_timeout).count();
    request.target = fmt::format("{}{}since={}&timeout={}", base,
                                 base.find('?') == std::string::npos ? '?' : '&', watch.since, wait);
  }
  if (!watch.mapped.authorization.empty())
    request.headers.emplace_back("authorization", watch.mapped.authorization);
  Open made;
  made.mapped = watch.mapped;
  made.watch = name;
  watch.under_way = ask(now, std::move(made), std::move(request), watch.sync);
}

void CoapToHttp::Impl::handle_polled(Instant now, const std::string& name, core::HttpResponse response) {
  const auto at = watches.find(name);
  if (at == watches.end()) return;
  Watch& watch = at->second;
  watch.under_way = 0;
  watch.failures = 0;
  if (!is_observed(name)) return end_watch(name);
  bool news = true;
  if (watch.sync && response.status == 200) {
    const std::string_view body = as_text(response.body);
    const std::string next(core::json_text(body, "next_batch"));
    news = !next.empty() && next != watch.since && !core::is_empty_sync(body);
    if (!next.empty()) watch.since = next;
  }
  coap::Message message = map_response(watch.mapped, std::move(response), options.mapping, etags);
  if (!watch.sync) news = message.code != watch.last.code || message.payload != watch.last.payload;
  if (news) {
    ++counters.notifications;
    exchanger.notify(now, name, message);
    if (!coap::is_success(message.code)) return end_watch(name);
    if (!watch.sync) watch.last = std::move(message);
  }
  if (!watch.sync) {
    watch.next = now + interval_of(watch.last);
  } else if (news) {
    watch.held = true;
  } else {
    watch.next = now + kSyncPause;
  }
}

void CoapToHttp::Impl::handle_poll_failed(Instant now, const std::string& name, UpstreamError error) {
  const auto at = watches.find(name);
  if (at == watches.end()) return;
  Watch& watch = at->second;
  watch.under_way = 0;
  if (++watch.failures >= kMaxFailures) {
    const Refused refusal = refusal_of(error);
    exchanger.notify(now, name, make_error(refusal.code, refusal.reason));
    return end_watch(name);
  }
  watch.next = now + options.watch_interval * (1LL << watch.failures);
}

void CoapToHttp::Impl::end_watch(const std::string& name) {
  const auto at = watches.find(name);
  if (at == watches.end()) return;
  if (at->second.under_way != 0) {
    withdrawn.push_back(at->second.under_way);
    open.erase(at->second.under_way);
  }
  watches.erase(at);
}

void CoapToHttp::Impl::advance_watches(Instant now) {
  std::vector<std::string> due;
  for (auto& [name, watch] : watches) {
    const bool settled = watch.held && exchanger.is_settled(name);
    if (settled) watch.held = false;
    if (settled || watch.next <= now) due.push_back(name);
  }
  for (const std::string& name : due)
    if (const auto at = watches.find(name); at != watches.end()) poll_watch(now, at->first, at->second);
}

}  // namespace ravine::gateway::coap_proxy
