#include "gateway/security/channel.h"

#include <fmt/format.h>

#include <algorithm>

#include "gateway/security/channel_impl.h"

namespace ravine::gateway::security {
namespace {

constexpr std::uint8_t kStateVersion = 1;
constexpr std::size_t kChecksumSize = 4;                      // against damage on disk, not against people
constexpr std::uint8_t kPrevious = 1, kNext = 2, kProof = 4;  // which parts follow in the state
constexpr std::uint64_t kMaxSkip = 4096;
constexpr std::uint64_t kRekeyRetry = 32;     // numbers of ours until an unanswered attempt is made again
constexpr std::uint64_t kLongAnswerAge = 32;  // numbers of the other side after which six bits are not enough
constexpr std::size_t kSmallestFrame = 32;

std::size_t long_size(std::uint64_t number) {
  return 1 + varint_size(number);
}

std::uint8_t short_header(FrameKind kind, std::uint64_t number) {
  return static_cast<std::uint8_t>((static_cast<unsigned>(kind) << 6) | (number & 0x3f));
}

}  // namespace

std::string_view to_text(FrameDrop drop) {
  switch (drop) {
    case FrameDrop::malformed:
      return "malformed";
    case FrameDrop::handshake:
      return "handshake";
    case FrameDrop::other_context:
      return "of another context";
    case FrameDrop::unknown_answer:
      return "answers nothing of ours";
    case FrameDrop::forged:
      return "forged";
    case FrameDrop::limit_reached:
      return "limit of the key reached";
  }
  return "unknown";
}

SecureChannel::SecureChannel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SecureChannel::SecureChannel(SecureChannel&&) noexcept = default;
SecureChannel& SecureChannel::operator=(SecureChannel&&) noexcept = default;
SecureChannel::~SecureChannel() = default;

Result<SecureChannel> SecureChannel::make(const GatewaySecret& secret, Role role, SequenceStore& store,
                                          RandomSource& random, Options options) {
  options.max_sends = std::min(options.max_sends, kMaxSends);
  options.max_failed_opens = std::min(options.max_failed_opens, kMaxFailedOpens);
  auto impl = std::make_unique<Impl>(Impl{role, derive_connection_id(secret), options, &store, &random,
                                          Generation(0, secret, role, options.max_sends)});
  if (auto stored = impl->persist(); !stored) return stored.error();
  return SecureChannel(std::move(impl));
}

Result<SecureChannel> SecureChannel::restore(ByteView state, SequenceStore& store, RandomSource& random,
                                             Options options) {
  const Error damaged{ErrorKind::invalid_argument,
                      "the gateway's key state is damaged or of a newer version; pair the gateways again"};
  options.max_sends = std::min(options.max_sends, kMaxSends);
  options.max_failed_opens = std::min(options.max_failed_opens, kMaxFailedOpens);
  if (state.size() < kChecksumSize) return damaged;
  const ByteView body = state.first(state.size() - kChecksumSize);
  const Hash checksum = sha256(body);
  if (!std::equal(checksum.begin(), checksum.begin() + kChecksumSize, state.end() - kChecksumSize))
    return damaged;
  ByteReader in(body);
  const std::uint8_t version = in.read_u8();
  const std::uint8_t role_value = in.read_u8();
  ConnectionId id{};
  in.read_into(id);
  const std::uint8_t parts = in.read_u8();
  if (!in.ok() || version != kStateVersion || role_value < 1 || role_value > 2 ||
      (parts & ~unsigned{kPrevious | kNext | kProof}) != 0)
    return damaged;
  const auto role = static_cast<Role>(role_value);
  auto current = Generation::decode(in, role, options.max_sends);
  if (!current) return damaged;
  auto impl = std::make_unique<Impl>(Impl{role, id, options, &store, &random, std::move(*current)});
  if ((parts & kPrevious) != 0) {
    impl->previous = Generation::decode(in, role, options.max_sends);
    if (!impl->previous) return damaged;
  }
  if ((parts & kNext) != 0) {
    auto generation = Generation::decode(in, role, options.max_sends);
    Impl::Offer offer;
    offer.number = in.read_u64();
    in.read_into(offer.nonce);
    if (!generation || !in.ok()) return damaged;
    impl->next = std::move(generation);
    impl->offer = offer;
  }
  if ((parts & kProof) != 0) in.read_into(impl->proof.emplace());
  if (!in.ok() || in.remaining() != 0) return damaged;
  return SecureChannel(std::move(impl));
}

Bytes SecureChannel::Impl::encode() const {
  ByteWriter out;
  out.write_u8(kStateVersion);
  out.write_u8(static_cast<std::uint8_t>(role));
  out.write(id);
  out.write_u8(
      static_cast<std::uint8_t>((previous ? kPrevious : 0) | (next ? kNext : 0) | (proof ? kProof : 0)));
  current.encode(out);
  if (previous) previous->encode(out);
  if (next) {
    next->encode(out);
    out.write_u64(offer ? offer->number : 0);
    out.write(offer ? offer->nonce : RekeyNonce{});
  }
  if (proof) out.write(*proof);
  const Hash checksum = sha256(out.view());
  out.write(ByteView(checksum).first(kChecksumSize));
  return out.take();
}

Result<> SecureChannel::Impl::persist() {
  Bytes state = encode();
  Result<> stored = store->persist(state);
  wipe(state);
  return stored;
}

Generation* SecureChannel::Impl::generation(std::uint32_t wanted) {
  if (current.id == wanted) return &current;
  if (previous && previous->id == wanted) return &*previous;
  return nullptr;
}

Result<std::uint64_t> SecureChannel::Impl::take_number() {
  NumberBlock& numbers = current.numbers;
  if (numbers.exhausted())
    return Error{ErrorKind::limit_reached,
                 fmt::format("this key has sealed its {} messages and no rekey came through; "
                             "check that the other gateway answers, or pair again",
                             numbers.next())};
  if (numbers.needs_reservation()) {
    const std::uint64_t before = numbers.limit();
    numbers.reserve();
    if (auto stored = persist(); !stored) {
      numbers.withdraw(before);
      return stored.error();
    }
  }
  return numbers.take();
}

bool SecureChannel::Impl::short_form(std::uint64_t number) const {
  // Without a tag there is nothing to tell candidates apart by, so the nearest must be right.
  const std::uint64_t slack = options.protection.encrypted() ? 64 : 24;
  return number < current.confirmed_end + slack;
}

bool SecureChannel::Impl::rekey_due() const {
  return rekey_wanted || current.numbers.next() >= options.max_sends / 2 ||
         current.failed_opens >= options.max_failed_opens / 2;
}

bool SecureChannel::Impl::starts_rekey() const {
  if (!options.protection.encrypted() || !rekey_due()) return false;
  // The other side, which has our agreement or not, is given time to move on.
  if (next && offer && current.numbers.next() < offer->made_at + 2 * kRekeyRetry) return false;
  return !attempt || current.numbers.next() >= attempt->number + kRekeyRetry;
}

bool SecureChannel::Impl::long_answer(FrameNumber message) const {
  const Generation& from = message.generation == current.id || !previous ? current : *previous;
  return from.received.highest() >= message.number + kLongAnswerAge;
}

Result<SealedFrame> SecureChannel::Impl::seal_numbered(ByteView plaintext, bool fragment, bool with_rekey) {
  const Result<std::uint64_t> number = take_number();
  if (!number) return number.error();
  ByteWriter frame;
  Bytes longer;
  if (with_rekey) {
    attempt = Offer{};
    attempt->number = *number;
    random->fill(attempt->nonce);
    frame.write_u8(static_cast<std::uint8_t>(Escape::rekey));
    longer.assign(attempt->nonce.begin(), attempt->nonce.end());
    longer.insert(longer.end(), plaintext.begin(), plaintext.end());
    plaintext = longer;
  }
  if (fragment) frame.write_u8(static_cast<std::uint8_t>(Escape::fragment));
  if (short_form(*number)) {
    frame.write_u8(short_header(FrameKind::message, *number));
  } else {
    frame.write_u8(static_cast<std::uint8_t>(Escape::long_message));
    frame.write_varint(*number);
  }
  const Result<Bytes> body =
      seal_body(current.send_message, *number, frame.view(), plaintext, options.protection);
  if (!body) return body.error();
  frame.write(*body);
  return SealedFrame{{current.id, *number}, frame.take()};
}

Result<SealedFrame> SecureChannel::seal_message(ByteView plaintext) {
  if (plaintext.size() > kMaxPlaintext - 64)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{} bytes are too many for one frame; send fragments", plaintext.size())};
  return impl_->seal_numbered(plaintext, false, impl_->starts_rekey());
}

Result<std::vector<SealedFrame>> SecureChannel::seal_fragments(ByteView plaintext, std::size_t max_frame) {
  if (max_frame < kSmallestFrame || max_frame > kMaxPlaintext)
    return Error{ErrorKind::invalid_argument, fmt::format("frames of {} bytes: at least {}, at most {}",
                                                          max_frame, kSmallestFrame, kMaxPlaintext)};
  const Impl& impl = *impl_;
  std::vector<SealedFrame> frames;
  for (std::uint32_t index = 0; index == 0 || !plaintext.empty(); ++index) {
    if (index == kFragmentIndexLimit)
      return Error{ErrorKind::limit_reached,
                   fmt::format("more than {} fragments of {} bytes", kFragmentIndexLimit, max_frame)};
    const std::uint64_t number = impl.current.numbers.next();
    const std::size_t header = 1 + (impl.short_form(number) ? 1 : long_size(number)) +
                               varint_size(std::uint64_t{index} * 2 + 1) + impl.options.protection.tag_size();
    const ByteView part = plaintext.first(std::min(plaintext.size(), max_frame - header));
    plaintext = plaintext.subspan(part.size());
    auto frame = impl_->seal_numbered(encode_fragment({index, plaintext.empty()}, part), true, false);
    if (!frame) return frame.error();
    frames.push_back(std::move(*frame));
  }
  return frames;
}

bool SecureChannel::can_answer(FrameNumber message) const {
  const Generation* generation = impl_->generation(message.generation);
  return generation != nullptr && generation->answerable.contains(message.number);
}

Result<SealedFrame> SecureChannel::seal_answer(FrameNumber message, ByteView plaintext) {
  Impl& impl = *impl_;
  if (plaintext.size() > kMaxPlaintext - 64)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("{} bytes are too many for an answer; send fragments", plaintext.size())};
  if (!can_answer(message))
    return Error{
        ErrorKind::already_exists,
        fmt::format("message {} has its answer or is too old for one; repeat that answer's bytes, or "
                    "send a message",
                    message.number)};
  Generation& generation = *impl.generation(message.generation);
  ByteWriter frame;
  Bytes longer;
  if (const auto nonce = impl.answer_nonce(message)) {
    frame.write_u8(static_cast<std::uint8_t>(Escape::rekey));
    longer.assign(nonce->begin(), nonce->end());
    longer.insert(longer.end(), plaintext.begin(), plaintext.end());
    plaintext = longer;
  }
  if (impl.long_answer(message)) {
    frame.write_u8(static_cast<std::uint8_t>(Escape::long_answer));
    frame.write_varint(message.number);
  } else {
    frame.write_u8(short_header(FrameKind::answer, message.number));
  }
  // Gone before it is used: nothing after this may bring the number back.
  generation.answerable.erase(message.number);
  const Result<Bytes> body =
      seal_body(generation.send_answer, message.number, frame.view(), plaintext, impl.options.protection);
  if (!body) return body.error();
  frame.write(*body);
  return SealedFrame{message, frame.take()};
}

void SecureChannel::note_received(FrameNumber message) {
  if (Generation* generation = impl_->generation(message.generation))
    if (message.number < generation->numbers.next())
      generation->confirmed_end = std::max(generation->confirmed_end, message.number + 1);
}

void SecureChannel::skip_to(FrameNumber first) {
  Generation& current = impl_->current;
  if (first.generation != current.id || first.number > current.numbers.next() + kMaxSkip) return;
  current.numbers.skip_to(first.number);
}

FrameNumber SecureChannel::first_fresh_number() const {
  return {impl_->current.id, impl_->current.expected()};
}

void SecureChannel::rekey() {
  impl_->rekey_wanted = true;
}
bool SecureChannel::rekey_running() const {
  return impl_->attempt.has_value() || impl_->next.has_value();
}
std::uint32_t SecureChannel::generation() const {
  return impl_->current.id;
}
FrameNumber SecureChannel::next_number() const {
  return {impl_->current.id, impl_->current.numbers.next()};
}

std::size_t SecureChannel::message_overhead() const {
  const std::uint64_t number = impl_->current.numbers.next();
  return (impl_->short_form(number) ? 1 : long_size(number)) + impl_->options.protection.tag_size() +
         (impl_->starts_rekey() ? 1 + kRekeyNonceBytes : 0);
}

std::size_t SecureChannel::answer_overhead(FrameNumber message) const {
  return (impl_->long_answer(message) ? long_size(message.number) : 1) +
         impl_->options.protection.tag_size() + (impl_->answer_nonce(message) ? 1 + kRekeyNonceBytes : 0);
}

const ConnectionId& SecureChannel::connection_id() const {
  return impl_->id;
}
OscoreParameters SecureChannel::oscore_parameters() const {
  return derive_oscore(impl_->current.secret, impl_->role, impl_->id, impl_->current.id);
}
Role SecureChannel::role() const {
  return impl_->role;
}
const SecureChannel::Options& SecureChannel::options() const {
  return impl_->options;
}
std::uint64_t SecureChannel::failed_opens() const {
  return impl_->current.failed_opens;
}
Bytes SecureChannel::encode() const {
  return impl_->encode();
}

}  // namespace ravine::gateway::security
