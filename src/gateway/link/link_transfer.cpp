#include <algorithm>

#include "gateway/link/thin_link_impl.h"

namespace ravine::gateway::link {
namespace {

constexpr std::size_t kRememberedTransfers = 32;
constexpr std::size_t kPartCost = 64;    // bytes of keeping one, about
constexpr Duration kStatusPause = 200s;  // the near side's patience is longer

}  // namespace

std::uint64_t ThinLink::Impl::start_transfer(Bytes payload, std::uint64_t frame, std::uint64_t group,
                                             std::uint8_t priority) {
  Outgoing transfer;
  transfer.id = next_transfer++;
  const std::size_t overhead = channel.message_overhead() + 2 + kPartHeader;
  transfer.part_size = std::max<std::size_t>(options.max_frame - std::min(options.max_frame, overhead), 16);
  const std::size_t count = (payload.size() + transfer.part_size - 1) / transfer.part_size;
  transfer.parts.resize(std::min(count, kMaxParts));
  transfer.payload = std::move(payload);
  transfer.frame = frame;
  transfer.group = group;
  transfer.priority = priority + 1;
  const std::uint64_t id = transfer.id;
  outgoing.emplace(id, std::move(transfer));
  return id;
}

bool ThinLink::Impl::part_may_leave(const Outgoing& transfer) const {
  std::size_t under_way = 0;
  for (const Part& part : transfer.parts) {
    if (part.again) return true;
    if (part.left && !part.acknowledged) ++under_way;
  }
  return transfer.next < transfer.parts.size() && under_way < kTransferWindow;
}

std::optional<Bytes> ThinLink::Impl::depart_part(Instant now, std::uint64_t id) {
  Outgoing& transfer = outgoing.at(id);
  auto at = std::find_if(transfer.parts.begin(), transfer.parts.end(), [](const Part& p) { return p.again; });
  const bool copy = at != transfer.parts.end();
  if (!copy) {
    if (!part_may_leave(transfer)) return std::nullopt;
    at = transfer.parts.begin() + transfer.next++;
  }
  Part& part = *at;
  const auto index = static_cast<std::uint32_t>(at - transfer.parts.begin());
  part.again = false;
  if (part.left) {
    ++stats.copies_out;
  } else {
    const ByteView whole = transfer.payload;
    const std::size_t begin = index * transfer.part_size;
    const Bytes plaintext =
        encode_fragment_record({id, index, index + 1 == transfer.parts.size(),
                                whole.subspan(begin, std::min(transfer.part_size, whole.size() - begin))});
    const bool answer = index == 0 && transfer.group != 0;
    auto sealed = answer ? channel.seal_answer(groups.at(transfer.group).number, plaintext)
                         : channel.seal_message(plaintext);
    if (!sealed) return std::nullopt;
    part.number = sealed->number;
    part.bytes = std::move(sealed->bytes);
    part.left = true;
    if (answer) {
      groups.at(transfer.group).answer = part.bytes;
    } else {
      numbers[part.number] = {transfer.frame, id, index};
      if (index == 0 && transfer.frame != 0) {
        Frame& frame = frames.at(transfer.frame);
        frame.number = part.number;
        frame.bytes = part.bytes;
      }
    }
  }
  part.sent = now;
  transfer.newest = index;
  transfer.deadline =
      deadline_after(now, part.bytes.size(), options.max_frame, std::min(transfer.silent, 6u));
  Bytes bytes = part.bytes;
  if (part_may_leave(transfer)) transfer.item = enqueue(now, Use::parts, id, transfer.priority);
  return bytes;
}

void ThinLink::Impl::end_transfer(std::uint64_t id) {
  const auto at = outgoing.find(id);
  if (at == outgoing.end()) return;
  if (at->second.item != 0) unqueue(at->second.item);
  for (const Part& part : at->second.parts) {
    const auto number = numbers.find(part.number);
    if (part.left && number != numbers.end() && number->second.transfer == id) numbers.erase(number);
  }
  outgoing.erase(at);
}

void ThinLink::Impl::handle_status(Instant now, const StatusRecord& status,
                                   std::optional<NumberRef> answered) {
  const auto at = outgoing.find(status.transfer);
  if (at == outgoing.end()) return;
  Outgoing& transfer = at->second;
  Instant seen;
  if (answered && answered->transfer == status.transfer && answered->index < transfer.parts.size())
    seen = transfer.parts[answered->index].sent;
  std::size_t bytes = 0;
  bool all = true;
  for (std::uint32_t i = 0; i < transfer.parts.size(); ++i) {
    Part& part = transfer.parts[i];
    if (!part.acknowledged && part.left && status.has(i)) {
      part.acknowledged = true;
      part.again = false;
      part.bytes.clear();
      transfer.silent = 0;
      if (part.number.generation == channel.generation()) channel.note_received(part.number);
    }
    if (part.acknowledged) {
      bytes += std::min(transfer.part_size, transfer.payload.size() - i * transfer.part_size);
    } else {
      all = false;
      // Left before one that came through, and is not there: lost.
      if (part.left && part.sent < seen) part.again = true;
    }
  }
  const auto whose = frames.find(transfer.frame);
  note_progress(now, {false, transfer.id, bytes, transfer.payload.size(), {}},
                whose == frames.end() ? nullptr : &whose->second);
  if (!all) {
    if (transfer.item == 0 && part_may_leave(transfer))
      transfer.item = enqueue(now, Use::parts, transfer.id, transfer.priority);
    return;
  }
  const std::uint64_t frame = transfer.frame;
  const auto owner = frames.find(frame);
  if (owner == frames.end()) {
    end_transfer(transfer.id);
    return;
  }
  // What it carried is answered, or its unit acknowledged, in its turn.
  owner->second.transfer = 0;
  const FrameNumber number = owner->second.number;
  end_transfer(status.transfer);
  numbers[number] = {frame, 0, 0};
  owner->second.waiting = true;
  owner->second.deadline = now + kProbe;
}

// `owner`: frame whose transfer it is, or that its transfer answers; null: any answer that is under way.
void ThinLink::Impl::note_progress(Instant now, TransferProgress progress, const Frame* owner) {
  if (owner != nullptr) {
    progress.requests = owner->requests;
  } else if (progress.incoming) {
    for (const auto& [identity, id] : by_identity) progress.requests.push_back(id);
  }
  for (const RequestId id : progress.requests) {
    Request& request = requests.at(id);
    if (!request.expires.is_never()) request.expires = now + request.options.patience;
  }
  for (auto& [id, frame] : frames)
    if (frame.waiting && frame.item == 0 && (owner == nullptr || owner == &frame))
      frame.deadline = now + kProbe;
  events.push_back(std::move(progress));
}

bool ThinLink::Impl::receiving() const {
  return std::any_of(incoming.begin(), incoming.end(),
                     [](const auto& entry) { return !entry.second.complete; });
}

// After how many parts the sender hears of them. The near side's requests live on what it hears.
std::uint32_t ThinLink::Impl::status_interval() const {
  const Duration part = coap::serialisation_time(options.max_frame, near() ? 0 : rto.rate_bps());
  if (part * kStatusEvery <= kStatusPause) return kStatusEvery;
  return static_cast<std::uint32_t>(std::max<std::int64_t>(1, kStatusPause / part));
}

void ThinLink::Impl::schedule_status(Instant now, Incoming& transfer, FrameNumber number,
                                     std::uint32_t index) {
  transfer.since_status = 0;
  for (auto& [id, waiting] : items) {
    if (waiting.use != Use::status || waiting.ref != transfer.id) continue;
    if (index != 0) waiting.number = number;  // one that waits says it all
    return;
  }
  const std::uint64_t item = enqueue(now, Use::status, transfer.id, 1);
  // The first part's answer is the response itself.
  if (item != 0 && index != 0) items.at(item).number = number;
  if (item != 0 && index == 0) items.at(item).number = {UINT32_MAX, 0};
}

std::optional<Bytes> ThinLink::Impl::depart_status(Instant, const Item& item) {
  const auto at = incoming.find(item.ref);
  StatusRecord status{item.ref, 0, {}};
  if (at == incoming.end() || at->second.complete) {
    status.first_missing = at == incoming.end() ? 0xffff : at->second.count;
  } else {
    const Incoming& transfer = at->second;
    while (transfer.parts.contains(status.first_missing)) ++status.first_missing;
    for (const auto& [index, part] : transfer.parts) {
      if (index <= status.first_missing) continue;
      const std::uint32_t bit = index - status.first_missing - 1;
      if (bit / 8 >= 32) break;
      if (status.bitmap.size() <= bit / 8) status.bitmap.resize(bit / 8 + 1);
      status.bitmap[bit / 8] = static_cast<std::uint8_t>(status.bitmap[bit / 8] | (1u << (bit % 8)));
    }
  }
  ++stats.acks_out;
  const Bytes plaintext = encode_status(status);
  const bool answer = channel.can_answer(item.number);
  auto sealed = answer ? channel.seal_answer(item.number, plaintext) : channel.seal_message(plaintext);
  if (!sealed) return std::nullopt;
  return sealed->bytes;
}

void ThinLink::Impl::handle_fragment(Instant now, FrameNumber number, bool answer, ByteView plaintext,
                                     bool fresh) {
  const auto record = decode_fragment_record(plaintext);
  if (!record) return;
  auto at = incoming.find(record->transfer);
  if (at == incoming.end()) {
    const bool finished = std::find(finished_incoming.begin(), finished_incoming.end(), record->transfer) !=
                          finished_incoming.end();
    if (finished) {
      Incoming gone;
      gone.id = record->transfer;
      schedule_status(now, gone, number, record->index);
      return;
    }
    if (!fresh) {
      if (!near()) send_resync(now);
      return;
    }
    if (incoming.size() >= kMaxIncoming) return;  // it comes again
    at = incoming.emplace(record->transfer, Incoming{}).first;
    at->second.id = record->transfer;
  }
  Incoming& transfer = at->second;
  if (record->index == 0 && !transfer.first) {
    transfer.first = number;
    transfer.first_is_answer = answer;
  }
  if (record->last) transfer.count = record->index + 1;
  const bool added = transfer.parts.emplace(record->index, to_bytes(record->part)).second;
  if (added) {
    transfer.bytes += record->part.size();
    ++transfer.since_status;
    std::size_t held_bytes = 0;
    for (const auto& [id, other] : incoming) held_bytes += other.bytes + other.parts.size() * kPartCost;
    if (transfer.bytes > options.max_message || held_bytes > 2 * options.max_buffered) {
      incoming.erase(at);
      return;
    }
    const auto whose =
        transfer.first && transfer.first_is_answer ? numbers.find(*transfer.first) : numbers.end();
    const auto frame = whose == numbers.end() ? frames.end() : frames.find(whose->second.frame);
    note_progress(now, {true, transfer.id, transfer.bytes, 0, {}},
                  frame == frames.end() ? nullptr : &frame->second);
  }
  const bool complete = transfer.count != 0 && transfer.parts.size() == transfer.count;
  if (complete || !added || record->last || transfer.since_status >= status_interval())
    schedule_status(now, transfer, number, record->index);
  if (!complete) return;
  Bytes whole;
  for (const auto& [index, part] : transfer.parts) whole.insert(whole.end(), part.begin(), part.end());
  const FrameNumber first = *transfer.first;
  const bool is_answer = transfer.first_is_answer;
  finished_incoming.push_back(transfer.id);
  if (finished_incoming.size() > kRememberedTransfers) finished_incoming.pop_front();
  incoming.erase(at);
  if (!near()) {
    far_record(now, first, whole);
  } else if (!is_answer) {
    near_record(now, first, whole);
  } else if (const auto ref = numbers.find(first); ref != numbers.end()) {
    near_answer(now, ref->second.frame, first, whole);
  }
}

}  // namespace ravine::gateway::link
