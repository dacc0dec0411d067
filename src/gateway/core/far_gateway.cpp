#include "gateway/core/far_gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>

#include "gateway/core/matrix.h"
#include "gateway/core/near_gateway_impl.h"

namespace ravine::gateway::core {
namespace {

constexpr std::size_t kMaxClients = 256;
constexpr std::size_t kMaxAliases = 1024;
constexpr Duration kSlack = 15s;     // a long poll may be late by so much
constexpr Duration kPollPause = 1s;  // for servers that answer long polls at once
constexpr std::string_view kStop = "/~sync";

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

}  // namespace

struct FarGateway::Impl {
  struct Open {
    link::RequestId request = 0;  // 0: nobody waits
    std::uint64_t identity = 0;
    RouteInfo route;
    std::optional<std::size_t> client, login;
    std::string sync_base;  // not empty: polling goes on from this response
    bool poll = false;
    Instant deadline = Instant::never();
  };
  // One client's /sync, polled here.
  struct Poller {
    std::string base, since;
    UpstreamId under_way = 0;
    Instant next = Instant::never();
    unsigned failures = 0;
    std::size_t unread = 0;
  };

  Impl(FarOptions given, link::ThinLink thin) : options(std::move(given)), link(std::move(thin)) {
    connection = encode_hex(link.channel().connection_id());
  }

  void handle_arrived(Instant now, link::RequestArrived arrived);
  bool identify(Instant now, const std::string& token, Open& open, HttpRequest& request,
                const link::RequestArrived& arrived);
  UpstreamId ask(Instant now, Open open, HttpRequest request, Duration timeout);
  void respond(Instant now, const Open& open, const HttpResponse& response);
  void handle_response(Instant now, UpstreamId id, HttpResponse response);
  void handle_failure(Instant now, UpstreamId id, UpstreamError error);
  void handle_polled(Instant now, std::size_t client, const HttpResponse* response);
  void poll(Instant now, std::size_t client);
  void drain(Instant now);
  void remember_alias(std::uint64_t identity, std::string event);
  HttpRequest with_events(HttpRequest request) const;

  FarOptions options;
  link::ThinLink link;
  std::string connection;
  std::map<std::size_t, std::string> tokens;  // Authorization by the near side's number
  std::map<UpstreamId, Open> under_way;
  std::map<std::size_t, Poller> pollers;
  std::map<link::PushId, std::size_t> unread;
  std::deque<std::pair<std::uint64_t, std::string>> aliases;
  std::deque<UpstreamRequest> asked;
  std::deque<UpstreamId> withdrawn;
  UpstreamId next_id = 1;
};

void FarGateway::Impl::remember_alias(std::uint64_t identity, std::string event) {
  aliases.emplace_back(identity, std::move(event));
  if (aliases.size() > kMaxAliases) aliases.pop_front();
}

// Events under the names that the server gave them.
HttpRequest FarGateway::Impl::with_events(HttpRequest request) const {
  if (!options.alias_events) return request;
  const std::string prefix = alias_prefix(connection);
  const std::string coded = "%24" + prefix.substr(1);
  std::string body(as_text(request.body));
  if (request.target.find(coded) == std::string::npos && request.target.find(prefix) == std::string::npos &&
      body.find(prefix) == std::string::npos)
    return request;
  // Newest first: a longer number must not be taken for a shorter one that it begins with.
  for (auto at = aliases.rbegin(); at != aliases.rend(); ++at) {
    const std::string name = fmt::format("{}{}", prefix, at->first);
    request.target = replaced(replaced(request.target, "%24" + name.substr(1), "%24" + at->second.substr(1)),
                              name, at->second);
    body = replaced(std::move(body), name, at->second);
  }
  request.body = to_bytes(as_bytes(body));
  return request;
}

UpstreamId FarGateway::Impl::ask(Instant now, Open open, HttpRequest request, Duration timeout) {
  const UpstreamId id = next_id++;
  open.deadline = now + timeout + kSlack;
  const bool long_poll = open.poll;
  under_way.emplace(id, std::move(open));
  asked.push_back({id, std::move(request), timeout, long_poll});
  return id;
}

void FarGateway::Impl::respond(Instant now, const Open& open, const HttpResponse& response) {
  if (open.request == 0) return;
  link::Message message = response_text(response, options.more_headers);
  if (options.matrix && open.route.matrix) {
    mark_transactions(message.text, transaction_prefix(connection));
    hide_secrets(message);
  }
  link.respond(now, open.request, std::move(message));
}

// Whose request it is; false when it was answered: the token is not known here.
bool FarGateway::Impl::identify(Instant now, const std::string& token, Open& open, HttpRequest& request,
                                const link::RequestArrived& arrived) {
  std::size_t number = 0;
  const std::size_t space = std::min(token.find(' '), token.size());
  std::string_view digits = std::string_view(token).substr(0, space);
  const bool anonymous = digits.starts_with('-');
  if (anonymous) digits.remove_prefix(1);
  // A token follows its number without a blank: it begins where the digits end.
  std::size_t end = 0;
  while (end < digits.size() && digits[end] >= '0' && digits[end] <= '9' && number < kMaxClients)
    number = number * 10 + static_cast<std::size_t>(digits[end++] - '0');
  if (number >= kMaxClients) return true;
  if (anonymous) {
    if (end > 0) open.login = number;
    return true;
  }
  const std::string_view secret = std::string_view(token).substr(end);
  if (!secret.empty()) tokens[number] = secret;
  const auto known = tokens.find(number);
  if (known == tokens.end()) {
    if (!arrived.one_way) respond(now, open, {kTokenForgotten, {}, {}});
    return false;
  }
  open.client = number;
  if (!has_header(request.headers, "authorization"))
    request.headers.emplace_back("authorization", known->second);
  return true;
}

void FarGateway::Impl::handle_arrived(Instant now, link::RequestArrived arrived) {
  Open open;
  open.request = arrived.one_way ? 0 : arrived.id;
  open.identity = arrived.identity;
  open.route.matrix = options.matrix;
  const bool good = reveal_secrets(arrived.request);
  auto parsed = parse_request_text(arrived.request);
  if (!good || !parsed)
    return respond(now, open, error_response(true, 400, "not a request that is passed on"));
  HttpRequest request = std::move(*parsed);
  const std::string token(header_value(request.headers, "~"));
  std::erase_if(request.headers, [](const auto& header) { return header.first == "~"; });
  open.route = options.matrix ? classify(request.method, request.target) : RouteInfo{};
  if (!identify(now, token, open, request, arrived)) return;
  if (request.target == kStop) {
    const std::size_t client = open.client.value_or(0);
    if (const auto at = pollers.find(client); at != pollers.end()) {
      if (at->second.under_way != 0) withdrawn.push_back(at->second.under_way);
      under_way.erase(at->second.under_way);
      pollers.erase(at);
    }
    return;
  }
  const bool numbered = open.route.kind == RouteKind::transaction;
  if (numbered) {
    request.target =
        with_transaction(request.target, transaction_prefix(connection) + fmt::format("{}", open.identity));
  } else if (arrived.maybe_ran) {
    return respond(now, open,
                   error_response(open.route.matrix, 502,
                                  "the far gateway was restarted while this request ran; it may have run"));
  }
  request = with_events(std::move(request));
  if (open.route.kind == RouteKind::sync && options.matrix) {
    open.sync_base = without_query(request.target, "since");
    if (const auto at = pollers.find(open.client.value_or(0)); at != pollers.end()) {
      if (at->second.under_way != 0) withdrawn.push_back(at->second.under_way);
      under_way.erase(at->second.under_way);
      pollers.erase(at);
    }
  }
  ask(now, std::move(open), std::move(request), options.upstream_timeout);
}

void FarGateway::Impl::handle_response(Instant now, UpstreamId id, HttpResponse response) {
  const auto at = under_way.find(id);
  if (at == under_way.end()) return;
  const Open open = std::move(at->second);
  under_way.erase(at);
  if (open.poll) return handle_polled(now, open.client.value_or(0), &response);
  if (response.body.size() > options.max_body)
    return respond(now, open, error_response(open.route.matrix, 502, "the server's response is too large"));
  const std::string_view body = as_text(response.body);
  if (open.login && response.status == 200) {
    const std::string_view token = json_string(body, "access_token");
    if (!token.empty()) tokens[*open.login] = "Bearer " + std::string(token);
  }
  if (open.client && response.status == 401) tokens.erase(*open.client);
  if (!open.sync_base.empty() && response.status == 200) {
    const std::string_view next = json_string(body, "next_batch");
    if (!next.empty()) {
      const std::size_t client = open.client.value_or(0);
      pollers[client] = Poller{open.sync_base, std::string(next)};
      poll(now, client);
    }
  }
  const bool send = open.route.kind == RouteKind::transaction && !open.route.room.empty();
  if (options.alias_events && send && response.status == 200) {
    const std::string event(json_string(body, "event_id"));
    if (!event.empty() && body == fmt::format(R"({{"event_id":"{}"}})", event)) {
      remember_alias(open.identity, event);
      link.respond(now, open.request, {to_bytes(as_bytes("200\n\n{\"event_id\":\"\x03\"}")), {}});
      return;
    }
  }
  respond(now, open, response);
}

void FarGateway::Impl::handle_failure(Instant now, UpstreamId id, UpstreamError error) {
  const auto at = under_way.find(id);
  if (at == under_way.end()) return;
  const Open open = std::move(at->second);
  under_way.erase(at);
  if (open.poll) return handle_polled(now, open.client.value_or(0), nullptr);
  std::uint16_t status = 502;
  std::string_view reason = "the server cannot be reached";
  switch (error) {
    case UpstreamError::unreachable:
      break;
    case UpstreamError::timed_out:
      status = 504;
      reason = "the server did not answer in time";
      break;
    case UpstreamError::too_large:
      reason = "the server's response is too large";
      break;
    case UpstreamError::malformed:
      reason = "the server's response is no HTTP";
      break;
  }
  respond(now, open, error_response(open.route.matrix, status, reason));
}

void FarGateway::Impl::poll(Instant now, std::size_t client) {
  const auto at = pollers.find(client);
  if (at == pollers.end() || at->second.under_way != 0) return;
  Poller& poller = at->second;
  poller.next = Instant::never();
  if (poller.unread >= options.max_unread_pushes) return;  // goes on when one is acknowledged
  HttpRequest request;
  request.method = "GET";
  const auto timeout_ms = std::chrono::duration_cast<std::chrono::milliseconds>(options.poll_timeout).count();
  request.target =
      fmt::format("{}{}since={}&timeout={}", poller.base,
                  poller.base.find('?') == std::string::npos ? '?' : '&', poller.since, timeout_ms);
  if (const auto token = tokens.find(client); token != tokens.end())
    request.headers.emplace_back("authorization", token->second);
  Open open;
  open.poll = true;
  open.client = client;
  poller.under_way = ask(now, std::move(open), std::move(request), options.poll_timeout);
}

void FarGateway::Impl::handle_polled(Instant now, std::size_t client, const HttpResponse* response) {
  const auto at = pollers.find(client);
  if (at == pollers.end()) return;
  Poller& poller = at->second;
  poller.under_way = 0;
  const std::string_view body = response == nullptr ? std::string_view() : as_text(response->body);
  const std::string next(json_string(body, "next_batch"));
  if (response == nullptr || response->status != 200 || next.empty()) {
    if (response != nullptr && response->status == 401) {
      pollers.erase(at);  // the client hears of it with its next request
      return;
    }
    poller.next = now + options.poll_retry * (1LL << std::min(poller.failures++, 4u));
    return;
  }
  poller.failures = 0;
  const bool news = next != poller.since && !is_empty_sync(body);
  poller.since = next;
  if (!news) {
    poller.next = now + kPollPause;
    return;
  }
  HttpResponse out = *response;
  if (client != 0) out.headers.emplace_back("~", fmt::format("{}", client));
  link::Message message = response_text(out, options.more_headers);
  mark_transactions(message.text, transaction_prefix(connection));
  const auto push = link.push(now, std::move(message), {});
  if (!push) {
    pollers.erase(at);
    return;
  }
  unread[*push] = client;
  ++poller.unread;

  poll(now, client);
}

void FarGateway::Impl::drain(Instant now) {
  while (auto event = link.poll_event()) {
    if (auto* arrived = std::get_if<link::RequestArrived>(&*event)) {
      handle_arrived(now, std::move(*arrived));
    } else if (const auto* delivered = std::get_if<link::PushDelivered>(&*event)) {
      const auto at = unread.find(delivered->id);
      if (at == unread.end()) continue;
      const std::size_t client = at->second;
      unread.erase(at);
      if (const auto poller = pollers.find(client); poller != pollers.end()) {
        if (poller->second.unread > 0) --poller->second.unread;
        if (poller->second.next.is_never()) poll(now, client);
      }
    }
  }
}

FarGateway::FarGateway(FarOptions options, link::ThinLink link)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(link))) {}
FarGateway::FarGateway(FarGateway&&) noexcept = default;
FarGateway& FarGateway::operator=(FarGateway&&) noexcept = default;
FarGateway::~FarGateway() = default;

std::optional<UpstreamRequest> FarGateway::poll_upstream() {
  if (impl_->asked.empty()) return std::nullopt;
  UpstreamRequest request = std::move(impl_->asked.front());
  impl_->asked.pop_front();
  return request;
}

std::optional<UpstreamId> FarGateway::poll_withdrawn() {
  if (impl_->withdrawn.empty()) return std::nullopt;
  const UpstreamId id = impl_->withdrawn.front();
  impl_->withdrawn.pop_front();
  return id;
}

void FarGateway::handle_response(Instant now, UpstreamId id, HttpResponse response) {
  impl_->handle_response(now, id, std::move(response));
  impl_->drain(now);
}

void FarGateway::handle_failure(Instant now, UpstreamId id, UpstreamError error) {
  impl_->handle_failure(now, id, error);
  impl_->drain(now);
}

void FarGateway::handle_datagram(Instant now, const SocketAddress& source, ByteView datagram) {
  impl_->link.handle_datagram(now, source, datagram);
  impl_->drain(now);
}

void FarGateway::handle_timeout(Instant now) {
  impl_->link.handle_timeout(now);
  impl_->drain(now);
  std::vector<UpstreamId> late;
  for (const auto& [id, open] : impl_->under_way)
    if (open.deadline <= now) late.push_back(id);
  for (const UpstreamId id : late) {
    impl_->withdrawn.push_back(id);
    impl_->handle_failure(now, id, UpstreamError::timed_out);
  }
  std::vector<std::size_t> due;
  for (const auto& [client, poller] : impl_->pollers)
    if (poller.next <= now) due.push_back(client);
  for (const std::size_t client : due) impl_->poll(now, client);
}

std::optional<link::LinkTransmit> FarGateway::poll_transmit(Instant now) {
  auto out = impl_->link.poll_transmit(now);
  impl_->drain(now);
  return out;
}

Deadline FarGateway::next_deadline() const {
  Deadline deadline = impl_->link.next_deadline();
  for (const auto& [id, open] : impl_->under_way) deadline.earlier(open.deadline, "upstream timeout");
  for (const auto& [client, poller] : impl_->pollers) deadline.earlier(poller.next, "sync poll");
  return deadline;
}

const link::ThinLink& FarGateway::link() const {
  return impl_->link;
}
link::ThinLink& FarGateway::link() {
  return impl_->link;
}

}  // namespace ravine::gateway::core
