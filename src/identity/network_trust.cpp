#include "identity/network_trust.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "identity/time_text.h"

namespace ravine::identity {
namespace {

// 8192 digests are about 0.5 MiB: enough that a re-check of thousands of sessions verifies nothing twice.
constexpr std::size_t kMaxVerified = 8192;

// Devices without a battery-backed clock wake up in the past, so this is wide; it keeps absurd times out of
// clock floors.
constexpr std::chrono::seconds kMaxFutureList = std::chrono::days(400);

Rejection reject(TlsAlert alert, std::string reason) {
  return {alert, std::move(reason)};
}

NetworkHash network_of(const Certificate& root) {
  return root.network.value_or(NetworkHash{root.id.bytes});
}

}  // namespace

std::string to_text(UnixTime at) {
  using namespace std::chrono;
  const sys_seconds moment{seconds(at.seconds)};
  const auto midnight = floor<days>(moment);
  const year_month_day date{midnight};
  const hh_mm_ss clock{moment - midnight};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::optional<Rejection> check_validity(const Certificate& certificate, UnixTime now,
                                        std::chrono::seconds grace, std::chrono::seconds skew) {
  if (now + skew < certificate.not_before)
    return reject(
        TlsAlert::certificate_expired,
        fmt::format("certificate {} is not yet valid: from {}, and it is {} here; is a clock wrong?",
                    certificate.describe(), to_text(certificate.not_before), to_text(now)));
  if (now > certificate.not_after + std::max(grace, skew))
    return reject(TlsAlert::certificate_expired,
                  fmt::format("certificate {} expired at {}, and it is {} here; it has to be renewed",
                              certificate.describe(), to_text(certificate.not_after), to_text(now)));
  return std::nullopt;
}

Result<std::shared_ptr<NetworkTrust>> NetworkTrust::make(std::vector<Certificate> roots,
                                                         NetworkTrustOptions options) {
  const auto invalid = [](std::string message) {
    return Error{ErrorKind::invalid_argument, std::move(message)};
  };
  if (roots.empty() || roots.size() > kMaxRoots)
    return invalid(fmt::format("network: {} root certificates, expected 1 to {}", roots.size(), kMaxRoots));
  std::shared_ptr<NetworkTrust> trust(new NetworkTrust);
  trust->network_ = network_of(roots.front());
  for (const Certificate& root : roots) {
    if (!root.may_sign_certificates || !root.is_self_signed())
      return invalid(fmt::format("network: {} is not a self-signed CA certificate", root.describe()));
    if (network_of(root) != trust->network_)
      return invalid(
          fmt::format("network: root {} belongs to another network than the first", root.describe()));
  }
  if (options.network_name.empty()) options.network_name = roots.front().name;
  trust->roots_ = std::move(roots);
  trust->options_ = std::move(options);
  return trust;
}

bool NetworkTrust::is_signed(const Certificate& certificate, const PublicKey& key) const {
  Bytes both = to_bytes(key.raw());
  both.insert(both.end(), certificate.der.begin(), certificate.der.end());
  const Digest digest = sha256(both);
  if (verified_.contains(digest)) return true;
  if (!certificate.is_signed_by(key)) return false;
  if (verified_.size() == kMaxVerified) verified_.clear();
  verified_.insert(digest);
  return true;
}

const Certificate* NetworkTrust::find_root(const Certificate& child) const {
  for (const Certificate& root : roots_) {
    if (root.subject != child.issuer) continue;
    const bool other_key = !child.authority_key_id.empty() && !root.subject_key_id.empty() &&
                           child.authority_key_id != root.subject_key_id;
    if (!other_key && is_signed(child, root.key)) return &root;
  }
  return nullptr;
}

std::optional<Rejection> NetworkTrust::check_one(const Certificate& certificate, UnixTime now) const {
  // Roots are listed by key alone: their serial is whatever their maker chose.
  const bool is_root = find_trusted(certificate) != nullptr;
  if (is_root ? revocations_.revokes_key(certificate.id) : revocations_.revokes(certificate))
    return reject(TlsAlert::certificate_revoked, fmt::format("certificate {} was revoked by list {}",
                                                             certificate.describe(), revocations_.number()));
  const auto grace = is_root ? std::chrono::seconds(0) : options_.grace;
  return check_validity(certificate, now, grace, options_.clock_skew);
}

const Certificate* NetworkTrust::find_trusted(const Certificate& certificate) const {
  for (const Certificate& root : roots_)
    if (root.der == certificate.der) return &root;
  return nullptr;
}

std::variant<const Certificate*, Rejection> NetworkTrust::find_anchor(std::span<const Certificate> chain,
                                                                      UnixTime now) const {
  if (chain.empty()) return reject(TlsAlert::certificate_required, "no certificate was shown");
  if (chain.size() > kMaxChain)
    return reject(TlsAlert::bad_certificate,
                  fmt::format("more than {} certificates in the chain", kMaxChain));
  for (std::size_t i = 0; i < chain.size(); ++i) {
    const Certificate& certificate = chain[i];
    if (i > 0 && !certificate.may_sign_certificates)
      return reject(TlsAlert::bad_certificate,
                    fmt::format("certificate {} signed another, but is not a CA", certificate.describe()));
    if (i > 0 && certificate.path_length && *certificate.path_length < i - 1)
      return reject(
          TlsAlert::bad_certificate,
          fmt::format("the chain below CA {} is longer than that CA allows", certificate.describe()));
    if (auto problem = check_one(certificate, now)) return std::move(*problem);
    if (const Certificate* root = find_trusted(certificate)) return root;
    if (const Certificate* root = find_root(certificate)) {
      if (root->path_length && *root->path_length < i)
        return reject(TlsAlert::bad_certificate, "the chain is longer than its root allows");
      if (auto problem = check_one(*root, now)) return std::move(*problem);
      return root;
    }
    if (i + 1 == chain.size()) break;
    if (certificate.issuer != chain[i + 1].subject || !is_signed(certificate, chain[i + 1].key))
      return reject(TlsAlert::bad_certificate,
                    fmt::format("certificate {} is not signed by {}, which follows it",
                                certificate.describe(), chain[i + 1].describe()));
  }
  return reject(TlsAlert::unknown_ca,
                fmt::format("certificate {} does not lead to a root of network \"{}\"; is the "
                            "peer in another network?",
                            chain.back().describe(), options_.network_name));
}

std::optional<Rejection> NetworkTrust::check_chain(std::span<const Certificate> chain, UnixTime now) const {
  auto outcome = find_anchor(chain, now);
  if (auto* problem = std::get_if<Rejection>(&outcome)) return std::move(*problem);
  return std::nullopt;
}

std::size_t NetworkTrust::root_index(const PeerId& key) const {
  const auto at =
      std::find_if(roots_.begin(), roots_.end(), [&](const Certificate& root) { return root.id == key; });
  return static_cast<std::size_t>(at - roots_.begin());
}

Result<bool> NetworkTrust::accept_revocation(ByteView encoded, UnixTime now) {
  if (encoded.size() == revocations_.encoded().size() &&
      std::equal(encoded.begin(), encoded.end(), revocations_.encoded().begin()))
    return false;
  Result<RevocationList> list = RevocationList::decode(encoded);
  if (!list) return list.error();
  const auto refuse = [](std::string reason) {
    return Error{ErrorKind::unauthenticated, fmt::format("revocation list refused: {}", reason)};
  };
  if (list->network() != network_) return refuse("it is of another network");
  const std::vector<Certificate>& signers = list->signer_chain();
  if (!signers.front().may_sign_certificates) return refuse("its signer is not a CA");
  if (list->issued_at() > now + kMaxFutureList)
    return refuse("it was issued more than a year from now; whose clock is wrong?");
  // The signer had to be good when it signed: a list must not lose its force because its signer has expired
  // since.
  const auto anchor = find_anchor(signers, list->issued_at());
  if (const auto* problem = std::get_if<Rejection>(&anchor)) return refuse(problem->reason);
  if (!list->has_valid_signature()) return refuse("its signature is not by the certificate that it names");
  for (const Certificate& signer : signers)
    if (list->revokes_key(signer.id)) return refuse("it revokes its own signer");
  // A stolen old root must not remove its successor.
  const std::size_t rank = root_index(std::get<const Certificate*>(anchor)->id);
  for (std::size_t i = rank; i < roots_.size(); ++i)
    if (list->revokes_key(roots_[i].id)) return refuse("an older root cannot revoke itself or a newer one");
  const bool by_root = root_index(signers.front().id) < roots_.size();
  const bool against_signer = by_root && !revocations_.signer_chain().empty() &&
                              list->revokes_key(revocations_.signer_chain().front().id);
  if (list->number() <= revocations_.number() && !against_signer) return false;
  revocations_ = std::move(*list);
  return true;
}

Result<bool> NetworkTrust::adopt_root(const Certificate& root, const Certificate& cross, UnixTime now) {
  if (find_trusted(root) != nullptr) return false;
  const auto refuse = [&](std::string_view reason) {
    return Error{ErrorKind::unauthenticated, fmt::format("new root {} refused: {}", root.describe(), reason)};
  };
  if (roots_.size() == kMaxRoots) return refuse("too many roots; drop an old one");
  if (!root.may_sign_certificates || !root.is_self_signed())
    return refuse("it is not a self-signed CA certificate");
  if (root.network != network_ || cross.network != network_)
    return refuse("it does not name this network's hash");
  if (cross.key != root.key || cross.subject != root.subject || !cross.may_sign_certificates)
    return refuse("the cross certificate is not of the same key and name");
  if (root_index(root.id) != roots_.size())
    return refuse("its key is already trusted under another certificate");
  const Certificate* old_root = find_root(cross);
  if (old_root == nullptr) return refuse("no root that is trusted now has signed it");
  // A dead old root may still have handed over while it lived: the cross certificate's own validity decides.
  if (auto problem = check_one(cross, now)) return refuse(problem->reason);
  if (revocations_.revokes_key(old_root->id)) return refuse("the root that signed it was revoked");
  if (auto problem = check_validity(root, now, std::chrono::seconds(0), options_.clock_skew))
    return refuse(problem->reason);
  roots_.push_back(root);
  return true;
}

Result<> NetworkTrust::drop_root(const PeerId& root) {
  const std::size_t index = root_index(root);
  if (index == roots_.size())
    return Error{ErrorKind::not_found, fmt::format("no trusted root has the key {}", root.to_text())};
  if (roots_.size() == 1) return Error{ErrorKind::refused, "the last root of a network cannot be dropped"};
  roots_.erase(roots_.begin() + static_cast<std::ptrdiff_t>(index));
  verified_.clear();
  return {};
}

}  // namespace ravine::identity
