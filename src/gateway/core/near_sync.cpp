#include <fmt/format.h>

#include <algorithm>

#include "gateway/core/near_gateway_impl.h"

namespace ravine::gateway::core {
namespace {

constexpr Duration kMaxPoll = 300s;
constexpr std::uint8_t kSyncPriority = 4;

Duration timeout_of(std::string_view target) {
  std::uint64_t timeout_ms = 0;
  for (const char c : query_value(target, "timeout")) {
    if (c < '0' || c > '9' || timeout_ms > 1'000'000'000) break;
    timeout_ms = timeout_ms * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return std::min<Duration>(std::chrono::milliseconds(timeout_ms), kMaxPoll);
}

}  // namespace

void NearGateway::Impl::handle_sync(Instant now, Call call) {
  const std::string since(query_value(call.request.target, "since"));
  const Duration timeout = timeout_of(call.request.target);
  std::string target = without_query(call.request.target, "timeout");
  const std::string base = without_query(target, "since");
  const auto at = streams.find(call.authorization);
  // Nothing heard for long: the other side may have been restarted, and not push any more.
  const bool sure = heard + options.sync_check > now;
  if (at != streams.end() && at->second.base == base && !since.empty() && sure) {
    Stream& stream = at->second;
    stream.last_poll = now;
    if (since == stream.before && since != stream.since && !stream.last.empty())
      return answer(now, call.id, json_response(as_text(stream.last)));
    if (since == stream.since) {
      stream.polls.push_back({call.id, now + timeout});
      http.at(call.id).held = true;
      return serve_stream(now, stream);
    }
  }
  call.request.target = target;
  link::RequestOptions how;
  how.priority = kSyncPriority;
  how.expected_bytes = 1200;
  Pending entry;
  entry.sync = SyncStart{call.authorization, base, since};
  forward(now, std::move(call), std::move(how), std::move(entry));
}

void NearGateway::Impl::begin_stream(Instant now, const SyncStart& start, const HttpResponse& response) {
  const std::string_view next = json_text(as_text(response.body), "next_batch");
  if (next.empty()) return;
  Stream stream;
  stream.base = start.base;
  stream.since = next;
  stream.before = start.since;
  stream.counts = key_counts(as_text(response.body));
  if (!start.since.empty()) stream.last = response.body;
  stream.last_poll = now;
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
    stream.news_bytes -= stream.last.size();
    stream.since = json_text(as_text(stream.last), "next_batch");
    if (std::string counts = key_counts(as_text(stream.last)); !counts.empty())
      stream.counts = std::move(counts);
    answer(now, id, json_response(as_text(stream.last)));
  }
  while (!stream.polls.empty()) {
    const auto late = std::find_if(stream.polls.begin(), stream.polls.end(),
                                   [&](const Poll& poll) { return poll.until <= now; });
    if (late == stream.polls.end()) return;
    const HttpId id = late->id;
    stream.polls.erase(late);
    answer(now, id, json_response(fmt::format(R"({{"next_batch":"{}"{}}})", stream.since, stream.counts)));
  }
}

// Its token is not good any more: whoever polls hears it.
void NearGateway::Impl::end_stream(Instant now, const std::string& key, const HttpResponse& response) {
  const auto at = streams.find(key);
  if (at == streams.end()) return;
  const auto polls = std::move(at->second.polls);
  streams.erase(at);
  for (const Poll& poll : polls) answer(now, poll.id, response);
}

bool NearGateway::Impl::overtakes_sync(std::uint64_t number) {
  bool found = false;
  for (auto& [id, entry] : pending) {
    if (!entry.sync || entry.client != number) continue;
    entry.sync->gap = found = true;
  }
  return found;
}

void NearGateway::Impl::handle_push(Instant now, link::Message push) {
  std::uint64_t number = 0;
  auto parsed = read_response(std::move(push), number);
  if (!parsed) return;
  ++stats.pushes;
  stats.push_bytes += parsed->body.size();
  const auto client = clients.find(number);
  const auto at = client != clients.end() ? streams.find(client->second.authorization) : streams.end();
  if (overtakes_sync(number)) {
    // The next poll asks from where it stands.
    const std::string key = client == clients.end() ? std::string() : client->second.authorization;
    return end_stream(now, key, error_response(true, 503, "sync again"));
  }
  if (at == streams.end()) return stop_pushes(now, number);
  Stream& stream = at->second;
  if (parsed->status != 200) {
    client->second.known = false;
    return end_stream(now, client->second.authorization, *parsed);
  }
  const bool stale = stream.polls.empty() && stream.last_poll + options.sync_hold < now;
  if (stale || stream.news.size() >= kMaxUnread ||
      stream.news_bytes + parsed->body.size() > 2 * options.max_body) {
    end_stream(now, client->second.authorization, error_response(true, 503, "too much news; sync again"));
    return stop_pushes(now, number);  // the next poll asks from where it stands
  }
  const std::size_t mark = std::hash<std::string_view>{}(json_text(as_text(parsed->body), "next_batch"));
  if (std::find(stream.taken.begin(), stream.taken.end(), mark) != stream.taken.end()) return;
  stream.taken.push_back(mark);
  if (stream.taken.size() > kMaxUnread) stream.taken.pop_front();
  stream.news_bytes += parsed->body.size();
  stream.news.push_back(std::move(parsed->body));
  serve_stream(now, stream);
}

void NearGateway::Impl::stop_pushes(Instant now, std::uint64_t number) {
  link::RequestOptions how;
  how.one_way = true;
  how.replace_key = fmt::format("stop:{}", number);
  (void)link.request(now, {to_bytes(as_bytes(fmt::format("DELETE {}\n~: {}\n\n", kStop, number))), {}}, how);
}

// The other side lost its memory: tokens are told again, and polls ask anew.
void NearGateway::Impl::handle_forgot(Instant now) {
  for (auto& [number, client] : clients) client.known = false;
  std::map<std::string, Stream> old;
  std::swap(old, streams);
  for (auto& [key, stream] : old) {
    for (const Poll& poll : stream.polls) {
      const auto at = http.find(poll.id);
      if (at == http.end()) continue;
      at->second.held = false;
      at->second.since = now;
      at->second.until = now + options.gateway_timeout;
      Call call{.id = poll.id, .route = at->second.route, .authorization = key, .request = {}};
      call.request.method = "GET";
      call.request.target = fmt::format("{}{}since={}", stream.base,
                                        stream.base.find('?') == std::string::npos ? '?' : '&', stream.since);
      handle_sync(now, std::move(call));
    }
  }
}

}  // namespace ravine::gateway::core
