#include "gateway/core/far_gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <map>

#include "gateway/core/matrix.h"
#include "gateway/core/near_gateway_impl.h"

namespace ravine::gateway::core {
namespace {

constexpr std::size_t kMaxAliases = 1024;
constexpr std::size_t kMaxEventId = 255;                  // bytes, by the Matrix specification
constexpr Duration kSlack = 15s;                          // a long poll may be late by so much
constexpr Duration kPollPause = 1s;                       // for servers that answer long polls at once
constexpr std::size_t kMaxText = std::size_t{128} << 10;  // headers and body of a response's text

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
    std::optional<std::uint64_t> client, login;
    std::optional<std::uint64_t> named;  // transaction that this is a repetition of
    bool aliased = false;
    std::string event;      // that its alias stands for
    std::string sync_base;  // not empty: polling goes on from this response
    bool poll = false;
    Instant deadline = Instant::never();
  };
  // One client's /sync, polled here.
  struct Poller {
    std::string base, since;
    std::string counts;  // of keys, as last told
    UpstreamId under_way = 0;
    Instant next = Instant::never();
    unsigned failures = 0;
    std::size_t unread = 0;
  };

  Impl(FarOptions given, link::ThinLink thin) : options(std::move(given)), link(std::move(thin)) {
    connection = encode_hex(link.channel().connection_id());
  }

  void handle_arrived(Instant now, link::RequestArrived arrived);
  struct Token {
    std::optional<std::uint64_t> number;
    bool anonymous = false;
    std::string secret;
  };
  static Token parse_token(std::string_view line);
  bool identify(Instant now, const Token& token, Open& open, HttpRequest& request, bool one_way);
  bool prepare(Instant now, const link::RequestArrived& arrived, Open& open, HttpRequest& request);
  void learn_token(std::uint64_t number, std::string authorization);
  void forget_client(std::uint64_t number);
  enum class News : std::uint8_t { keep, drop };
  void stop_polling(std::uint64_t number, News news);
  void handle_forgot();
  void note_tokens(const Open& open, const HttpResponse& response);
  UpstreamId ask(Instant now, Open open, HttpRequest request, Duration timeout);
  void respond(Instant now, const Open& open, const HttpResponse& response);
  void handle_response(Instant now, UpstreamId id, HttpResponse response);
  void handle_failure(Instant now, UpstreamId id, UpstreamError error);
  void handle_polled(Instant now, std::uint64_t client, const HttpResponse* response);
  void poll(Instant now, std::uint64_t client);
  void push(Instant now, std::uint64_t client, HttpResponse response);
  void drain(Instant now);
  void remember_alias(std::uint64_t identity, std::string event);
  std::string with_events(std::string_view text, std::string_view sigil) const;

  FarOptions options;
  link::ThinLink link;
  std::string connection;
  std::map<std::uint64_t, std::string> tokens;  // Authorization by the near side's number
  std::map<UpstreamId, Open> under_way;
  std::map<std::uint64_t, Poller> pollers;
  std::map<link::PushId, std::uint64_t> unread;
  std::map<std::uint64_t, std::string> events;  // by the identity that aliases name
  std::deque<std::uint64_t> alias_order;
  std::deque<UpstreamRequest> asked;
  std::deque<UpstreamId> withdrawn;
  UpstreamId next_id = 1;
  GatewayStats stats;
};

void FarGateway::Impl::remember_alias(std::uint64_t identity, std::string event) {
  if (events.insert_or_assign(identity, std::move(event)).second) alias_order.push_back(identity);
  if (alias_order.size() <= kMaxAliases) return;
  events.erase(alias_order.front());
  alias_order.pop_front();
}

// Events under the names that the server gave them. `sigil` is how "$" is spelled in `text`.
std::string FarGateway::Impl::with_events(std::string_view text, std::string_view sigil) const {
  const std::string before = std::string(sigil) + alias_prefix(connection).substr(1);
  std::string out;
  std::size_t done = 0, marks = 0;
  for (std::size_t at = 0; marks < kMaxMarks && (at = text.find(before, at)) != std::string_view::npos;) {
    const std::size_t digits = at + before.size();
    const std::size_t end = std::min(text.find_first_not_of("0123456789", digits), text.size());
    const auto number = parse_number(text.substr(digits, end - digits));
    const auto event = number ? events.find(*number) : events.end();
    if (event != events.end()) {
      out += text.substr(done, at - done);
      out += sigil;
      out += event->second.substr(1);
      done = end;
      ++marks;
    }
    at = end;
  }
  return out += text.substr(done);
}

UpstreamId FarGateway::Impl::ask(Instant now, Open open, HttpRequest request, Duration timeout) {
  const UpstreamId id = next_id++;
  stats.of(open.route.kind).request_bytes += http_size(request);
  open.deadline = now + timeout + kSlack;
  const bool long_poll = open.poll;
  under_way.emplace(id, std::move(open));
  asked.push_back({id, std::move(request), timeout, long_poll});
  return id;
}

void FarGateway::Impl::respond(Instant now, const Open& open, const HttpResponse& response) {
  if (open.request == 0) return;
  link::Message message;
  if (open.named) {
    HttpResponse named = response;
    named.headers.emplace_back("~", fmt::format("{}", *open.named));
    message = response_text(named, options.more_headers);
  } else {
    message = response_text(response, options.more_headers);
  }
  const RouteKind kind = open.route.kind;
  if (open.route.matrix && kind != RouteKind::federation && kind != RouteKind::media &&
      kind != RouteKind::avatar) {
    mark_transactions(message.text, transaction_prefix(connection));
    hide_secrets(message);
  }
  if (!open.event.empty()) {
    std::string text = replaced(std::string(as_text(message.text)), open.event, std::string(1, kAliasMark));
    message.text = to_bytes(as_bytes(text));
  }
  if (message.text.size() > kMaxText)
    message =
        response_text(error_response(open.route.matrix, 502, "the response's headers are too large"), {});
  if (!link.has_room(message.text.size() + message.tail.size()))
    message = response_text(
        error_response(open.route.matrix, 503, "too many large responses wait for the slow link"), {});
  // Whoever sends something hears of it by its sync as well.
  const bool echo = kind == RouteKind::transaction && open.client && pollers.contains(*open.client);
  link.respond(now, open.request, std::move(message), echo && response.status < 300);
}

// `N`, `N token`: number of a token, and the token when it is new. `-`: none; `-N`: none, but the response
// brings one that is to have this number; `- token`: for this request only.
FarGateway::Impl::Token FarGateway::Impl::parse_token(std::string_view line) {
  Token token;
  if (line.starts_with('-')) {
    token.anonymous = true;
    line.remove_prefix(1);
  }
  const std::string_view digits = line.substr(0, line.find(' '));
  token.number = parse_number(digits);
  line.remove_prefix(digits.size());
  if (line.starts_with(' ')) token.secret = line.substr(1);
  if (!token.number && !token.anonymous) token.number = 0;
  return token;
}

void FarGateway::Impl::learn_token(std::uint64_t number, std::string authorization) {
  tokens[number] = std::move(authorization);
  if (tokens.size() <= kMaxClients) return;
  const auto first = tokens.begin();
  forget_client(first->first == number ? std::next(first)->first : first->first);
}

void FarGateway::Impl::forget_client(std::uint64_t number) {
  tokens.erase(number);
  stop_polling(number, News::keep);
}

// News that have not left would be taken for those of the next poller.
void FarGateway::Impl::stop_polling(std::uint64_t number, News news) {
  if (news == News::drop) {
    std::erase_if(unread, [&](const auto& entry) {
      if (entry.second != number) return false;
      link.cancel_push(entry.first);
      return true;
    });
  }
  const auto at = pollers.find(number);
  if (at == pollers.end()) return;
  if (at->second.under_way != 0) withdrawn.push_back(at->second.under_way);
  under_way.erase(at->second.under_way);
  pollers.erase(at);
}

// Whose request it is; false when it was answered: the token is not known here.
bool FarGateway::Impl::identify(Instant now, const Token& token, Open& open, HttpRequest& request,
                                bool one_way) {
  std::string authorization = token.secret;
  if (token.anonymous) {
    if (authorization.empty()) open.login = token.number;
  } else {
    if (!authorization.empty()) learn_token(*token.number, authorization);
    const auto known = tokens.find(*token.number);
    if (known == tokens.end()) {
      if (!one_way) respond(now, open, {kTokenForgotten, {}, {}});
      return false;
    }
    open.client = token.number;
    authorization = known->second;
  }
  if (!authorization.empty() && !has_header(request.headers, "authorization"))
    request.headers.emplace_back("authorization", std::move(authorization));
  return true;
}

// The request as the server is to have it. False: answered, or there is nothing to ask.
bool FarGateway::Impl::prepare(Instant now, const link::RequestArrived& arrived, Open& open,
                               HttpRequest& request) {
  const Token token = parse_token(header_value(request.headers, "~"));
  std::erase_if(request.headers, [](const auto& header) { return header.first == "~"; });
  if (request.target == kStop) {
    if (token.number) stop_polling(*token.number, News::drop);
    return false;
  }
  if (options.matrix) open.route = classify(request.method, request.target);
  std::string transaction;
  if (open.route.kind == RouteKind::transaction) without_transaction(request.target, transaction);
  const bool numbered = transaction.starts_with('~');
  if (arrived.maybe_ran && !numbered) {
    respond(now, open,
            error_response(open.route.matrix, 502,
                           "the far gateway was restarted while this request ran; it may have run"));
    return false;
  }
  if (!identify(now, token, open, request, arrived.one_way)) return false;
  if (numbered) {
    open.named = parse_number(std::string_view(transaction).substr(1));
    const std::uint64_t name = open.named.value_or(open.identity);
    request.target =
        with_transaction(request.target, transaction_prefix(connection) + fmt::format("{}", name));
  }
  if (options.alias_events) {
    open.aliased = may_alias(open.route, request.target);
    if (open.route.matrix && open.route.kind != RouteKind::federation) {
      request.target = with_events(with_events(request.target, "%24"), "$");
      request.body = to_bytes(as_bytes(with_events(as_text(request.body), "$")));
    }
  }
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
    return respond(now, open, error_response(options.matrix, 400, "not a request that is passed on"));
  HttpRequest request = std::move(*parsed);
  if (!prepare(now, arrived, open, request)) {
    // A stop with an answer wanted is no gateway's; it has one all the same.
    if (request.target == kStop) respond(now, open, {204, {}, {}});
    return;
  }
  if (under_way.size() >= options.max_upstream)
    return respond(now, open,
                   error_response(open.route.matrix, 503, "too many requests wait for the server"));
  if (open.route.kind == RouteKind::sync) {
    open.sync_base = without_query(request.target, "since");
    if (open.client) stop_polling(*open.client, News::drop);
  }
  ask(now, std::move(open), std::move(request), options.upstream_timeout);
}

// What a response says about its token.
void FarGateway::Impl::note_tokens(const Open& open, const HttpResponse& response) {
  if (open.login && response.status == 200) {
    const std::string_view token = json_text(as_text(response.body), "access_token");
    if (!token.empty()) learn_token(*open.login, "Bearer " + std::string(token));
  }
  if (!open.client) return;
  const bool out = open.route.kind == RouteKind::logout && response.status == 200;
  if (response.status == 401 || out) forget_client(*open.client);
}

void FarGateway::Impl::handle_response(Instant now, UpstreamId id, HttpResponse response) {
  const auto at = under_way.find(id);
  if (at == under_way.end()) return;
  Open open = std::move(at->second);
  under_way.erase(at);
  RouteCounters& counters = stats.of(open.route.kind);
  ++counters.exchanges;
  counters.response_bytes += http_size(response);
  std::erase_if(response.headers, [](const auto& header) { return header.first == "~"; });  // ours alone
  if (open.poll) return handle_polled(now, open.client.value_or(0), &response);
  if (response.body.size() > options.max_body) {
    ++counters.failed;
    return respond(now, open, error_response(open.route.matrix, 502, "the server's response is too large"));
  }
  note_tokens(open, response);
  const std::string_view body = as_text(response.body);
  const std::string next(json_text(body, "next_batch"));
  if (open.client && !open.sync_base.empty() && response.status == 200 && !next.empty()) {
    Poller poller{.base = open.sync_base, .since = next, .counts = key_counts(body)};
    pollers[*open.client] = std::move(poller);
    respond(now, open, response);
    return poll(now, *open.client);
  }
  if (open.aliased && response.status == 200) {
    const std::string event(json_text(body, "event_id"));
    const bool named = event.starts_with('$') && event.size() <= kMaxEventId;
    if (named && body == fmt::format(R"({{"event_id":"{}"}})", event)) {
      remember_alias(open.named.value_or(open.identity), event);
      open.event = event;
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
  ++stats.of(open.route.kind).failed;
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

void FarGateway::Impl::poll(Instant now, std::uint64_t client) {
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
  open.route = {.kind = RouteKind::sync, .matrix = true, .room = {}, .subject = {}};
  open.client = client;
  poller.under_way = ask(now, std::move(open), std::move(request), options.poll_timeout);
}

void FarGateway::Impl::handle_polled(Instant now, std::uint64_t client, const HttpResponse* response) {
  const auto at = pollers.find(client);
  if (at == pollers.end()) return;
  Poller& poller = at->second;
  poller.under_way = 0;
  const std::string_view body = response == nullptr ? std::string_view() : as_text(response->body);
  const std::string next(json_text(body, "next_batch"));
  if (response == nullptr || response->status != 200 || next.empty()) {
    if (response != nullptr && response->status == 401) {
      push(now, client, *response);  // whoever polls there is to hear of it
      forget_client(client);
      return;
    }
    poller.next = now + options.poll_retry * (1LL << std::min(poller.failures++, 4u));
    return;
  }
  poller.failures = 0;
  const std::string counts = key_counts(body);
  const bool news = next != poller.since && (!is_empty_sync(body) || counts != poller.counts);
  if (!news) {
    poller.since = next;
    poller.next = now + kPollPause;
    return;
  }
  poller.counts = counts;
  poller.since = next;
  push(now, client, *response);
  poll(now, client);
}

void FarGateway::Impl::push(Instant now, std::uint64_t client, HttpResponse response) {
  if (client != 0) response.headers.emplace_back("~", fmt::format("{}", client));
  link::Message message = response_text(response, options.more_headers);
  mark_transactions(message.text, transaction_prefix(connection));
  const auto id = message.text.size() > kMaxText ? Result<link::PushId>(Error{ErrorKind::limit_reached, ""})
                                                 : link.push(now, std::move(message), {});
  if (!id) return stop_polling(client, News::keep);  // its next poll asks from where it stands
  ++stats.pushes;
  stats.push_bytes += response.body.size();
  unread[*id] = client;
  ++pollers.at(client).unread;
}

void FarGateway::Impl::handle_forgot() {
  while (!pollers.empty()) stop_polling(pollers.begin()->first, News::drop);
  tokens.clear();
  unread.clear();
}

void FarGateway::Impl::drain(Instant now) {
  while (auto event = link.poll_event()) {
    if (auto* arrived = std::get_if<link::RequestArrived>(&*event)) {
      handle_arrived(now, std::move(*arrived));
    } else if (const auto* delivered = std::get_if<link::PushDelivered>(&*event)) {
      const auto at = unread.find(delivered->id);
      if (at == unread.end()) continue;
      const std::uint64_t client = at->second;
      unread.erase(at);
      if (const auto poller = pollers.find(client); poller != pollers.end()) {
        if (poller->second.unread > 0) --poller->second.unread;
        if (poller->second.next.is_never()) poll(now, client);
      }
    } else if (std::holds_alternative<link::PeerForgot>(*event)) {
      handle_forgot();
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
  std::vector<std::uint64_t> due;
  for (const auto& [client, poller] : impl_->pollers)
    if (poller.next <= now) due.push_back(client);
  for (const std::uint64_t client : due) impl_->poll(now, client);
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

GatewayStats FarGateway::stats() const {
  GatewayStats stats = impl_->stats;
  for (const auto& [id, open] : impl_->under_way) ++stats.of(open.route.kind).waiting;
  stats.clients = impl_->tokens.size();
  stats.streams = impl_->pollers.size();
  return stats;
}
const link::ThinLink& FarGateway::link() const {
  return impl_->link;
}
link::ThinLink& FarGateway::link() {
  return impl_->link;
}

}  // namespace ravine::gateway::core
