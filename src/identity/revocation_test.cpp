#include "identity/revocation.h"

#include <gtest/gtest.h>

#include "identity/test_network.h"

namespace ravine::identity {
namespace {

RevocationList list_of(TestNetwork& network, std::uint64_t number, std::vector<RevokedEntry> entries,
                       const CertifiedKey* signer = nullptr) {
  const CertifiedKey& by = signer != nullptr ? *signer : network.intermediate;
  const std::vector<Certificate> chain{by.certificate};
  return take(
      RevocationList::sign(number, kTestNow, network.trust->network(), std::move(entries), by.key, chain));
}

RevokedEntry entry_of(const Certificate& certificate) {
  return {certificate.id, certificate.serial};
}

TEST(Revocation, takes_effect_on_the_next_verification) {
  TestNetwork network;
  const Member web = network.member("web"), db = network.member("db");
  accepted(network.verify(web.der()));
  EXPECT_TRUE(take(
      network.trust->accept_revocation(list_of(network, 1, {entry_of(web.chain[0])}).encoded(), kTestNow)));
  expect_rejected(network.verify(web.der()), TlsAlert::certificate_revoked, "revoked by list 1");
  accepted(network.verify(db.der()));
}

TEST(Revocation, holds_by_key_alone_and_by_serial_alone) {
  TestNetwork network;
  const Member web = network.member("web"), db = network.member("db");
  const std::vector<RevokedEntry> entries{{web.key.id(), Bytes{1}}, {PeerId{}, db.chain[0].serial}};
  EXPECT_TRUE(take(network.trust->accept_revocation(list_of(network, 1, entries).encoded(), kTestNow)));
  expect_rejected(network.verify(web.der()), TlsAlert::certificate_revoked, "revoked");
  expect_rejected(network.verify(db.der()), TlsAlert::certificate_revoked, "revoked");
}

TEST(Revocation, another_certificate_for_the_same_key_does_not_escape) {
  TestNetwork network;
  const Member web = network.member("web");
  const auto again = take(
      network.authority.renew(web.chain[0], make_signing_request(web.key, "web"), kTestNow, network.random));
  ASSERT_NE(again[0].serial, web.chain[0].serial);
  EXPECT_TRUE(take(
      network.trust->accept_revocation(list_of(network, 1, {entry_of(web.chain[0])}).encoded(), kTestNow)));
  expect_rejected(network.verify(to_der(again)), TlsAlert::certificate_revoked, "revoked");
}

TEST(Revocation, never_goes_back) {
  TestNetwork network;
  const Member web = network.member("web");
  const Bytes newer = list_of(network, 5, {entry_of(web.chain[0])}).encoded();
  EXPECT_TRUE(take(network.trust->accept_revocation(newer, kTestNow)));
  EXPECT_FALSE(take(network.trust->accept_revocation(newer, kTestNow)));
  EXPECT_FALSE(take(network.trust->accept_revocation(list_of(network, 4, {}).encoded(), kTestNow)));
  EXPECT_FALSE(take(network.trust->accept_revocation(list_of(network, 5, {}).encoded(), kTestNow)));
  EXPECT_EQ(network.trust->revocations().number(), 5u);
  expect_rejected(network.verify(web.der()), TlsAlert::certificate_revoked, "list 5");
}

TEST(Revocation, is_taken_from_cas_of_this_network_alone) {
  TestNetwork network(1), other(2);
  Member web = network.member("web");
  const CertifiedKey member{std::move(web.key), web.chain[0]};
  const std::vector<Certificate> chain = web.chain;
  const RevocationList by_member =
      take(RevocationList::sign(1, kTestNow, network.trust->network(), {}, member.key, chain));
  expect_error(network.trust->accept_revocation(by_member.encoded(), kTestNow), ErrorKind::unauthenticated,
               "not a CA");
  expect_error(network.trust->accept_revocation(list_of(other, 1, {}).encoded(), kTestNow),
               ErrorKind::unauthenticated, "another network");
  const std::vector<Certificate> their_chain{other.intermediate.certificate};
  const RevocationList forged = take(
      RevocationList::sign(1, kTestNow, network.trust->network(), {}, other.intermediate.key, their_chain));
  expect_error(network.trust->accept_revocation(forged.encoded(), kTestNow), ErrorKind::unauthenticated,
               "does not lead to a root");
  EXPECT_EQ(network.trust->revocations().number(), 0u);
}

TEST(Revocation, refuses_any_changed_byte_and_any_cut) {
  TestNetwork network;
  const Member web = network.member("web");
  const Bytes good = list_of(network, 1, {entry_of(web.chain[0])}).encoded();
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes changed = good;
    changed[i] = static_cast<std::uint8_t>(changed[i] ^ 1);
    EXPECT_FALSE(network.trust->accept_revocation(changed, kTestNow).ok()) << i;
    EXPECT_FALSE(RevocationList::decode(ByteView(good).first(i)).ok()) << i;
  }
  EXPECT_EQ(network.trust->revocations().number(), 0u);
  EXPECT_TRUE(take(network.trust->accept_revocation(good, kTestNow)));
}

TEST(Revocation, root_overrules_a_stolen_issuer_whatever_its_number) {
  TestNetwork network;
  const Member web = network.member("web");
  // The thief of the issuer's key locks everybody out with the highest number.
  EXPECT_TRUE(take(network.trust->accept_revocation(
      list_of(network, UINT64_MAX, {entry_of(web.chain[0])}).encoded(), kTestNow)));
  const std::vector<RevokedEntry> thief{entry_of(network.intermediate.certificate)};
  EXPECT_TRUE(
      take(network.trust->accept_revocation(list_of(network, 2, thief, &network.root).encoded(), kTestNow)));
  EXPECT_EQ(network.trust->revocations().number(), 2u);
  expect_error(network.trust->accept_revocation(list_of(network, 9, {}).encoded(), kTestNow),
               ErrorKind::unauthenticated, "revoked");
}

TEST(Revocation, keeps_its_force_after_its_signer_expired) {
  TestNetwork network;
  const Member web = network.member("web");
  const Bytes list = list_of(network, 1, {entry_of(web.chain[0])}).encoded();
  const UnixTime later = network.intermediate.certificate.not_after + 2 * kGrace;
  EXPECT_TRUE(take(network.trust->accept_revocation(list, later)));
  expect_error(TestNetwork(1).trust->accept_revocation(list, kTestNow - 500 * kDay),
               ErrorKind::unauthenticated, "more than a year");
}

TEST(Revocation, ten_thousand_entries_travel_in_parts_in_any_order) {
  TestNetwork network;
  std::vector<RevokedEntry> entries;
  for (int i = 0; i < 10'000; ++i) {
    RevokedEntry entry{{}, make_serial(network.random)};
    network.random.fill(entry.key.bytes);
    entries.push_back(entry);
  }
  const RevocationList list = list_of(network, 3, entries);
  std::vector<Bytes> parts = split_revocation(list);
  EXPECT_GT(parts.size(), 5u);
  RevocationAssembler assembler;
  std::reverse(parts.begin(), parts.end());
  std::optional<Bytes> whole;
  for (const Bytes& part : parts) {
    EXPECT_FALSE(whole);
    EXPECT_LE(part.size(), kRevocationPartSize);
    whole = assembler.feed(part);
  }
  ASSERT_TRUE(whole);
  EXPECT_EQ(*whole, list.encoded());
  EXPECT_TRUE(take(network.trust->accept_revocation(*whole, kTestNow)));
  EXPECT_TRUE(network.trust->revocations().revokes_key(entries[77].key));
  EXPECT_TRUE(network.trust->revocations().revokes_serial(entries[99].serial));
  EXPECT_FALSE(network.trust->revocations().revokes_key(PeerId{}));
}

TEST(Revocation, more_entries_than_the_limit_are_refused) {
  TestNetwork network;
  std::vector<RevokedEntry> entries(kMaxRevoked + 1);
  for (RevokedEntry& entry : entries) {
    network.random.fill(entry.key.bytes);
    entry.serial = {1};
  }
  const std::vector<Certificate> chain{network.intermediate.certificate};
  expect_error(
      RevocationList::sign(1, kTestNow, network.trust->network(), entries, network.intermediate.key, chain),
      ErrorKind::limit_reached, "16384");
}

TEST(RevocationAssembler, drops_malformed_parts_and_older_lists) {
  TestNetwork network;
  const std::vector<Bytes> old_parts = split_revocation(list_of(network, 1, {}));
  const std::vector<Bytes> new_parts = split_revocation(list_of(network, 2, {}));
  RevocationAssembler assembler;
  for (std::size_t size = 0; size < 18; ++size)
    EXPECT_FALSE(assembler.feed(ByteView(old_parts[0]).first(std::min(size, std::size_t{17}))));
  EXPECT_TRUE(assembler.feed(new_parts[0]));
  Bytes partial = new_parts[0];
  partial[14] = 0, partial[16] = 2;  // part 0 of 2
  EXPECT_FALSE(assembler.feed(partial));
  EXPECT_FALSE(assembler.feed(old_parts[0]));
  EXPECT_FALSE(assembler.feed(Bytes(kRevocationPartSize + 1, 0x52)));
}

}  // namespace
}  // namespace ravine::identity
