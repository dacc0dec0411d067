#include "gateway/link/thin_link.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/ensure.h"
#include "gateway/link/thin_link_impl.h"

namespace ravine::gateway::link {
namespace {

constexpr std::uint8_t kCopyBonus = 1;  // repetitions leave that much earlier
constexpr std::uint8_t kRestoredPriority = 3;
constexpr std::size_t kSmallResponse = 4096;

coap::RtoOptions rto_options(const LinkOptions& options) {
  coap::RtoOptions rto = options.rto;
  rto.rate_bps = options.rate_bps;
  rto.overhead_bytes = options.overhead_bytes;
  return rto;
}

// What every gateway has stands at the end.
Coders with_none(Coders coders) {
  auto none = coder::make_none_coder();
  const bool has =
      std::any_of(coders.begin(), coders.end(), [&](const auto& coder) { return coder->id() == none->id(); });
  ensure(coders.size() < kMaxCoders || has);
  if (!has) coders.push_back(std::move(none));
  return coders;
}

Coders one_coder(std::unique_ptr<coder::Coder> coder) {
  Coders coders;
  coders.push_back(std::move(coder));
  return coders;
}

// An acknowledgement waits about as long as four of its kind would take: company saves a datagram.
Duration default_ack_delay(const LinkOptions& options) {
  if (options.rate_bps <= 0) return 40ms;
  return std::clamp(
      coap::serialisation_time(std::size_t{4} * (options.overhead_bytes + 12), options.rate_bps),
      Duration{20ms}, Duration{15s});
}

}  // namespace

std::string_view to_text(RequestEnd end) {
  switch (end) {
    case RequestEnd::answered:
      return "answered";
    case RequestEnd::sent:
      return "sent";
    case RequestEnd::replaced:
      return "replaced";
    case RequestEnd::cancelled:
      return "cancelled";
    case RequestEnd::timed_out:
      return "timed out";
    case RequestEnd::failed:
      return "failed";
  }
  return "unknown";
}

std::uint64_t identity_of(FrameNumber number, std::size_t index) {
  return std::uint64_t{number.generation} << 28 | (number.number + 1) << 4 | index;
}

ThinLink::Impl::Impl(LinkOptions given, security::SecureChannel secured, Coders made, Journal& durable,
                     SocketAddress address)
    : options(std::move(given)),
      channel(std::move(secured)),
      coders(with_none(std::move(made))),
      ladder(coders[0]->clone(), options.push_request),
      journal(&durable),
      peer(address),
      queue({.rate_bps = options.rate_bps, .overhead_bytes = options.overhead_bytes},
            {.items = options.max_requests * 2 + 256, .bytes = options.max_buffered}),
      rto(rto_options(options)) {
  options.max_in_flight = std::clamp<std::size_t>(options.max_in_flight, 1, 32);
  options.max_frame = std::clamp<std::size_t>(options.max_frame, 64, 16384);
  // What short frames can carry in all the parts that a transfer may have.
  options.max_message = std::min(options.max_message, (kMaxParts - 16) * (options.max_frame - 48));
  options.max_text = std::min(options.max_text, options.max_message);
  if (!options.ack_delay) options.ack_delay = default_ack_delay(options);
  // Unlike those of a process before, whose transfers each took numbers below.
  const FrameNumber number = channel.next_number();
  next_transfer = std::uint64_t{number.generation} << 20 | (number.number + 1);
  restore_journal();
}

// Near: [identity][token][text size][text][tail], or [0] and a response. Far: [1 answered][text
// size][text][tail], or empty.
void ThinLink::Impl::restore_journal() {
  for (const JournalEntry& entry : journal->entries()) {
    ByteReader in(entry.record);
    if (!near()) {
      Executed executed_one;
      executed_one.identity = entry.key;
      executed_one.once = true;
      executed_one.maybe_ran = true;
      if (in.read_u8() == 1) {
        const ByteView text = in.read_view(in.read_varint());
        executed_one.response = Message{to_bytes(text), to_bytes(in.rest())};
        buffered += executed_one.response->text.size() + executed_one.response->tail.size();
      }
      executed.emplace(entry.key, std::move(executed_one));
      continue;
    }
    Request request;
    request.identity = in.read_u64();
    request.options.token = in.read_u64();
    request.message.text = to_bytes(in.read_view(in.read_varint()));
    request.message.tail = to_bytes(in.rest());
    next_journal_key = std::max(next_journal_key, entry.key + 1);
    if (request.identity == 0 && restore_response(entry.key, ByteReader(entry.record))) continue;
    if (!in.ok() || request.message.text.empty()) {
      journal->erase(entry.key);
      continue;
    }
    request.id = next_id++;
    request.once = true;
    request.journal_key = entry.key;
    request.options.priority = kRestoredPriority;
    request.expires = Instant::never();
    request.bytes = request.message.text.size() + request.message.tail.size();
    by_identity[request.identity] = request.id;
    buffered += request.message.text.size() + request.message.tail.size();
    restored.push_back({request.id, request.options.token, request.identity, request.message});
    const RequestId id = request.id;
    requests.emplace(id, std::move(request));
    requests.at(id).item = enqueue({}, Use::request, id, kRestoredPriority);
  }
}

// [0][token][identity][text size][text][tail]
bool ThinLink::Impl::restore_response(std::uint64_t key, ByteReader in) {
  RestoredResponse kept;
  in.read_u64();
  kept.token = in.read_u64();
  kept.identity = in.read_u64();
  kept.response.text = to_bytes(in.read_view(in.read_varint()));
  kept.response.tail = to_bytes(in.rest());
  if (!in.ok()) return false;
  restored_responses.push_back(std::move(kept));
  response_keys.push_back(key);
  std::sort(response_keys.begin(), response_keys.end());
  return true;
}

// In the request's place: the process may end before its owner has the response.
bool ThinLink::Impl::journal_response(const Request& request, const Message& response) {
  if (request.journal_key == 0 || request.options.token == 0) return false;
  ByteWriter out;
  out.write_u64(0);
  out.write_u64(request.options.token);
  out.write_u64(request.identity);
  out.write_varint(response.text.size());
  out.write(response.text);
  out.write(response.tail);
  if (!journal->put(request.journal_key, out.view())) return false;
  response_keys.push_back(request.journal_key);
  if (response_keys.size() > kKeptResponses) {
    journal->erase(response_keys.front());
    response_keys.pop_front();
  }
  return true;
}

std::uint64_t ThinLink::Impl::enqueue(Instant now, Use use, std::uint64_t ref, std::uint8_t priority) {
  const std::uint64_t id = next_id++;
  coap::QueueItem entry;
  entry.priority = priority;
  entry.context = id;
  const auto queued = queue.push(now, std::move(entry));
  if (!queued) return 0;
  items[id] = {use, ref, {}, {}, *queued, priority};
  return id;
}

bool ThinLink::Impl::unqueue(std::uint64_t item) {
  const auto at = items.find(item);
  if (at == items.end()) return false;
  const bool waited = queue.cancel(at->second.queued);
  items.erase(at);
  return waited;
}

void ThinLink::Impl::end_request(RequestId id, RequestEnd end, Message response) {
  const auto at = requests.find(id);
  if (at == requests.end()) return;
  Request& request = at->second;
  const bool kept = end == RequestEnd::answered && journal_response(request, response);
  if (!request.hidden)
    events.push_back(RequestEnded{id, end, std::move(response), request.identity, request.bytes_out,
                                  request.bytes_in, request.copies});
  request.hidden = true;
  // What may have run must be followed up, so that no number of it is ever used for something else.
  if (end == RequestEnd::timed_out && request.once && request.identity != 0) return;
  if (request.item != 0) unqueue(request.item);
  if (request.journal_key != 0 && !kept) journal->erase(request.journal_key);
  if (request.identity != 0) by_identity.erase(request.identity);
  buffered -= std::min(buffered, request.bytes);
  requests.erase(at);
}

bool ThinLink::Impl::forget_push(std::uint64_t id) {
  const auto at = pushes.find(id);
  if (at == pushes.end()) return false;
  const Message& message = at->second.message;
  buffered -= std::min(buffered, message.text.size() + message.tail.size());
  pushes.erase(at);
  return true;
}

void ThinLink::Impl::drop_frame(std::uint64_t id) {
  const auto at = frames.find(id);
  if (at == frames.end()) return;
  if (at->second.item != 0) unqueue(at->second.item);
  const std::uint64_t transfer = at->second.transfer;
  numbers.erase(at->second.number);
  frames.erase(at);
  if (transfer != 0) end_transfer(transfer);
}

Instant ThinLink::Impl::deadline_after(Instant now, std::size_t sent, std::size_t expected,
                                       unsigned copies) const {
  // Frames of a transfer that comes in may stand before the answer.
  if (receiving()) expected += options.max_frame;
  // Only what the near side acknowledges waits for company there; responses do not.
  return now + rto.timeout(sent, expected, copies) + (near() ? Duration{0} : *options.ack_delay);
}

void ThinLink::Impl::handle_timeout(Instant now) {
  for (auto& [id, frame] : frames) {
    if (frame.deadline > now || frame.item != 0 || frame.transfer != 0) continue;
    // A unit is missing that nothing under way brings.
    if (frame.waiting && !early_units.empty()) near_broken(now);
    const std::uint8_t priority = frame.push != 0 || frame.identity != 0 ? 4 : 3;
    frame.item = enqueue(now, Use::copy, id, priority - kCopyBonus);
    frame.deadline = frame.item != 0 ? Instant::never() : now + kFullPause;
    if (!near()) cautious = 8;
  }
  for (auto& [id, transfer] : outgoing) {
    if (transfer.deadline > now) continue;
    transfer.deadline = Instant::never();
    ++transfer.silent;
    Part& last = transfer.parts[transfer.newest];
    if (!last.acknowledged) last.again = true;
    for (Part& part : transfer.parts) {  // the newest came through, an older one did not
      if (last.acknowledged && part.left && !part.acknowledged) {
        part.again = true;
        break;
      }
    }
    if (transfer.item == 0) transfer.item = enqueue(now, Use::parts, id, transfer.priority - kCopyBonus);
  }
  std::vector<RequestId> late;
  for (const auto& [id, request] : requests)
    if (!request.hidden && request.expires <= now) late.push_back(id);
  for (const RequestId id : late) {
    for (const auto& [frame_id, frame] : frames) {
      if (std::find(frame.requests.begin(), frame.requests.end(), id) == frame.requests.end()) continue;
      // Its answer may hold a unit that is now lost to us.
      if (!requests.at(id).once && frame.requests.size() == 1) {
        epoch_stale = true;
        drop_frame(frame_id);
      }
      break;
    }
    end_request(id, RequestEnd::timed_out, {});
  }
  if (ack_due <= now && ack_item == 0) {
    ack_due = Instant::never();
    ack_item = enqueue(now, Use::ack, 0, 1);
  }
  if (poke_at <= now) {
    poke_at = Instant::never();
    const auto sealed = channel.seal_message(encode_control({.type = RecordType::wait}));
    const std::uint64_t item = sealed ? enqueue(now, Use::plain, 0, 1) : 0;
    if (item != 0) items.at(item).bytes = sealed->bytes;
  }
  for (auto& [id, group] : groups) {
    if (group.wait_at > now) continue;
    group.wait_at = Instant::never();
    if (group.waited || !group.answer.empty()) continue;
    if (group.queued) {
      // Kept by the window of units: the near side may need this word to open it.
      unqueue(group.item);
      group.queued = false;
    }
    send_plain_answer(now, group, {.type = RecordType::wait});
    answer_ready_groups(now);
  }
}

Deadline ThinLink::Impl::next_deadline() const {
  Deadline deadline;
  const Instant ready = queue.pacer().ready_at();
  for (const auto& [id, item] : items) {
    if (item.use == Use::request) {
      const Request& request = requests.at(item.ref);
      if (may_leave(item, Instant::never() - 1ns))
        deadline.earlier(std::max(ready, request.not_before), "pacer");
    } else if (may_leave(item, ready)) {
      deadline.earlier(ready, "pacer");
    }
  }
  for (const auto& [id, frame] : frames)
    if (frame.transfer == 0) deadline.earlier(frame.deadline, "retransmission");
  for (const auto& [id, transfer] : outgoing) deadline.earlier(transfer.deadline, "retransmission");
  for (const auto& [id, request] : requests)
    if (!request.hidden) deadline.earlier(request.expires, "patience");
  deadline.earlier(poke_at, "window full");
  if (ack_item == 0) deadline.earlier(ack_due, "acknowledgement");
  for (const auto& [id, group] : groups) deadline.earlier(group.wait_at, "slow response");
  return deadline;
}

ThinLink::ThinLink(LinkOptions options, security::SecureChannel channel, Coders coders, Journal& journal,
                   SocketAddress peer)
    : impl_(
          std::make_unique<Impl>(std::move(options), std::move(channel), std::move(coders), journal, peer)) {}
ThinLink::ThinLink(LinkOptions options, security::SecureChannel channel, std::unique_ptr<coder::Coder> coder,
                   Journal& journal, SocketAddress peer)
    : ThinLink(std::move(options), std::move(channel), one_coder(std::move(coder)), journal, peer) {}
ThinLink::ThinLink(ThinLink&&) noexcept = default;
ThinLink& ThinLink::operator=(ThinLink&&) noexcept = default;
ThinLink::~ThinLink() = default;

Result<RequestId> ThinLink::request(Instant now, Message message, RequestOptions options) {
  Impl& impl = *impl_;
  std::size_t size = message.text.size() + message.tail.size();
  if (size > impl.options.max_message)
    return Error{ErrorKind::limit_reached, fmt::format("a message of {} bytes: this link takes {} at most",
                                                       size, impl.options.max_message)};
  if (message.text.size() > impl.options.max_text)
    return Error{ErrorKind::limit_reached, fmt::format("a text of {} bytes: this link takes {} at most",
                                                       message.text.size(), impl.options.max_text)};
  const bool once = impl.runs_once(message.text) && !options.one_way;
  if (!once) options.after_restart.reset();
  if (options.after_restart) size += options.after_restart->text.size() + options.after_restart->tail.size();
  if (impl.requests.size() >= impl.options.max_requests || impl.buffered + size > impl.options.max_buffered)
    return Error{ErrorKind::limit_reached,
                 fmt::format("{} requests already wait for the link; try again later", impl.requests.size())};
  if (!options.replace_key.empty()) {
    for (auto& [id, old] : impl.requests) {
      if (old.options.replace_key != options.replace_key || old.item == 0 || old.identity != 0) continue;
      impl.end_request(id, RequestEnd::replaced, {});
      break;
    }
  }
  Impl::Request request;
  request.id = impl.next_id++;
  request.once = once;
  request.not_before = now + options.linger;
  request.expires = now + options.patience;
  request.message = std::move(message);
  request.options = std::move(options);
  request.item = impl.enqueue(now, Impl::Use::request, request.id, request.options.priority);
  if (request.item == 0) return Error{ErrorKind::limit_reached, "the link's queue is full; try again later"};
  impl.buffered += size;
  request.bytes = size;
  const RequestId id = request.id;
  impl.requests.emplace(id, std::move(request));
  return id;
}

void ThinLink::cancel(Instant, RequestId id) {
  const auto at = impl_->requests.find(id);
  if (at == impl_->requests.end()) return;
  if (at->second.item != 0 && at->second.identity == 0) {
    impl_->end_request(id, RequestEnd::cancelled, {});
  } else {
    at->second.hidden = true;
  }
}

std::vector<ThinLink::Restored> ThinLink::restored_requests() const {
  return impl_->restored;
}

std::vector<ThinLink::RestoredResponse> ThinLink::restored_responses() const {
  return impl_->restored_responses;
}

std::optional<RequestId> ThinLink::find_identity(std::uint64_t identity) const {
  const auto at = impl_->by_identity.find(identity);
  return at == impl_->by_identity.end() ? std::nullopt : std::optional(at->second);
}

void ThinLink::respond(Instant now, RequestId id, Message response) {
  impl_->respond(now, id, std::move(response));
}

bool ThinLink::has_room(std::size_t bytes) const {
  return bytes <= kSmallResponse ||
         (bytes <= impl_->options.max_message && impl_->buffered + bytes <= impl_->options.max_buffered);
}

Result<PushId> ThinLink::push(Instant now, Message message, PushOptions options) {
  Impl& impl = *impl_;
  const std::size_t size = message.text.size() + message.tail.size();
  if (size > impl.options.max_message || message.text.size() > impl.options.max_text ||
      impl.buffered + size > impl.options.max_buffered)
    return Error{ErrorKind::limit_reached, fmt::format("no room for a push of {} bytes", size)};
  if (!options.replace_key.empty()) {
    for (auto& [id, old] : impl.pushes) {
      if (old.options.replace_key != options.replace_key || old.item == 0) continue;
      impl.buffered -= std::min(impl.buffered, old.message.text.size() + old.message.tail.size());
      impl.buffered += size;
      old.message = std::move(message);
      return id;
    }
  }
  Impl::Push push;
  push.id = impl.next_id++;
  push.item = impl.enqueue(now, Impl::Use::push, push.id, options.priority);
  if (push.item == 0) return Error{ErrorKind::limit_reached, "the link's queue is full"};
  push.message = std::move(message);
  push.options = std::move(options);
  impl.buffered += size;
  const PushId id = push.id;
  impl.pushes.emplace(id, std::move(push));
  return id;
}

bool ThinLink::cancel_push(PushId id) {
  const auto at = impl_->pushes.find(id);
  if (at == impl_->pushes.end() || at->second.item == 0) return false;
  impl_->unqueue(at->second.item);
  impl_->forget_push(id);
  return true;
}

void ThinLink::handle_datagram(Instant now, const SocketAddress& source, ByteView datagram) {
  impl_->handle_datagram(now, source, datagram);
}
void ThinLink::handle_timeout(Instant now) {
  impl_->handle_timeout(now);
}
std::optional<LinkTransmit> ThinLink::poll_transmit(Instant now) {
  return impl_->poll_transmit(now);
}
std::optional<Event> ThinLink::poll_event() {
  if (impl_->events.empty()) return std::nullopt;
  Event event = std::move(impl_->events.front());
  impl_->events.pop_front();
  return event;
}
Deadline ThinLink::next_deadline() const {
  return impl_->next_deadline();
}
void ThinLink::set_peer(const SocketAddress& peer) {
  impl_->peer = peer;
}
const SocketAddress& ThinLink::peer() const {
  return impl_->peer;
}
bool ThinLink::is_idle() const {
  return impl_->items.empty() && impl_->frames.empty() && impl_->outgoing.empty() &&
         impl_->ack_due.is_never() && impl_->requests.empty() && impl_->open.empty();
}
std::size_t ThinLink::waiting() const {
  return impl_->items.size();
}
std::size_t ThinLink::in_flight() const {
  return impl_->frames.size();
}
const LinkStats& ThinLink::stats() const {
  return impl_->stats;
}
std::string_view ThinLink::coder_name() const {
  return impl_->coders[impl_->coder_in_use]->name();
}
std::vector<TransferProgress> ThinLink::transfers() const {
  std::vector<TransferProgress> all;
  for (const auto& [id, transfer] : impl_->outgoing) {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < transfer.parts.size(); ++i)
      if (transfer.parts[i].acknowledged)
        bytes += std::min(transfer.part_size, transfer.payload.size() - i * transfer.part_size);
    all.push_back({false, id, bytes, transfer.payload.size()});
  }
  for (const auto& [id, transfer] : impl_->incoming) all.push_back({true, id, transfer.bytes, 0});
  return all;
}
const coap::RtoEstimator& ThinLink::rto() const {
  return impl_->rto;
}
security::SecureChannel& ThinLink::channel() {
  return impl_->channel;
}
const security::SecureChannel& ThinLink::channel() const {
  return impl_->channel;
}

}  // namespace ravine::gateway::link
