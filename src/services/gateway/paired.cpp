#include "services/gateway/paired.h"

#include <fmt/format.h>

namespace ravine::services {
namespace {

namespace security = gateway::security;

// Handshakes whose end is open: a recorded first message, played again, must not push out the real one.
constexpr std::size_t kMaxCandidates = 4;

security::AgreementOptions agreement_options(const StoredPairing& pairing, double rate_bps) {
  return {.role = pairing.role,
          .pairing = pairing.code,
          .local_static = pairing.code.remote_static ? pairing.local_static : std::nullopt,
          .rate_bps = rate_bps};
}

}  // namespace

PairedKeys::PairedKeys(PairingState state, Security security, double rate_bps, RandomSource& random)
    : state_(std::move(state)),
      security_(security),
      random_(&random),
      agreement_(agreement_options(state_.pairing(), rate_bps), random) {}

Result<std::optional<security::SecureChannel>> PairedKeys::first_channel() {
  using Found = std::optional<security::SecureChannel>;
  auto stored = state_.channel().load();
  if (!stored) return stored.error();
  if (*stored) {
    auto channel = security::SecureChannel::restore(**stored, state_.channel(), *random_, security_);
    if (!channel)
      return channel.error().with_context(
          fmt::format("the channel state of pairing \"{}\" cannot be used; remove its .channel file and new "
                      "keys are made",
                      state_.pairing().name));
    return Found(std::move(*channel));
  }
  // Keys of the code are used once in its life; after that only a handshake makes new ones.
  if (state_.pairing().keys != KeySource::pinned || state_.pairing().begun) return Found();
  if (auto marked = state_.mark_begun(); !marked) return marked.error();
  auto channel = security::SecureChannel::make(state_.pairing().code.channel_secret(), role(),
                                               state_.channel(), *random_, security_);
  if (!channel) return channel.error();
  return Found(std::move(*channel));
}

Result<security::SecureChannel> PairedKeys::next_channel(const security::GatewaySecret& secret) {
  candidates_.clear();
  if (auto marked = state_.mark_begun(); !marked) return marked.error();
  if (auto forgotten = state_.forget_channel(); !forgotten) return forgotten.error();
  return security::SecureChannel::make(secret, role(), state_.channel(), *random_, security_);
}

void PairedKeys::add_candidate(const security::GatewaySecret& secret) {
  auto probe = security::SecureChannel::make(secret, role(), *null_, *random_, security_);
  if (!probe) return;
  candidates_.push_back({secret, std::move(*probe)});
  if (candidates_.size() > kMaxCandidates) candidates_.pop_front();
}

std::optional<security::GatewaySecret> PairedKeys::match_candidate(ByteView datagram) {
  for (Candidate& candidate : candidates_)
    if (candidate.probe.open(datagram)) return candidate.secret;
  return std::nullopt;
}

bool PairedKeys::has_candidate(const security::ConnectionId& id) const {
  for (const Candidate& candidate : candidates_)
    if (candidate.probe.connection_id() == id) return true;
  return false;
}

}  // namespace ravine::services
