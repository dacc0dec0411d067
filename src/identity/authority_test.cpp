#include "identity/authority.h"

#include <gtest/gtest.h>

#include "identity/test_network.h"

namespace ravine::identity {
namespace {

Bytes request_of(const PrivateKey& key) {
  return make_signing_request(key, "");
}

TEST(Authority, lifetimes_are_those_of_the_design) {
  TestNetwork network;
  const Member web = network.member("web");
  EXPECT_EQ(web.chain[0].not_after - web.chain[0].not_before, 30 * kDay);
  EXPECT_EQ(renew_at(web.chain[0]), kTestNow + 20 * kDay);
  EXPECT_EQ(network.root.certificate.not_after - kTestNow, 3653 * kDay);
  EXPECT_EQ(kGrace, 60 * kDay);
}

TEST(Authority, refuses_a_name_in_use_until_its_holder_is_gone) {
  TestNetwork network;
  const Member web = network.member("web");
  const PrivateKey other = PrivateKey::generate(network.random);
  const auto try_at = [&](UnixTime now) {
    return network.authority.issue(request_of(other), {.name = "web"}, now, network.random);
  };
  expect_error(try_at(kTestNow), ErrorKind::already_exists, "belongs to peer " + web.key.id().to_text());
  expect_error(try_at(kTestNow + kLeafLifetime + kGrace), ErrorKind::already_exists, "belongs to peer");
  EXPECT_TRUE(try_at(kTestNow + kLeafLifetime + kGrace + kDay).ok());
}

TEST(Authority, refuses_two_names_for_one_key) {
  TestNetwork network;
  const Member web = network.member("web");
  expect_error(network.authority.issue(request_of(web.key), {.name = "db"}, kTestNow, network.random),
               ErrorKind::already_exists, "already has a certificate as \"web\"");
  EXPECT_TRUE(network.authority.issue(request_of(web.key), {.name = "web"}, kTestNow, network.random).ok());
  EXPECT_TRUE(network.authority.issued().front().superseded);
}

TEST(Authority, refuses_bad_names_groups_and_requests) {
  TestNetwork network;
  const PrivateKey key = PrivateKey::generate(network.random);
  const auto issue = [&](IssueOptions options) {
    return network.authority.issue(request_of(key), options, kTestNow, network.random);
  };
  expect_error(issue({.name = "Web"}), ErrorKind::invalid_argument, "\"Web\" is not a valid name");
  expect_error(issue({.name = "abcdefghijklmnop"}), ErrorKind::invalid_argument, "look like a peer ID");
  expect_error(issue({.name = "web", .groups = {"a b"}}), ErrorKind::invalid_argument, "\"a b\"");
  expect_error(issue({.name = "web", .groups = std::vector<std::string>(33, "a")}),
               ErrorKind::invalid_argument, "32 groups");
  expect_error(issue({.name = "web", .lifetime = std::chrono::seconds(1)}), ErrorKind::invalid_argument,
               "lifetime");
  Bytes forged = request_of(key);
  forged.back() ^= 1;
  expect_error(network.authority.issue(forged, {.name = "web"}, kTestNow, network.random),
               ErrorKind::unauthenticated, "not by the key");
  EXPECT_TRUE(network.authority.issued().empty());
}

TEST(Authority, renews_under_the_same_name_and_the_groups_of_the_register) {
  TestNetwork network;
  const Member web = network.member("web", {"ops"});
  EXPECT_TRUE(network.authority.set_groups("web", {"staff"}).ok());
  const UnixTime later = renew_at(web.chain[0]);
  const auto chain = take(network.authority.renew(web.chain[0], request_of(web.key), later, network.random));
  EXPECT_EQ(chain[0].name, "web");
  EXPECT_EQ(chain[0].groups, std::vector<std::string>{"staff"});
  EXPECT_EQ(chain[0].id, web.key.id());
  EXPECT_EQ(chain[0].not_after, later + kLeafLifetime);
  accepted(network.verify(to_der(chain), later));
}

TEST(Authority, renews_to_a_new_key_which_keeps_the_name) {
  TestNetwork network;
  const Member web = network.member("web"), db = network.member("db");
  const PrivateKey next = PrivateKey::generate(network.random);
  const auto chain = take(network.authority.renew(web.chain[0], request_of(next), kTestNow, network.random));
  EXPECT_EQ(chain[0].name, "web");
  EXPECT_EQ(chain[0].id, next.id());
  accepted(network.verify(to_der(chain)));
  EXPECT_EQ(network.authority.find_live("web", kTestNow)->id, next.id());
  // Not to somebody else's key.
  expect_error(network.authority.renew(chain[0], request_of(db.key), kTestNow, network.random),
               ErrorKind::already_exists, "\"db\"");
}

TEST(Authority, revokes_by_name_id_and_serial_and_the_members_policy_follows) {
  TestNetwork network;
  const Member a = network.member("a"), b = network.member("b"), c = network.member("c");
  EXPECT_EQ(take(network.authority.revoke("a", kTestNow)).number(), 1u);
  EXPECT_EQ(take(network.authority.revoke(b.key.id().to_text(), kTestNow)).number(), 2u);
  EXPECT_EQ(take(network.authority.revoke(serial_to_text(c.chain[0].serial), kTestNow)).number(), 3u);
  for (const Member* member : {&a, &b, &c})
    expect_rejected(network.verify(member->der()), TlsAlert::certificate_revoked, "revoked by list 3");
  expect_error(network.authority.revoke("a", kTestNow), ErrorKind::already_exists, "revoked before");
  expect_error(network.authority.revoke("nobody", kTestNow), ErrorKind::not_found, "\"nobody\"");
}

TEST(Authority, a_revoked_key_gets_nothing_more_and_its_name_is_free) {
  TestNetwork network;
  const Member web = network.member("web");
  EXPECT_TRUE(network.authority.revoke("web", kTestNow).ok());
  expect_error(network.authority.renew(web.chain[0], request_of(web.key), kTestNow, network.random),
               ErrorKind::refused, "revoked");
  expect_error(network.authority.issue(request_of(web.key), {.name = "other"}, kTestNow, network.random),
               ErrorKind::refused, "revoked");
  const PrivateKey fresh = PrivateKey::generate(network.random);
  EXPECT_TRUE(network.authority.issue(request_of(fresh), {.name = "web"}, kTestNow, network.random).ok());
}

TEST(Authority, an_older_certificate_of_a_rotated_key_is_revoked_with_the_name) {
  TestNetwork network;
  const Member web = network.member("web");
  const PrivateKey next = PrivateKey::generate(network.random);
  const auto chain = take(network.authority.renew(web.chain[0], request_of(next), kTestNow, network.random));
  EXPECT_EQ(take(network.authority.revoke("web", kTestNow)).size(), 2u);
  expect_rejected(network.verify(web.der()), TlsAlert::certificate_revoked, "revoked");
  expect_rejected(network.verify(to_der(chain)), TlsAlert::certificate_revoked, "revoked");
}

TEST(Authority, lists_forget_what_nobody_would_accept_any_more) {
  TestNetwork network;
  network.member("a");
  EXPECT_EQ(take(network.authority.revoke("a", kTestNow)).size(), 1u);
  const UnixTime later = kTestNow + kLeafLifetime + kGrace + kDay;
  network.member("b", {}, later);
  const RevocationList next = take(network.authority.revoke("b", later));
  EXPECT_EQ(next.number(), 2u);
  EXPECT_EQ(next.size(), 1u);
  EXPECT_EQ(network.authority.issued().size(), 1u);
}

TEST(Authority, register_survives_storage_and_refuses_damage) {
  TestNetwork network;
  const Member web = network.member("web", {"ops"});
  network.member("db");
  EXPECT_TRUE(network.authority.revoke("db", kTestNow).ok());
  const Bytes stored = network.authority.encode_register();
  const auto open = [&](ByteView bytes) {
    return Authority::open(
        {network.intermediate.key.clone(), {network.intermediate.certificate}, network.trust, {}}, bytes,
        kTestNow);
  };
  const Authority again = take(open(stored));
  EXPECT_EQ(again.encode_register(), stored);
  EXPECT_EQ(again.find_live("web", kTestNow)->groups, std::vector<std::string>{"ops"});
  EXPECT_EQ(again.find_live("db", kTestNow), nullptr);
  expect_error(open(ByteView(stored).first(stored.size() - 1)), ErrorKind::invalid_argument, "damaged");
  for (std::size_t size = 0; size < stored.size(); ++size) (void)open(ByteView(stored).first(size)).ok();
}

TEST(Authority, refuses_to_open_with_parts_of_two_networks) {
  TestNetwork a(1), b(2);
  expect_error(
      Authority::open({a.intermediate.key.clone(), {b.intermediate.certificate}, b.trust, {}}, {}, kTestNow),
      ErrorKind::invalid_argument, "not a CA certificate of the issuer's key");
  expect_error(
      Authority::open({a.intermediate.key.clone(), {a.intermediate.certificate}, b.trust, {}}, {}, kTestNow),
      ErrorKind::unauthenticated, "does not lead to a root");
  Member web = a.member("web");
  expect_error(Authority::open({std::move(web.key), web.chain, a.trust, {}}, {}, kTestNow),
               ErrorKind::invalid_argument, "not a CA");
}

TEST(Authority, does_not_sign_before_or_after_its_own_time) {
  TestNetwork network;
  const PrivateKey key = PrivateKey::generate(network.random);
  const UnixTime after = network.intermediate.certificate.not_after + kDay;
  expect_error(network.authority.issue(request_of(key), {.name = "web"}, after, network.random),
               ErrorKind::refused, "issuer's own");
  expect_error(network.authority.issue(request_of(key), {.name = "web"}, kTestNow - kDay, network.random),
               ErrorKind::refused, "issuer's own");
  expect_error(network.authority.revoke_certificate(network.intermediate.certificate, kTestNow),
               ErrorKind::refused, "itself");
}

// --- root replacement

struct Succession {
  explicit Succession(TestNetwork& network)
      : next(take(replace_root(network.root.key, network.root.certificate, network.trust->network(), kTestNow,
                               network.random))),
        issuer(take(make_intermediate(next.root.key, next.root.certificate, kTestNow, network.random))) {}
  RootSuccession next;
  CertifiedKey issuer;
};

TEST(RootReplacement, members_of_the_old_root_accept_the_new_one_by_its_cross_certificate) {
  TestNetwork network;
  Succession succession(network);
  const Member old_member = network.member("old");
  EXPECT_TRUE(
      take(network.trust->adopt_root(succession.next.root.certificate, succession.next.cross, kTestNow)));
  Authority authority = take(Authority::open({succession.issuer.key.clone(),
                                              {succession.issuer.certificate},
                                              network.trust,
                                              {succession.next.cross}},
                                             {}, kTestNow));
  const PrivateKey key = PrivateKey::generate(network.random);
  const auto chain = take(authority.issue(request_of(key), {.name = "new"}, kTestNow, network.random));
  ASSERT_EQ(chain.size(), 3u);  // leaf, issuer, cross
  // A member that has not heard of the new root.
  const auto behind = take(NetworkTrust::make({network.root.certificate}));
  const std::vector<Bytes> shown = to_der(chain);
  const VerifyOutcome outcome = make_network_policy(behind)->verify({shown, kTestNow});
  const VerifiedPeer* peer = accepted(outcome);
  ASSERT_NE(peer, nullptr);
  // The overlay prefix stays.
  EXPECT_EQ(peer->overlay, overlay_address(network.trust->network(), key.id()));
  EXPECT_TRUE(is_overlay_of(NetworkHash{network.root.certificate.id.bytes}, peer->overlay));
  // One that has dropped the old root takes the new and no longer the old.
  EXPECT_TRUE(network.trust->drop_root(network.root.certificate.id).ok());
  accepted(network.verify(shown));
  expect_rejected(network.verify(old_member.der()), TlsAlert::unknown_ca, "does not lead to a root");
  expect_error(network.trust->drop_root(succession.next.root.certificate.id), ErrorKind::refused,
               "last root");
}

TEST(RootReplacement, a_fresh_trust_of_the_new_root_alone_knows_the_network) {
  TestNetwork network;
  Succession succession(network);
  const auto fresh = take(NetworkTrust::make({succession.next.root.certificate}));
  EXPECT_EQ(fresh->network(), network.trust->network());
  const auto third = take(replace_root(succession.next.root.key, succession.next.root.certificate,
                                       fresh->network(), kTestNow, network.random));
  EXPECT_TRUE(take(fresh->adopt_root(third.root.certificate, third.cross, kTestNow)));
  EXPECT_FALSE(take(fresh->adopt_root(third.root.certificate, third.cross, kTestNow)));
}

TEST(RootReplacement, refuses_a_root_that_no_trusted_root_signed) {
  TestNetwork network(1), other(2);
  Succession theirs(other), ours(network);
  expect_error(network.trust->adopt_root(theirs.next.root.certificate, theirs.next.cross, kTestNow),
               ErrorKind::unauthenticated, "network's hash");
  // A forger may write our network's hash, but not our root's signature.
  const auto forged = take(
      replace_root(other.root.key, other.root.certificate, other.trust->network(), kTestNow, other.random));
  expect_error(network.trust->adopt_root(ours.next.root.certificate, forged.cross, kTestNow),
               ErrorKind::unauthenticated, "refused");
  expect_error(network.trust->adopt_root(ours.next.root.certificate, ours.next.root.certificate, kTestNow),
               ErrorKind::unauthenticated, "no root that is trusted");
  EXPECT_EQ(network.trust->roots().size(), 1u);
}

TEST(RootReplacement, a_stolen_old_root_cannot_revoke_its_successor_but_is_revoked_by_it) {
  TestNetwork network;
  Succession succession(network);
  const Certificate& next = succession.next.root.certificate;
  EXPECT_TRUE(take(network.trust->adopt_root(next, succession.next.cross, kTestNow)));
  const std::vector<Certificate> old_chain{network.root.certificate}, new_chain{next};
  const auto by_old = take(RevocationList::sign(1, kTestNow, network.trust->network(),
                                                {{next.id, next.serial}}, network.root.key, old_chain));
  expect_error(network.trust->accept_revocation(by_old.encoded(), kTestNow), ErrorKind::unauthenticated,
               "older root");
  const Member old_member = network.member("old");
  const Certificate& old = network.root.certificate;
  const auto by_new = take(RevocationList::sign(1, kTestNow, network.trust->network(), {{old.id, old.serial}},
                                                succession.next.root.key, new_chain));
  EXPECT_TRUE(take(network.trust->accept_revocation(by_new.encoded(), kTestNow)));
  expect_rejected(network.verify(old_member.der()), TlsAlert::certificate_revoked, "\"home\"");
  const auto third =
      take(replace_root(network.root.key, old, network.trust->network(), kTestNow, network.random));
  expect_error(network.trust->adopt_root(third.root.certificate, third.cross, kTestNow),
               ErrorKind::unauthenticated, "was revoked");
}

}  // namespace
}  // namespace ravine::identity
