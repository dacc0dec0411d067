// The verify policies.
#include <fmt/format.h>

#include <algorithm>

#include "identity/network_trust.h"
#include "identity/time_text.h"

namespace ravine::identity {
namespace {

constexpr std::size_t kMaxPinned = 4096;

Rejection reject(TlsAlert alert, std::string reason) {
  return {alert, std::move(reason)};
}

std::variant<std::vector<Certificate>, Rejection> parse_chain(std::span<const Bytes> chain) {
  if (chain.empty()) return reject(TlsAlert::certificate_required, "no certificate was shown");
  if (chain.size() > kMaxChain)
    return reject(TlsAlert::bad_certificate,
                  fmt::format("{} certificates in the chain, more than {}", chain.size(), kMaxChain));
  std::vector<Certificate> parsed;
  for (const Bytes& der : chain) {
    Result<Certificate> certificate = Certificate::parse(der);
    if (!certificate) return reject(TlsAlert::bad_certificate, certificate.error().message);
    parsed.push_back(std::move(*certificate));
  }
  return parsed;
}

VerifiedPeer describe_leaf(const Certificate& leaf, UnixTime now) {
  VerifiedPeer peer;
  peer.id = leaf.id;
  peer.name = leaf.name;
  peer.groups = leaf.groups;
  peer.serial = leaf.serial;
  peer.not_before = leaf.not_before;
  peer.not_after = leaf.not_after;
  peer.in_grace = now > leaf.not_after;
  return peer;
}

class NetworkPolicy final : public VerifyPolicy {
 public:
  explicit NetworkPolicy(std::shared_ptr<const NetworkTrust> trust) : trust_(std::move(trust)) {}

  VerifyOutcome verify(const VerifyRequest& request) const override {
    auto parsed = parse_chain(request.chain);
    if (auto* problem = std::get_if<Rejection>(&parsed)) return std::move(*problem);
    const auto& chain = std::get<std::vector<Certificate>>(parsed);
    const Certificate& leaf = chain.front();
    if (auto problem = trust_->check_chain(chain, request.now)) return std::move(*problem);
    if (leaf.is_ca || !leaf.may_authenticate)
      return reject(TlsAlert::bad_certificate,
                    fmt::format("certificate {} is a CA's or not for authentication, so no node may show it",
                                leaf.describe()));
    if (leaf.name.empty())
      return reject(TlsAlert::bad_certificate,
                    fmt::format("certificate {} has no valid node name", leaf.describe()));
    const IpAddress wanted = overlay_address(trust_->network(), leaf.id);
    if (leaf.overlay != wanted)
      return reject(
          TlsAlert::bad_certificate,
          fmt::format("certificate {} signs the overlay address {}, but its key has {}", leaf.describe(),
                      leaf.overlay ? leaf.overlay->to_text() : "(none)", wanted.to_text()));
    if (request.expected && *request.expected != leaf.id)
      return reject(TlsAlert::certificate_unknown, fmt::format("peer {} answered where {} was expected",
                                                               leaf.describe(), request.expected->to_text()));
    VerifiedPeer peer = describe_leaf(leaf, request.now);
    peer.overlay = wanted;
    return peer;
  }

 private:
  std::shared_ptr<const NetworkTrust> trust_;
};

class PinnedPolicy final : public VerifyPolicy {
 public:
  explicit PinnedPolicy(std::shared_ptr<const PinnedPeers> pinned) : pinned_(std::move(pinned)) {}

  VerifyOutcome verify(const VerifyRequest& request) const override {
    auto parsed = parse_chain(request.chain);
    if (auto* problem = std::get_if<Rejection>(&parsed)) return std::move(*problem);
    const auto& chain = std::get<std::vector<Certificate>>(parsed);
    const Certificate& leaf = chain.front();
    if (auto problem = check_validity(leaf, request.now, std::chrono::seconds(0), kClockSkew))
      return std::move(*problem);
    if (!leaf.may_authenticate)
      return reject(TlsAlert::bad_certificate,
                    fmt::format("certificate {} is not for authentication", leaf.describe()));
    // Each key vouches for the one before it. What stands behind the pinned key does not matter.
    const PinnedPeer* known = nullptr;
    bool is_expected = !request.expected;
    VerifiedPeer peer = describe_leaf(leaf, request.now);
    for (std::size_t i = 0; i < chain.size(); ++i) {
      if (i > 0 && !chain[i - 1].is_signed_by(chain[i].key))
        return reject(TlsAlert::bad_certificate,
                      fmt::format("certificate {} is not signed by {}, which follows it",
                                  chain[i - 1].describe(), chain[i].describe()));
      if (i > 0) peer.former_ids.push_back(chain[i].id);
      is_expected = is_expected || chain[i].id == *request.expected;
      if (known == nullptr) known = find(chain[i].id);
      if (known != nullptr && is_expected) break;
    }
    if (known == nullptr)
      return reject(
          TlsAlert::access_denied,
          fmt::format("peer {} is not pinned here; pair with it (`ravine pair`)", leaf.id.to_text()));
    if (!is_expected)
      return reject(TlsAlert::certificate_unknown,
                    fmt::format("peer {} answered where {} was expected", leaf.id.to_text(),
                                request.expected->to_text()));
    peer.name = known->name;
    peer.groups = known->groups;
    peer.overlay = overlay_address(pinned_->network, leaf.id);
    return peer;
  }

 private:
  const PinnedPeer* find(const PeerId& id) const {
    const std::span<const PinnedPeer> peers(pinned_->peers.data(),
                                            std::min(pinned_->peers.size(), kMaxPinned));
    for (const PinnedPeer& peer : peers)
      if (peer.id == id) return &peer;
    return nullptr;
  }
  std::shared_ptr<const PinnedPeers> pinned_;
};

class IssuerPinPolicy final : public VerifyPolicy {
 public:
  explicit IssuerPinPolicy(ByteView pin) : pin_(to_bytes(pin)) {}

  // Validity is not judged: a joiner's clock may be anything, and the pin is fresh.
  VerifyOutcome verify(const VerifyRequest& request) const override {
    auto parsed = parse_chain(request.chain);
    if (auto* problem = std::get_if<Rejection>(&parsed)) return std::move(*problem);
    const auto& chain = std::get<std::vector<Certificate>>(parsed);
    for (std::size_t i = 0; i < chain.size(); ++i) {
      if (i > 0 && (!chain[i].may_sign_certificates || !chain[i - 1].is_signed_by(chain[i].key))) break;
      if (std::equal(pin_.begin(), pin_.end(), chain[i].id.bytes.begin()))
        return describe_leaf(chain.front(), request.now);
    }
    return reject(
        TlsAlert::unknown_ca,
        fmt::format("{} is not the node that the code names; is the code for another network, or does "
                    "something stand between?",
                    chain.front().describe()));
  }

 private:
  Bytes pin_;
};

class GuestPolicy final : public VerifyPolicy {
 public:
  VerifyOutcome verify(const VerifyRequest&) const override { return VerifiedPeer{}; }
};

}  // namespace

std::shared_ptr<const VerifyPolicy> make_network_policy(std::shared_ptr<const NetworkTrust> trust) {
  ensure(trust != nullptr);
  return std::make_shared<NetworkPolicy>(std::move(trust));
}

std::shared_ptr<const VerifyPolicy> make_pinned_policy(std::shared_ptr<const PinnedPeers> pinned) {
  ensure(pinned != nullptr);
  return std::make_shared<PinnedPolicy>(std::move(pinned));
}

std::shared_ptr<const VerifyPolicy> make_issuer_pin_policy(ByteView pin) {
  ensure(pin.size() >= 16 && pin.size() <= kPeerIdSize);
  return std::make_shared<IssuerPinPolicy>(pin);
}

std::shared_ptr<const VerifyPolicy> make_guest_policy() {
  return std::make_shared<GuestPolicy>();
}

}  // namespace ravine::identity
