#include "gateway/coap/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/ensure.h"

namespace ravine::gateway::coap {
namespace {

constexpr std::uint8_t kReplyPriority = 1;  // answers and acknowledgements before new requests
constexpr unsigned kTokenTries = 16;

PeerOptions peer_options(const EndpointOptions& options) {
  PeerOptions peers;
  peers.rto = options.timing.rto;
  peers.rto.rate_bps = options.pacer.rate_bps > 0 ? options.pacer.rate_bps : options.timing.rto.rate_bps;
  peers.rto.overhead_bytes = options.pacer.overhead_bytes;
  peers.exchange_lifetime = options.timing.exchange_lifetime();
  peers.amplification = options.amplification;
  peers.probing_bytes_per_s = options.timing.probing_bytes_per_s;
  peers.peers = options.peers;
  return peers;
}

}  // namespace

Duration Timing::exchange_lifetime() const {
  // RFC 7252 §4.8.2: MAX_TRANSMIT_SPAN + 2 · MAX_LATENCY + PROCESSING_DELAY, the last being ACK_TIMEOUT.
  const double span = static_cast<double>(rto.initial.count()) *
                      (std::pow(2.0, static_cast<double>(max_retransmit)) - 1) * random_factor;
  return Duration{static_cast<std::int64_t>(span)} + 2 * max_latency + rto.initial;
}

Duration Timing::non_lifetime() const {
  return exchange_lifetime() - max_latency - rto.initial;
}

Timing thin_link_timing(double rate_bps, std::uint32_t overhead_bytes) {
  Timing timing;
  timing.rto = {
      .initial = 30s, .minimum = 2s, .maximum = 240s, .rate_bps = rate_bps, .overhead_bytes = overhead_bytes};
  timing.ack_delay = 10s;
  timing.response_timeout = 600s;
  return timing;
}

std::string_view to_text(FailReason reason) {
  switch (reason) {
    case FailReason::timed_out:
      return "timed out";
    case FailReason::reset:
      return "reset by the peer";
    case FailReason::superseded:
      return "superseded by a newer request";
    case FailReason::rejected:
      return "the response has critical options that are not understood";
  }
  return "unknown";
}

CoapEndpoint::CoapEndpoint(const EndpointOptions& options, RandomSource& random)
    : options_(options),
      random_(random),
      peers_(peer_options(options), random),
      queue_(options.pacer, options.queue),
      replies_(options.replies) {
  ensure(options.token_length >= 1 && options.token_length <= kMaxToken);
}

Result<ExchangeId> CoapEndpoint::request(Instant now, const SocketAddress& to, Message message,
                                         const RequestOptions& how) {
  ensure(is_request(message.code));
  Outbound outbound;
  outbound.to = to;
  outbound.how = how;
  message.type = how.confirmable ? MessageType::confirmable : MessageType::non_confirmable;
  message.token = how.token;
  if (message.token.size() > kMaxToken || by_token_.contains({to, message.token})) {
    return Error{ErrorKind::invalid_argument, "the token is too long or in use"};
  }
  if (how.token.empty()) message.token.resize(options_.token_length);
  for (unsigned attempt = 0; how.token.empty(); ++attempt) {
    if (attempt == kTokenTries)
      return Error{ErrorKind::limit_reached, "no free token: too many requests at a time"};
    random_.fill(message.token);
    if (!by_token_.contains({to, message.token})) break;
  }
  outbound.message = std::move(message);
  return launch(now, std::move(outbound));
}

Result<ExchangeId> CoapEndpoint::send_separate(Instant now, const SocketAddress& to, Message message,
                                               const SeparateOptions& how) {
  Outbound outbound;
  outbound.to = to;
  outbound.is_request = false;
  outbound.how.confirmable = how.confirmable;
  outbound.how.expects_response = how.watch;
  outbound.how.priority = how.priority;
  outbound.how.replace_key = how.replace_key;
  outbound.how.context = how.context;
  outbound.how.expected_bytes = kHeaderSize;
  message.type = how.confirmable ? MessageType::confirmable : MessageType::non_confirmable;
  outbound.message = std::move(message);
  return launch(now, std::move(outbound));
}

Result<ExchangeId> CoapEndpoint::launch(Instant now, Outbound outbound) {
  const std::size_t size = encoded_size(outbound.message);
  if (size > options_.max_message) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("a message of {} bytes: one datagram takes {}, use block-wise "
                             "transfer",
                             size, options_.max_message)};
  }
  if (outbound_.size() >= options_.exchanges) {
    return Error{ErrorKind::limit_reached, fmt::format("{} exchanges are under way", options_.exchanges)};
  }
  Peer* peer = peers_.open(now, outbound.to);
  if (peer == nullptr) return Error{ErrorKind::limit_reached, "too many peers at a time"};
  const std::optional<std::uint16_t> message_id = peers_.draw_message_id(now, *peer);
  if (!message_id)
    return Error{ErrorKind::limit_reached, "this peer was sent 65536 messages within their lifetime"};
  outbound.id = next_id_++;
  outbound.message.id = *message_id;
  outbound.datagram = encode_message(outbound.message);
  std::array<std::uint8_t, 4> draw;
  random_.fill(draw);
  const double unit = load_big_endian<std::uint32_t>(draw.data()) / 4294967296.0;
  outbound.jitter = 1 + unit * (options_.timing.random_factor - 1);
  if (Result<> queued = enqueue(now, outbound); !queued) return queued.error();
  ++peer->exchanges;
  const ExchangeId id = outbound.id;
  by_message_id_[{outbound.to, *message_id}] = id;
  if (outbound.is_request) by_token_[{outbound.to, outbound.message.token}] = id;
  outbound_.emplace(id, std::move(outbound));
  return id;
}

// Puts a copy in the queue. A copy after the first is never superseded: the peer may have the first.
Result<> CoapEndpoint::enqueue(Instant now, Outbound& outbound) {
  QueueItem item;
  item.to = outbound.to;
  item.bytes = outbound.datagram;
  item.priority = outbound.how.priority;
  item.context = outbound.id;
  ExchangeId replaced = 0;
  if (outbound.copies == 0) {
    item.replace_key = outbound.how.replace_key;
    if (const std::optional<QueueItemId> waiting = queue_.find_key(item.to, item.replace_key)) {
      replaced = queue_.find(*waiting)->context;
    }
  }
  const Result<QueueItemId> queued = queue_.push(now, std::move(item));
  if (!queued) return queued.error();
  outbound.item = *queued;
  outbound.stage = Stage::queued;
  wake_ = Instant{};
  if (const auto old = outbound_.find(replaced); replaced != outbound.id && old != outbound_.end()) {
    old->second.item = 0;
    fail(replaced, FailReason::superseded);
  }
  return {};
}

QueueItemId CoapEndpoint::post(Instant now, const SocketAddress& to, Bytes bytes) {
  QueueItem item;
  item.to = to;
  item.bytes = std::move(bytes);
  item.priority = kReplyPriority;
  if (Peer* peer = peers_.find(to)) peers_.spend(*peer, item.bytes.size());
  const Result<QueueItemId> queued = queue_.push(now, std::move(item));
  wake_ = Instant{};
  if (!queued) ++counters_.dropped_full;
  return queued ? *queued : 0;
}

void CoapEndpoint::set_timer(Outbound& outbound, Instant at) {
  if (!outbound.timer.is_never()) timers_.erase({outbound.timer, outbound.id});
  outbound.timer = at;
  if (!at.is_never()) timers_.insert({at, outbound.id});
}

void CoapEndpoint::release_slot(Outbound& outbound) {
  if (!outbound.counted) return;
  outbound.counted = false;
  wake_ = Instant{};
  if (Peer* peer = peers_.find(outbound.to)) --peer->outstanding;
}

void CoapEndpoint::finish(ExchangeId id) {
  const auto at = outbound_.find(id);
  if (at == outbound_.end()) return;
  Outbound& outbound = at->second;
  release_slot(outbound);
  set_timer(outbound, Instant::never());
  if (outbound.item != 0) queue_.cancel(outbound.item);
  const auto by_id = by_message_id_.find({outbound.to, outbound.message.id});
  if (by_id != by_message_id_.end() && by_id->second == id) by_message_id_.erase(by_id);
  if (outbound.is_request) by_token_.erase({outbound.to, outbound.message.token});
  if (Peer* peer = peers_.find(outbound.to)) --peer->exchanges;
  outbound_.erase(at);
}

void CoapEndpoint::fail(ExchangeId id, FailReason reason) {
  const auto at = outbound_.find(id);
  if (at == outbound_.end()) return;
  const Outbound& outbound = at->second;
  if (outbound.is_request) {
    events_.push_back(ExchangeFailed{id, outbound.how.context, reason});
  } else if (outbound.how.confirmable || reason == FailReason::reset) {
    events_.push_back(
        SeparateOutcome{id, outbound.how.context, outbound.to, false, reason == FailReason::reset});
  }
  finish(id);
}

Bytes CoapEndpoint::token_of(ExchangeId exchange) const {
  const auto at = outbound_.find(exchange);
  return at == outbound_.end() ? Bytes{} : at->second.message.token;
}

bool CoapEndpoint::is_waiting(ExchangeId exchange) const {
  const auto at = outbound_.find(exchange);
  return at != outbound_.end() && at->second.copies == 0;
}

void CoapEndpoint::cancel(ExchangeId exchange) {
  finish(exchange);
}

void CoapEndpoint::confirm(Instant now, ExchangeId exchange) {
  const auto at = outbound_.find(exchange);
  if (at == outbound_.end()) return;
  Outbound& outbound = at->second;
  if (Peer* peer = peers_.find(outbound.to)) peers_.mark_verified(now, *peer);
  acknowledge(now, outbound, outbound.response_bytes);
  if (!outbound.how.keep_open) return finish(exchange);
  outbound.answered = true;
  set_timer(outbound, Instant::never());
}

void CoapEndpoint::mark_verified(Instant now, const SocketAddress& address) {
  if (Peer* peer = peers_.open(now, address)) peers_.mark_verified(now, *peer);
}

const RtoEstimator* CoapEndpoint::rto_of(const SocketAddress& address) {
  const Peer* peer = peers_.find(address);
  return peer == nullptr ? nullptr : &peer->rto;
}

std::size_t CoapEndpoint::window_of(const Peer& peer, std::size_t bytes) const {
  const std::size_t filled = peer.rto.bandwidth_delay_bytes(bytes);
  const std::size_t each = bytes + options_.pacer.overhead_bytes;
  return std::max<std::size_t>(options_.timing.nstart, filled / each);
}

bool CoapEndpoint::admit(Instant now, const QueueItem& item) {
  const auto at = outbound_.find(item.context);
  if (item.context == 0 || at == outbound_.end()) return true;
  const Outbound& outbound = at->second;
  Peer* peer = peers_.find(outbound.to);
  if (peer == nullptr) return true;
  if (!outbound.how.confirmable) {
    if (!outbound.is_request) return true;
    const Instant opens = peers_.probe_at(*peer);
    if (opens <= now) return true;
    wake_ = std::min(wake_, opens);
    return false;
  }
  return outbound.counted || peer->outstanding < window_of(*peer, item.bytes.size());
}

void CoapEndpoint::handle_departure(Instant now, Outbound& outbound) {
  outbound.item = 0;
  if (++outbound.copies == 1) outbound.first_left = now;
  if (outbound.copies > 1) ++counters_.retransmissions;
  Peer* peer = peers_.find(outbound.to);
  ensure(peer != nullptr);
  outbound.stage = Stage::in_flight;
  const Duration wait =
      peer->rto.timeout(outbound.datagram.size(), outbound.how.expected_bytes, outbound.copies - 1);
  if (!outbound.how.confirmable) {
    if (!outbound.how.expects_response) return finish(outbound.id);
    return set_timer(outbound, now + (outbound.is_request ? options_.timing.response_timeout : wait));
  }
  if (!outbound.counted) {
    outbound.counted = true;
    ++peer->outstanding;
  }
  const double jittered = static_cast<double>(wait.count()) * outbound.jitter;
  set_timer(outbound, now + Duration{static_cast<std::int64_t>(jittered)});
}

std::optional<OutgoingDatagram> CoapEndpoint::poll_transmit(Instant now) {
  wake_ = Instant::never();
  std::optional<QueueItem> item =
      queue_.pop(now, [&](const QueueItem& waiting) { return admit(now, waiting); });
  if (!item) {
    if (!queue_.pacer().is_ready(now)) wake_ = queue_.pacer().ready_at();
    return std::nullopt;
  }
  queue_.charge(now, item->bytes.size());
  wake_ = Instant{};
  ++counters_.datagrams_out;
  counters_.bytes_out += item->bytes.size();
  if (Peer* peer = peers_.find(item->to)) peers_.handle_sent(now, *peer, item->bytes.size());
  if (const auto at = outbound_.find(item->context); item->context != 0 && at != outbound_.end()) {
    handle_departure(now, at->second);
  }
  return OutgoingDatagram{item->to, std::move(item->bytes)};
}

std::optional<Event> CoapEndpoint::poll_event() {
  if (events_.empty()) return std::nullopt;
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

Deadline CoapEndpoint::next_deadline() const {
  Deadline deadline;
  if (!timers_.empty()) deadline.earlier(timers_.begin()->first, "coap retransmission");
  if (!ack_timers_.empty()) deadline.earlier(ack_timers_.begin()->first, "coap acknowledgement");
  if (!pending_.empty()) deadline.earlier(pending_.begin()->second.expires_at, "coap request expires");
  if (!queue_.empty()) deadline.earlier(wake_, "coap pacer");
  return deadline;
}

void CoapEndpoint::handle_timer(Instant now, ExchangeId id) {
  Outbound& outbound = outbound_.find(id)->second;
  set_timer(outbound, Instant::never());
  const bool more = outbound.how.confirmable && outbound.stage == Stage::in_flight &&
                    outbound.copies <= options_.timing.max_retransmit;
  if (!more) return fail(id, FailReason::timed_out);
  if (!outbound.is_request) {
    Peer* peer = peers_.find(outbound.to);
    if (peer == nullptr || peers_.allowance(now, *peer) < outbound.datagram.size()) {
      ++counters_.dropped_amplification;
      return fail(id, FailReason::timed_out);
    }
    peers_.spend(*peer, outbound.datagram.size());
  }
  if (!enqueue(now, outbound)) fail(id, FailReason::timed_out);
}

void CoapEndpoint::handle_timeout(Instant now) {
  while (!timers_.empty() && timers_.begin()->first <= now) handle_timer(now, timers_.begin()->second);
  while (!ack_timers_.empty() && ack_timers_.begin()->first <= now) {
    Pending& pending = pending_.find(ack_timers_.begin()->second)->second;
    ack_timers_.erase(ack_timers_.begin());
    pending.ack_at = Instant::never();
    pending.acknowledged = true;
    send_empty(now, pending.from, MessageType::acknowledgement, pending.message_id, true);
  }
  while (!pending_.empty() && pending_.begin()->second.expires_at <= now)
    erase_pending(pending_.begin()->first);
}

}  // namespace ravine::gateway::coap
