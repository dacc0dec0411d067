#include "lab/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

namespace ravine::lab {

namespace json = boost::json;

namespace {

constexpr std::size_t kMaxExchanges = 100000;
constexpr std::size_t kNoNews = SIZE_MAX;  // a sync beyond the end of the trace

Error fault(std::size_t index, std::string_view what) {
  return {ErrorKind::invalid_argument, fmt::format("exchange {}: {}", index + 1, what)};
}

// nullopt: absent or null.
std::optional<std::string> text_field(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

Duration parse_milliseconds(std::string_view text) {
  std::int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} && value > 0 && value < 3'600'000 ? std::chrono::milliseconds(value) : 0ms;
}

Result<Exchange> read_exchange(const json::value& value, std::size_t index) {
  if (!value.is_object()) return fault(index, "is no object");
  const json::object& object = value.get_object();
  Exchange exchange;
  const auto method = text_field(object, "method");
  const auto path = text_field(object, "path");
  if (!method || method->empty()) return fault(index, "\"method\" is missing");
  if (!path || !path->starts_with('/')) return fault(index, "\"path\" is missing or does not begin with /");
  exchange.method = *method;
  exchange.path = *path;
  exchange.kind = text_field(object, "kind").value_or(*method);
  exchange.request = text_field(object, "req");
  exchange.response = text_field(object, "resp").value_or("");
  if (const auto token = text_field(object, "token")) exchange.authorization = "Bearer " + *token;
  if (const auto signature = text_field(object, "fedauth")) exchange.authorization = *signature;
  const json::value* status = object.if_contains("status");
  if (status != nullptr && status->is_number()) {
    boost::system::error_code wrong;
    const auto number = status->to_number<std::int64_t>(wrong);
    if (wrong || number < 200 || number > 599) return fault(index, "\"status\" is not between 200 and 599");
    exchange.status = static_cast<std::uint16_t>(number);
  }
  return exchange;
}

}  // namespace

Result<Trace> parse_trace(std::string_view text) {
  boost::system::error_code wrong;
  const json::value root = json::parse(text, wrong);
  if (wrong) return Error{ErrorKind::invalid_argument, fmt::format("is no JSON: {}", wrong.message())};
  if (!root.is_array()) return Error{ErrorKind::invalid_argument, "is no JSON array of exchanges"};
  Trace trace;
  const auto add = [&](const json::value& value) -> Result<> {
    if (trace.size() >= kMaxExchanges)
      return Error{ErrorKind::limit_reached, fmt::format("has more than {} exchanges", kMaxExchanges)};
    auto exchange = read_exchange(value, trace.size());
    if (!exchange) return exchange.error();
    trace.push_back(std::move(*exchange));
    return {};
  };
  for (const json::value& value : root.get_array()) {
    if (!value.is_array()) {
      if (auto added = add(value); !added) return added.error();
      continue;
    }
    for (const json::value& inner : value.get_array())
      if (auto added = add(inner); !added) return added.error();
  }
  if (trace.empty()) return Error{ErrorKind::invalid_argument, "has no exchange"};
  return trace;
}

core::HttpRequest request_of(const Exchange& exchange, std::string_view host) {
  core::HttpRequest request{exchange.method, exchange.path, {}, {}};
  request.headers = {{"Host", std::string(host)},
                     {"User-Agent", "Element/1.6.5 (Android 13; Ravine replay)"},
                     {"Accept", "application/json"},
                     {"Accept-Encoding", "identity"}};
  if (!exchange.authorization.empty()) request.headers.emplace_back("Authorization", exchange.authorization);
  if (exchange.request) {
    request.headers.emplace_back("Content-Type", "application/json");
    request.body = to_bytes(as_bytes(*exchange.request));
  }
  return request;
}

core::HttpResponse response_of(const Exchange& exchange) {
  core::HttpResponse response;
  response.status = exchange.status;
  response.headers = {
      {"Server", "nginx"},
      {"Date", "Mon, 24 Nov 2025 10:20:30 GMT"},
      {"Content-Type", "application/json"},
      {"Cache-Control", "no-cache, no-store, must-revalidate"},
      {"Access-Control-Allow-Origin", "*"},
      {"Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS"},
      {"Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Authorization, Date"}};
  response.body = to_bytes(as_bytes(exchange.response));
  return response;
}

TraceServer::Key TraceServer::key_of(std::string_view method, std::string_view target,
                                     std::string_view body) {
  const core::RouteInfo route = core::classify(method, target);
  Key key;
  std::string path(target);
  if (route.kind == core::RouteKind::transaction) path = core::without_transaction(target, key.transaction);
  if (route.kind == core::RouteKind::sync) {
    // A gateway polls with its own timeout, and may write the parameters in another order.
    const std::string since(core::query_value(path, "since"));
    path = core::without_query(core::without_query(path, "timeout"), "since") + " since=" + since;
  }
  key.target = fmt::format("{} {}\n{}", method, path, body);
  return key;
}

TraceServer::TraceServer(const Trace& trace)
    : trace_(trace), names_(trace.size()), sends_before_(trace.size()), made_(trace.size()) {
  std::vector<std::size_t> sends;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const Exchange& exchange = trace[i];
    Key key = key_of(exchange.method, exchange.path, exchange.request.value_or(""));
    by_target_.emplace(std::move(key.target), i);
    if (!key.transaction.empty()) sends.push_back(i);
    names_[i] = std::move(key.transaction);
    if (core::classify(exchange.method, exchange.path).kind == core::RouteKind::sync)
      sends_before_[i] = std::exchange(sends, {});
  }
}

bool TraceServer::is_released(std::size_t index) const {
  if (index == kNoNews) return false;
  const Exchange& exchange = trace_[index];
  if (core::classify(exchange.method, exchange.path).kind != core::RouteKind::sync || index <= progress_)
    return true;
  const auto& sends = sends_before_[index];
  return !sends.empty() &&
         std::all_of(sends.begin(), sends.end(), [&](std::size_t send) { return made_[send] > 0; });
}

void TraceServer::answer(AskId id, std::size_t index) {
  ++made_[index];
  core::HttpResponse response = response_of(trace_[index]);
  std::string body(as_text(response.body));
  for (const auto& [name, asked] : renamed_) {
    const std::string from = fmt::format(R"("transaction_id":"{}")", name);
    const std::string to = fmt::format(R"("transaction_id":"{}")", asked);
    for (std::size_t at = 0; (at = body.find(from, at)) != std::string::npos; at += to.size())
      body.replace(at, from.size(), to);
  }
  response.body = to_bytes(as_bytes(body));
  answers_.push_back({id, std::move(response), index});
}

void TraceServer::release() {
  std::deque<Held> waiting;
  waiting.swap(held_);
  for (Held& poll : waiting) {
    if (is_released(poll.index)) {
      answer(poll.id, poll.index);
    } else {
      held_.push_back(std::move(poll));
    }
  }
}

void TraceServer::handle_request(Instant now, AskId id, const core::HttpRequest& request) {
  Key key = key_of(request.method, request.target, as_text(request.body));
  // The same transaction again is the same event.
  const std::string named = key.target + key.transaction;
  if (const auto known = transactions_.find(named);
      !key.transaction.empty() && known != transactions_.end()) {
    --made_[known->second];
    return answer(id, known->second);
  }
  const auto hold = [&](std::size_t index) {
    const auto timeout = parse_milliseconds(core::query_value(request.target, "timeout"));
    held_.push_back({id, index, now + timeout, std::string(core::query_value(request.target, "since"))});
  };
  const auto [first, last] = by_target_.equal_range(key.target);
  if (first == last && core::classify(request.method, request.target).kind == core::RouteKind::sync) {
    return hold(kNoNews);
  }
  if (first == last) {
    ++unknown_;
    core::HttpResponse response{404, {{"Content-Type", "application/json"}}, {}};
    response.body =
        to_bytes(as_bytes(R"({"errcode":"M_NOT_FOUND","error":"the trace has no such request"})"));
    answers_.push_back({id, std::move(response), {}});
    return;
  }
  auto chosen = std::find_if(first, last, [&](const auto& entry) { return made_[entry.second] == 0; });
  if (chosen == last) chosen = std::prev(last);
  const std::size_t index = chosen->second;
  if (!key.transaction.empty()) {
    transactions_[named] = index;
    if (names_[index] != key.transaction) renamed_.emplace_back(names_[index], key.transaction);
  }
  if (!is_released(index)) return hold(index);
  answer(id, index);
  release();
}

void TraceServer::withdraw(AskId id) {
  std::erase_if(held_, [&](const Held& poll) { return poll.id == id; });
  std::erase_if(answers_, [&](const auto& entry) { return entry.id == id; });
}

void TraceServer::handle_progress(std::size_t index) {
  progress_ = std::max(progress_, index);
  release();
}

void TraceServer::handle_timeout(Instant now) {
  for (const Held& poll : held_) {
    if (poll.until > now) continue;
    core::HttpResponse response = response_of({.method = "GET", .path = "/", .response = {}});
    response.body = to_bytes(as_bytes(fmt::format(R"({{"next_batch":"{}"}})", poll.since)));
    answers_.push_back({poll.id, std::move(response), {}});
  }
  std::erase_if(held_, [&](const Held& poll) { return poll.until <= now; });
}

Deadline TraceServer::next_deadline() const {
  Deadline deadline;
  for (const Held& poll : held_) deadline.earlier(poll.until, "long poll");
  return deadline;
}

std::optional<TraceServer::Answer> TraceServer::poll_answer() {
  if (answers_.empty()) return std::nullopt;
  Answer next = std::move(answers_.front());
  answers_.pop_front();
  return next;
}

bool is_quiet(const Exchange& exchange) {
  const core::RouteKind kind = core::classify(exchange.method, exchange.path).kind;
  return kind == core::RouteKind::typing || kind == core::RouteKind::receipt ||
         kind == core::RouteKind::presence;
}

bool ended_early(const Exchange& exchange, const core::HttpResponse& response) {
  return core::classify(exchange.method, exchange.path).kind == core::RouteKind::sync &&
         response.status == 200 && core::is_empty_sync(as_text(response.body)) &&
         !core::is_empty_sync(exchange.response);
}

std::string difference(const Exchange& exchange, const core::HttpResponse& response, bool alias_events) {
  if (response.status != exchange.status)
    return fmt::format("status {} in place of {}: {}", response.status, exchange.status,
                       as_text(response.body).substr(0, 200));
  const std::string_view body = as_text(response.body);
  if (body == exchange.response) return {};
  const bool send = core::classify(exchange.method, exchange.path).kind == core::RouteKind::transaction;
  if (alias_events && send && !core::json_text(body, "event_id").empty()) return {};
  const auto [ours, theirs] =
      std::mismatch(body.begin(), body.end(), exchange.response.begin(), exchange.response.end());
  const auto at = static_cast<std::size_t>(ours - body.begin());
  return fmt::format("the body differs from byte {}: \"{}\" in place of \"{}\"", at, body.substr(at, 60),
                     std::string_view(exchange.response).substr(at, 60));
}

}  // namespace ravine::lab
