#include <algorithm>

#include "gateway/link/thin_link_impl.h"

namespace ravine::gateway::link {
namespace {

constexpr std::size_t kMaxHeld = 16;
constexpr std::uint64_t kUnitSpan = 128;  // a push says its unit in seven bits

std::uint64_t nearest(std::uint64_t low_bits, std::uint64_t expected) {
  std::uint64_t value = (expected & ~(kUnitSpan - 1)) | low_bits;
  if (value > expected + kUnitSpan / 2 && value >= kUnitSpan) value -= kUnitSpan;
  if (value + kUnitSpan / 2 < expected) value += kUnitSpan;
  return value;
}

}  // namespace

std::uint64_t ThinLink::Impl::floor_identity() const {
  return by_identity.empty() ? identity_of(channel.next_number(), 0) : by_identity.begin()->first;
}

CodedRecord::Reset ThinLink::Impl::reset_record() const {
  return {epoch, floor_identity(), first_epoch, mark_of(coders[coder_in_use]->id())};
}

void ThinLink::Impl::requeue(Instant now, const Frame& frame) {
  for (const RequestId id : frame.requests) {
    const auto at = requests.find(id);
    if (at == requests.end() || at->second.item != 0) continue;
    const std::uint8_t priority = at->second.options.priority;
    at->second.item = enqueue(now, Use::request, id, priority > 0 ? priority - 1 : 0);
  }
}

// State 0 from here on, on both sides: nothing that either remembers of older messages is used.
void ThinLink::Impl::begin_epoch(Instant now) {
  if (epoch != 0) ++stats.resyncs;
  // Every frame with a lower number belongs to an older epoch.
  epoch = std::max(epoch + 1, identity_of(channel.next_number(), 0) + 1);
  if (first_epoch == 0) first_epoch = epoch;
  ladder.reset(epoch);
  told = oldest_named = 0;
  epoch_confirmed = epoch_stale = false;
  early_units.clear();
  held.clear();
  pending_acks.clear();
  incoming.clear();
  std::vector<std::uint64_t> old;
  old.reserve(frames.size());
  for (const auto& [id, frame] : frames) old.push_back(id);
  for (const std::uint64_t id : old) {
    requeue(now, frames.at(id));
    drop_frame(id);
  }
}

std::optional<std::size_t> ThinLink::Impl::find_coder(const CoderMark& mark) const {
  for (std::size_t i = 0; i < coders.size(); ++i)
    if (mark_of(coders[i]->id()) == mark) return i;
  return std::nullopt;
}

void ThinLink::Impl::use_coder(std::size_t index) {
  if (index == coder_in_use) return;
  coder_in_use = index;
  ladder.use(coders[index]->clone());
}

// The best one that both have; after lost memory the other side may have been given better ones.
void ThinLink::Impl::choose_coder(const ControlRecord& record) {
  std::size_t chosen = record.coders.empty() ? 0 : coders.size() - 1;
  for (const CoderMark& mark : record.coders)
    if (const auto index = find_coder(mark)) chosen = std::min(chosen, *index);
  if (chosen == coder_in_use) return;
  use_coder(chosen);
  ladder.reset(epoch);
  epoch_stale = true;
}

void ThinLink::Impl::ask_reset(Instant now) {
  ack_asks_reset = true;
  ack_due = now;
}

void ThinLink::Impl::near_broken(Instant now) {
  epoch_stale = true;
  ask_reset(now);
}

bool ThinLink::Impl::check_matches(const CodedRecord& record) const {
  const unsigned unmeant = 16 - record.check_bits;
  return ladder.check(record.state) >> unmeant == record.check >> unmeant;
}

bool ThinLink::Impl::fill_expected(Exchange& exchange) const {
  auto guess = options.expected_response ? options.expected_response(exchange.request) : std::nullopt;
  if (guess) exchange.response = std::move(*guess);
  return guess.has_value();
}

// Fills in the responses of `unit`, whose requests are there.
ThinLink::Impl::Decoding ThinLink::Impl::decode_downward(const CodedRecord& record, Unit& unit) {
  if (record.state > ladder.tip()) return Decoding::later;
  const std::size_t known = record.expected ? unit.size() - 1 : 0;
  if (!ladder.reaches(record.state) || !check_matches(record) || record.items.size() + known != unit.size())
    return Decoding::broken;
  for (std::size_t i = 0; i < known; ++i)
    if (!fill_expected(unit[i])) return Decoding::broken;
  const bool extend = record.committed && record.unit == ladder.tip() + 1;
  coder::Coder& coder = ladder.with_requests(record.state, unit, extend);
  std::size_t room = options.max_text;
  for (std::size_t i = known; i < unit.size(); ++i) {
    auto text = coder.decode(record.items[i - known].coded, ladder.response_context(unit[i]), room);
    if (!text) return Decoding::broken;  // the epoch ends with it
    room -= text->size();
    stats.text_bytes_in += text->size();
    unit[i].response = std::move(*text);
  }
  return Decoding::done;
}

void ThinLink::Impl::trim_near() {
  std::uint64_t oldest = std::min(oldest_named, ladder.tip());
  for (const auto& [id, frame] : frames)
    if (!frame.requests.empty()) oldest = std::min(oldest, frame.state);
  if (ladder.tip() > kMaxRungs) oldest = std::max(oldest, ladder.tip() - kMaxRungs);
  ladder.trim(oldest);
}

void ThinLink::Impl::take_unit(Instant now, std::uint64_t number, std::uint64_t state, Unit unit,
                               std::optional<Message> push) {
  if (number <= ladder.tip()) return;
  std::size_t early_bytes = push ? push->tail.size() : 0;
  for (const auto& [other, early] : early_units) early_bytes += early.push ? early.push->tail.size() : 0;
  if (number != ladder.tip() + 1 && early_bytes > options.max_buffered) return near_broken(now);
  early_units[number] = {state, std::move(unit), std::move(push)};
  for (auto at = early_units.find(ladder.tip() + 1); at != early_units.end();
       at = early_units.find(ladder.tip() + 1)) {
    ladder.append(std::move(at->second.unit));
    oldest_named = std::max(oldest_named, at->second.state);
    if (at->second.push) events.push_back(PushArrived{std::move(*at->second.push)});
    early_units.erase(at);
  }
}

// Later, when its state is there. One that finds no room comes again.
void ThinLink::Impl::hold(Held entry) {
  std::size_t bytes = entry.plaintext.size();
  for (const Held& other : held) bytes += other.plaintext.size();
  if (held.size() < kMaxHeld && bytes <= options.max_buffered) held.push_back(std::move(entry));
}

// The far side codes at most kUnitWindow units ahead of what it was told.
void ThinLink::Impl::announce_when_full(Instant now) {
  if (ladder.tip() < told + kUnitWindow - 1 || announceable() <= told) return;
  const bool wanted = !frames.empty();
  ack_due = std::min(ack_due, wanted ? now : now + *options.ack_delay);
}

void ThinLink::Impl::retry_held(Instant now) {
  if (retrying) return;
  retrying = true;
  // Each may make others decodable, so many rounds as there are frames at most.
  for (std::size_t round = held.size() * held.size(); round > 0 && !held.empty(); --round) {
    Held entry = std::move(held.front());
    held.pop_front();
    if (entry.frame != 0) {
      near_answer(now, entry.frame, entry.number, entry.plaintext);
    } else {
      near_record(now, entry.number, entry.plaintext);
    }
  }
  retrying = false;
}

void ThinLink::Impl::schedule_ack(Instant now, FrameNumber number, std::uint64_t unit) {
  const bool known = std::any_of(pending_acks.begin(), pending_acks.end(),
                                 [&](const PendingAck& ack) { return ack.number == number; });
  if (!known) pending_acks.push_back({number, unit});
  if (pending_acks.size() > kMaxRungs) pending_acks.erase(pending_acks.begin());
  ack_due = std::min(ack_due, now + *options.ack_delay);
}

void ThinLink::Impl::near_message(Instant now, OpenedFrame& opened) {
  const auto type = record_type(opened.plaintext);
  if (!type) return;
  const bool fresh = opened.freshness == security::Freshness::fresh;
  if (*type == RecordType::status || *type == RecordType::resync || *type == RecordType::wait) {
    if (!fresh) return;
    if (*type == RecordType::wait) {
      ack_forced = true;
      ack_due = now;
    } else if (*type == RecordType::status) {
      if (const auto status = decode_status(opened.plaintext)) handle_status(now, *status, std::nullopt);
    } else if (const auto control = decode_control(opened.plaintext)) {
      near_control(now, *control, 0);
    }
    return;
  }
  if (opened.freshness == security::Freshness::unknown) {
    const bool part = *type == RecordType::fragment;
    const auto record = part ? decode_fragment_record(opened.plaintext) : std::nullopt;
    if (record && incoming.contains(record->transfer)) {
      handle_fragment(now, opened.number, false, opened.plaintext, false);
    } else {
      // Sent by numbers that this process cannot judge: the other side goes on above, and says it again.
      if (now < next_resync) return;  // somebody repeats old frames
      next_resync = now + resync_pause();
      if (opened.number >= judged_from) epoch_stale = true;
      judged_from = channel.first_fresh_number();
      ask_reset(now);
    }
    return;
  }
  if (*type == RecordType::fragment) {
    handle_fragment(now, opened.number, false, opened.plaintext, fresh);
    return;
  }
  if (fresh) {
    near_record(now, opened.number, opened.plaintext);
    return;
  }
  const auto cached = std::find_if(sent_acks.begin(), sent_acks.end(),
                                   [&](const auto& entry) { return entry.first == opened.number; });
  if (cached != sent_acks.end()) {
    const bool waits = std::any_of(items.begin(), items.end(), [&](const auto& entry) {
      return entry.second.use == Use::plain && entry.second.number == opened.number;
    });
    if (waits) return;
    if (const std::uint64_t item = enqueue(now, Use::plain, 0, 1)) {
      items.at(item).bytes = cached->second;
      items.at(item).number = opened.number;
    }
    return;
  }
  // Acknowledged by a request that did not arrive, or about to be.
  schedule_ack(now, opened.number, 0);
  ack_due = now;
}

void ThinLink::Impl::near_record(Instant now, FrameNumber number, ByteView plaintext) {
  if (epoch == 0 || epoch_stale) return ask_reset(now);
  auto record = decode_coded(plaintext, Lane::push, {});
  if (!record || record->items.size() != 1) return;
  if (!record->whole) {
    if (ladder.tip() + kUnitWindow <= kSettled) return;  // of the epoch before
    record->unit = nearest(record->unit, ladder.tip() + 1);
    if (record->unit < record->state + 1) return near_broken(now);
    record->state = record->unit - 1 - record->state;
  }
  if (record->unit <= ladder.tip() || early_units.contains(record->unit)) {
    schedule_ack(now, number, record->unit);
    return;
  }
  if (record->unit > ladder.tip() + kMaxRungs) return near_broken(now);
  RequestId request = 0;
  Unit unit(1);
  if (record->named) {
    const auto at = by_identity.find(*record->named);
    if (at == by_identity.end()) return near_broken(now);
    request = at->second;
    unit[0].request = requests.at(request).message.text;
  }
  switch (decode_downward(*record, unit)) {
    case Decoding::later:
      hold({number, 0, to_bytes(plaintext)});
      schedule_ack(now, number, record->unit);
      return;
    case Decoding::broken:
      return near_broken(now);
    case Decoding::done:
      break;
  }
  epoch_confirmed = true;
  Message message{unit[0].response, record->tail};
  std::optional<Message> push;
  if (request == 0) push = message;
  if (request != 0) {
    for (auto& [id, frame] : frames) {
      const auto place = std::find(frame.requests.begin(), frame.requests.end(), request);
      if (place == frame.requests.end()) continue;
      frame.requests.erase(place);
      if (frame.requests.empty()) drop_frame(id);
      break;
    }
    requests.at(request).bytes_in = plaintext.size();
    end_request(request, RequestEnd::answered, std::move(message), overtakes(*record));
  }
  // Behind its end: pushes that waited for this unit may name the request.
  take_unit(now, record->unit, record->state, std::move(unit), std::move(push));
  schedule_ack(now, number, record->unit);
  trim_near();
  announce_when_full(now);
  retry_held(now);
}

void ThinLink::Impl::note_answered(Instant now, Frame& frame, std::size_t bytes) {
  if (!frame.waiting && frame.transfer == 0) {
    const Duration elapsed = now - frame.first_sent;
    if (frame.copies <= 1) {
      rto.handle_sample(elapsed, frame.bytes.size(), bytes);
    } else {
      rto.handle_ambiguous(elapsed, frame.bytes.size(), bytes);
    }
  }
  if (frame.item != 0) unqueue(frame.item);
  frame.item = 0;
  frame.waiting = true;
  frame.deadline = now + kProbe;
}

void ThinLink::Impl::near_control(Instant now, const ControlRecord& record, std::uint64_t frame) {
  if (!record.coders.empty()) choose_coder(record);
  if (record.skip) {
    const FrameNumber first{record.skip->generation, record.skip->number};
    const bool behind = std::any_of(frames.begin(), frames.end(),
                                    [&](const auto& entry) { return entry.second.number < first; });
    channel.skip_to(first);
    if (!behind && frame == 0) return;  // said about frames that were given up
  }
  if (record.recode) {
    const auto at = frames.find(frame);
    if (at == frames.end()) return;
    requeue(now, at->second);
    drop_frame(frame);
    return;
  }
  if (record.coders.empty()) choose_coder(record);
  if (frames.empty()) return;
  begin_epoch(now);
  events.push_back(PeerForgot{});
}

void ThinLink::Impl::near_answer(Instant now, std::uint64_t frame_id, FrameNumber number,
                                 ByteView plaintext) {
  const auto at = frames.find(frame_id);
  if (at == frames.end() || at->second.requests.empty()) return;
  Frame& frame = at->second;
  const auto type = record_type(plaintext);
  if (type && *type == RecordType::resync) {
    if (const auto control = decode_control(plaintext)) near_control(now, *control, frame_id);
    return;
  }
  note_answered(now, frame, plaintext.size());
  epoch_confirmed = true;
  if (frame.transfer != 0) {
    end_transfer(frame.transfer);
    frame.transfer = 0;
  }
  numbers[number] = {frame_id, 0, 0};
  if (type && *type == RecordType::fragment) return handle_fragment(now, number, true, plaintext, true);
  if (type && *type == RecordType::wait) return announce_when_full(now);

  Unit unit;
  for (const RequestId id : frame.requests) unit.push_back({requests.at(id).message.text, {}});
  CodedRecord record;
  if (!type) {
    record.state = frame.state;
    record.unit = frame.state + 1;
    for (Exchange& exchange : unit)
      if (!fill_expected(exchange)) return near_broken(now);
  } else {
    auto decoded = decode_coded(plaintext, Lane::answer, {frame.state});
    if (!decoded) return;
    record = std::move(*decoded);
    if (record.joint) unit.emplace_back();  // the push
    switch (decode_downward(record, unit)) {
      case Decoding::later:
        hold({number, frame_id, to_bytes(plaintext)});
        return;
      case Decoding::broken:
        return near_broken(now);
      case Decoding::done:
        break;
    }
  }
  const std::vector<RequestId> ended = frame.requests;
  drop_frame(frame_id);
  const Unit texts = unit;
  for (const RequestId id : ended) requests.at(id).bytes_in = plaintext.size() / ended.size();
  for (std::size_t i = 0; i < ended.size(); ++i)
    end_request(ended[i], RequestEnd::answered, {texts[i].response, i == 0 ? record.tail : Bytes{}},
                overtakes(record));
  // Behind their ends: pushes that waited for this unit may name the requests.
  std::optional<Message> push;
  if (record.joint) push = {unit.back().response, {}};
  if (record.committed) take_unit(now, record.unit, record.state, std::move(unit), std::move(push));
  trim_near();
  announce_when_full(now);
  retry_held(now);
}

}  // namespace ravine::gateway::link
