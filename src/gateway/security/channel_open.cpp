#include <algorithm>

#include "gateway/security/channel_impl.h"

namespace ravine::gateway::security {
namespace {

constexpr std::uint64_t kFailureBlock = 64;  // failed opens per durable record: 256 in a key's life

// Leading nonce of a flagged plaintext, cut off; nullopt when it is too short.
std::optional<RekeyNonce> take_nonce(Bytes& plaintext) {
  if (plaintext.size() < kRekeyNonceBytes) return std::nullopt;
  RekeyNonce nonce{};
  std::copy_n(plaintext.begin(), kRekeyNonceBytes, nonce.begin());
  plaintext.erase(plaintext.begin(), plaintext.begin() + kRekeyNonceBytes);
  return nonce;
}

}  // namespace

std::expected<OpenedFrame, FrameDrop> SecureChannel::open(ByteView datagram) {
  Impl& impl = *impl_;
  const std::optional<FrameView> frame = parse_frame(datagram);
  if (!frame) return std::unexpected(FrameDrop::malformed);
  if (frame->connection && *frame->connection != impl.id) return std::unexpected(FrameDrop::other_context);
  if (frame->handshake) return std::unexpected(FrameDrop::handshake);
  if (frame->body.size() < impl.options.protection.tag_size()) return std::unexpected(FrameDrop::malformed);

  auto opened = impl.try_open(impl.current, *frame);
  if (opened) return impl.accept(impl.current, *frame, std::move(*opened));
  FrameDrop drop = opened.error();
  if (impl.next) {
    opened = impl.try_open(*impl.next, *frame);
    if (opened) {
      impl.promote_next();
      return impl.accept(impl.current, *frame, std::move(*opened));
    }
  }
  if (impl.previous) {
    opened = impl.try_open(*impl.previous, *frame);
    if (opened) return impl.accept(*impl.previous, *frame, std::move(*opened));
    if (drop == FrameDrop::unknown_answer) drop = opened.error();
  }
  return std::unexpected(drop);
}

std::expected<SecureChannel::Impl::Opened, FrameDrop> SecureChannel::Impl::try_open(Generation& generation,
                                                                                    const FrameView& frame) {
  const bool answer = frame.kind == FrameKind::answer;
  const std::uint64_t sent_end = generation.numbers.next();
  if (answer && sent_end == 0) return std::unexpected(FrameDrop::unknown_answer);
  std::vector<std::uint64_t> candidates;
  if (frame.number) {
    candidates = {*frame.number};
  } else {
    candidates = number_candidates(frame.low_bits, answer ? sent_end - 1 : generation.expected());
  }
  std::erase_if(candidates, [&](std::uint64_t number) { return number >= (answer ? sent_end : kMaxSends); });
  if (candidates.empty()) return std::unexpected(answer ? FrameDrop::unknown_answer : FrameDrop::forged);
  if (!options.protection.encrypted()) candidates.resize(1);
  const FrameKeys& keys = answer ? generation.open_answer : generation.open_message;
  for (const std::uint64_t number : candidates) {
    if (generation.failed_opens >= options.max_failed_opens) return std::unexpected(FrameDrop::limit_reached);
    if (auto plaintext = open_body(keys, number, frame.aad, frame.body, options.protection))
      return Opened{number, std::move(*plaintext)};
    note_failure(generation);
  }
  return std::unexpected(FrameDrop::forged);
}

void SecureChannel::Impl::note_failure(Generation& generation) {
  if (++generation.failed_opens <= generation.failed_limit) return;
  generation.failed_limit = generation.failed_opens + kFailureBlock - 1;
  // Without the store's record a restart forgives up to one block; refusing the peer's good frames would be
  // worse.
  (void)persist();
}

std::expected<OpenedFrame, FrameDrop> SecureChannel::Impl::accept(Generation& generation,
                                                                  const FrameView& frame, Opened opened) {
  std::optional<RekeyNonce> nonce;
  if (frame.rekey) {
    nonce = take_nonce(opened.plaintext);
    if (!nonce) return std::unexpected(FrameDrop::malformed);
  }
  OpenedFrame result;
  result.kind = frame.kind;
  result.number = {generation.id, opened.number};
  result.fragment = frame.fragment;
  result.plaintext = std::move(opened.plaintext);
  if (frame.kind == FrameKind::message) {
    result.freshness = accept_message(generation, opened.number, result.newest);
    if (nonce && result.freshness == Freshness::fresh)
      handle_rekey_message(generation, opened.number, *nonce);
    return result;
  }
  const auto verdict = generation.answered.judge(opened.number);
  result.freshness = verdict == ReplayWindow::Verdict::fresh       ? Freshness::fresh
                     : verdict == ReplayWindow::Verdict::duplicate ? Freshness::duplicate
                                                                   : Freshness::unknown;
  if (result.freshness != Freshness::fresh) return result;
  result.newest = opened.number >= generation.first_number &&
                  (generation.answered.empty() || opened.number > generation.answered.highest());
  generation.answered.accept(opened.number);
  generation.confirmed_end = std::max(generation.confirmed_end, opened.number + 1);
  handle_rekey_answer(generation, opened.number, nonce);
  return result;
}

Freshness SecureChannel::Impl::accept_message(Generation& generation, std::uint64_t number, bool& newest) {
  if (number < generation.fresh_floor) return Freshness::unknown;
  switch (generation.received.judge(number)) {
    case ReplayWindow::Verdict::duplicate:
      return Freshness::duplicate;
    case ReplayWindow::Verdict::stale:
      return Freshness::unknown;
    case ReplayWindow::Verdict::fresh:
      break;
  }
  if (number >= generation.receive_limit) {
    const std::uint64_t before = generation.receive_limit;
    generation.receive_limit = number + kSequenceBlock;
    if (!persist()) {
      generation.receive_limit = before;
      return Freshness::unknown;  // what cannot be remembered must not be acted on
    }
  }
  newest = generation.received.empty() || number > generation.received.highest();
  generation.received.accept(number);
  generation.answerable.insert(number);
  const std::uint64_t highest = generation.received.highest();
  while (*generation.answerable.begin() + ReplayWindow::kSpan <= highest)
    generation.answerable.erase(generation.answerable.begin());
  if (&generation != &current) return Freshness::fresh;
  proof.reset();
  // By now whatever was under way in the generation before has arrived or been given up.
  if (number >= ReplayWindow::kSpan) previous.reset();
  return Freshness::fresh;
}

GatewaySecret SecureChannel::Impl::derive_next(const RekeyNonce& ours, const RekeyNonce& theirs) const {
  return role == Role::near ? next_secret(current.secret, ours, theirs)
                            : next_secret(current.secret, theirs, ours);
}

void SecureChannel::Impl::handle_rekey_message(const Generation& generation, std::uint64_t number,
                                               const RekeyNonce& theirs) {
  if (&generation != &current || !options.protection.encrypted()) return;
  if (offer && next && number <= offer->number) return;  // overtaken by a later attempt
  // Both asked at once: the near side's attempt stands.
  if (attempt && role == Role::near) return;
  attempt.reset();
  Offer agreed{number, {}, current.numbers.next()};
  random->fill(agreed.nonce);
  std::optional<Generation> before = std::move(next);
  const std::optional<Offer> offer_before = offer;
  next.emplace(current.id + 1, derive_next(agreed.nonce, theirs), role, options.max_sends);
  offer = agreed;
  if (persist()) return;
  next = std::move(before);
  offer = offer_before;
}

void SecureChannel::Impl::handle_rekey_answer(const Generation& generation, std::uint64_t number,
                                              const std::optional<RekeyNonce>& theirs) {
  if (&generation != &current) return;
  if (next && offer && theirs && equal_constant_time(*theirs, offer->nonce)) {
    // Sealed under the old keys by a peer that knows the new: it repeats our nonce to say so.
    promote_next();
    (void)persist();  // nothing was sealed under the new keys yet; take_number() stores again before that
    return;
  }
  if (!attempt || attempt->number != number) return;
  const Offer made = *attempt;
  attempt.reset();
  if (!theirs) return;
  Generation made_next(current.id + 1, derive_next(made.nonce, *theirs), role, options.max_sends);
  std::optional<Generation> before = std::move(previous);
  previous = std::move(current);
  current = std::move(made_next);
  // An older agreement of ours is void: the other side answered this attempt under the old keys, after giving
  // up its own.
  std::optional<Generation> next_before = std::move(next);
  next.reset();
  const std::optional<RekeyNonce> proof_before = proof;
  proof = *theirs;
  if (persist()) {
    offer.reset();
    rekey_wanted = false;
    return;
  }
  proof = proof_before;
  current = std::move(*previous);
  previous = std::move(before);
  next = std::move(next_before);
}

void SecureChannel::Impl::promote_next() {
  previous = std::move(current);
  current = std::move(*next);
  next.reset();
  offer.reset();
  attempt.reset();
  proof.reset();
  rekey_wanted = false;
}

std::optional<RekeyNonce> SecureChannel::Impl::answer_nonce(FrameNumber message) const {
  if (next && offer && message == FrameNumber{current.id, offer->number}) return offer->nonce;
  if (proof && previous && message.generation == previous->id) return proof;
  return std::nullopt;
}

}  // namespace ravine::gateway::security
