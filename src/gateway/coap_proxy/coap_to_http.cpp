#include "gateway/coap_proxy/coap_to_http.h"

#include <algorithm>
#include <charconv>

#include "gateway/coap_proxy/coap_to_http_impl.h"
#include "gateway/core/matrix.h"

namespace ravine::gateway::coap_proxy {
namespace {

using coap::Code;

constexpr Duration kSlack = 10s;         // beyond what the HTTP client was given
constexpr Duration kLongestPoll = 180s;  // CoAP clients give up after 247 s

coap::ExchangerOptions exchanger_options(const CoapToHttpOptions& options) {
  coap::ExchangerOptions made = options.exchanger;
  made.endpoint.proxying = true;
  made.max_body = options.mapping.max_body;
  made.held_bytes = std::max(made.held_bytes, 2 * made.max_body);
  made.observers.confirm_every = 1;  // MSC3079: each
  made.observers.observers = std::min<std::size_t>(made.observers.observers, 4 * options.watched);
  return made;
}

// What a client of long polls asks the server to wait, in milliseconds.
Duration poll_wait(const core::HttpRequest& request) {
  const std::string_view text = core::query_value(request.target, "timeout");
  std::uint32_t milliseconds = 0;
  std::from_chars(text.data(), text.data() + text.size(), milliseconds);
  return std::min<Duration>(std::chrono::milliseconds(milliseconds), kLongestPoll);
}

}  // namespace

Refused refusal_of(UpstreamError error) {
  switch (error) {
    case UpstreamError::timed_out:
      return {Code::gateway_timeout, "the server did not answer in time"};
    case UpstreamError::too_large:
      return {Code::bad_gateway, "the server's response is too large"};
    case UpstreamError::malformed:
      return {Code::bad_gateway, "the server's response is no HTTP"};
    case UpstreamError::unreachable:
      break;
  }
  return {Code::bad_gateway, "the server cannot be reached"};
}

CoapToHttp::Impl::Impl(CoapToHttpOptions given, RandomSource& random)
    : options(std::move(given)),
      protection(random, {.allow_clear = options.allow_clear}),
      exchanger(exchanger_options(options), random, &protection) {}

void CoapToHttp::Impl::drain(Instant now) {
  while (auto event = exchanger.poll_event())
    if (auto* request = std::get_if<coap::Serve>(&*event)) serve(now, *request);
  advance_watches(now);
}

std::size_t CoapToHttp::Impl::waiting_of(const SocketAddress& peer) const {
  return static_cast<std::size_t>(std::count_if(open.begin(), open.end(), [&](const auto& entry) {
    return entry.second.request != 0 && entry.second.from == peer;
  }));
}

void CoapToHttp::Impl::respond(Instant now, coap::RequestId request, coap::Message message) {
  // An error only says that the asker's request is over by now.
  (void)exchanger.respond(now, request, std::move(message)).ok();
}

void CoapToHttp::Impl::serve(Instant now, coap::Serve& serve) {
  ++counters.requests;
  if (serve.secured) ++counters.secured;
  auto mapped = map_request(serve.request, options.mapping, etags);
  if (!mapped) {
    ++counters.refused;
    return respond(now, serve.id, make_error(mapped.error().code, mapped.error().reason));
  }
  if (open.size() >= options.waiting || waiting_of(serve.from) >= options.waiting_per_peer) {
    ++counters.overloaded;
    coap::Message busy = make_error(Code::service_unavailable, "too many requests wait for the server");
    busy.set_uint(coap::kMaxAge, 5);
    return respond(now, serve.id, std::move(busy));
  }
  // MSC3079: the last token holds for requests without one. An address in the clear is no proof of who asks,
  // and a token goes to the configured server alone.
  if (serve.secured && mapped->origin.empty() && options.mapping.matrix) {
    std::string& token = tokens[serve.security];
    if (!mapped->authorization.empty()) token = mapped->authorization;
    mapped->authorization = token;
  }
  core::HttpRequest request = mapped->http;
  if (!mapped->authorization.empty()) request.headers.emplace_back("authorization", mapped->authorization);
  Open made;
  made.request = serve.id;
  made.from = serve.from;
  if (serve.request.code == Code::get && serve.request.uint_option(coap::kObserve) == 0)
    made.watch = watch_name(*mapped);
  made.mapped = std::move(*mapped);
  ask(now, std::move(made), std::move(request), false);
}

UpstreamId CoapToHttp::Impl::ask(Instant now, Open made, core::HttpRequest request, bool long_poll) {
  const UpstreamId id = next_id++;
  const Duration timeout = options.upstream_timeout + poll_wait(request);
  made.deadline = now + timeout + kSlack;
  asked.push_back({id, made.mapped.origin, std::move(request), timeout, long_poll});
  open.emplace(id, std::move(made));
  ++counters.upstream;
  return id;
}

void CoapToHttp::Impl::handle_response(Instant now, UpstreamId id, core::HttpResponse response) {
  const auto at = open.find(id);
  if (at == open.end()) return;
  const Open done = std::move(at->second);
  open.erase(at);
  if (done.request == 0) return handle_polled(now, done.watch, std::move(response));
  coap::Message message;
  if (done.watch.empty()) {
    message = map_response(done.mapped, std::move(response), options.mapping, etags);
  } else {
    message = map_response(done.mapped, response, options.mapping, etags);
    begin_watch(now, done, response, message);
  }
  respond(now, done.request, std::move(message));
}

void CoapToHttp::Impl::handle_failure(Instant now, UpstreamId id, UpstreamError error) {
  const auto at = open.find(id);
  if (at == open.end()) return;
  const Open done = std::move(at->second);
  open.erase(at);
  ++counters.failed;
  if (done.request == 0) return handle_poll_failed(now, done.watch, error);
  const Refused refusal = refusal_of(error);
  respond(now, done.request, make_error(refusal.code, refusal.reason));
}

void CoapToHttp::Impl::expire(Instant now) {
  std::vector<UpstreamId> late;
  for (const auto& [id, request] : open)
    if (request.deadline <= now) late.push_back(id);
  for (const UpstreamId id : late) {
    withdrawn.push_back(id);
    handle_failure(now, id, UpstreamError::timed_out);
  }
}

CoapToHttp::CoapToHttp(CoapToHttpOptions options, RandomSource& random)
    : impl_(std::make_unique<Impl>(std::move(options), random)) {}
CoapToHttp::CoapToHttp(CoapToHttp&&) noexcept = default;
CoapToHttp::~CoapToHttp() = default;

void CoapToHttp::add(security::OscoreContext& context) {
  impl_->protection.add(context);
}

void CoapToHttp::handle_datagram(Instant now, const SocketAddress& from, ByteView datagram) {
  if (impl_->options.trust_loopback && from.ip.is_loopback())
    impl_->exchanger.endpoint().mark_verified(now, from);
  impl_->exchanger.handle_datagram(now, from, datagram);
  impl_->drain(now);
}

void CoapToHttp::handle_timeout(Instant now) {
  impl_->exchanger.handle_timeout(now);
  impl_->expire(now);
  impl_->drain(now);
}

std::optional<coap::OutgoingDatagram> CoapToHttp::poll_transmit(Instant now) {
  return impl_->exchanger.poll_transmit(now);
}

Deadline CoapToHttp::next_deadline() const {
  Deadline deadline = impl_->exchanger.next_deadline();
  for (const auto& [id, request] : impl_->open)
    deadline.earlier(request.deadline, "coap proxy upstream timeout");
  for (const auto& [name, watch] : impl_->watches) deadline.earlier(watch.next, "coap proxy watch");
  return deadline;
}

std::optional<CoapUpstreamRequest> CoapToHttp::poll_upstream() {
  if (impl_->asked.empty()) return std::nullopt;
  CoapUpstreamRequest request = std::move(impl_->asked.front());
  impl_->asked.pop_front();
  return request;
}

std::optional<UpstreamId> CoapToHttp::poll_withdrawn() {
  if (impl_->withdrawn.empty()) return std::nullopt;
  const UpstreamId id = impl_->withdrawn.front();
  impl_->withdrawn.pop_front();
  return id;
}

void CoapToHttp::handle_response(Instant now, UpstreamId id, core::HttpResponse response) {
  impl_->handle_response(now, id, std::move(response));
  impl_->drain(now);
}

void CoapToHttp::handle_failure(Instant now, UpstreamId id, UpstreamError error) {
  impl_->handle_failure(now, id, error);
  impl_->drain(now);
}

const CoapToHttpCounters& CoapToHttp::counters() const {
  return impl_->counters;
}
const coap::Exchanger& CoapToHttp::exchanger() const {
  return impl_->exchanger;
}
std::size_t CoapToHttp::waiting() const {
  return impl_->open.size();
}
std::size_t CoapToHttp::watched() const {
  return impl_->watches.size();
}

}  // namespace ravine::gateway::coap_proxy
