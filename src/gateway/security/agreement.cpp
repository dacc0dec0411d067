#include "gateway/security/agreement.h"

#include <algorithm>

namespace ravine::gateway::security {
namespace {

constexpr Duration kFirstPause = 5s, kLongestPause = 300s;
constexpr double kRoundTripBits = 8 * 300;  // of both messages with headers, about
constexpr std::uint8_t kSame = 1, kNew = 0;

// What the initiator says of its channel: nothing, or its connection ID.
Bytes encode_current(const std::optional<ConnectionId>& current) {
  return current ? Bytes(current->begin(), current->end()) : Bytes();
}

}  // namespace

Agreement::Agreement(AgreementOptions options, RandomSource& random)
    : options_(std::move(options)), random_(&random) {}

ConnectionId Agreement::handshake_id() const {
  return derive_connection_id(GatewaySecret::copy_of(options_.pairing.noise_psk().view()));
}

Result<NoiseHandshake> Agreement::make(NoisePattern pattern, bool initiator) {
  NoiseOptions noise;
  noise.pattern = pattern;
  noise.initiator = initiator;
  noise.prologue = to_bytes(as_bytes(kNoisePrologue));
  noise.psk = options_.pairing.noise_psk();
  if (pattern == NoisePattern::ik_psk2) {
    if (!options_.local_static)
      return Error{ErrorKind::invalid_argument, "this pairing has no static key of its own"};
    noise.local = StaticKey::from_private(*options_.local_static);
    if (initiator) noise.remote = options_.pairing.remote_static;
  } else {
    noise.local = options_.pairing.recovery_key(options_.role);
    noise.remote = options_.pairing.recovery_key(other(options_.role)).public_key;
  }
  return NoiseHandshake::make(std::move(noise), *random_);
}

void Agreement::begin(Instant now, std::optional<ConnectionId> current) {
  ensure(options_.role == Role::near);
  if (handshake_) return;
  // With a channel that may still be good, no forward secrecy is to be had that it does not have.
  pattern_ = options_.local_static && !current ? NoisePattern::ik_psk2 : NoisePattern::kk_psk0;
  auto made = make(pattern_, true);
  if (!made) return;
  auto message = made->write_message(encode_current(current));
  if (!message) return;
  handshake_ = std::move(*made);
  first_ = with_connection_id(handshake_id(), handshake_frame({pattern_, 0}, *message));
  pause_ = kFirstPause;
  if (options_.rate_bps > 0)
    pause_ += Duration{static_cast<std::int64_t>(2e9 * kRoundTripBits / options_.rate_bps)};
  next_ = now;
}

std::optional<Bytes> Agreement::poll_transmit(Instant now) {
  if (!handshake_ || next_ > now) return std::nullopt;
  next_ = now + pause_;
  pause_ = std::min(pause_ * 2, std::max(kLongestPause, pause_));
  return first_;
}

Instant Agreement::next_deadline() const {
  return handshake_ ? next_ : Instant::never();
}

Agreement::Handled Agreement::handle(Instant, const FrameView& frame, std::optional<ConnectionId> current) {
  if (!frame.handshake || frame.body.empty()) return {};
  const auto step = HandshakeStep::decode(frame.body[0]);
  if (!step) return {};
  const ByteView message = frame.body.subspan(1);
  Handled handled = options_.role == Role::near ? finish(*step, message) : answer(*step, message, current);
  if (handled.outcome == Outcome::nothing) ++refused_;
  return handled;
}

Agreement::Handled Agreement::answer(const HandshakeStep& step, ByteView message,
                                     std::optional<ConnectionId> current) {
  if (step.index != 0 || step.pattern == NoisePattern::xx) return {};
  auto handshake = make(step.pattern, false);
  if (!handshake) return {};
  const auto theirs = handshake->read_message(message);
  if (!theirs) return {};
  const bool same = current && *theirs == encode_current(current);
  const auto reply = handshake->write_message(Bytes{same ? kSame : kNew});
  if (!reply) return {};
  Handled handled;
  handled.outcome = same ? Outcome::answered : Outcome::new_keys;
  handled.reply = with_connection_id(handshake_id(), handshake_frame({step.pattern, 1}, *reply));
  if (!same) handled.secret = handshake->gateway_secret();
  return handled;
}

Agreement::Handled Agreement::finish(const HandshakeStep& step, ByteView message) {
  if (!handshake_ || step.index != 1 || step.pattern != pattern_) return {};
  const auto theirs = handshake_->read_message(message);
  if (!theirs || theirs->size() != 1) return {};
  Handled handled;
  if ((*theirs)[0] == kSame) {
    handled.outcome = Outcome::same;
  } else {
    handled.outcome = Outcome::new_keys;
    handled.secret = handshake_->gateway_secret();
  }
  handshake_.reset();
  return handled;
}

}  // namespace ravine::gateway::security
