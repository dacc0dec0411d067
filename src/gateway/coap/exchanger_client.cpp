// The client half of Exchanger, and its driving.
#include <fmt/format.h>

#include <algorithm>

#include "base/ensure.h"
#include "gateway/coap/exchanger.h"

namespace ravine::gateway::coap {
namespace {

constexpr std::size_t kOptionRoom = 24;  // bytes that block, tag, size and marker may add to a message
constexpr unsigned kMaxRestarts = 3;

// Options of a response that describe one block, not the body.
void strip_block_options(Message& message) {
  for (const std::uint16_t number : {kBlock1, kBlock2, kSize2, kSize1}) message.remove(number);
}

}  // namespace

std::string_view to_text(CallFault fault) {
  switch (fault) {
    case CallFault::timed_out:
      return "timed out";
    case CallFault::reset:
      return "reset by the peer";
    case CallFault::superseded:
      return "superseded by a newer request";
    case CallFault::rejected:
      return "response not understood";
    case CallFault::too_large:
      return "response too large";
    case CallFault::inconsistent:
      return "response changed while it was being fetched";
    case CallFault::local:
      return "could not be sent";
  }
  return "unknown";
}

Exchanger::Exchanger(const ExchangerOptions& options, RandomSource& random, Protection* protection)
    : options_(options),
      protection_(protection),
      endpoint_(
          [&] {
            EndpointOptions made = options.endpoint;
            made.authenticated = made.authenticated || protection != nullptr;
            return made;
          }(),
          random),
      observers_(options.observers) {
  ensure(options.block_exponent <= 6);
}

void Exchanger::handle_datagram(Instant now, const SocketAddress& from, ByteView bytes, bool multicast) {
  endpoint_.handle_datagram(now, from, bytes, multicast);
  drain(now);
}

void Exchanger::handle_timeout(Instant now) {
  endpoint_.handle_timeout(now);
  expire_held(now);
  observers_.expire(now);
  drain(now);
}

void Exchanger::drain(Instant now) {
  while (std::optional<Event> event = endpoint_.poll_event()) {
    std::visit([&](auto& kind) { handle(now, kind); }, *event);
  }
}

std::optional<ExchangerEvent> Exchanger::poll_event() {
  if (events_.empty()) return std::nullopt;
  ExchangerEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

Deadline Exchanger::next_deadline() const {
  Deadline deadline = endpoint_.next_deadline();
  for (const auto& [key, upload] : uploads_) deadline.earlier(upload.expires_at, "coap upload expires");
  for (const auto& [key, kept] : kept_) deadline.earlier(kept.expires_at, "coap body expires");
  deadline.earlier(observers_.next_expiry(), "coap observer expires");
  return deadline;
}

// Blocks of two uploads to one peer, or of one that was given up and one that follows, could be taken for one
// body.
bool Exchanger::is_upload_ambiguous(const SocketAddress& to) const {
  if (broke_upload_) return true;
  return std::any_of(calls_.begin(), calls_.end(), [&](const auto& entry) {
    const Call& other = entry.second;
    return other.to == to && !other.receiving && other.body.size() > (std::size_t{16} << other.exponent);
  });
}

std::size_t Exchanger::room_for_piece(const Message& message) const {
  const std::size_t sealing = protection_ == nullptr ? 0 : protection_->overhead_bytes();
  const std::size_t used = encoded_size(message) + options_.endpoint.token_length + kOptionRoom + sealing;
  const std::size_t whole = options_.endpoint.max_message;
  return used < whole ? whole - used : 0;
}

Result<CallId> Exchanger::call(Instant now, const SocketAddress& to, Message request,
                               const CallOptions& how) {
  if (calls_.size() >= options_.calls) {
    return Error{ErrorKind::limit_reached, fmt::format("{} calls are under way", options_.calls)};
  }
  if (request.payload.size() > options_.max_body) {
    return Error{ErrorKind::limit_reached,
                 fmt::format("a body of {} bytes: at most {}", request.payload.size(), options_.max_body)};
  }
  Call call;
  call.body = std::move(request.payload);
  request.payload.clear();
  call.to = to;
  call.how = how;
  call.request = std::move(request);
  const std::optional<std::uint8_t> exponent =
      exponent_for(room_for_piece(call.request), options_.block_exponent);
  if (!exponent)
    return Error{ErrorKind::invalid_argument, "the options of the request leave no room for a body"};
  call.exponent = *exponent;
  call.in = BodyAssembler(options_.max_body);
  if (how.observe) call.request.set_uint(kObserve, 0);
  const bool in_blocks = call.body.size() > (std::size_t{16} << call.exponent);
  // The later blocks of two answers to FETCH differ in nothing but the bodies that asked (RFC 9175 §3.5).
  const bool asks_by_body = call.request.code == Code::fetch && !call.body.empty() &&
                            std::any_of(calls_.begin(), calls_.end(), [&](const auto& entry) {
                              return entry.second.to == to && entry.second.request.code == Code::fetch;
                            });
  if ((in_blocks && is_upload_ambiguous(to)) || asks_by_body) {
    call.request.set_uint(kRequestTag, ++next_tag_ & 0xffffffff);
  }
  call.id = next_id_++;
  const CallId id = call.id;
  Call& placed = calls_.emplace(id, std::move(call)).first->second;
  if (!send_step(now, placed)) {
    // The caller hears of it at once, not through an event.
    const std::string detail = std::get<CallFailed>(events_.back()).detail;
    events_.pop_back();
    return Error{ErrorKind::limit_reached, detail};
  }
  drain(now);
  return id;
}

Message Exchanger::next_message(Call& call) const {
  Message message = call.request;
  const std::size_t size = std::size_t{16} << call.exponent;
  if (call.receiving) {
    message.remove(kObserve);
    message.remove(kSize1);
    Block block;
    block.exponent = call.exponent;
    block.number = static_cast<std::uint32_t>(call.in.size() / size);
    message.set(kBlock2, block.encode());
    call.piece = 0;
    return message;
  }
  const bool small_blocks = call.exponent < 6 && is_safe(message.code);
  if (small_blocks) {
    Block wanted;
    wanted.exponent = call.exponent;
    message.set(kBlock2, wanted.encode());
  }
  if (call.body.size() <= size) {
    message.payload = call.body;
    call.piece = call.body.size();
    return message;
  }
  call.piece = std::min(size, call.body.size() - call.sent);
  Block block;
  block.exponent = call.exponent;
  block.number = static_cast<std::uint32_t>(call.sent / size);
  block.more = call.sent + call.piece < call.body.size();
  message.set(kBlock1, block.encode());
  if (call.sent == 0) message.set_uint(kSize1, call.body.size());
  const auto begin = call.body.begin() + static_cast<std::ptrdiff_t>(call.sent);
  message.payload.assign(begin, begin + static_cast<std::ptrdiff_t>(call.piece));
  return message;
}

// Sends the call's next message; false when it failed, and then the call is gone.
bool Exchanger::send_step(Instant now, Call& call) {
  Message message = next_message(call);
  RequestOptions how;
  how.confirmable = call.how.confirmable;
  how.priority = call.how.priority;
  how.context = call.id;
  how.keep_open = call.how.observe && !call.receiving;
  how.expects_response = (message.uint_option(kNoResponse).value_or(0) & 26) != 26;
  if (options_.one_token_per_body && !how.keep_open && call.standing == 0) how.token = call.token;
  const bool first = call.sent == 0 && !call.receiving;
  if (first) how.replace_key = call.how.replace_key;
  how.expected_bytes = call.receiving ? std::size_t{16} << call.exponent : 16;
  if (protection_ != nullptr) {
    if (call.binding != 0 && call.binding != call.standing_binding) protection_->forget(call.binding);
    call.binding = 0;
    Result<Message> sealed = protection_->seal_request(call.to, message, call.binding);
    if (!sealed) {
      fail(call, CallFault::local, sealed.error().message);
      return false;
    }
    message = std::move(*sealed);
  }
  const Result<ExchangeId> exchange = endpoint_.request(now, call.to, std::move(message), how);
  if (!exchange) {
    fail(call, CallFault::local, exchange.error().message);
    return false;
  }
  call.exchange = *exchange;
  by_exchange_[*exchange] = call.id;
  if (options_.one_token_per_body) call.token = endpoint_.token_of(*exchange);
  if (how.keep_open) {
    call.standing = *exchange;
    call.standing_binding = call.binding;
  }
  return true;
}

Exchanger::Call* Exchanger::find_by_exchange(ExchangeId exchange) {
  const auto at = by_exchange_.find(exchange);
  if (at == by_exchange_.end()) return nullptr;
  return &calls_.find(at->second)->second;
}

void Exchanger::handle(Instant now, ResponseReceived& event) {
  Call* call = find_by_exchange(event.exchange);
  if (call == nullptr) return;
  const bool standing = event.exchange == call->standing;
  Message response = std::move(event.response);
  std::optional<std::uint64_t> order;
  if (protection_ != nullptr) {
    const std::uint64_t binding = standing ? call->standing_binding : call->binding;
    std::optional<Message> opened = protection_->open_response(binding, response, order);
    if (!opened) return;
    response = std::move(*opened);
    endpoint_.confirm(now, event.exchange);
  } else if (endpoint_.options().authenticated) {
    endpoint_.confirm(now, event.exchange);
  }
  if (!standing) {
    by_exchange_.erase(event.exchange);
    call->exchange = 0;
  }
  call->failures = 0;
  if (standing && response.has(kObserve)) {
    const auto sequence = static_cast<std::uint32_t>(response.uint_option(kObserve).value_or(0));
    const bool fresh =
        order ? call->freshness.accept_partial_iv(*order) : call->freshness.accept(now, sequence);
    if (!fresh) return;
    // A newer representation: whatever was being fetched of the older one is void.
    if (call->exchange != 0 && call->exchange != call->standing) {
      endpoint_.cancel(call->exchange);
      by_exchange_.erase(call->exchange);
    }
    call->receiving = false;
    call->in = BodyAssembler(options_.max_body);
  }
  // RFC 9175 §2.3 inside a security layer; outside one the endpoint sees to it.
  const Option* echo = response.find(kEcho);
  if (protection_ != nullptr && response.code == Code::unauthorized && echo != nullptr &&
      !call->request.has(kEcho)) {
    if (standing) {
      endpoint_.cancel(call->standing);
      by_exchange_.erase(call->standing);
      call->standing = 0;
      call->standing_binding = 0;
    }
    call->request.set(kEcho, echo->value);
    call->sent = 0;
    send_step(now, *call);
    return;
  }
  if (!call->receiving && continue_upload(now, *call, response)) return;
  handle_body(now, *call, std::move(response));
}

// RFC 7959 §2.5: true when the response was about a block of the request's body and the call goes on.
bool Exchanger::continue_upload(Instant now, Call& call, const Message& response) {
  bool malformed = false;
  const std::optional<Block> block = block_of(response, kBlock1, malformed);
  const std::size_t size = std::size_t{16} << call.exponent;
  if (response.code == Code::request_entity_too_large && call.sent == 0 && block &&
      block->exponent < call.exponent && call.body.size() > block->size()) {
    call.exponent = block->exponent;  // §2.9.3: the peer asks for smaller blocks
    send_step(now, call);
    return true;
  }
  if (call.body.size() <= size) return false;
  if (response.code == Code::request_entity_incomplete && call.restarts < kMaxRestarts) {
    ++call.restarts;
    call.sent = 0;
    call.request.set_uint(kRequestTag, ++next_tag_ & 0xffffffff);
    send_step(now, call);
    return true;
  }
  const bool last = call.sent + call.piece >= call.body.size();
  if (response.code != Code::continue_ || last) return false;
  call.sent += call.piece;
  if (block && block->exponent < call.exponent) call.exponent = block->exponent;
  send_step(now, call);
  return true;
}

// Begins a download anew. The request goes again with its body, for the peer may have forgotten it; a
// notification's rest is asked for without.
void Exchanger::restart(Instant now, Call& call, std::string_view why) {
  if (++call.restarts > kMaxRestarts || !is_idempotent(call.request.code)) {
    return fail(call, CallFault::inconsistent, std::string(why));
  }
  call.in = BodyAssembler(options_.max_body);
  call.receiving = call.standing != 0;
  call.sent = 0;
  send_step(now, call);
}

void Exchanger::handle_body(Instant now, Call& call, Message response) {
  bool malformed = false;
  const std::optional<Block> block = block_of(response, kBlock2, malformed);
  if (malformed) return fail(call, CallFault::rejected, "a Block2 option that cannot be");
  const bool first = call.in.size() == 0;
  if (!block || (!first && code_class(response.code) != code_class(call.head.code))) {
    // Not a piece: the whole answer, or an error in place of a later piece.
    if (response.payload.size() > options_.max_body) return fail(call, CallFault::too_large, "one message");
    return deliver(call, std::move(response));
  }
  if (response.uint_option(kSize2).value_or(0) > options_.max_body) {
    return fail(call, CallFault::too_large, fmt::format("the body is over {} bytes", options_.max_body));
  }
  const Option* tag = response.find(kEtag);
  const Option* first_tag = first ? tag : call.head.find(kEtag);
  const bool same_tag = (tag == nullptr) == (first_tag == nullptr) && (tag == nullptr || *tag == *first_tag);
  if (!same_tag) return restart(now, call, "the entity tag changed");
  if (first && block->number != 0) return restart(now, call, "a later block came first");
  using Outcome = BodyAssembler::Outcome;
  const Outcome outcome = call.in.add(*block, response.payload);
  if (outcome == Outcome::too_large) {
    return fail(call, CallFault::too_large, fmt::format("the body is over {} bytes", options_.max_body));
  }
  if (outcome == Outcome::malformed || outcome == Outcome::gap)
    return restart(now, call, "blocks that do not join");
  if (first) {
    call.head = std::move(response);
    call.head.payload.clear();
  }
  if (outcome == Outcome::complete) {
    Message whole = call.head;
    whole.payload = call.in.take();
    return deliver(call, std::move(whole));
  }
  call.receiving = true;
  call.exponent = std::min(call.exponent, block->exponent);
  send_step(now, call);
}

void Exchanger::deliver(Call& call, Message response) {
  const bool stays = call.standing != 0 && call.how.observe && is_success(response.code) &&
                     (response.has(kObserve) || call.head.has(kObserve));
  strip_block_options(response);
  const CallId id = call.id;
  events_.push_back(CallAnswered{id, call.how.context, call.to, std::move(response), !stays});
  if (!stays) return drop(id);
  call.in = BodyAssembler(options_.max_body);
  call.receiving = false;
  call.restarts = 0;
}

void Exchanger::handle(Instant now, ExchangeFailed& event) {
  Call* call = find_by_exchange(event.exchange);
  if (call == nullptr) return;
  by_exchange_.erase(event.exchange);
  if (event.exchange == call->standing) call->standing = 0;
  call->exchange = 0;
  const bool half_way = call->sent > 0 || call->receiving;
  if (event.reason == FailReason::timed_out && half_way && ++call->failures < options_.attempts) {
    send_step(now, *call);  // taken up where it broke off
    return;
  }
  CallFault fault = CallFault::timed_out;
  if (event.reason == FailReason::reset) fault = CallFault::reset;
  if (event.reason == FailReason::superseded) fault = CallFault::superseded;
  if (event.reason == FailReason::rejected) fault = CallFault::rejected;
  fail(*call, fault, std::string(to_text(event.reason)));
}

void Exchanger::fail(Call& call, CallFault fault, std::string detail) {
  const CallId id = call.id;
  events_.push_back(CallFailed{id, call.how.context, fault, std::move(detail)});
  drop(id);
}

void Exchanger::drop(CallId id) {
  const auto at = calls_.find(id);
  if (at == calls_.end()) return;
  Call& call = at->second;
  if (!call.receiving && call.sent > 0 && call.sent + call.piece < call.body.size()) broke_upload_ = true;
  for (const ExchangeId exchange : {call.exchange, call.standing}) {
    if (exchange == 0) continue;
    endpoint_.cancel(exchange);
    by_exchange_.erase(exchange);
  }
  if (protection_ != nullptr) {
    if (call.binding != 0) protection_->forget(call.binding);
    if (call.standing_binding != 0 && call.standing_binding != call.binding) {
      protection_->forget(call.standing_binding);
    }
  }
  calls_.erase(at);
}

void Exchanger::cancel(CallId call) {
  drop(call);
}

std::optional<CallProgress> Exchanger::progress(CallId call) const {
  const auto at = calls_.find(call);
  if (at == calls_.end()) return std::nullopt;
  return CallProgress{at->second.sent, at->second.body.size(), at->second.in.size()};
}

}  // namespace ravine::gateway::coap
