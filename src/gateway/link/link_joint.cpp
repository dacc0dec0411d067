// Answers that take a push along: one datagram instead of two.
#include <algorithm>

#include "gateway/link/thin_link_impl.h"

namespace ravine::gateway::link {
namespace {

constexpr std::size_t kJoinText = 4096;    // of a push; coding a longer one to see its size is not worth it
constexpr std::size_t kJoinedBytes = 192;  // coded: the near side's timer expects no more with an answer

}  // namespace

// The oldest push that waits; they leave in their order.
ThinLink::Impl::Push* ThinLink::Impl::joinable_push() {
  const auto at =
      std::find_if(pushes.begin(), pushes.end(), [](const auto& entry) { return entry.second.item != 0; });
  if (at == pushes.end()) return nullptr;
  const Message& message = at->second.message;
  if (waits_for_response(at->first)) return nullptr;
  return message.tail.empty() && message.text.size() <= kJoinText ? &at->second : nullptr;
}

// No push arrives before a response that was given before it.
bool ThinLink::Impl::waits_for_response(PushId push) const {
  return std::any_of(owed.begin(), owed.end(), [&](const auto& entry) { return entry.second < push; });
}

// Those that wait, or all, wait in the order in which they were made.
void ThinLink::Impl::queue_pushes(Instant now, bool all) {
  for (auto& [id, push] : pushes) {
    if (push.item == 0 && !all) continue;
    unqueue(push.item);
    push.item = enqueue(now, Use::push, id, push.options.priority);
  }
}

// A group whose answer waits for a push.
ThinLink::Impl::Group* ThinLink::Impl::lingering_group(Instant now) {
  for (auto& [id, group] : groups)
    if (group.queued && group.not_before > now && items.contains(group.item)) return &group;
  return nullptr;
}

// `unit`: responses of `group`; `expected`: the near side knows them. The near side asks for what runs once
// until it has the answer, so the push needs no timer of its own.
std::optional<Bytes> ThinLink::Impl::depart_joint(Group& group, Unit unit, bool expected) {
  Push* push = joinable_push();
  const bool once = std::all_of(group.identities.begin(), group.identities.end(),
                                [this](std::uint64_t identity) { return executed.at(identity).once; });
  if (push == nullptr || !once || window_full() || (!expected && unit.size() > 1)) return std::nullopt;
  CodedRecord record{.lane = Lane::answer, .joint = true, .expected = expected};
  record.state = state_to_name(group.state, true);
  record.unit = ladder.tip() + 1;
  record.check = ladder.check(record.state);
  const AnswerBase base{group.state};
  if (!fits_short_answer(record, base)) return std::nullopt;
  unit.push_back({{}, push->message.text});
  coder::Coder& coder = ladder.with_requests(record.state, unit, false);
  for (std::size_t i = expected ? unit.size() - 1 : 0; i < unit.size(); ++i)
    record.items.push_back({coder.encode(unit[i].response, ladder.response_context(unit[i])), false});
  const std::size_t size = record.items.back().coded.size();
  if (size > kJoinedBytes || coap::serialisation_time(size, rto.rate_bps()) > options.join_limit)
    return std::nullopt;
  const Bytes plaintext = encode_coded(record, true, base);
  if (plaintext.size() + channel.answer_overhead(group.number) > options.max_frame) return std::nullopt;
  auto sealed = channel.seal_answer(group.number, plaintext);
  if (!sealed) return std::nullopt;

  for (const Exchange& exchange : unit) stats.text_bytes_out += exchange.response.size();
  for (const CodedItem& item : record.items) stats.coded_bytes_out += item.coded.size();
  if (cautious > 0) --cautious;
  pushed_state = std::max(pushed_state, record.state);
  ladder.append(std::move(unit));
  for (const std::uint64_t identity : group.identities) executed.at(identity).unit = record.unit;
  group.unit = push->unit = record.unit;
  group.joined = true;
  unqueue(push->item);
  push->item = 0;
  group.answer = sealed->bytes;
  return group.answer;
}

// A push leaves: with an answer that waits for one, if there is one.
std::optional<Bytes> ThinLink::Impl::depart_push(Instant now, PushId id) {
  Push& push = pushes.at(id);
  if (const Group* group = lingering_group(now)) {
    unqueue(group->item);
    auto bytes = depart_answer(now, group->id);
    if (push.item != 0) queue_pushes(now, false);  // the answer left alone: they do not fit together
    return bytes;
  }
  push.item = 0;
  return depart_downward(now, {{{}, push.message.text}}, push.message, push.id, 0);
}

}  // namespace ravine::gateway::link
