#include <gtest/gtest.h>

#include "identity/openssl_fixture.h"
#include "identity/test_network.h"

namespace ravine::identity {
namespace {

std::vector<Certificate> read(std::string_view pem) {
  return take(Certificate::parse_pem(pem));
}

// A leaf of the test network with one thing wrong.
template <class Change>
std::vector<Bytes> chain_with(TestNetwork& network, Change change) {
  const PrivateKey key = PrivateKey::generate(network.random);
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(network.random);
  wanted.common_name = "web";
  wanted.issuer = network.intermediate.certificate.subject;
  wanted.issuer_key = network.intermediate.key.public_key();
  wanted.not_before = kTestNow;
  wanted.not_after = kTestNow + 30 * kDay;
  wanted.overlay = overlay_address(network.trust->network(), key.id());
  change(wanted);
  return {sign_certificate(wanted, network.intermediate.key).der, network.intermediate.certificate.der};
}

TEST(NetworkPolicy, accepts_a_member_and_says_who_it_is) {
  TestNetwork network;
  const Member web = network.member("web", {"ops"});
  const VerifyOutcome outcome = network.verify(web.der());
  const VerifiedPeer* peer = accepted(outcome);
  ASSERT_NE(peer, nullptr);
  EXPECT_EQ(peer->id, web.key.id());
  EXPECT_EQ(peer->name, "web");
  EXPECT_EQ(peer->groups, std::vector<std::string>{"ops"});
  EXPECT_EQ(peer->overlay, overlay_address(network.trust->network(), web.key.id()));
  EXPECT_EQ(peer->not_after, kTestNow + kLeafLifetime);
  EXPECT_FALSE(peer->in_grace);
}

TEST(NetworkPolicy, accepts_a_network_that_openssl_made) {
  const auto trust = take(NetworkTrust::make(read(fixture::kRoot)));
  EXPECT_EQ(trust->network_name(), "home");
  EXPECT_EQ(encode_hex(trust->network().view()), fixture::kRootHash);
  const std::vector<Bytes> chain{read(fixture::kLeaf)[0].der, read(fixture::kIntermediate)[0].der};
  const auto policy = make_network_policy(trust);
  const VerifyOutcome outcome = policy->verify({chain, fixture::kNotBefore + kDay});
  const VerifiedPeer* peer = accepted(outcome);
  ASSERT_NE(peer, nullptr);
  EXPECT_EQ(peer->name, "web");
  EXPECT_EQ(peer->groups, (std::vector<std::string>{"ops", "web"}));
}

TEST(NetworkPolicy, accepts_certificates_by_the_root_itself_and_a_root_in_the_chain) {
  TestNetwork network;
  Authority by_root = take(Authority::open(
      {network.root.key.clone(), {network.root.certificate}, network.trust, {}}, {}, kTestNow));
  const PrivateKey key = PrivateKey::generate(network.random);
  const auto chain =
      take(by_root.issue(make_signing_request(key, ""), {.name = "db"}, kTestNow, network.random));
  EXPECT_EQ(chain.size(), 1u);
  accepted(network.verify(to_der(chain)));
  accepted(network.verify({chain[0].der, network.root.certificate.der}));
}

TEST(NetworkPolicy, rejects_missing_malformed_and_endless_chains) {
  TestNetwork network;
  expect_rejected(network.verify({}), TlsAlert::certificate_required, "no certificate");
  expect_rejected(network.verify({Bytes{1, 2, 3}}), TlsAlert::bad_certificate, "DER");
  const Member web = network.member("web");
  expect_rejected(network.verify(std::vector<Bytes>(kMaxChain + 1, web.der()[0])), TlsAlert::bad_certificate,
                  "more than 8");
}

TEST(NetworkPolicy, rejects_another_networks_member) {
  TestNetwork ours(1), theirs(2);
  expect_rejected(ours.verify(theirs.member("web").der()), TlsAlert::unknown_ca, "does not lead to a root");
  // Same names, other keys.
  const Member web = ours.member("web");
  expect_rejected(ours.verify({web.der()[0]}), TlsAlert::unknown_ca, "does not lead to a root");
  expect_rejected(ours.verify({web.der()[0], theirs.intermediate.certificate.der}), TlsAlert::bad_certificate,
                  "not signed by");
}

TEST(NetworkPolicy, rejects_too_early_and_too_late_and_grants_grace) {
  TestNetwork network;
  const std::vector<Bytes> web = network.member("web").der();
  accepted(network.verify(web, kTestNow - std::chrono::minutes(10)));
  expect_rejected(network.verify(web, kTestNow - std::chrono::minutes(11)), TlsAlert::certificate_expired,
                  "not yet valid");
  const UnixTime end = kTestNow + kLeafLifetime;
  const VerifyOutcome at_end = network.verify(web, end),
                      after = network.verify(web, end + std::chrono::seconds(1));
  EXPECT_FALSE(accepted(at_end)->in_grace);
  EXPECT_TRUE(accepted(after)->in_grace);
  EXPECT_TRUE(accepted(network.verify(web, end + kGrace))->in_grace);
  expect_rejected(network.verify(web, end + kGrace + std::chrono::seconds(1)), TlsAlert::certificate_expired,
                  "expired at");
}

TEST(NetworkPolicy, grace_is_the_networks_choice) {
  TestNetwork strict(1, {.grace = std::chrono::seconds(0)});
  const std::vector<Bytes> web = strict.member("web").der();
  const UnixTime end = kTestNow + kLeafLifetime;
  accepted(strict.verify(web, end + kClockSkew));
  expect_rejected(strict.verify(web, end + kClockSkew + std::chrono::seconds(1)),
                  TlsAlert::certificate_expired, "expired");
}

TEST(NetworkPolicy, rejects_everything_under_a_dead_root) {
  TestNetwork network;
  Authority by_root = take(Authority::open(
      {network.root.key.clone(), {network.root.certificate}, network.trust, {}}, {}, kTestNow));
  const UnixTime end = network.root.certificate.not_after;
  const PrivateKey key = PrivateKey::generate(network.random);
  const auto chain =
      take(by_root.issue(make_signing_request(key, ""), {.name = "db"}, end - kDay, network.random));
  EXPECT_EQ(chain[0].not_after, end);  // cut to the issuer's end
  accepted(network.verify(to_der(chain), end));
  expect_rejected(network.verify(to_der(chain), end + kDay), TlsAlert::certificate_expired, "home");
}

TEST(NetworkPolicy, rejects_another_peer_than_expected) {
  TestNetwork network;
  const Member web = network.member("web"), db = network.member("db");
  accepted(network.verify(web.der(), kTestNow, web.key.id()));
  expect_rejected(network.verify(web.der(), kTestNow, db.key.id()), TlsAlert::certificate_unknown,
                  "was expected");
}

TEST(NetworkPolicy, rejects_an_address_that_is_not_the_keys) {
  TestNetwork network;
  accepted(network.verify(chain_with(network, [](auto&) {})));
  const IpAddress stolen = overlay_address(network.trust->network(), network.member("db").key.id());
  expect_rejected(network.verify(chain_with(network, [&](auto& leaf) { leaf.overlay = stolen; })),
                  TlsAlert::bad_certificate, "overlay address");
  expect_rejected(network.verify(chain_with(network, [](auto& leaf) { leaf.overlay.reset(); })),
                  TlsAlert::bad_certificate, "(none)");
  const auto other_network = [](auto& leaf) { leaf.overlay = overlay_address(NetworkHash{}, leaf.key.id()); };
  expect_rejected(network.verify(chain_with(network, other_network)), TlsAlert::bad_certificate,
                  "overlay address");
}

TEST(NetworkPolicy, rejects_a_name_that_is_none) {
  TestNetwork network;
  for (const char* name : {"Web Server", "abcdefghijklmnop", ""})
    expect_rejected(network.verify(chain_with(network, [&](auto& leaf) { leaf.common_name = name; })),
                    TlsAlert::bad_certificate, "no valid node name");
}

TEST(NetworkPolicy, rejects_a_ca_as_a_node_and_a_member_as_a_ca) {
  TestNetwork network;
  expect_rejected(network.verify({network.intermediate.certificate.der}), TlsAlert::bad_certificate, "CA");
  const Member web = network.member("web");
  const PrivateKey key = PrivateKey::generate(network.random);
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(network.random);
  wanted.common_name = "evil";
  wanted.issuer = web.chain[0].subject;
  wanted.issuer_key = web.key.public_key();
  wanted.not_before = kTestNow;
  wanted.not_after = kTestNow + kDay;
  wanted.overlay = overlay_address(network.trust->network(), key.id());
  const Certificate evil = sign_certificate(wanted, web.key);
  expect_rejected(network.verify({evil.der, web.chain[0].der, web.chain[1].der}), TlsAlert::bad_certificate,
                  "not a CA");
}

TEST(NetworkPolicy, rejects_a_ca_below_an_intermediate) {
  TestNetwork network;
  auto sub = take(make_intermediate(network.intermediate.key, network.intermediate.certificate, kTestNow,
                                    network.random));
  const PrivateKey key = PrivateKey::generate(network.random);
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(network.random);
  wanted.common_name = "web";
  wanted.issuer = sub.certificate.subject;
  wanted.issuer_key = sub.key.public_key();
  wanted.not_before = kTestNow;
  wanted.not_after = kTestNow + kDay;
  wanted.overlay = overlay_address(network.trust->network(), key.id());
  expect_rejected(network.verify({sign_certificate(wanted, sub.key).der, sub.certificate.der,
                                  network.intermediate.certificate.der}),
                  TlsAlert::bad_certificate, "longer than");
}

TEST(NetworkTrust, takes_only_self_signed_roots_of_one_network) {
  TestNetwork a(1), b(2);
  expect_error(NetworkTrust::make({}), ErrorKind::invalid_argument, "0 root");
  expect_error(NetworkTrust::make({a.intermediate.certificate}), ErrorKind::invalid_argument,
               "not a self-signed CA");
  expect_error(NetworkTrust::make({a.root.certificate, b.root.certificate}), ErrorKind::invalid_argument,
               "another network");
}

struct Pinned {
  explicit Pinned(std::uint64_t seed = 5) : random(seed) {
    peers = std::make_shared<PinnedPeers>();
    policy = make_pinned_policy(peers);
  }
  Member make(std::string_view name) {
    PrivateKey key = PrivateKey::generate(random);
    std::vector<Certificate> chain{make_pinned_certificate(key, name, kTestNow, random)};
    return {std::move(key), std::move(chain)};
  }
  void rotate(Member& member) {
    PrivateKey next = PrivateKey::generate(random);
    member.chain = take(rotate_pinned_key(member.key, member.chain, next, kTestNow, random));
    member.key = std::move(next);
  }
  VerifyOutcome verify(const Member& member, std::optional<PeerId> expected = std::nullopt) const {
    const std::vector<Bytes> chain = member.der();
    return policy->verify({chain, kTestNow, false, expected});
  }
  SeededRandom random;
  std::shared_ptr<PinnedPeers> peers;
  std::shared_ptr<const VerifyPolicy> policy;
};

TEST(PinnedPolicy, accepts_pinned_keys_alone_under_our_own_names) {
  Pinned pinned;
  const Member web = pinned.make("their-name"), other = pinned.make("other");
  pinned.peers->peers.push_back({web.key.id(), "web", {"ops"}});
  const VerifyOutcome outcome = pinned.verify(web);
  const VerifiedPeer* peer = accepted(outcome);
  ASSERT_NE(peer, nullptr);
  EXPECT_EQ(peer->name, "web");
  EXPECT_EQ(peer->groups, std::vector<std::string>{"ops"});
  EXPECT_EQ(peer->overlay, overlay_address(NetworkHash{}, web.key.id()));
  expect_rejected(pinned.verify(other), TlsAlert::access_denied, "not pinned");
  expect_rejected(pinned.policy->verify({}), TlsAlert::certificate_required, "no certificate");
}

TEST(PinnedPolicy, follows_a_rotated_key_back_to_the_pinned_one) {
  Pinned pinned;
  Member web = pinned.make("web");
  const PeerId first = web.key.id();
  pinned.peers->peers.push_back({first, "web", {}});
  for (std::size_t i = 1; i < kMaxChain; ++i) {
    pinned.rotate(web);
    const VerifyOutcome outcome = pinned.verify(web, first);
    const VerifiedPeer* peer = accepted(outcome);
    ASSERT_NE(peer, nullptr);
    EXPECT_EQ(peer->id, web.key.id());
    EXPECT_EQ(peer->name, "web");
    EXPECT_EQ(peer->former_ids.size(), i);
    EXPECT_EQ(peer->former_ids.back(), first);
  }
  pinned.rotate(web);  // the ninth certificate falls off, and with it the pinned key
  expect_rejected(pinned.verify(web), TlsAlert::access_denied, "not pinned");
}

TEST(PinnedPolicy, rejects_a_chain_with_a_forged_link) {
  Pinned pinned;
  const Member web = pinned.make("web");
  pinned.peers->peers.push_back({web.key.id(), "web", {}});
  Member thief = pinned.make("web");
  thief.chain.push_back(web.chain[0]);
  expect_rejected(pinned.verify(thief), TlsAlert::bad_certificate, "not signed by");
}

TEST(PinnedPolicy, rejects_another_pinned_peer_than_expected) {
  Pinned pinned;
  const Member web = pinned.make("web"), db = pinned.make("db");
  pinned.peers->peers.push_back({web.key.id(), "web", {}});
  pinned.peers->peers.push_back({db.key.id(), "db", {}});
  accepted(pinned.verify(db, db.key.id()));
  expect_rejected(pinned.verify(db, web.key.id()), TlsAlert::certificate_unknown, "was expected");
}

TEST(IssuerPinPolicy, accepts_the_pinned_key_as_leaf_or_above_it_and_nobody_else) {
  TestNetwork network;
  const Member node = network.member("node");
  const auto by_leaf = make_issuer_pin_policy(node.key.id().view().first(16));
  const auto by_issuer = make_issuer_pin_policy(network.intermediate.key.id().view());
  const std::vector<Bytes> chain = node.der(), other = TestNetwork(2).member("node").der();
  accepted(by_leaf->verify({chain, UnixTime{0}}));
  accepted(by_issuer->verify({chain, UnixTime{0}}));
  expect_rejected(by_leaf->verify({other, kTestNow}), TlsAlert::unknown_ca,
                  "not the node that the code names");
  const std::vector<Bytes> glued{other[0], network.intermediate.certificate.der};
  expect_rejected(by_issuer->verify({glued, kTestNow}), TlsAlert::unknown_ca,
                  "not the node that the code names");
}

}  // namespace
}  // namespace ravine::identity
