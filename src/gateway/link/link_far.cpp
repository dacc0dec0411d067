#include <algorithm>

#include "base/ensure.h"
#include "gateway/link/thin_link_impl.h"

namespace ravine::gateway::link {
namespace {

constexpr std::size_t kMaxGroups = 256;
constexpr std::size_t kMaxDone = 1024;    // more than numbers that can still be fresh
constexpr std::uint64_t kMaxLag = 16;     // states kept for requests that were overtaken
constexpr std::uint64_t kGapMemory = 64;  // numbers; then a gap counts as never sent
constexpr unsigned kCautious = 8;
constexpr std::size_t kMaxExecuted = 2048;  // more than the other side may have under way
constexpr std::size_t kPokeSize = 12;       // bytes, about

}  // namespace

void ThinLink::Impl::handle_datagram(Instant now, const SocketAddress& source, ByteView datagram) {
  auto opened = channel.open(datagram);
  if (!opened || opened->fragment) {
    ++stats.dropped_in;
    return;
  }
  ++stats.frames_in;
  stats.bytes_in += datagram.size();
  heard = true;
  if (opened->newest && source != peer) {
    peer = source;
    events.push_back(PeerMoved{source});
  }
  if (opened->freshness == security::Freshness::duplicate) ++stats.duplicates_in;
  handle_opened(now, std::move(*opened));
}

void ThinLink::Impl::handle_opened(Instant now, OpenedFrame opened) {
  if (opened.kind == security::FrameKind::message) {
    if (near()) {
      near_message(now, opened);
    } else {
      far_message(now, opened);
    }
    return;
  }
  const auto ref = numbers.find(opened.number);
  if (opened.freshness != security::Freshness::fresh || ref == numbers.end()) return;
  const NumberRef to = ref->second;
  if (record_type(opened.plaintext) == RecordType::status) {
    if (const auto status = decode_status(opened.plaintext)) handle_status(now, *status, to);
    return;
  }
  if (near()) {
    near_answer(now, to.frame, opened.number, opened.plaintext);
    return;
  }
  const auto at = frames.find(to.frame);
  if (at == frames.end()) return;
  note_answered(now, at->second, opened.plaintext.size());
  std::uint64_t state = at->second.unit;
  if (!opened.plaintext.empty()) {
    const auto control = decode_control(opened.plaintext);
    if (!control) return;
    state =
        control->state;  // below the unit: it is there, but waits for others and may be given up with them
  }
  note_announced(state);
}

void ThinLink::Impl::note_uplink(FrameNumber number) {
  if (number.generation != highest_generation) {
    missing.clear();
    highest_generation = number.generation;
    highest = number.number;
    return;
  }
  if (number.number <= highest) {
    missing.erase(number.number);
    return;
  }
  const std::uint64_t from = std::max(highest + 1, number.number - std::min(number.number, kGapMemory));
  for (std::uint64_t n = from; n < number.number; ++n) missing.insert(n);
  highest = number.number;
  while (!missing.empty() && *missing.begin() + kGapMemory < highest) missing.erase(missing.begin());
}

void ThinLink::Impl::far_message(Instant now, OpenedFrame& opened) {
  const auto type = record_type(opened.plaintext);
  if (!type) return;
  if (opened.freshness == security::Freshness::duplicate) return far_duplicate(now, opened);
  if (opened.freshness == security::Freshness::unknown) {
    const auto part = *type == RecordType::fragment ? decode_fragment_record(opened.plaintext) : std::nullopt;
    if (part && incoming.contains(part->transfer)) {
      handle_fragment(now, opened.number, false, opened.plaintext, false);
    } else if (*type != RecordType::status && *type != RecordType::one_way) {
      send_resync(now);
    }
    return;
  }
  note_uplink(opened.number);
  switch (*type) {
    case RecordType::fragment:
      return handle_fragment(now, opened.number, false, opened.plaintext, true);
    case RecordType::status:
      if (const auto status = decode_status(opened.plaintext)) handle_status(now, *status, std::nullopt);
      return;
    case RecordType::ack:
      if (const auto control = decode_control(opened.plaintext)) far_control(now, *control);
      return;
    default:
      return far_record(now, opened.number, opened.plaintext);
  }
}

void ThinLink::Impl::far_duplicate(Instant now, const OpenedFrame& opened) {
  cautious = kCautious;
  if (record_type(opened.plaintext) == RecordType::fragment)
    handle_fragment(now, opened.number, false, opened.plaintext, true);
  const auto at = group_of.find(opened.number);
  if (at == group_of.end()) return;
  Group& group = groups.at(at->second);
  if (!group.answer.empty()) {
    if (group.item != 0 && items.contains(group.item)) return;
    group.item = enqueue(now, Use::plain, 0, 1);
    if (group.item == 0) return;
    items.at(group.item).bytes = group.answer;
    ++stats.copies_out;
  } else if (group.not_before > now) {
    group.not_before = now;  // the other side is impatient
  } else {
    group.wait_at = now;
  }
}

void ThinLink::Impl::send_plain_answer(Instant now, Group& group, const ControlRecord& record) {
  if (record.type == RecordType::wait) group.waited = true;
  if (!channel.can_answer(group.number)) return;
  auto sealed = channel.seal_answer(group.number, encode_control(record));
  if (!sealed) return;
  group.answer = sealed->bytes;
  group.item = enqueue(now, Use::plain, 0, 1);
  if (group.item != 0) items.at(group.item).bytes = group.answer;
}

Duration ThinLink::Impl::resync_pause() const {
  return std::max<Duration>(1s, *options.ack_delay);
}

std::vector<CoderMark> ThinLink::Impl::coder_marks() const {
  std::vector<CoderMark> marks;
  for (const auto& coder : coders) marks.push_back(mark_of(coder->id()));
  return marks;
}

void ThinLink::Impl::send_resync(Instant now, bool of_coder) {
  if (now < next_resync) return;
  next_resync = now + resync_pause();
  const FrameNumber fresh = channel.first_fresh_number();
  ControlRecord record{.type = RecordType::resync};
  record.skip = {fresh.generation, fresh.number};
  if (of_coder) record.coders = coder_marks();
  auto sealed = channel.seal_message(encode_control(record));
  if (!sealed) return;
  ++stats.resyncs;
  if (const std::uint64_t item = enqueue(now, Use::plain, 0, 1)) items.at(item).bytes = sealed->bytes;
}

void ThinLink::Impl::refuse_frame(Instant now, FrameNumber number, Refused why) {
  Group group;
  group.number = number;
  group.wait_at = Instant::never();
  ++stats.resyncs;
  ControlRecord record{.type = RecordType::resync, .recode = why == Refused::recode};
  if (why == Refused::coder) record.coders = coder_marks();
  send_plain_answer(now, group, record);
  add_group(std::move(group));
}

void ThinLink::Impl::add_group(Group group) {
  group.id = next_id++;
  group_of[group.number] = group.id;
  const std::uint64_t id = group.id;
  groups.emplace(id, std::move(group));
  if (groups.size() <= kMaxGroups) return;
  // Few have a push: no more than units may be unacknowledged.
  erase_group(std::find_if(groups.begin(), groups.end(), [](const auto& old) { return !old.second.joined; }));
}

// Responses that nobody has acknowledged go with it, but not those of requests that run once.
void ThinLink::Impl::erase_group(std::map<std::uint64_t, Group>::iterator place) {
  Group& oldest = place->second;
  for (const std::uint64_t identity : oldest.identities) {
    const auto at = executed.find(identity);
    if (at != executed.end() && !at->second.once && at->second.response && !at->second.late)
      release(identity);
  }
  if (oldest.item != 0) unqueue(oldest.item);
  group_of.erase(oldest.number);
  groups.erase(place);
}

// Old answers go first: whoever has not got them repeats the request.
bool ThinLink::Impl::make_room(std::size_t more, std::size_t bytes) {
  const auto full = [&] {
    return executed.size() + more > kMaxExecuted || buffered + bytes > options.max_buffered;
  };
  for (auto at = groups.begin(); at != groups.end() && full();) {
    const auto next = std::next(at);
    if (!at->second.answer.empty() && !at->second.waited && at->second.unit == 0) erase_group(at);
    at = next;
  }
  return !full();
}

void ThinLink::Impl::release(std::uint64_t identity) {
  const auto at = executed.find(identity);
  if (at == executed.end()) return;
  if (at->second.once) journal->erase(identity);
  owed.erase(identity);
  buffered -= std::min(buffered, at->second.request.size());
  if (at->second.response)
    buffered -= std::min(buffered, at->second.response->text.size() + at->second.response->tail.size());
  executed.erase(at);
  done.push_back(identity);
  if (done.size() > kMaxDone) done.pop_front();
}

void ThinLink::Impl::note_announced(std::uint64_t state) {
  if (state <= announced || state > ladder.tip()) return;
  announced = state;
  poke_at = Instant::never();
  pokes = 0;
  std::vector<std::uint64_t> gone;
  for (const auto& [id, frame] : frames)
    if (frame.unit != 0 && frame.unit <= state) gone.push_back(id);
  for (const std::uint64_t id : gone) {
    const std::uint64_t push = frames.at(id).push;
    drop_frame(id);
    if (forget_push(push)) events.push_back(PushDelivered{push});
  }
  gone.clear();
  for (const auto& [identity, one] : executed)
    if (one.unit != 0 && one.unit <= state) gone.push_back(identity);
  for (const std::uint64_t identity : gone) release(identity);
  gone.clear();
  for (const auto& [id, push] : pushes)
    if (push.unit != 0 && push.unit <= state) gone.push_back(id);
  for (const PushId id : gone)
    if (forget_push(id)) events.push_back(PushDelivered{id});
  for (auto at = groups.begin(); at != groups.end();) {
    const Group& group = at->second;
    if (group.unit != 0 && group.unit <= state) {
      if (group.item != 0) unqueue(group.item);
      group_of.erase(group.number);
      at = groups.erase(at);
    } else {
      ++at;
    }
  }
  if (missing.empty()) {
    ladder.trim(announced);
  } else if (announced > ladder.base() + kMaxLag) {
    ladder.trim(announced - kMaxLag);
  }
}

// Acknowledgements are not repeated by themselves: whoever is held up by the window asks for one.
void ThinLink::Impl::watch_window(Instant now) {
  if (!window_full() || !poke_at.is_never()) return;
  const bool held_up = std::any_of(items.begin(), items.end(),
                                   [&](const auto& entry) { return !may_leave(entry.second, now); });
  if (held_up) poke_at = deadline_after(now, kPokeSize, kPokeSize, pokes++);
}

// They were meant for who asked for them, whom the other side does not know any more.
void ThinLink::Impl::forget_pushes() {
  for (auto& [id, push] : pushes) {
    if (push.item != 0) unqueue(push.item);
    buffered -= std::min(buffered, push.message.text.size() + push.message.tail.size());
  }
  pushes.clear();
  events.push_back(PeerForgot{});
}

// False: of an epoch that is over.
bool ThinLink::Impl::accept_reset(Instant now, const CodedRecord::Reset& reset) {
  if (reset.epoch == epoch) return true;
  if (reset.epoch < epoch) return false;
  const auto coder = find_coder(reset.coder);
  if (!coder) return false;
  epoch = reset.epoch;
  use_coder(*coder);
  ladder.reset(epoch);
  announced = pushed_state = 0;
  poke_at = Instant::never();
  pokes = 0;
  incoming.clear();
  for (auto& [id, group] : groups)
    if (group.item != 0) unqueue(group.item);
  groups.clear();
  group_of.clear();
  std::vector<std::uint64_t> old;
  old.reserve(outgoing.size());
  for (const auto& [id, transfer] : outgoing) old.push_back(id);
  for (const std::uint64_t id : old) end_transfer(id);
  old.clear();
  for (const auto& [id, frame] : frames) old.push_back(id);
  for (const std::uint64_t id : old) drop_frame(id);
  old.clear();
  for (const auto& [id, item] : items)
    if (item.use == Use::late_answer) old.push_back(id);
  for (const std::uint64_t id : old) unqueue(id);
  if (first_epoch != 0 && first_epoch != reset.first) forget_pushes();
  first_epoch = reset.first;
  old.clear();
  for (auto& [id, push] : pushes) {
    push.frame = push.unit = 0;
    if (push.unwanted) old.push_back(id);
  }
  for (const PushId id : old) forget_push(id);
  queue_pushes(now, true);
  old.clear();
  owed.clear();
  owed_until = deadline_after(now, options.max_frame, options.max_frame, 1);
  for (auto& [identity, one] : executed) {
    one.unit = 0;
    one.late = false;
    if (identity >= reset.floor && one.response && !one.once) owed[identity] = one.answered;
    if (identity >= reset.floor) continue;
    one.unwanted = true;
    if (one.response) old.push_back(identity);
  }
  for (const std::uint64_t identity : old) release(identity);
  return true;
}

// What left under numbers that the other side cannot judge leaves again under others.
void ThinLink::Impl::renumber(Instant now, FrameNumber first) {
  for (auto& [id, frame] : frames) {
    if (frame.transfer != 0 || frame.number >= first) continue;
    auto sealed = channel.seal_message(frame.plaintext);
    if (!sealed) return;
    numbers.erase(frame.number);
    frame.number = sealed->number;
    frame.bytes = std::move(sealed->bytes);
    numbers[frame.number] = {id, 0, 0};
    if (frame.item == 0) frame.item = enqueue(now, Use::copy, id, 3);
    frame.deadline = frame.item != 0 ? Instant::never() : now + kFullPause;
  }
  for (auto& [id, transfer] : outgoing) {
    if (transfer.group != 0) continue;
    for (Part& part : transfer.parts) {
      if (!part.left || part.acknowledged || part.number >= first) continue;
      numbers.erase(part.number);
      part.left = false;
      part.again = true;
    }
    if (transfer.item == 0) transfer.item = enqueue(now, Use::parts, id, transfer.priority);
  }
}

void ThinLink::Impl::far_control(Instant now, const ControlRecord& record) {
  if (record.reset && !find_coder(record.reset->coder)) return send_resync(now, true);
  if (record.reset && !accept_reset(now, *record.reset)) return;
  if (record.skip) {
    const FrameNumber first{record.skip->generation, record.skip->number};
    channel.skip_to(first);
    renumber(now, first);
  }
  if (ladder.reaches(record.state) && ladder.check(record.state) == record.check)
    note_announced(record.state);
}

void ThinLink::Impl::far_record(Instant now, FrameNumber number, ByteView plaintext) {
  auto record = decode_coded(plaintext, Lane::request, {});
  if (!record) return;
  if (record->reset && record->reset->epoch > epoch && !find_coder(record->reset->coder))
    return refuse_frame(now, number, Refused::coder);
  if (record->reset && !accept_reset(now, *record->reset)) return;
  if (epoch == 0) return refuse_frame(now, number, Refused::state);
  if (!record->reset && identity_of(number, 0) + 1 < epoch) return;  // of an epoch that is over
  const std::uint64_t tip = ladder.tip();
  if (!record->whole) {
    const std::uint64_t behind = (tip - record->state) & (2 * kUnitWindow - 1);
    if (behind > tip) return refuse_frame(now, number, Refused::state);
    record->state = tip - behind;
  }
  if (record->state > tip) return refuse_frame(now, number, Refused::state);
  if (!ladder.reaches(record->state)) return refuse_frame(now, number, Refused::recode);
  if (!check_matches(*record)) return refuse_frame(now, number, Refused::state);
  std::vector<Bytes> texts;
  coder::Coder& coder = ladder.at(record->state);
  std::size_t room = options.max_text;
  for (const CodedItem& item : record->items) {
    auto text = coder.decode(item.coded, {}, room);
    if (!text) return refuse_frame(now, number, Refused::state);
    room -= text->size();
    stats.text_bytes_in += text->size();
    texts.push_back(std::move(*text));
  }
  note_announced(record->state);
  if (!make_room(texts.size(), options.max_text - room)) {
    ++stats.dropped_in;  // more than an honest other side has under way
    return;
  }
  far_requests(now, number, *record, std::move(texts));
}

void ThinLink::Impl::far_requests(Instant now, FrameNumber number, CodedRecord& record,
                                  std::vector<Bytes> texts) {
  Group group;
  group.number = number;
  group.state = record.state;
  group.wait_at = now + options.wait_after;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (record.one_way || record.items[i].one_way) {
      RequestArrived arrived;
      arrived.request = {std::move(texts[i]), i == 0 ? record.tail : Bytes{}};
      arrived.one_way = true;
      events.push_back(std::move(arrived));
      continue;
    }
    const std::uint64_t identity = record.named && i == 0 ? *record.named : identity_of(number, i);
    if (std::find(done.begin(), done.end(), identity) != done.end()) return;  // an early copy, overtaken
    if (!admit_request(identity, std::move(texts[i]), i == 0 ? record.tail : Bytes{}))
      return refuse_frame(now, number, Refused::recode);
    group.identities.push_back(identity);
  }
  if (group.identities.empty()) return;
  add_group(std::move(group));
  answer_ready_groups(now);
}

bool ThinLink::Impl::admit_request(std::uint64_t identity, Bytes text, Bytes tail) {
  auto at = executed.find(identity);
  bool maybe_ran = false;
  if (at != executed.end()) {
    Executed& one = at->second;
    one.unwanted = false;
    buffered -= std::min(buffered, one.request.size());
    buffered += text.size();
    one.request = text;                            // a later process of the other side may word it otherwise
    if (one.response || one.id != 0) return true;  // has it, or runs
    maybe_ran = true;
  } else {
    Executed one;
    one.identity = identity;
    one.once = runs_once(text);
    one.request = text;
    const Bytes running{0};
    if (one.once && !journal->put(identity, running)) return false;
    buffered += text.size();
    at = executed.emplace(identity, std::move(one)).first;
  }
  at->second.id = next_id++;
  open[at->second.id] = identity;
  RequestArrived arrived;
  arrived.id = at->second.id;
  arrived.request = {std::move(text), std::move(tail)};
  arrived.identity = identity;
  arrived.maybe_ran = maybe_ran;
  events.push_back(std::move(arrived));
  return true;
}

void ThinLink::Impl::respond(Instant now, RequestId id, Message response, bool awaits_push) {
  const auto place = open.find(id);
  if (place == open.end()) return;
  const std::uint64_t identity = place->second;
  open.erase(place);
  ensure(response.text.size() <= options.max_text);
  const auto at = executed.find(identity);
  if (at == executed.end()) return;
  Executed& one = at->second;
  one.id = 0;
  if (one.once) {
    ByteWriter out;
    out.write_u8(1);
    out.write_varint(response.text.size());
    out.write(response.text);
    out.write(response.tail);
    // Without it a crash leaves "may have run", which is true.
    (void)journal->put(identity, out.view());
  }
  buffered += response.text.size() + response.tail.size();
  one.response = std::move(response);
  one.awaits_push = awaits_push;
  one.answered = next_id++;
  if (one.unwanted) return release(identity);
  answer_ready_groups(now);
}

void ThinLink::Impl::answer_ready_groups(Instant now) {
  for (auto& [id, group] : groups) {
    if (group.queued || group.identities.empty() || group.unit != 0) continue;
    if (!group.answer.empty() && !group.waited) continue;
    bool ready = true, linger = false;
    for (const std::uint64_t identity : group.identities) {
      const auto at = executed.find(identity);
      const bool has = at != executed.end() && at->second.response.has_value();
      ready = ready && has;
      linger = linger || (has && at->second.awaits_push);
      if (has && group.waited && !at->second.late)
        at->second.late = enqueue(now, Use::late_answer, identity, 3) != 0;
    }
    if (!ready || group.waited) continue;
    if (linger) {
      group.not_before = now + *options.answer_linger;
      group.wait_at = std::max(group.wait_at, group.not_before + *options.answer_linger);
    }
    group.item = enqueue(now, Use::answer, id, 2);
    group.queued = group.item != 0;
  }
}

}  // namespace ravine::gateway::link
