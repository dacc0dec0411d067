// A CA network in memory, for the tests of this folder.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "identity/authority.h"
#include "identity/network_trust.h"

namespace ravine::identity {

inline constexpr UnixTime kTestNow{1'800'000'000};  // 2027-01-15
inline constexpr std::chrono::seconds kDay = std::chrono::days(1);

// The value, or a test failure with the error's words.
template <class T>
T take(Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.error().message;
    std::abort();
  }
  return std::move(result).value();
}

struct Member {
  PrivateKey key;
  std::vector<Certificate> chain;
  std::vector<Bytes> der() const { return to_der(chain); }
};

struct TestNetwork {
  explicit TestNetwork(std::uint64_t seed = 1, NetworkTrustOptions options = {})
      : random(seed),
        root(take(make_root("home", kTestNow, random))),
        intermediate(take(make_intermediate(root.key, root.certificate, kTestNow, random))),
        trust(take(NetworkTrust::make({root.certificate}, options))),
        authority(take(Authority::open({intermediate.key.clone(), {intermediate.certificate}, trust, {}}, {},
                                       kTestNow))),
        policy(make_network_policy(trust)) {}

  Member member(std::string name, std::vector<std::string> groups = {}, UnixTime now = kTestNow) {
    PrivateKey key = PrivateKey::generate(random);
    auto chain =
        take(authority.issue(make_signing_request(key, name), {.name = name, .groups = groups}, now, random));
    return {std::move(key), std::move(chain)};
  }
  VerifyOutcome verify(const std::vector<Bytes>& chain, UnixTime now = kTestNow,
                       std::optional<PeerId> expected = std::nullopt) const {
    return policy->verify({chain, now, false, expected});
  }

  SeededRandom random;
  CertifiedKey root, intermediate;
  std::shared_ptr<NetworkTrust> trust;
  Authority authority;
  std::shared_ptr<const VerifyPolicy> policy;
};

inline const VerifiedPeer* accepted(const VerifyOutcome& outcome) {
  if (const auto* rejection = std::get_if<Rejection>(&outcome))
    ADD_FAILURE() << "rejected: " << rejection->reason;
  return std::get_if<VerifiedPeer>(&outcome);
}

// The alert of a rejection, and that its reason holds `words`.
inline void expect_rejected(const VerifyOutcome& outcome, TlsAlert alert, std::string_view words) {
  const auto* rejection = std::get_if<Rejection>(&outcome);
  ASSERT_NE(rejection, nullptr) << "accepted, but expected a rejection about: " << words;
  EXPECT_EQ(rejection->alert, alert) << rejection->reason;
  EXPECT_NE(rejection->reason.find(words), std::string::npos) << rejection->reason;
}

template <class T>
void expect_error(const Result<T>& result, ErrorKind kind, std::string_view words) {
  ASSERT_FALSE(result.ok()) << "expected an error about: " << words;
  EXPECT_EQ(result.error().kind, kind) << result.error().message;
  EXPECT_NE(result.error().message.find(words), std::string::npos) << result.error().message;
}

}  // namespace ravine::identity
