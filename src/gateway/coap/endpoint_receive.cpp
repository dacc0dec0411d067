// What arrives at a CoapEndpoint, and the answers to it.
#include <algorithm>

#include "base/ensure.h"
#include "gateway/coap/endpoint.h"

namespace ravine::gateway::coap {
namespace {

constexpr unsigned kMaxEchoes = 1;          // RFC 9175 §2.3: challenges answered per request
constexpr std::size_t kVerifyingToken = 4;  // bytes of a random token whose return proves an address

}  // namespace

void CoapEndpoint::handle_datagram(Instant now, const SocketAddress& from, ByteView bytes, bool multicast) {
  ++counters_.datagrams_in;
  counters_.bytes_in += bytes.size();
  if (multicast) {
    ++counters_.dropped_multicast;
    return;
  }
  Decoded decoded = decode_message(bytes);
  if (!decoded.ok() && !decoded.header_valid) {
    ++counters_.malformed;
    return;
  }
  Peer* peer = peers_.open(now, from);
  if (peer == nullptr) {
    ++counters_.dropped_full;
    return;
  }
  peers_.handle_received(now, *peer, bytes.size());
  if (!decoded.ok()) {
    ++counters_.malformed;
    // RFC 7252 §4.2: a confirmable message with a format error is rejected; others are ignored.
    if (decoded.message.type == MessageType::confirmable) {
      send_empty(now, from, MessageType::reset, decoded.message.id, false);
    }
    return;
  }
  handle_message(now, from, std::move(decoded.message), bytes.size());
}

void CoapEndpoint::handle_message(Instant now, const SocketAddress& from, Message message, std::size_t size) {
  if (message.code == Code::empty || message.type == MessageType::reset) {
    return handle_empty(now, from, message, size);
  }
  if (is_request(message.code)) {
    if (message.type == MessageType::acknowledgement) {
      ++counters_.malformed;  // RFC 7252 §4.2: an acknowledgement carries a response or nothing
      return;
    }
    return handle_request(now, from, std::move(message));
  }
  handle_response(now, from, std::move(message), size);
}

// True when the message was seen before; what was said then is said again.
bool CoapEndpoint::handle_copy(Instant now, const SocketAddress& from, const Message& message) {
  ReplyCache::Entry* seen = replies_.find(now, from, message.id);
  if (seen == nullptr) return false;
  ++counters_.duplicates;
  const bool waiting = seen->queued != 0 && queue_.find(seen->queued) != nullptr;
  const Peer* peer = peers_.find(from);
  const bool allowed = peer != nullptr && peers_.allowance(now, *peer) >= seen->answer.size();
  if (message.type == MessageType::confirmable && !seen->answer.empty() && !waiting && allowed) {
    seen->queued = post(now, from, seen->answer);
  }
  return true;
}

void CoapEndpoint::handle_request(Instant now, const SocketAddress& from, Message message) {
  if (handle_copy(now, from, message)) return;
  const bool confirmable = message.type == MessageType::confirmable;
  const OptionVerdict verdict = classify_options(message);
  if (!verdict.ok() && !confirmable) return;  // RFC 7252 §5.4.1
  const Duration lifetime =
      confirmable ? options_.timing.exchange_lifetime() : options_.timing.non_lifetime();
  ReplyCache::Entry entry;
  entry.idempotent = is_idempotent(message.code);
  entry.expires_at = now + lifetime;
  if (replies_.insert(now, from, message.id, entry) == nullptr ||
      pending_.size() >= options_.pending_requests) {
    ++counters_.dropped_full;
    return answer_at_once(now, from, message, Code::service_unavailable, "too many requests");
  }
  if (!verdict.ok()) {
    const std::string reason = "option " + std::to_string(verdict.refused.front());
    return answer_at_once(now, from, message, Code::bad_option, reason);
  }
  if (refuse_early(now, from, message)) return;

  Pending pending;
  pending.from = from;
  pending.token = message.token;
  pending.message_id = message.id;
  pending.code = message.code;
  pending.confirmable = confirmable;
  pending.no_response = static_cast<std::uint8_t>(message.uint_option(kNoResponse).value_or(0));
  pending.expires_at = now + options_.timing.exchange_lifetime();
  const RequestId id = next_id_++;
  if (confirmable) {
    pending.ack_at = now + options_.timing.ack_delay;
    ack_timers_.insert({pending.ack_at, id});
  }
  pending_.emplace(id, std::move(pending));
  const bool verified = peers_.is_verified(now, *peers_.find(from));
  events_.push_back(RequestReceived{id, from, std::move(message), verified});
}

// Answers what the owner need not see: proxy requests while proxying is off, and sets aside our own Echo
// values.
bool CoapEndpoint::refuse_early(Instant now, const SocketAddress& from, Message& message) {
  if (const Option* echo = message.find(kEcho)) {
    Peer* peer = peers_.find(from);
    if (peers_.accept_echo(now, *peer, echo->value)) message.remove(kEcho);
  }
  if (!options_.proxying && (message.has(kProxyUri) || message.has(kProxyScheme))) {
    answer_at_once(now, from, message, Code::proxying_not_supported, {});
    return true;
  }
  return false;
}

void CoapEndpoint::answer_at_once(Instant now, const SocketAddress& from, const Message& request, Code code,
                                  std::string_view reason) {
  if (request.type != MessageType::confirmable) return;
  Message response;
  response.type = MessageType::acknowledgement;
  response.code = code;
  response.id = request.id;
  response.token = request.token;
  response.payload = to_bytes(as_bytes(reason));
  const Peer* peer = peers_.find(from);
  if (encoded_size(response) > peers_.allowance(now, *peer)) response.payload.clear();
  if (encoded_size(response) > peers_.allowance(now, *peer)) {
    ++counters_.dropped_amplification;
    return;
  }
  const Bytes bytes = encode_message(response);
  const QueueItemId item = post(now, from, bytes);
  replies_.keep_answer(from, request.id, bytes, item);
}

void CoapEndpoint::send_empty(Instant now, const SocketAddress& to, MessageType type, std::uint16_t id,
                              bool remember) {
  Message message;
  message.type = type;
  message.id = id;
  const Bytes bytes = encode_message(message);
  // Nothing is lost: the asker repeats what got no acknowledgement, and earns more by it.
  const Peer* peer = peers_.find(to);
  if (peer != nullptr && peers_.allowance(now, *peer) < bytes.size()) {
    ++counters_.dropped_amplification;
    return;
  }
  if (type == MessageType::reset) ++counters_.resets_sent;
  const QueueItemId item = post(now, to, bytes);
  if (remember) replies_.keep_answer(to, id, bytes, item);
}

CoapEndpoint::Outbound* CoapEndpoint::find_by_id(const SocketAddress& from, std::uint16_t id) {
  const auto at = by_message_id_.find({from, id});
  if (at == by_message_id_.end()) return nullptr;
  Outbound& outbound = outbound_.find(at->second)->second;
  return outbound.copies > 0 ? &outbound : nullptr;  // what has not left cannot be answered
}

CoapEndpoint::Outbound* CoapEndpoint::find_by_token(const SocketAddress& from, const Bytes& token) {
  const auto at = by_token_.find({from, token});
  if (at == by_token_.end()) return nullptr;
  Outbound& outbound = outbound_.find(at->second)->second;
  return outbound.copies > 0 ? &outbound : nullptr;
}

void CoapEndpoint::handle_empty(Instant now, const SocketAddress& from, const Message& message,
                                std::size_t size) {
  if (message.type == MessageType::confirmable) {  // a ping, RFC 7252 §4.3
    return send_empty(now, from, MessageType::reset, message.id, false);
  }
  if (message.type == MessageType::non_confirmable || message.code != Code::empty) return;
  Outbound* outbound = find_by_id(from, message.id);
  if (outbound == nullptr) return;
  if (options_.authenticated && outbound->is_request) return;
  const ExchangeId id = outbound->id;
  if (message.type == MessageType::reset) return fail(id, FailReason::reset);
  if (!outbound->how.confirmable || outbound->stage == Stage::acknowledged) return;
  acknowledge(now, *outbound, size);
  if (!outbound->is_request) {
    events_.push_back(SeparateOutcome{id, outbound->how.context, outbound->to, true, false});
    return finish(id);
  }
  if (!outbound->how.expects_response) finish(id);
}

void CoapEndpoint::acknowledge(Instant now, Outbound& outbound, std::size_t received) {
  if (outbound.stage == Stage::acknowledged) return;
  if (Peer* peer = peers_.find(outbound.to); peer != nullptr && outbound.how.confirmable) {
    const Duration elapsed = now - outbound.first_left;
    if (outbound.copies == 1) {
      peer->rto.handle_sample(elapsed, outbound.datagram.size(), received);
    } else {
      peer->rto.handle_ambiguous(elapsed, outbound.datagram.size(), received);
    }
  }
  release_slot(outbound);
  if (outbound.item != 0) queue_.cancel(outbound.item);
  outbound.item = 0;
  outbound.stage = Stage::acknowledged;
  set_timer(outbound, now + options_.timing.response_timeout);
}

void CoapEndpoint::handle_response(Instant now, const SocketAddress& from, Message message,
                                   std::size_t size) {
  const bool separate = message.type != MessageType::acknowledgement;
  if (separate && handle_copy(now, from, message)) return;
  Outbound* outbound = find_by_token(from, message.token);
  // RFC 7252 §5.3.2: a piggybacked response matches message ID and token, a separate one the token.
  if (outbound != nullptr && !separate && outbound->message.id != message.id) outbound = nullptr;
  if (outbound == nullptr) {
    const bool unwanted = message.type == MessageType::confirmable ||
                          (message.type == MessageType::non_confirmable && message.has(kObserve));
    if (unwanted) send_empty(now, from, MessageType::reset, message.id, false);
    return;
  }
  const OptionVerdict verdict = classify_options(message);
  if (separate && verdict.ok()) {
    ReplyCache::Entry entry;
    entry.idempotent = true;
    entry.expires_at = now + options_.timing.exchange_lifetime();
    replies_.insert(now, from, message.id, entry);
    if (message.type == MessageType::confirmable) {
      send_empty(now, from, MessageType::acknowledgement, message.id, true);
    }
  }
  if (!verdict.ok()) {
    if (message.type == MessageType::confirmable)
      send_empty(now, from, MessageType::reset, message.id, false);
    if (!options_.authenticated) fail(outbound->id, FailReason::rejected);
    return;
  }
  accept_response(now, *outbound, std::move(message), size);
}

void CoapEndpoint::accept_response(Instant now, Outbound& outbound, Message message, std::size_t size) {
  outbound.response_bytes = size;
  if (!options_.authenticated) {
    Peer* peer = peers_.find(outbound.to);
    if (peer != nullptr && outbound.message.token.size() >= kVerifyingToken) peers_.mark_verified(now, *peer);
    acknowledge(now, outbound, size);
  }
  if (answer_echo(now, outbound, message)) return;
  const ExchangeId id = outbound.id;
  events_.push_back(ResponseReceived{id, outbound.how.context, outbound.to, std::move(message)});
  if (options_.authenticated) return;  // the owner confirms
  if (!outbound.how.keep_open) return finish(id);
  outbound.answered = true;
  set_timer(outbound, Instant::never());
}

// RFC 9175 §2.3: a 4.01 with Echo asks for the same request again with that value.
bool CoapEndpoint::answer_echo(Instant now, Outbound& outbound, const Message& response) {
  const Option* echo = response.find(kEcho);
  if (echo == nullptr || response.code != Code::unauthorized || outbound.echoes >= kMaxEchoes) return false;
  Peer* peer = peers_.open(now, outbound.to);
  const std::optional<std::uint16_t> message_id = peers_.draw_message_id(now, *peer);
  if (!message_id) return false;
  Message again = outbound.message;
  again.set(kEcho, echo->value);
  if (encoded_size(again) > options_.max_message) return false;
  release_slot(outbound);
  set_timer(outbound, Instant::never());
  if (outbound.item != 0) queue_.cancel(outbound.item);
  by_message_id_.erase({outbound.to, outbound.message.id});
  again.id = *message_id;
  outbound.message = std::move(again);
  outbound.datagram = encode_message(outbound.message);
  outbound.copies = 0;
  ++outbound.echoes;
  by_message_id_[{outbound.to, *message_id}] = outbound.id;
  if (!enqueue(now, outbound)) fail(outbound.id, FailReason::timed_out);
  return true;
}

void CoapEndpoint::erase_pending(RequestId id) {
  const auto at = pending_.find(id);
  ack_timers_.erase({at->second.ack_at, id});
  pending_.erase(at);
}

std::size_t CoapEndpoint::room_for_response(Instant now, RequestId request) {
  const auto at = pending_.find(request);
  if (at == pending_.end()) return 0;
  const Peer* peer = peers_.find(at->second.from);
  return peer == nullptr ? 0 : std::min(options_.max_message, peers_.allowance(now, *peer));
}

// Makes the response one that asks for proof of the address: RFC 9175 §2.4 item 3.
void CoapEndpoint::challenge(Instant now, const SocketAddress& to, Message& response) {
  Peer* peer = peers_.open(now, to);
  Message asking;
  asking.code = Code::unauthorized;
  asking.token = std::move(response.token);
  asking.add(kEcho, peers_.echo_of(*peer));
  response = std::move(asking);
  ++counters_.challenged;
}

Result<> CoapEndpoint::respond(Instant now, RequestId request, Message response) {
  ensure(is_response(response.code));
  const auto at = pending_.find(request);
  if (at == pending_.end()) return Error{ErrorKind::not_found, "the request is answered or expired"};
  if (encoded_size(response) + at->second.token.size() > options_.max_message) {
    return Error{ErrorKind::invalid_argument, "the response exceeds one datagram: use block-wise transfer"};
  }
  // RFC 7967 §2.1: bit 1 suppresses class 2, bit 3 class 4, bit 4 class 5.
  if ((at->second.no_response >> (code_class(response.code) - 1)) & 1) {
    dismiss(now, request);
    return {};
  }
  const Pending pending = at->second;
  erase_pending(request);
  response.token = pending.token;
  const Peer* peer = peers_.open(now, pending.from);
  if (peer == nullptr) return Error{ErrorKind::limit_reached, "too many peers at a time"};
  if (encoded_size(response) > peers_.allowance(now, *peer)) {
    challenge(now, pending.from, response);
    if (encoded_size(response) > peers_.allowance(now, *peer)) {
      ++counters_.dropped_amplification;
      return {};
    }
  }
  if (!pending.confirmable || pending.acknowledged) {
    respond_separately(now, pending, std::move(response));
    return {};
  }
  response.type = MessageType::acknowledgement;
  response.id = pending.message_id;
  const Bytes bytes = encode_message(response);
  const QueueItemId item = post(now, pending.from, bytes);
  replies_.keep_answer(pending.from, pending.message_id, bytes, item);
  return {};
}

void CoapEndpoint::demand_proof(Instant now, RequestId request) {
  const auto at = pending_.find(request);
  if (at == pending_.end()) return;
  if (peers_.open(now, at->second.from) == nullptr) return erase_pending(request);
  Message response;
  challenge(now, at->second.from, response);
  (void)respond(now, request, std::move(response)).ok();
}

void CoapEndpoint::respond_separately(Instant now, const Pending& pending, Message response) {
  Peer* peer = peers_.find(pending.from);
  const std::size_t size = encoded_size(response);
  const SeparateOptions how{.confirmable = pending.confirmable, .watch = false, .priority = 1};
  // The asker repeats its request, or gives up, when this cannot be sent for want of room.
  if (send_separate(now, pending.from, std::move(response), how)) {
    peers_.spend(*peer, size);
  } else {
    ++counters_.dropped_full;
  }
}

void CoapEndpoint::dismiss(Instant now, RequestId request) {
  const auto at = pending_.find(request);
  if (at == pending_.end()) return;
  const Pending pending = at->second;
  erase_pending(request);
  if (pending.confirmable && !pending.acknowledged) {
    send_empty(now, pending.from, MessageType::acknowledgement, pending.message_id, true);
  }
}

}  // namespace ravine::gateway::coap
