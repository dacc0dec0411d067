#include "gateway/core/near_gateway.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>

#include "gateway/core/near_gateway_impl.h"

namespace ravine::gateway::core {
namespace {

constexpr std::size_t kMaxClients = 256;
constexpr std::size_t kMaxSends = 1024;  // transactions that a client may ask about again
constexpr std::uint8_t kSendPriority = 2, kOrdinaryPriority = 4, kMediaPriority = 6, kQuietPriority = 5;
constexpr Duration kMaxPoll = 300s;
constexpr std::size_t kQuietAnswer = 96;  // bytes of a send's answer, about

HttpResponse json(std::string_view body) {
  return {200, {{"content-type", "application/json"}}, to_bytes(as_bytes(body))};
}

// FNV-1a: names a transaction across a restart of this gateway.
std::uint64_t hash_of(std::string_view a, std::string_view b) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const std::string_view part : {a, b}) {
    for (const char c : part) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    hash = (hash ^ 0x100) * 0x100000001b3u;
  }
  return hash | 1;
}

}  // namespace

NearGateway::Impl::Impl(NearOptions given, link::ThinLink thin)
    : options(std::move(given)), link(std::move(thin)) {
  connection = encode_hex(link.channel().connection_id());
  for (auto& kept : link.restored_responses()) {
    restore_text(kept.response, kept.identity);
    auto response = parse_response_text(kept.response);
    if (response && response->status < 300) sends[kept.token].done = std::move(*response);
    send_order.push_back(kept.token);
  }
  for (const auto& restored : link.restored_requests()) {
    if (restored.token == 0) continue;
    sends[restored.token].request = restored.id;
    pending[restored.id] = Pending{.send = restored.token};
  }
}

void NearGateway::Impl::answer(HttpId id, HttpResponse response) {
  const auto at = http.find(id);
  if (at == http.end()) return;
  if (at->second.cors) {
    response.headers.emplace_back("access-control-allow-origin", "*");
    response.headers.emplace_back("access-control-expose-headers", "*");
  }
  http.erase(at);
  answers.push_back({id, std::move(response)});
}

void NearGateway::Impl::refuse(HttpId id, std::uint16_t status, std::string_view reason) {
  const auto at = http.find(id);
  if (at != http.end()) answer(id, error_response(at->second.route.matrix, status, reason));
}

// The token's number on this link; a new one is sent along until an answer shows that it arrived.
std::optional<std::size_t> NearGateway::Impl::client_of(std::string_view authorization) {
  for (std::size_t i = 0; i < clients.size(); ++i)
    if (clients[i].authorization == authorization) return i;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    if (!clients[i].authorization.empty()) continue;
    clients[i] = Client{std::string(authorization)};
    return i;
  }
  if (clients.size() == kMaxClients) return std::nullopt;
  clients.push_back(Client{std::string(authorization)});
  return clients.size() - 1;
}

bool NearGateway::Impl::answer_locally(HttpId id, const HttpRequest& request) {
  const Http& entry = http.at(id);
  if (options.cors && request.method == "OPTIONS" && has_header(request.headers, "origin") &&
      has_header(request.headers, "access-control-request-method")) {
    HttpResponse response{204, {}, {}};
    response.headers.emplace_back("access-control-allow-methods",
                                  "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers.emplace_back("access-control-allow-headers",
                                  "X-Requested-With, Content-Type, Authorization, Date");
    response.headers.emplace_back("access-control-max-age", "86400");
    answer(id, std::move(response));
    return true;
  }
  const auto& suppress = options.suppress;
  const RouteKind kind = entry.route.kind;
  if ((kind == RouteKind::typing && suppress.typing) || (kind == RouteKind::receipt && suppress.receipts) ||
      (kind == RouteKind::presence && suppress.presence)) {
    answer(id, json("{}"));
    return true;
  }
  if (kind == RouteKind::avatar && suppress.avatars) {
    refuse(id, 404, "avatars are not carried over this link");
    return true;
  }
  return false;
}

void NearGateway::Impl::handle_request(Instant now, HttpId id, HttpRequest request) {
  http[id] = Http{.route = options.matrix ? classify(request.method, request.target) : RouteInfo{},
                  .cors = options.cors && has_header(request.headers, "origin")};
  if (const auto refusal =
          check_request(request, {options.max_target, options.max_headers, options.max_body}))
    return refuse(id, refusal->status, refusal->reason);
  if (http.size() > options.max_waiting) return refuse(id, 503, "too many requests wait for the slow link");
  if (answer_locally(id, request)) return;
  Call call;
  call.id = id;
  call.authorization = header_value(request.headers, "authorization");
  if (call.authorization.starts_with("X-Matrix ")) call.authorization.clear();
  const RouteInfo& route = http.at(id).route;
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
    case RouteKind::presence:
      return handle_quiet(now, std::move(call));
    default: {
      link::RequestOptions how;
      how.priority = route.kind == RouteKind::media || route.kind == RouteKind::avatar ? kMediaPriority
                                                                                       : kOrdinaryPriority;
      how.expected_bytes = 1200;
      how.may_merge = route.kind != RouteKind::login;
      forward(now, std::move(call), std::move(how));
    }
  }
}

// Typing, receipts, presence: nobody waits for their answers, and only the latest one matters.
void NearGateway::Impl::handle_quiet(Instant now, Call call) {
  const RouteInfo route = http.at(call.id).route;
  link::RequestOptions how;
  how.priority = kQuietPriority;
  how.one_way = true;
  how.replace_key = fmt::format("{}:{}:{}", static_cast<int>(route.kind), route.room, call.authorization);
  const HttpId id = call.id;
  const auto client = client_of(call.authorization);
  if (!client || !clients[*client].known) {
    how.one_way = false;  // a token's first request wants its answer
    forward(now, std::move(call), std::move(how));
    return;
  }
  call.id = 0;
  forward(now, std::move(call), std::move(how));
  answer(id, json("{}"));
}

void NearGateway::Impl::handle_send(Instant now, Call call) {
  const std::uint64_t key = hash_of(call.authorization, call.request.target);
  Send& send = sends[key];
  if (send.done) return answer(call.id, *send.done);
  if (send.request != 0) {
    // The same transaction again: the client lost patience or its connection, not we the request.
    pending[send.request].send = key;
    pending[send.request].waiting.push_back(call.id);
    return;
  }
  send_order.push_back(key);
  std::string transaction;
  call.request.target = without_transaction(call.request.target, transaction);
  send.transaction = transaction;
  link::RequestOptions how;
  how.priority = kSendPriority;
  how.token = key;
  how.expected_bytes = kQuietAnswer;
  const std::string room = http.at(call.id).route.room;
  const std::string authorization = call.authorization;
  send.request = forward(now, std::move(call), std::move(how), key);
  if (send.request == 0) sends.erase(key);
  while (send_order.size() > kMaxSends) {
    const auto oldest = sends.find(send_order.front());
    if (oldest != sends.end() && oldest->second.request != 0) break;
    if (oldest != sends.end()) sends.erase(oldest);
    send_order.pop_front();
  }
}

// Hands a request to the link. 0: refused, and answered so.
link::RequestId NearGateway::Impl::forward(Instant now, Call call, link::RequestOptions how,
                                           std::uint64_t send) {
  const RouteInfo route = call.id != 0 ? http.at(call.id).route : RouteInfo{};
  link::Message message = request_text(call.request, options.more_headers);
  if (options.matrix) hide_secrets(message);
  Pending entry;
  entry.send = send;
  if (call.id != 0) entry.waiting.push_back(call.id);
  entry.one_way = how.one_way;
  std::string line;
  std::optional<std::size_t> client;
  if (!call.authorization.empty()) {
    client = client_of(call.authorization);
    if (!client) {
      if (call.id != 0) refuse(call.id, 503, "too many different access tokens use this link");
      return 0;
    }
    entry.client = client;
    if (!clients[*client].known || *client != 0) line = fmt::format("~: {}", *client);
  } else if (route.kind == RouteKind::login) {
    client = client_of(fmt::format("login {}", call.id));
    if (client) line = fmt::format("~: -{}", *client);
    entry.login = client;
  } else {
    line = "~: -";  // without a word, the first client's token would be taken
  }
  if (!line.empty()) {
    const auto head = std::find(message.text.begin(), message.text.end(), '\n') - message.text.begin() + 1;
    const bool tell = entry.client && !clients[*client].known;
    const std::string whole = line + "\n";
    message.text.insert(message.text.begin() + head, whole.begin(), whole.end());
    if (tell) add_secret(message, static_cast<std::size_t>(head) + line.size(), call.authorization);
  }
  how.patience = options.gateway_timeout;
  entry.again = std::make_shared<Call>(call);
  const auto id = link.request(now, std::move(message), how);
  if (!id) {
    if (call.id != 0)
      refuse(call.id, id.error().kind == ErrorKind::limit_reached ? 503 : 502, id.error().message);
    return 0;
  }
  entry.options = std::move(how);
  pending[*id] = std::move(entry);
  return *id;
}

void NearGateway::Impl::handle_ended(Instant now, link::RequestEnded ended) {
  const auto at = pending.find(ended.id);
  if (at == pending.end()) return;
  Pending entry = std::move(at->second);
  pending.erase(at);
  if (entry.send != 0) sends[entry.send].request = 0;
  if (ended.end == link::RequestEnd::answered) return deliver(now, std::move(entry), std::move(ended));
  if (entry.login) clients[*entry.login] = {};
  if (entry.one_way) return;
  std::uint16_t status = 504;
  std::string_view reason = "the other gateway did not answer in time";
  if (ended.end == link::RequestEnd::replaced) {
    for (const HttpId id : entry.waiting) answer(id, json("{}"));
    return;
  }
  if (ended.end == link::RequestEnd::failed) {
    status = 502;
    reason = "this gateway could not write its journal";
  }
  for (const HttpId id : entry.waiting) refuse(id, status, reason);
  for (const Call& call : entry.syncs) refuse(call.id, status, reason);
}

void NearGateway::Impl::deliver(Instant now, Pending entry, link::RequestEnded ended) {
  restore_text(ended.response, ended.identity);
  auto parsed = parse_response_text(ended.response);
  if (!parsed) {
    for (const HttpId id : entry.waiting) refuse(id, 502, parsed.error().message);
    return;
  }
  HttpResponse response = std::move(*parsed);
  if (response.status == kTokenForgotten) {
    // It was not run. One of a process before is dropped: its client asks again.
    if (entry.client) clients[*entry.client].known = false;
    if (!entry.again) {
      for (const HttpId id : entry.waiting) refuse(id, 503, "not sent yet; send it again");
      return;
    }
    for (const HttpId id : entry.waiting) {
      Call call = *entry.again;
      call.id = id;
      link::RequestOptions how = entry.options;
      const link::RequestId again = forward(now, std::move(call), std::move(how), entry.send);
      if (entry.send != 0) sends[entry.send].request = again;
      if (again != 0 && entry.sync) pending[again].sync = entry.sync;
    }
    return;
  }
  if (entry.client) {
    clients[*entry.client].known = response.status != 401;
    if (response.status == 401) clients[*entry.client] = {};
  }
  if (entry.login) {
    const std::string_view token = json_string(as_text(response.body), "access_token");
    clients[*entry.login] = {};
    if (response.status == 200 && !token.empty())
      clients[*entry.login] = {.authorization = "Bearer " + std::string(token), .known = true};
  }
  if (entry.sync && response.status == 200) begin_stream(now, *entry.sync, response);
  if (entry.send != 0) {
    Send& send = sends[entry.send];
    if (response.status < 300) send.done = response;
    send.identity = ended.identity;
  }
  for (const HttpId id : entry.waiting) answer(id, response);
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

// Puts back what the other side left out.
void NearGateway::Impl::restore_text(link::Message& message, std::uint64_t identity) {
  unmark_transactions(message.text, [this](std::uint64_t number) { return transaction_of(number); });
  const auto alias = static_cast<std::uint8_t>(kAliasMark);
  const auto at = std::find(message.text.begin(), message.text.end(), alias);
  if (at != message.text.end()) {
    const std::string name = alias_prefix(connection) + fmt::format("{}", identity);
    const auto place = message.text.erase(at);
    message.text.insert(place, name.begin(), name.end());
  }
  reveal_secrets(message);
}

// --- sync -------------------------------------------------------------------------------------------------

void NearGateway::Impl::handle_sync(Instant now, Call call) {
  const std::string since(query_value(call.request.target, "since"));
  std::uint64_t timeout_ms = 0;
  for (const char c : query_value(call.request.target, "timeout")) {
    if (c < '0' || c > '9' || timeout_ms > 1'000'000'000) break;
    timeout_ms = timeout_ms * 10 + static_cast<std::uint64_t>(c - '0');
  }
  std::string target = without_query(call.request.target, "timeout");
  const std::string key = call.authorization;
  const std::string base = without_query(target, "since");
  const auto at = streams.find(key);
  if (at != streams.end() && at->second.base == base && !since.empty()) {
    Stream& stream = at->second;
    stream.last_poll = now;
    if (since == stream.before && !stream.last.empty()) return answer(call.id, json(as_text(stream.last)));
    if (since == stream.since) {
      const Duration limit = std::min<Duration>(std::chrono::milliseconds(timeout_ms), kMaxPoll);
      stream.polls.push_back({call.id, now + limit});
      serve_stream(now, stream);
      return;
    }
  }
  call.request.target = target;
  link::RequestOptions how;
  how.priority = kOrdinaryPriority;
  how.expected_bytes = 1200;
  SyncStart start{key, base, since};
  const link::RequestId id = forward(now, std::move(call), std::move(how));
  if (id != 0) pending[id].sync = std::move(start);
}

void NearGateway::Impl::begin_stream(Instant now, const SyncStart& start, const HttpResponse& response) {
  const std::string_view next = json_string(as_text(response.body), "next_batch");
  if (next.empty()) return;
  Stream stream;
  stream.base = start.base;
  stream.since = next;
  stream.before = start.since;
  if (!start.since.empty()) stream.last = response.body;
  stream.last_poll = stream.last_news = now;
  if (const auto old = streams.find(start.key); old != streams.end()) stream.polls = old->second.polls;
  streams[start.key] = std::move(stream);
}

void NearGateway::Impl::serve_stream(Instant now, Stream& stream) {
  while (!stream.polls.empty() && !stream.news.empty()) {
    const HttpId id = stream.polls.front().id;
    stream.polls.pop_front();
    stream.before = stream.since;
    stream.last = std::move(stream.news.front());
    stream.news.pop_front();
    stream.since = json_string(as_text(stream.last), "next_batch");
    answer(id, json(as_text(stream.last)));
  }
  while (!stream.polls.empty()) {
    const auto late = std::find_if(stream.polls.begin(), stream.polls.end(),
                                   [&](const Poll& poll) { return poll.until <= now; });
    if (late == stream.polls.end()) return;
    const HttpId id = late->id;
    stream.polls.erase(late);
    answer(id, json(fmt::format(R"({{"next_batch":"{}"}})", stream.since)));
  }
}

void NearGateway::Impl::handle_push(Instant now, link::Message push) {
  restore_text(push, 0);
  auto parsed = parse_response_text(push);
  if (!parsed) return;
  std::size_t index = 0;
  const std::string_view named = header_value(parsed->headers, "~");
  for (const char c : named)
    if (c >= '0' && c <= '9' && index < kMaxClients) index = index * 10 + static_cast<std::size_t>(c - '0');
  const auto at = index < clients.size() ? streams.find(clients[index].authorization) : streams.end();
  const bool stale =
      at != streams.end() && at->second.polls.empty() && at->second.last_poll + options.sync_hold < now;
  if (at == streams.end() || stale || at->second.news.size() >= kMaxUnread) {
    if (at != streams.end()) streams.erase(at);  // its next poll asks from where it stands
    link::RequestOptions how;
    how.one_way = true;
    const std::string stop = fmt::format("DELETE /~sync\n~: {}\n\n", index);
    (void)link.request(now, {to_bytes(as_bytes(stop)), {}}, how);
    return;
  }
  at->second.last_news = now;
  at->second.news.push_back(std::move(parsed->body));
  serve_stream(now, at->second);
}

// The other side lost its memory: tokens are told again, and polls ask anew.
void NearGateway::Impl::handle_forgot(Instant now) {
  for (Client& client : clients) client.known = false;
  std::vector<std::pair<std::string, Stream>> old;
  for (auto& [key, stream] : streams) old.emplace_back(key, std::move(stream));
  streams.clear();
  for (auto& [key, stream] : old) {
    for (const Poll& poll : stream.polls) {
      if (!http.contains(poll.id)) continue;
      Call call;
      call.id = poll.id;
      call.authorization = key;
      call.request.method = "GET";
      call.request.target =
          stream.base + (stream.base.find('?') == std::string::npos ? "?" : "&") + "since=" + stream.since;
      handle_sync(now, std::move(call));
    }
  }
}

void NearGateway::Impl::drain(Instant now) {
  while (auto event = link.poll_event()) {
    if (auto* ended = std::get_if<link::RequestEnded>(&*event)) {
      handle_ended(now, std::move(*ended));
    } else if (auto* push = std::get_if<link::PushArrived>(&*event)) {
      handle_push(now, std::move(push->push));
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

void NearGateway::withdraw(Instant, HttpId id) {
  impl_->http.erase(id);
  for (auto& [key, stream] : impl_->streams)
    std::erase_if(stream.polls, [&](const auto& poll) { return poll.id == id; });
}

void NearGateway::handle_datagram(Instant now, const SocketAddress& source, ByteView datagram) {
  impl_->link.handle_datagram(now, source, datagram);
  impl_->drain(now);
}

void NearGateway::handle_timeout(Instant now) {
  impl_->link.handle_timeout(now);
  impl_->drain(now);
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
  for (const auto& [key, stream] : impl_->streams)
    for (const auto& poll : stream.polls) deadline.earlier(poll.until, "long poll");
  return deadline;
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

Result<> HostTable::add(std::string_view host, std::size_t gateway) {
  if (find(host) && (!default_ || find(host) != default_))
    return Error{ErrorKind::already_exists, fmt::format("host {} has a gateway already", host)};
  std::string key(host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':')));
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  entries_.emplace_back(std::move(key), gateway);
  return {};
}

std::optional<std::size_t> HostTable::find(std::string_view host) const {
  std::string key(host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':')));
  for (char& c : key)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  for (const auto& [name, gateway] : entries_)
    if (name == key) return gateway;
  return default_;
}

}  // namespace ravine::gateway::core
