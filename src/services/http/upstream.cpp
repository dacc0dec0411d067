#include "services/http/upstream.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/post.hpp>
#include <deque>
#include <unordered_map>
#include <utility>

#include "services/http/upstream_connection.h"

namespace ravine::services::http {
namespace {

using gateway::core::HttpRequest;
using gateway::core::HttpResponse;
using ConnectionPointer = std::shared_ptr<UpstreamConnection>;

// Requests of one kind, and the connections that they share.
struct Lane {
  std::size_t limit = 1;
  std::size_t open = 0;
  std::vector<UpstreamConnection*> idle;  // the last one used is used next
  std::deque<ExchangePointer> waiting;
};

struct Base {
  Url url;
  std::string prefix;  // without a slash at its end
};

Result<Base> parse_base(const UpstreamOptions& options) {
  const auto bad = [](std::string what) { return Error{ErrorKind::invalid_argument, std::move(what)}; };
  const auto url = parse_url(options.base);
  if (!url || url->target.find('?') != std::string::npos || climbs(url->target))
    return bad(fmt::format("upstream '{}': expected http(s)://HOST[:PORT][/PREFIX]", options.base));
  if (!options.host_header.empty() && !is_authority(options.host_header))
    return bad(fmt::format("Host '{}': expected HOST[:PORT]", options.host_header));
  Base base{*url, url->target};
  while (base.prefix.ends_with('/')) base.prefix.pop_back();
  return base;
}

}  // namespace

struct UpstreamClient::Impl : UpstreamOwner, std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& loop, UpstreamOptions given, Base where, std::shared_ptr<TlsContext> tls,
       Resolver resolve, Log sink)
      : options(std::move(given)),
        prefix(std::move(where.prefix)),
        host(options.host_header.empty() ? where.url.authority : options.host_header),
        log(sink),
        place{.loop = loop,
              .host = where.url.host,
              .port = where.url.port,
              .tls = std::move(tls),
              .resolve = std::move(resolve),
              .limits = {.max_head = options.max_head, .max_body = options.max_body},
              .connect_timeout = options.connect_timeout,
              .keep_timeout = options.keep_timeout,
              .scratch = Bytes(std::size_t{64} << 10),
              .counters = {}} {
    lanes[0].limit = std::max<std::size_t>(options.max_connections, 1);
    lanes[1].limit = std::max<std::size_t>(options.max_poll_connections, 1);
  }

  Lane& lane(bool long_poll) { return lanes[long_poll ? 1 : 0]; }

  void send(UpstreamId id, HttpRequest request, Duration timeout, bool long_poll, Done done);
  std::optional<Outgoing> write(HttpRequest request) const;
  void fail_later(const ExchangePointer& exchange, UpstreamError error, std::string reason);
  void dispatch_later();
  void dispatch(Lane& lane);
  void connect(Lane& lane, const ExchangePointer& exchange);
  void release(const ExchangePointer& exchange);
  void finish(const ExchangePointer& exchange, Outcome outcome);
  void fail(const ExchangePointer& exchange, UpstreamError error, std::string reason);
  void close();

  void on_response(UpstreamConnection& connection, const ExchangePointer& exchange,
                   HttpResponse response) override;
  void on_failure(const ExchangePointer& exchange, ExchangeFailure failure) override;
  void on_closed(UpstreamConnection& connection) override;

  UpstreamOptions options;
  std::string prefix, host;
  Log log;
  UpstreamPlace place;
  std::array<Lane, 2> lanes;  // requests, long polls
  std::unordered_map<UpstreamId, ExchangePointer> exchanges;
  std::unordered_map<UpstreamConnection*, ConnectionPointer> connections;
  bool dispatching = false;
  bool reachable = true;
  std::string last_error;
};

std::optional<Outgoing> UpstreamClient::Impl::write(HttpRequest request) const {
  std::string target = std::move(request.target);
  if (target != "*") {
    if (!prefix.empty() && climbs(target)) return std::nullopt;
    if (!is_origin_form(target)) return std::nullopt;
    target.insert(0, prefix);
  }
  return write_request(std::move(request), target, host);
}

void UpstreamClient::Impl::send(UpstreamId id, HttpRequest request, Duration timeout, bool long_poll,
                                Done done) {
  auto exchange = std::make_shared<UpstreamExchange>();
  exchange->id = id;
  exchange->to_head = request.method == "HEAD";
  exchange->idempotent = is_idempotent(request.method);
  exchange->long_poll = long_poll;
  exchange->done = std::move(done);
  ensure(exchanges.emplace(id, exchange).second);
  ++place.counters.requests;
  ++place.counters.waiting;
  auto out = write(std::move(request));
  if (!out) return fail_later(exchange, UpstreamError::malformed, "the request is not valid, it is not sent");
  exchange->out = std::move(*out);
  if (lane(long_poll).waiting.size() >= options.max_waiting)
    return fail_later(exchange, UpstreamError::unreachable, "too many requests wait for a connection");
  exchange->timer = std::make_unique<LazyTimer>(place.loop, [this, weak = std::weak_ptr(exchange), timeout] {
    const auto late = weak.lock();
    if (!late) return;
    release(late);
    fail(late, UpstreamError::timed_out,
         fmt::format("no whole response within {} ms",
                     std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()));
  });
  exchange->timer->set(timeout);
  lane(long_poll).waiting.push_back(exchange);
  dispatch_later();
}

void UpstreamClient::Impl::fail_later(const ExchangePointer& exchange, UpstreamError error,
                                      std::string reason) {
  boost::asio::post(place.loop, [weak = weak_from_this(), exchange, error, reason = std::move(reason)] {
    const auto self = weak.lock();
    if (!self) return;
    const auto found = self->exchanges.find(exchange->id);
    if (found != self->exchanges.end() && found->second == exchange) self->fail(exchange, error, reason);
  });
}

// From the loop, so that no outcome comes from inside send() or cancel().
void UpstreamClient::Impl::dispatch_later() {
  if (std::exchange(dispatching, true)) return;
  boost::asio::post(place.loop, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->dispatching = false;
    for (Lane& lane : self->lanes) self->dispatch(lane);
  });
}

void UpstreamClient::Impl::dispatch(Lane& lane) {
  while (!lane.waiting.empty() && (!lane.idle.empty() || lane.open < lane.limit)) {
    const ExchangePointer exchange = lane.waiting.front();
    lane.waiting.pop_front();
    if (lane.idle.empty()) {
      connect(lane, exchange);
    } else {
      UpstreamConnection* connection = lane.idle.back();
      lane.idle.pop_back();
      connection->begin(exchange);
    }
  }
}

void UpstreamClient::Impl::connect(Lane& lane, const ExchangePointer& exchange) {
  auto connection = std::make_shared<UpstreamConnection>(place, *this, exchange->long_poll);
  connections.emplace(connection.get(), connection);
  ++lane.open;
  ++place.counters.open;
  connection->start(exchange);
}

// Takes the exchange from its connection, which then is of no more use, or out of the queue.
void UpstreamClient::Impl::release(const ExchangePointer& exchange) {
  if (exchange->connection != nullptr) {
    exchange->connection->end();
  } else {
    std::erase(lane(exchange->long_poll).waiting, exchange);
  }
}

void UpstreamClient::Impl::finish(const ExchangePointer& exchange, Outcome outcome) {
  exchanges.erase(exchange->id);
  exchange->timer.reset();
  --place.counters.waiting;
  const Done done = std::move(exchange->done);
  if (done) done(exchange->id, std::move(outcome));
}

void UpstreamClient::Impl::fail(const ExchangePointer& exchange, UpstreamError error, std::string reason) {
  ++place.counters.failed;
  log.debug("an exchange failed: {}", reason);
  last_error = std::move(reason);
  finish(exchange, error);
}

void UpstreamClient::Impl::on_response(UpstreamConnection& connection, const ExchangePointer& exchange,
                                       HttpResponse response) {
  ++place.counters.responses;
  last_error.clear();
  if (!std::exchange(reachable, true)) log.info("the upstream server is reachable again");
  Lane& lane = this->lane(connection.for_polls());
  if (connection.is_idle()) lane.idle.push_back(&connection);
  if (!lane.waiting.empty()) dispatch_later();
  finish(exchange, std::move(response));
}

void UpstreamClient::Impl::on_failure(const ExchangePointer& exchange, ExchangeFailure failure) {
  if (failure.may_retry) {
    ++place.counters.retried;
    exchange->retried = true;
    exchange->out.sent = 0;
    return connect(lane(exchange->long_poll), exchange);
  }
  if (!failure.connected) {
    ++place.counters.failed_connects;
    if (std::exchange(reachable, false))
      log.warning("the upstream server cannot be reached; details at debug level");
    failure.reason = fmt::format("upstream {}: {}; check its address, certificate and whether it runs",
                                 options.base, failure.reason);
  }
  fail(exchange, failure.error, std::move(failure.reason));
}

void UpstreamClient::Impl::on_closed(UpstreamConnection& connection) {
  if (connections.erase(&connection) == 0) return;
  Lane& lane = this->lane(connection.for_polls());
  --lane.open;
  --place.counters.open;
  std::erase(lane.idle, &connection);
  if (!lane.waiting.empty()) dispatch_later();
}

void UpstreamClient::Impl::close() {
  for (const auto& [id, exchange] : exchanges) {
    exchange->done = nullptr;
    exchange->timer.reset();
  }
  for (Lane& lane : lanes) lane.waiting.clear();
  while (!connections.empty()) connections.begin()->first->end();
  exchanges.clear();
}

UpstreamClient::UpstreamClient(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

UpstreamClient::~UpstreamClient() {
  impl_->close();
}

Result<std::unique_ptr<UpstreamClient>> UpstreamClient::make(boost::asio::io_context& loop,
                                                             UpstreamOptions options, Resolver resolve,
                                                             Log log) {
  auto base = parse_base(options);
  if (!base) return base.error();
  std::shared_ptr<TlsContext> tls;
  if (base->url.https) {
    auto made = TlsContext::make(options.tls);
    if (!made) return made.error();
    tls = std::move(*made);
  }
  return std::unique_ptr<UpstreamClient>(new UpstreamClient(std::make_shared<Impl>(
      loop, std::move(options), std::move(*base), std::move(tls), std::move(resolve), log)));
}

void UpstreamClient::send(UpstreamId id, HttpRequest request, Duration timeout, bool long_poll, Done done) {
  impl_->send(id, std::move(request), timeout, long_poll, std::move(done));
}

void UpstreamClient::cancel(UpstreamId id) {
  const auto found = impl_->exchanges.find(id);
  if (found == impl_->exchanges.end()) return;
  const ExchangePointer exchange = found->second;
  exchange->done = nullptr;
  impl_->release(exchange);
  impl_->finish(exchange, UpstreamError::timed_out);
}

const UpstreamClient::Counters& UpstreamClient::counters() const {
  return impl_->place.counters;
}

const std::string& UpstreamClient::last_error() const {
  return impl_->last_error;
}

}  // namespace ravine::services::http
