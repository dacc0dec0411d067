#include "gateway/core/near_gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "gateway/core/near_gateway_impl.h"

namespace ravine::gateway::core {
namespace {

constexpr std::size_t kMaxSends = 1024;       // transactions that a client may ask about again
constexpr std::size_t kMaxKeptAnswer = 4096;  // bytes of such a transaction's answer
constexpr std::uint8_t kSendPriority = 2, kOrdinaryPriority = 4, kMediaPriority = 6, kQuietPriority = 5;
constexpr std::size_t kQuietAnswer = 96;  // bytes of a send's answer, about
constexpr std::size_t kEchoAnswer = 256;  // with its echo
constexpr std::size_t kQuietDatagram = 37;
constexpr unsigned kMaxRepeated = 2;
constexpr Duration kWorthWaiting = 20ms;  // of a datagram's time on the link

// FNV-1a: names a transaction across a restart of this gateway.
std::uint64_t hash_of(std::string_view a, std::string_view b) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::string_view part : {a, b}) {
    for (const char c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    hash = (hash ^ 0x100) * 0x100000001b3u;
  }
  return hash | 1;
}

// Between the first line and the headers. `secret` goes into the tail.
void add_own_line(link::Message& message, std::string line, std::string_view secret) {
  const auto head = std::find(message.text.begin(), message.text.end(), '\n') - message.text.begin() + 1;
  line += secret.empty() ? "\n" : " \n";
  message.text.insert(message.text.begin() + head, line.begin(), line.end());
  if (!secret.empty()) add_secret(message, static_cast<std::size_t>(head) + line.size() - 1, secret);
}

}  // namespace

HttpResponse json_response(std::string_view body) {
  return {200, {{"content-type", "application/json"}}, to_bytes(as_bytes(body))};
}

NearGateway::Impl::Impl(NearOptions given, link::ThinLink thin)
    : options(std::move(given)), link(std::move(thin)) {
  connection = encode_hex(link.channel().connection_id());
  for (auto& kept : link.restored_responses()) {
    Send& send = sends[kept.token];
    send.identity = kept.identity;
    auto response = read_response(std::move(kept.response), send.identity);
    if (response && response->status < 300) send.done = std::move(*response);
    send_order.push_back(kept.token);
  }
  for (const auto& restored : link.restored_requests()) {
    if (restored.token == 0) continue;
    Send& send = sends[restored.token];
    send.request = restored.id;
    send.identity = restored.identity;
    // One that was a repetition already names the first.
    const std::string_view text = as_text(restored.message.text);
    std::string transaction;
    without_transaction(text.substr(0, std::min(text.find('\n'), text.size())), transaction);
    if (transaction.size() > 1 && transaction[0] == '~')
      send.identity = parse_number(std::string_view(transaction).substr(1)).value_or(0);
    send_order.push_back(restored.token);
    pending[restored.id] = Pending{.kind = RouteKind::transaction, .send = restored.token};
  }
}

void NearGateway::Impl::answer(Instant now, HttpId id, HttpResponse response) {
  const auto at = http.find(id);
  if (at == http.end()) return;
  RouteCounters& counters = stats.of(at->second.route.kind);
  ++counters.exchanges;
  counters.response_bytes += http_size(response);
  counters.time += now - at->second.since;
  if (at->second.cors) {
    response.headers.emplace_back("access-control-allow-origin", "*");
    response.headers.emplace_back("access-control-expose-headers", "*");
  }
  http.erase(at);
  answers.push_back({id, std::move(response)});
}

void NearGateway::Impl::refuse(Instant now, HttpId id, std::uint16_t status, std::string_view reason) {
  const auto at = http.find(id);
  if (at == http.end()) return;
  ++stats.of(at->second.route.kind).failed;
  answer(now, id, error_response(at->second.route.matrix, status, reason));
}

// The token's number on this link. The one that was not used for the longest time makes room.
std::optional<std::uint64_t> NearGateway::Impl::client_of(Instant now, std::string_view authorization) {
  auto oldest = clients.end();
  for (auto at = clients.begin(); at != clients.end(); ++at) {
    if (at->second.authorization == authorization) {
      at->second.used = now;
      return at->first;
    }
    const bool idle = !streams.contains(at->second.authorization);
    if (idle && (oldest == clients.end() || at->second.used < oldest->second.used)) oldest = at;
  }
  if (clients.size() >= kMaxClients) {
    if (oldest == clients.end()) return std::nullopt;
    clients.erase(oldest);
  }
  clients[next_client] = {std::string(authorization), false, now};
  return next_client++;
}

bool NearGateway::Impl::answer_locally(Instant now, HttpId id, const HttpRequest& request) {
  const Http& entry = http.at(id);
  RouteCounters& counters = stats.of(entry.route.kind);
  if (options.cors && request.method == "OPTIONS" && has_header(request.headers, "origin") &&
      has_header(request.headers, "access-control-request-method")) {
    HttpResponse response{204, {}, {}};
    response.headers.emplace_back("access-control-allow-methods",
                                  "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers.emplace_back("access-control-allow-headers",
                                  "X-Requested-With, Content-Type, Authorization, Date");
    response.headers.emplace_back("access-control-max-age", "86400");
    ++counters.local;
    answer(now, id, std::move(response));
    return true;
  }
  const auto& suppress = options.suppress;
  const RouteKind kind = entry.route.kind;
  const bool receipt = kind == RouteKind::receipt || kind == RouteKind::marker;
  if ((kind == RouteKind::typing && suppress.typing) || (receipt && suppress.receipts) ||
      (kind == RouteKind::presence && suppress.presence)) {
    ++counters.local;
    answer(now, id, json_response("{}"));
    return true;
  }
  if (kind == RouteKind::avatar && suppress.avatars) {
    ++counters.local;
    refuse(now, id, 404, "avatars are not carried over this link");
    return true;
  }
  return false;
}

void NearGateway::Impl::handle_request(Instant now, HttpId id, HttpRequest request) {
  Http entry{.route = options.matrix ? classify(request.method, request.target) : RouteInfo{},
             .since = now,
             .until = now + options.gateway_timeout,
             .cors = options.cors && has_header(request.headers, "origin")};
  stats.of(entry.route.kind).request_bytes += http_size(request);
  http[id] = std::move(entry);
  if (const auto refusal =
          check_request(request, {options.max_target, options.max_headers, options.max_body}))
    return refuse(now, id, refusal->status, refusal->reason);
  if (http.size() > options.max_waiting)
    return refuse(now, id, 503, "too many requests wait for the slow link");
  if (answer_locally(now, id, request)) return;
  Call call;
  call.id = id;
  call.authorization = header_value(request.headers, "authorization");
  if (call.authorization.starts_with("X-Matrix ")) call.authorization.clear();
  const RouteInfo& route = http.at(id).route;
  call.route = route;
  if (route.matrix && call.authorization.empty()) {
    const std::string_view token = query_value(request.target, "access_token");
    if (!token.empty()) {
      call.authorization = "Bearer " + std::string(token);
      request.target = without_query(request.target, "access_token");
    }
  }
  call.request = std::move(request);
  switch (route.kind) {
    case RouteKind::sync:
      return handle_sync(now, std::move(call));
    case RouteKind::transaction:
      return handle_send(now, std::move(call));
    case RouteKind::typing:
    case RouteKind::receipt:
    case RouteKind::marker:
    case RouteKind::presence:
      return handle_quiet(now, std::move(call));
    default: {
      link::RequestOptions how;
      how.priority = route.kind == RouteKind::media || route.kind == RouteKind::avatar ? kMediaPriority
                                                                                       : kOrdinaryPriority;
      how.expected_bytes = 1200;
      how.may_merge = route.kind != RouteKind::login;
      forward(now, std::move(call), std::move(how), {});
    }
  }
}

// On a slow link these wait for what is sent next. A receipt that comes late harms nobody.
Duration NearGateway::Impl::linger_of(RouteKind kind) const {
  const Duration alone = coap::serialisation_time(kQuietDatagram, link.rto().rate_bps());
  if (alone < kWorthWaiting) return Duration{0};
  const bool receipt = kind == RouteKind::receipt || kind == RouteKind::marker;
  return receipt ? std::min<Duration>(alone * 3, 10s) : std::min<Duration>(alone / 2, 1s);
}

// Typing, receipts, presence: nobody waits for their answers, and only the latest one matters.
void NearGateway::Impl::handle_quiet(Instant now, Call call) {
  link::RequestOptions how;
  how.priority = kQuietPriority;
  how.one_way = call.route.kind != RouteKind::marker;
  how.linger = linger_of(call.route.kind);
  how.replace_key = fmt::format("{}:{}:{}:{}", to_text(call.route.kind), call.route.subject,
                                json_text(as_text(call.request.body), "thread_id"), call.authorization);
  const HttpId id = call.id;
  const auto client = client_of(now, call.authorization);
  if (!client || !clients.at(*client).known) {
    how.one_way = false;  // a token's first request wants its answer
    forward(now, std::move(call), std::move(how), {});
    return;
  }
  call.id = 0;
  forward(now, std::move(call), std::move(how), {});
  answer(now, id, json_response("{}"));
}

void NearGateway::Impl::handle_send(Instant now, Call call) {
  const std::uint64_t key = hash_of(call.authorization, call.request.target);
  std::string transaction;
  call.request.target = without_transaction(call.request.target, transaction);
  const auto [at, fresh] = sends.try_emplace(key);
  Send& send = at->second;
  send.transaction = json_text_of(transaction);
  if (send.done) {
    ++stats.of(call.route.kind).local;
    return answer(now, call.id, *send.done);
  }
  if (send.request != 0) {
    // The same transaction again: the client lost patience or its connection, not we the request.
    pending[send.request].waiting.push_back(call.id);
    return;
  }
  if (fresh) send_order.push_back(key);
  // It may have run: the server is to know it by the same ID.
  if (send.identity != 0)
    call.request.target = with_transaction(call.request.target, fmt::format("~{}", send.identity));
  link::RequestOptions how;
  how.priority = kSendPriority;
  how.token = key;
  how.expected_bytes = streams.contains(call.authorization) ? kEchoAnswer : kQuietAnswer;
  Pending entry;
  entry.send = key;
  const link::RequestId id = forward(now, std::move(call), std::move(how), std::move(entry));
  sends[key].request = id;
  forget_old_sends();
}

void NearGateway::Impl::forget_old_sends() {
  while (send_order.size() > kMaxSends) {
    const auto oldest = sends.find(send_order.front());
    if (oldest != sends.end() && oldest->second.request != 0) return;
    if (oldest != sends.end()) sends.erase(oldest);
    send_order.pop_front();
  }
}

// Says whose token the request is made with. False: refused, and answered so.
bool NearGateway::Impl::name_client(Instant now, const Call& call, link::Message& message, Pending& entry,
                                    link::RequestOptions& how) {
  if (call.authorization.empty()) {
    if (call.route.kind == RouteKind::login) {
      entry.login = next_client++;
      add_own_line(message, fmt::format("~: -{}", *entry.login), {});
    } else {
      add_own_line(message, "~: -", {});  // without a word, the first client's token would be taken
    }
    return true;
  }
  entry.client = client_of(now, call.authorization);
  if (!entry.client) {
    refuse(now, call.id, 503, "too many different access tokens use this link");
    return false;
  }
  // A later process gives its numbers to others: what it sends of ours names the token itself.
  how.after_restart = message;
  add_own_line(*how.after_restart, "~: -", call.authorization);
  const bool known = clients.at(*entry.client).known;
  if (!known || *entry.client != 0)
    add_own_line(message, fmt::format("~: {}", *entry.client), known ? "" : call.authorization);
  return true;
}

// Hands a request to the link. 0: refused, and answered so.
link::RequestId NearGateway::Impl::forward(Instant now, Call call, link::RequestOptions how, Pending entry) {
  link::Message message = request_text(call.request, options.more_headers);
  if (options.matrix) hide_secrets(message);
  if (call.id != 0 && entry.waiting.empty()) entry.waiting.push_back(call.id);
  entry.kind = call.route.kind;
  if (!name_client(now, call, message, entry, how)) return 0;
  how.patience = options.gateway_timeout;
  how.may_merge = call.route.kind != RouteKind::login;
  const auto id = link.request(now, std::move(message), how);
  if (!id) {
    const std::uint16_t status = id.error().kind == ErrorKind::limit_reached ? 503 : 502;
    for (const HttpId waiting : entry.waiting) refuse(now, waiting, status, id.error().message);
    return 0;
  }
  how.after_restart.reset();
  entry.call = std::make_shared<Call>(std::move(call));
  entry.options = std::move(how);
  pending[*id] = std::move(entry);
  return *id;
}

// The client went away. What it asked for goes nowhere if that makes no difference to the server.
void NearGateway::Impl::withdraw(Instant now, HttpId id) {
  http.erase(id);
  for (auto& [key, stream] : streams)
    std::erase_if(stream.polls, [&](const auto& poll) { return poll.id == id; });
  for (auto& [request, entry] : pending) {
    if (std::erase(entry.waiting, id) == 0) continue;
    const bool wanted = !entry.waiting.empty() || entry.send != 0 || entry.login || entry.sync;
    if (wanted || !entry.call ||
        (entry.call->request.method != "GET" && entry.call->request.method != "HEAD"))
      return;
    const link::RequestId gone = request;
    pending.erase(gone);
    link.cancel(now, gone);
    return;
  }
}

// What the link still follows up may have clients that came later than it.
void NearGateway::Impl::handle_late(Instant now) {
  std::vector<HttpId> late;
  for (const auto& [id, entry] : http)
    if (!entry.held && entry.until <= now) late.push_back(id);
  for (const HttpId id : late) refuse(now, id, 504, "the other gateway did not answer in time");
}

// A large request or answer that arrives piece by piece is not late.
void NearGateway::Impl::handle_progress(Instant now, const link::TransferProgress& progress) {
  for (const link::RequestId id : progress.requests) {
    const auto at = pending.find(id);
    if (at == pending.end()) continue;
    for (const HttpId waiting : at->second.waiting)
      if (const auto entry = http.find(waiting); entry != http.end())
        entry->second.until = now + options.gateway_timeout;
  }
}

void NearGateway::Impl::handle_ended(Instant now, link::RequestEnded ended) {
  const auto at = pending.find(ended.id);
  if (at == pending.end()) return;
  Pending entry = std::move(at->second);
  pending.erase(at);
  RouteCounters& counters = stats.of(entry.kind);
  counters.link_bytes_out += ended.bytes_out;
  counters.link_bytes_in += ended.bytes_in;
  counters.copies += ended.copies;
  if (entry.send != 0) {
    sends[entry.send].request = 0;
  }
  if (ended.end == link::RequestEnd::answered) return deliver(now, std::move(entry), std::move(ended));
  if (ended.end == link::RequestEnd::replaced) {
    for (const HttpId id : entry.waiting) answer(now, id, json_response("{}"));
    return;
  }
  std::uint16_t status = 504;
  std::string_view reason = "the other gateway did not answer in time";
  if (ended.end == link::RequestEnd::failed) {
    status = 502;
    reason = "this gateway could not write its journal";
  }
  for (const HttpId id : entry.waiting) refuse(now, id, status, reason);
}

void NearGateway::Impl::deliver(Instant now, Pending entry, link::RequestEnded ended) {
  std::uint64_t identity = entry.send != 0 ? sends[entry.send].identity : ended.identity;
  auto parsed = read_response(std::move(ended.response), identity);
  if (!parsed) {
    for (const HttpId id : entry.waiting) refuse(now, id, 502, parsed.error().message);
    return;
  }
  const HttpResponse response = std::move(*parsed);
  if (response.status == kTokenForgotten) return repeat_with_token(now, std::move(entry));
  note_tokens(now, entry, response);
  if (entry.sync && response.status == 200) {
    if (entry.sync->gap || ended.overtook) {
      end_stream(now, entry.sync->key, error_response(true, 503, "sync again"));
    } else {
      begin_stream(now, *entry.sync, response);
    }
  }
  if (entry.send != 0 && response.status < 300 && http_size(response) <= kMaxKeptAnswer)
    sends[entry.send].done = response;
  for (const HttpId id : entry.waiting) answer(now, id, response);
}

void NearGateway::Impl::repeat_with_token(Instant now, Pending entry) {
  if (entry.client)
    if (const auto client = clients.find(*entry.client); client != clients.end())
      client->second.known = false;
  std::erase_if(entry.waiting, [this](HttpId id) { return !http.contains(id); });
  if (!entry.call || entry.call->repeated >= kMaxRepeated || (entry.waiting.empty() && entry.send == 0)) {
    for (const HttpId id : entry.waiting) refuse(now, id, 503, "not sent yet; send it again");
    return;
  }
  Call call = *entry.call;
  call.id = entry.waiting.empty() ? 0 : entry.waiting.front();
  ++call.repeated;
  link::RequestOptions how = std::move(entry.options);
  const std::uint64_t send = entry.send;
  // One that runs under its identity elsewhere as well is the same transaction to the server.
  if (send != 0 && sends[send].identity != 0)
    call.request.target = with_transaction(call.request.target, fmt::format("~{}", sends[send].identity));
  entry.call.reset();
  const link::RequestId again = forward(now, std::move(call), std::move(how), std::move(entry));
  if (send != 0) sends[send].request = again;
}

// What a response says about its token.
void NearGateway::Impl::note_tokens(Instant now, const Pending& entry, const HttpResponse& response) {
  const std::string_view body = as_text(response.body);
  if (entry.client) {
    if (const auto client = clients.find(*entry.client); client != clients.end()) {
      const bool out = entry.kind == RouteKind::logout && response.status == 200;
      client->second.known = response.status != 401 && !out;
      if (out || (response.status == 401 && json_text(body, "errcode") == "M_UNKNOWN_TOKEN")) {
        const std::string key = client->second.authorization;
        clients.erase(client);
        end_stream(now, key, out ? error_response(true, 401, "logged out") : response);
      }
    }
  }
  if (!entry.login) return;
  const std::string_view token = json_text(body, "access_token");
  if (response.status != 200 || token.empty() || clients.size() >= kMaxClients) return;
  std::string authorization = "Bearer " + std::string(token);
  std::erase_if(clients, [&](const auto& client) { return client.second.authorization == authorization; });
  clients[*entry.login] = {std::move(authorization), true, now};
}

std::string NearGateway::Impl::transaction_of(std::uint64_t identity) const {
  if (const auto request = link.find_identity(identity)) {
    const auto at = pending.find(*request);
    if (at != pending.end() && at->second.send != 0) {
      const auto send = sends.find(at->second.send);
      if (send != sends.end() && !send->second.transaction.empty()) return send->second.transaction;
    }
  }
  for (const auto& [key, send] : sends)
    if (send.identity == identity && !send.transaction.empty()) return send.transaction;
  return transaction_prefix(connection) + fmt::format("{}", identity);  // as the server knows it
}

// Puts back what the other side left out. `identity`: of the request; the other side's word replaces it.
Result<HttpResponse> NearGateway::Impl::read_response(link::Message message, std::uint64_t& identity) {
  const std::string_view text = as_text(message.text);
  const std::string_view head = text.substr(0, text.find("\n\n"));
  if (const std::size_t own = head.find("\n~: "); own != std::string_view::npos) {
    const std::string_view line = head.substr(own + 4);
    identity = parse_number(line.substr(0, line.find('\n'))).value_or(0);
  }
  const Error malformed{ErrorKind::invalid_argument, "the other gateway sent marks that stand for nothing"};
  if (!unmark_transactions(message.text, [this](std::uint64_t number) { return transaction_of(number); }))
    return malformed;
  const auto alias = static_cast<std::uint8_t>(kAliasMark);
  const auto at = std::find(message.text.begin(), message.text.end(), alias);
  if (at != message.text.end()) {
    const std::string name = alias_prefix(connection) + fmt::format("{}", identity);
    const auto place = message.text.erase(at);
    message.text.insert(place, name.begin(), name.end());
  }
  if (!reveal_secrets(message)) return malformed;
  auto response = parse_response_text(message);
  if (response) std::erase_if(response->headers, [](const auto& header) { return header.first == "~"; });
  return response;
}

// Whatever ended in this turn may be named by what comes before its end.
void NearGateway::Impl::note_identity(const link::RequestEnded& ended) {
  const auto at = pending.find(ended.id);
  if (at == pending.end() || at->second.send == 0) return;
  Send& send = sends[at->second.send];
  if (send.identity == 0) send.identity = ended.identity;
}

void NearGateway::Impl::drain(Instant now) {
  std::deque<link::Event> turn;
  while (auto event = link.poll_event()) turn.push_back(std::move(*event));
  for (const auto& event : turn)
    if (const auto* ended = std::get_if<link::RequestEnded>(&event)) note_identity(*ended);
  for (auto& each : turn) {
    auto* event = &each;
    if (auto* ended = std::get_if<link::RequestEnded>(&*event)) {
      handle_ended(now, std::move(*ended));
    } else if (auto* push = std::get_if<link::PushArrived>(&*event)) {
      handle_push(now, std::move(push->push));
    } else if (const auto* progress = std::get_if<link::TransferProgress>(&*event)) {
      handle_progress(now, *progress);
    } else if (std::holds_alternative<link::PeerForgot>(*event)) {
      handle_forgot(now);
    }
  }
}

// --- the machine ------------------------------------------------------------------------------------------

NearGateway::NearGateway(NearOptions options, link::ThinLink link)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(link))) {}
NearGateway::NearGateway(NearGateway&&) noexcept = default;
NearGateway& NearGateway::operator=(NearGateway&&) noexcept = default;
NearGateway::~NearGateway() = default;

void NearGateway::handle_request(Instant now, HttpId id, HttpRequest request) {
  impl_->handle_request(now, id, std::move(request));
  impl_->drain(now);
}

void NearGateway::withdraw(Instant now, HttpId id) {
  impl_->withdraw(now, id);
  impl_->drain(now);
}

void NearGateway::handle_datagram(Instant now, const SocketAddress& source, ByteView datagram) {
  impl_->link.handle_datagram(now, source, datagram);
  if (const auto frames = impl_->link.stats().frames_in; frames != impl_->frames_heard) {
    impl_->frames_heard = frames;
    impl_->heard = now;
  }
  impl_->drain(now);
}

void NearGateway::handle_timeout(Instant now) {
  impl_->link.handle_timeout(now);
  impl_->drain(now);
  impl_->handle_late(now);
  for (auto& [key, stream] : impl_->streams) impl_->serve_stream(now, stream);
}

std::optional<link::LinkTransmit> NearGateway::poll_transmit(Instant now) {
  auto out = impl_->link.poll_transmit(now);
  impl_->drain(now);
  return out;
}

std::optional<HttpAnswer> NearGateway::poll_answer() {
  if (impl_->answers.empty()) return std::nullopt;
  HttpAnswer answer = std::move(impl_->answers.front());
  impl_->answers.pop_front();
  return answer;
}

Deadline NearGateway::next_deadline() const {
  Deadline deadline = impl_->link.next_deadline();
  for (const auto& [id, entry] : impl_->http)
    if (!entry.held) deadline.earlier(entry.until, "gateway timeout");
  for (const auto& [key, stream] : impl_->streams)
    for (const auto& poll : stream.polls) deadline.earlier(poll.until, "long poll");
  return deadline;
}

GatewayStats NearGateway::stats() const {
  GatewayStats stats = impl_->stats;
  for (const auto& [id, entry] : impl_->http) ++stats.of(entry.route.kind).waiting;
  stats.clients = impl_->clients.size();
  stats.streams = impl_->streams.size();
  return stats;
}
const link::ThinLink& NearGateway::link() const {
  return impl_->link;
}
link::ThinLink& NearGateway::link() {
  return impl_->link;
}
std::size_t NearGateway::waiting() const {
  return impl_->http.size();
}

}  // namespace ravine::gateway::core
