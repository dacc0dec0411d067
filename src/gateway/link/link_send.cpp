#include <algorithm>

#include "gateway/link/thin_link_impl.h"

namespace ravine::gateway::link {
namespace {

constexpr std::size_t kMergeBytes = 512;         // coded, of one datagram with several requests
constexpr std::size_t kMergeText = 4096;         // text of a request that may share
constexpr std::size_t kLargestUnit = 256 << 10;  // text that is worth remembering
constexpr unsigned kWaitingSize = 64;

}  // namespace

bool ThinLink::Impl::may_leave(const Item& item, Instant now) const {
  switch (item.use) {
    case Use::request:
      return frames.size() < options.max_in_flight && requests.at(item.ref).not_before <= now;
    case Use::push:
      if (waits_for_response(item.ref)) return false;
      [[fallthrough]];
    case Use::late_answer:
      return epoch != 0 && frames.size() < options.max_in_flight && !window_full();
    case Use::answer: {
      const Group& group = groups.at(item.ref);
      if (group.not_before > now) return false;
      if (!window_full()) return true;
      // What may not run twice is kept until its unit is acknowledged, so it has to be one.
      return std::none_of(group.identities.begin(), group.identities.end(), [this](std::uint64_t identity) {
        const auto at = executed.find(identity);
        return at != executed.end() && at->second.once;
      });
    }
    case Use::parts:
      return part_may_leave(outgoing.at(item.ref));
    case Use::copy:
    case Use::status:
    case Use::ack:
    case Use::plain:
      return true;
  }
  return true;
}

std::optional<LinkTransmit> ThinLink::Impl::poll_transmit(Instant now) {
  for (;;) {
    const auto popped = queue.pop(now, [&](const coap::QueueItem& entry) {
      const auto at = items.find(entry.context);
      return at == items.end() || may_leave(at->second, now);
    });
    if (!popped) {
      if (!near()) watch_window(now);
      return std::nullopt;
    }
    const auto at = items.find(popped->context);
    if (at == items.end()) continue;
    Item item = std::move(at->second);
    items.erase(at);
    auto bytes = depart(now, std::move(item));
    if (!bytes) continue;
    queue.charge(now, bytes->size());
    ++stats.frames_out;
    stats.bytes_out += bytes->size();
    return LinkTransmit{peer, std::move(*bytes)};
  }
}

std::optional<Bytes> ThinLink::Impl::depart(Instant now, Item item) {
  switch (item.use) {
    case Use::request:
      return depart_requests(now, item.ref);
    case Use::copy: {
      Frame& frame = frames.at(item.ref);
      frame.item = 0;
      ++frame.copies;
      note_copy(frame);
      ++stats.copies_out;
      frame.deadline = frame.waiting
                           ? now + kProbe * (1LL << std::min(frame.copies, 6u))
                           : deadline_after(now, frame.bytes.size(), frame.expected, frame.copies - 1);
      if (options.name_connection) return security::with_connection_id(channel.connection_id(), frame.bytes);
      return frame.bytes;
    }
    case Use::answer: {
      groups.at(item.ref).item = 0;
      return depart_answer(now, item.ref);
    }
    case Use::late_answer: {
      const auto at = executed.find(item.ref);
      if (at == executed.end() || !at->second.response) return std::nullopt;
      owed.erase(item.ref);
      Unit unit{{at->second.request, at->second.response->text}};
      return depart_downward(now, std::move(unit), *at->second.response, 0, item.ref);
    }
    case Use::push:
      return depart_push(now, item.ref);
    case Use::parts:
      outgoing.at(item.ref).item = 0;
      return depart_part(now, item.ref);
    case Use::status:
      return depart_status(now, item);
    case Use::ack:
      ack_item = 0;
      return depart_ack(now);
    case Use::plain:
      return std::move(item.bytes);
  }
  return std::nullopt;
}

void ThinLink::Impl::note_copy(const Frame& frame) {
  for (const RequestId id : frame.requests) {
    Request& request = requests.at(id);
    ++request.copies;
    request.bytes_out += frame.bytes.size() / frame.requests.size();
  }
}

std::uint64_t ThinLink::Impl::announceable() const {
  std::uint64_t state = ladder.tip();
  for (const auto& [id, frame] : frames)
    if (frame.short_form && !frame.waiting) state = std::min(state, frame.state + kUnitWindow - 1);
  return std::max(state, ladder.base());
}

void ThinLink::Impl::note_told(std::uint64_t state) {
  told = std::max(told, state);
  std::erase_if(pending_acks, [&](const PendingAck& ack) { return ack.unit != 0 && ack.unit <= state; });
  if (pending_acks.empty() && !ack_asks_reset) {
    ack_due = Instant::never();
    if (ack_item != 0) unqueue(ack_item);
    ack_item = 0;
  }
}

// Others that wait and fit into the same datagram, coded into `record`.
std::vector<RequestId> ThinLink::Impl::choose_company(Instant, RequestId first, CodedRecord& record,
                                                      coder::Coder& coder, std::size_t room) {
  std::vector<RequestId> chosen{first};
  const Request& leader = requests.at(first);
  if (!leader.options.may_merge || leader.identity != 0 || !leader.message.tail.empty()) return chosen;
  std::size_t used = record.items[0].coded.size() + 8;
  for (auto& [id, request] : requests) {
    if (chosen.size() == kMaxBatch || used >= kMergeBytes) break;
    if (request.item == 0 || id == first || request.identity != 0 || !request.options.may_merge ||
        !request.message.tail.empty() || request.message.text.size() > kMergeText)
      continue;
    Bytes coded = coder.encode(request.message.text, {});
    if (used + coded.size() + 2 > std::min(room, kMergeBytes)) continue;
    used += coded.size() + 2;
    record.items.push_back({std::move(coded), request.options.one_way});
    chosen.push_back(id);
  }
  return chosen;
}

bool ThinLink::Impl::journal_departure(Request& request, std::uint64_t identity) {
  if (!request.once || request.journal_key != 0) return true;
  ByteWriter out;
  out.write_u64(identity);
  out.write_u64(request.options.token);
  const Message& kept = request.options.after_restart ? *request.options.after_restart : request.message;
  out.write_varint(kept.text.size());
  out.write(kept.text);
  out.write(kept.tail);
  if (!journal->put(next_journal_key, out.view())) return false;
  request.journal_key = next_journal_key++;
  return true;
}

std::optional<Bytes> ThinLink::Impl::depart_requests(Instant now, RequestId first) {
  if (epoch == 0 || epoch_stale) begin_epoch(now);
  const std::uint64_t state = announceable();
  CodedRecord record;
  record.lane = Lane::request;
  record.state = state;
  record.check = ladder.check(state);
  coder::Coder& coder = ladder.at(state);
  Request& leader = requests.at(first);
  record.one_way = leader.options.one_way;
  record.items.push_back({coder.encode(leader.message.text, {}), leader.options.one_way});
  const std::size_t overhead = channel.message_overhead();
  const std::vector<RequestId> chosen = choose_company(
      now, first, record, coder, options.max_frame - std::min(options.max_frame, overhead + 8));
  if (chosen.size() > 1) record.one_way = false;
  record.tail = leader.message.tail;
  if (leader.identity != 0) record.named = leader.identity;
  if (!epoch_confirmed) record.reset = reset_record();

  const FrameNumber number = channel.next_number();
  Frame frame;
  frame.state = state;
  std::vector<RequestId> one_way;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    Request& request = requests.at(chosen[i]);
    if (request.item != 0 && chosen[i] != first) unqueue(request.item);
    request.item = 0;
    stats.text_bytes_out += request.message.text.size();
    if (request.options.one_way) {
      one_way.push_back(request.id);
      continue;
    }
    const std::uint64_t identity = request.identity != 0 ? request.identity : identity_of(number, i);
    if (!journal_departure(request, identity)) {
      for (const RequestId id : chosen) end_request(id, RequestEnd::failed, {});
      return std::nullopt;
    }
    request.identity = identity;
    by_identity[identity] = request.id;
    frame.requests.push_back(request.id);
    frame.expected = std::max(frame.expected, request.options.expected_bytes);
  }
  // One short form under way at a time: it holds back what may be announced.
  const bool allow_short =
      epoch_confirmed && std::none_of(frames.begin(), frames.end(), [](const auto& entry) {
        return !entry.second.requests.empty() && !entry.second.waiting;
      });
  Bytes plaintext = encode_coded(record, allow_short, {});
  frame.short_form = (plaintext[0] & 0x80) == 0;
  stats.coded_bytes_out += plaintext.size();
  for (const RequestId id : chosen) requests.at(id).bytes_out += plaintext.size() / chosen.size();
  note_told(state);
  std::optional<Bytes> bytes;
  if (one_way.size() < chosen.size()) {
    const std::uint8_t priority = leader.options.priority;
    bytes = send_frame(now, std::move(frame), std::move(plaintext), priority);
  } else if (auto sealed = channel.seal_message(plaintext)) {
    bytes = std::move(sealed->bytes);
  }
  for (const RequestId id : one_way) end_request(id, bytes ? RequestEnd::sent : RequestEnd::failed, {});
  return bytes;
}

// Seals and registers a frame that wants a reaction, or begins its transfer. `frame` without number.
std::optional<Bytes> ThinLink::Impl::send_frame(Instant now, Frame frame, Bytes plaintext,
                                                std::uint8_t priority) {
  frame.id = next_id++;
  frame.first_sent = now;
  frame.copies = 1;
  if (plaintext.size() + channel.message_overhead() > options.max_frame) {
    frame.deadline = Instant::never();
    const std::uint64_t id = frame.id;
    frames.emplace(id, std::move(frame));
    const std::uint64_t transfer = start_transfer(std::move(plaintext), id, 0, priority);
    frames.at(id).transfer = transfer;
    return depart_part(now, transfer);
  }
  auto sealed = channel.seal_message(plaintext);
  if (!near()) frame.plaintext = std::move(plaintext);
  if (!sealed) {
    for (const RequestId id : frame.requests) end_request(id, RequestEnd::failed, {});
    return std::nullopt;
  }
  frame.number = sealed->number;
  frame.bytes = std::move(sealed->bytes);
  frame.deadline = deadline_after(now, frame.bytes.size(), frame.expected, 0);
  numbers[frame.number] = {frame.id, 0, 0};
  Bytes bytes = frame.bytes;
  frames.emplace(frame.id, std::move(frame));
  if (options.name_connection && !heard) return security::with_connection_id(channel.connection_id(), bytes);
  return bytes;
}

std::uint64_t ThinLink::Impl::state_to_name(std::optional<std::uint64_t> request_state, bool commit) const {
  if (options.speculate && cautious == 0 && commit) return ladder.tip();
  if (request_state && ladder.reaches(*request_state)) return *request_state;
  return std::max(announced, pushed_state);
}

// Codes a unit's responses; with `commit` the ladder grows by it.
CodedRecord ThinLink::Impl::code_unit(const Unit& unit, std::optional<std::uint64_t> request_state,
                                      bool commit) {
  CodedRecord record;
  record.lane = request_state ? Lane::answer : Lane::push;
  record.committed = commit;
  record.state = state_to_name(request_state, commit);
  if (cautious > 0) --cautious;
  record.unit = ladder.tip() + 1;
  record.check = ladder.check(record.state);
  if (commit) pushed_state = std::max(pushed_state, record.state);
  coder::Coder& coder = ladder.with_requests(record.state, unit, commit);
  for (const Exchange& exchange : unit) {
    record.items.push_back({coder.encode(exchange.response, ladder.response_context(exchange)), false});
    stats.text_bytes_out += exchange.response.size();
    stats.coded_bytes_out += record.items.back().coded.size();
  }
  if (commit) ladder.append(unit);
  return record;
}

std::optional<Bytes> ThinLink::Impl::depart_answer(Instant now, std::uint64_t group_id) {
  Group& group = groups.at(group_id);
  group.queued = false;
  Unit unit;
  bool expected = true, tails = false;
  std::size_t text_bytes = 0;
  for (const std::uint64_t identity : group.identities) {
    const auto at = executed.find(identity);
    if (at == executed.end() || !at->second.response) return std::nullopt;
    const Executed& one = at->second;
    const auto guess = options.expected_response ? options.expected_response(one.request) : std::nullopt;
    expected = expected && guess && *guess == one.response->text && one.response->tail.empty();
    tails = tails || !one.response->tail.empty();
    text_bytes += one.response->text.size();
    unit.push_back({one.request, one.response->text});
  }
  if (!channel.can_answer(group.number) || (tails && unit.size() > 1)) return answer_in_messages(now, group);
  for (const std::uint64_t identity : group.identities) owed.erase(identity);
  if (!tails && text_bytes <= kLargestUnit)
    if (auto joint = depart_joint(group, unit, expected)) return joint;
  const bool commit = !window_full() && text_bytes <= kLargestUnit;
  Bytes plaintext;
  if (commit) {
    for (const std::uint64_t identity : group.identities) executed.at(identity).unit = ladder.tip() + 1;
    group.unit = ladder.tip() + 1;
  }
  if (expected && commit && ladder.tip() == group.state) {
    ladder.append(std::move(unit));
  } else {
    CodedRecord record = code_unit(unit, group.state, commit);
    if (unit.size() == 1) record.tail = executed.at(group.identities[0]).response->tail;
    plaintext = encode_coded(record, true, {group.state});
  }
  if (plaintext.size() + channel.answer_overhead(group.number) > options.max_frame) {
    const std::uint64_t transfer = start_transfer(std::move(plaintext), 0, group_id, 5);
    return depart_part(now, transfer);
  }
  auto sealed = channel.seal_answer(group.number, plaintext);
  if (!sealed) return std::nullopt;
  group.answer = sealed->bytes;
  return group.answer;
}

// Says "wait" when that can still be said, and lets each response go as a message.
std::optional<Bytes> ThinLink::Impl::answer_in_messages(Instant now, Group& group) {
  for (const std::uint64_t identity : group.identities) {
    Executed& one = executed.at(identity);
    if (one.late) continue;
    one.late = enqueue(now, Use::late_answer, identity, 3) != 0;
  }
  group.waited = true;
  if (!channel.can_answer(group.number)) return std::nullopt;
  auto sealed = channel.seal_answer(group.number, encode_control({.type = RecordType::wait}));
  if (!sealed) return std::nullopt;
  group.answer = sealed->bytes;
  return group.answer;
}

std::optional<Bytes> ThinLink::Impl::depart_downward(Instant now, Unit unit, const Message& message,
                                                     std::uint64_t push, std::uint64_t identity) {
  CodedRecord record = code_unit(unit, std::nullopt, true);
  record.tail = message.tail;
  if (identity != 0) {
    record.named = identity;
    executed.at(identity).unit = record.unit;
  }
  Frame frame;
  frame.push = push;
  frame.identity = identity;
  frame.unit = record.unit;
  frame.expected = kWaitingSize;
  if (push != 0) pushes.at(push).frame = next_id;
  return send_frame(now, std::move(frame), encode_coded(record, record.unit > kSettled, {}), 5);
}

// Near: acknowledges what came down and is not acknowledged by a request's state number.
std::optional<Bytes> ThinLink::Impl::depart_ack(Instant now) {
  ack_due = Instant::never();
  ControlRecord record{.type = RecordType::ack, .state = announceable()};
  if (ack_asks_reset) {
    if (epoch == 0 || epoch_stale) begin_epoch(now);
    record.state = ladder.tip();
    record.reset = reset_record();
    const FrameNumber fresh = channel.first_fresh_number();
    record.skip = {fresh.generation, fresh.number};
    ack_asks_reset = false;
    pending_acks.clear();
  }
  if (pending_acks.empty() && !record.reset && record.state <= told && !ack_forced) return std::nullopt;
  ack_forced = false;
  record.check = ladder.check(record.state);
  ++stats.acks_out;
  if (!pending_acks.empty() && !record.reset) {
    const PendingAck newest = pending_acks.back();
    pending_acks.pop_back();
    if (channel.can_answer(newest.number)) {
      const bool plain = newest.unit != 0 && record.state == newest.unit;
      auto sealed = channel.seal_answer(newest.number, plain ? Bytes{} : encode_control(record));
      if (sealed) {
        sent_acks.emplace_back(newest.number, sealed->bytes);
        if (sent_acks.size() > kMaxRungs) sent_acks.pop_front();
        note_told(record.state);
        if (!pending_acks.empty()) ack_due = now;
        return sealed->bytes;
      }
    }
  }
  auto sealed = channel.seal_message(encode_control(record));
  if (!sealed) return std::nullopt;
  note_told(record.state);
  if (!pending_acks.empty()) ack_due = now;
  return sealed->bytes;
}

}  // namespace ravine::gateway::link
