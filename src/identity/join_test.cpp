#include "identity/join.h"

#include <gtest/gtest.h>

#include "identity/join_messages.h"
#include "identity/test_network.h"
#include "join.pb.h"

namespace ravine::identity {
namespace {

const IpAddress kSource = *IpAddress::parse("192.0.2.7");
const Bytes kExporter(32, 0x11), kOtherExporter(32, 0x22);

// An issuer's node with one pending code, and a device that wants in.
struct Join : ::testing::Test {
  Join() {
    secrets.add(NetworkSecret::make(1, network.random));
    EXPECT_TRUE(codes.add(invite, "laptop", {"ops"}, kTestNow + kInviteLifetime, kTestNow).ok());
  }
  Bytes request(ByteView exporter = kExporter) { return take(make_join_request(invite, device, exporter)); }
  Answer answer(ByteView bytes, ByteView exporter = kExporter, UnixTime now = kTestNow) {
    return answer_join(issuer, bytes, exporter, kSource, now, network.random);
  }
  Result<Membership> accept(ByteView bytes, ByteView response, ByteView exporter = kExporter,
                            UnixTime now = kTestNow) {
    return accept_join_response(invite, device, bytes, response, exporter, now);
  }

  TestNetwork network;
  Member node = network.member("issuer-node");
  NetworkSecrets secrets;
  InviteRegister codes;
  IssuerContext issuer{&network.authority,
                       &codes,
                       &secrets,
                       {{node.key.id(), "issuer-node", {{"192.0.2.1", 4433}}}},
                       node.key.id()};
  Invite invite =
      Invite::make(CodeKind::invite, network.intermediate.key.id(), {{"192.0.2.1", 4433}}, network.random);
  PrivateKey device = PrivateKey::generate(network.random);
};

void expect_refused(const Answer& answer, std::string_view words) {
  ASSERT_TRUE(answer.refused) << "answered, but expected a refusal about: " << words;
  EXPECT_NE(answer.refused->message.find(words), std::string::npos) << answer.refused->message;
  EXPECT_FALSE(answer.issued);
}

TEST_F(Join, brings_a_device_into_the_network) {
  ASSERT_TRUE(network.authority.revoke(network.member("gone").key.id().to_text(), kTestNow).ok());
  const Bytes asked = request();
  const Answer answered = answer(asked);
  EXPECT_FALSE(answered.refused);
  EXPECT_TRUE(answered.changed);
  const Membership member = take(accept(asked, answered.response));
  EXPECT_EQ(member.network_name, "home");
  EXPECT_EQ(member.chain[0].name, "laptop");
  EXPECT_EQ(member.chain[0].groups, std::vector<std::string>{"ops"});
  EXPECT_EQ(member.chain[0].id, device.id());
  EXPECT_EQ(member.secrets.server_names(kTestNow), secrets.server_names(kTestNow));
  EXPECT_EQ(member.issuer_node, node.key.id());
  ASSERT_EQ(member.peers.size(), 1u);
  EXPECT_EQ(member.peers[0].addresses[0].host, "192.0.2.1");
  // What it holds is enough for both sides to accept each other.
  const auto trust = take(NetworkTrust::make(member.roots));
  EXPECT_TRUE(take(trust->accept_revocation(member.revocations, kTestNow)));
  const std::vector<Bytes> shown = node.der();
  accepted(make_network_policy(trust)->verify({shown, kTestNow}));
  accepted(network.verify(to_der(member.chain)));
  EXPECT_EQ(take(make_local_identity(device, member.chain)).id, device.id());
}

TEST_F(Join, a_code_admits_one_device_and_answers_it_again_when_the_answer_was_lost) {
  ASSERT_TRUE(answer(request()).issued);
  const PrivateKey second = PrivateKey::generate(network.random);
  expect_refused(answer(take(make_join_request(invite, second, kExporter))), "used before");
  const Bytes again = request(kOtherExporter);
  const Answer repeated = answer(again, kOtherExporter);
  EXPECT_TRUE(accept(again, repeated.response, kOtherExporter).ok());
}

TEST_F(Join, two_devices_that_race_for_a_code_do_not_both_get_in) {
  const PrivateKey second = PrivateKey::generate(network.random);
  const Bytes a = request(), b = take(make_join_request(invite, second, kOtherExporter));
  const Answer first_answer = answer(a), second_answer = answer(b, kOtherExporter);
  EXPECT_TRUE(first_answer.issued.has_value());
  EXPECT_FALSE(second_answer.issued.has_value());
}

TEST_F(Join, refuses_a_wrong_secret_an_expired_code_and_another_session) {
  const Invite wrong =
      Invite::make(CodeKind::invite, network.intermediate.key.id(), {{"192.0.2.1", 1}}, network.random);
  expect_refused(answer(take(make_join_request(wrong, device, kExporter))), "no such code");
  expect_refused(answer(request(), kOtherExporter), "does not hold for this session");  // replayed
  expect_refused(answer(request(), kExporter, kTestNow + kInviteLifetime), "expired");
  const Bytes asked = request();
  EXPECT_TRUE(accept(asked, answer(asked).response).ok());  // none of this used the code up
}

TEST_F(Join, a_proof_does_not_carry_over_to_another_request) {
  const PrivateKey thief = PrivateKey::generate(network.random);
  join::Request request_message;
  const Bytes asked = request();
  ASSERT_TRUE(request_message.ParseFromArray(asked.data(), static_cast<int>(asked.size())));
  request_message.mutable_join()->set_signing_request(std::string(as_text(make_signing_request(thief, "x"))));
  const std::string swapped = request_message.SerializeAsString();
  expect_refused(answer(as_bytes(swapped)), "does not hold for this session");
}

TEST_F(Join, guessing_is_slowed_down) {
  for (unsigned i = 0; i < kMaxJoinFailures; ++i)
    expect_refused(answer(request(), kOtherExporter), "does not hold");
  expect_refused(answer(request()), "too many wrong tries");
  EXPECT_TRUE(answer(request(), kExporter, kTestNow + std::chrono::minutes(1)).issued);
}

TEST_F(Join, a_taken_name_is_told_and_leaves_the_code_good) {
  const Member other = network.member("laptop");
  const Bytes asked = request();
  const Answer refused = answer(asked);
  expect_refused(refused, "belongs to peer");
  expect_error(accept(asked, refused.response), ErrorKind::already_exists, "belongs to peer");
  ASSERT_TRUE(network.authority.revoke("laptop", kTestNow).ok());
  EXPECT_TRUE(accept(asked, answer(asked).response).ok());
}

TEST_F(Join, the_joiner_believes_no_other_issuer) {
  const Bytes asked = request();
  TestNetwork other(2);
  InviteRegister their_codes;
  ASSERT_TRUE(their_codes.add(invite, "laptop", {}, kTestNow + kDay, kTestNow).ok());
  IssuerContext impostor{&other.authority, &their_codes, &secrets, {}, node.key.id()};
  const Answer forged = answer_join(impostor, asked, kExporter, kSource, kTestNow, other.random);
  ASSERT_FALSE(forged.refused);
  expect_error(accept(asked, forged.response), ErrorKind::unauthenticated, "not from the issuer");
}

TEST_F(Join, the_joiner_believes_no_answer_of_another_exchange_and_no_changed_one) {
  const Bytes asked = request();
  const Bytes good = answer(asked).response;
  expect_error(accept(asked, good, kOtherExporter), ErrorKind::unauthenticated, "for this exchange");
  Bytes other_request = asked;
  other_request.push_back(0);
  expect_error(accept(other_request, good), ErrorKind::unauthenticated, "for this exchange");
  for (std::size_t i = 0; i < good.size(); i += 3) {
    Bytes changed = good;
    changed[i] = static_cast<std::uint8_t>(changed[i] ^ 1);
    EXPECT_FALSE(accept(asked, changed).ok()) << i;
  }
  EXPECT_TRUE(accept(asked, good).ok());
}

TEST_F(Join, says_when_the_joiners_clock_is_wrong) {
  const Bytes asked = request();
  const Bytes good = answer(asked).response;
  expect_error(accept(asked, good, kExporter, kTestNow - kDay), ErrorKind::unauthenticated, "clock here");
}

TEST_F(Join, nothing_that_is_cut_crashes_either_side) {
  const Bytes asked = request();
  for (std::size_t size = 0; size < asked.size(); ++size) {
    InviteRegister fresh = codes;
    IssuerContext context{&network.authority, &fresh, &secrets, {}, node.key.id()};
    const Answer cut =
        answer_join(context, ByteView(asked).first(size), kExporter, kSource, kTestNow, network.random);
    EXPECT_TRUE(cut.refused) << size;
  }
  const Bytes good = answer(asked).response;
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(accept(asked, ByteView(good).first(size)).ok());
  expect_refused(answer(Bytes(kMaxJoinRequest + 1, 0)), "not a join request");
}

TEST_F(Join, a_node_that_issues_nothing_says_so) {
  IssuerContext none{};
  const Answer refused = answer_join(none, request(), kExporter, kSource, kTestNow, network.random);
  expect_refused(refused, "issues no certificates");
  expect_error(accept(request(), refused.response), ErrorKind::refused, "issues no certificates");
}

TEST_F(Join, invitations_and_pairing_codes_are_not_mixed_up) {
  const Invite pair = Invite::make(CodeKind::pair, node.key.id(), {{"192.0.2.1", 1}}, network.random);
  expect_error(make_join_request(pair, device, kExporter), ErrorKind::invalid_argument, "ravine pair");
  EXPECT_EQ(exchange_kind(request()), ExchangeKind::join);
  EXPECT_EQ(exchange_kind(make_renew_request(device, "laptop")), ExchangeKind::renew);
  EXPECT_FALSE(exchange_kind(Bytes{}));
  EXPECT_FALSE(exchange_kind(Bytes{0xff, 0xff}));
}

struct Renew : Join {
  Membership joined = [this] {
    const Bytes asked = request();
    return take(accept(asked, answer(asked).response));
  }();
  std::shared_ptr<NetworkTrust> trust = take(NetworkTrust::make(joined.roots));
  UnixTime later = kTestNow + kRenewAfter;

  Answer renew(const PrivateKey& key, Bytes& asked) {
    asked = make_renew_request(key, "laptop");
    return answer_renew(issuer, joined.chain[0].der, asked, kExporter, later, network.random);
  }
};

TEST_F(Renew, brings_a_later_certificate_and_the_newest_secret) {
  secrets.add(NetworkSecret::make(2, network.random));
  Bytes asked;
  const Answer renewed = renew(device, asked);
  const Membership member =
      take(accept_renew_response(trust, device, asked, renewed.response, kExporter, later));
  EXPECT_EQ(member.chain[0].not_after, later + kLeafLifetime);
  EXPECT_EQ(member.chain[0].name, "laptop");
  EXPECT_EQ(member.secrets.newest().version, 2u);
  accepted(network.verify(to_der(member.chain), later));
}

TEST_F(Renew, may_change_the_key) {
  const PrivateKey next = PrivateKey::generate(network.random);
  Bytes asked;
  const Answer renewed = renew(next, asked);
  const Membership member =
      take(accept_renew_response(trust, next, asked, renewed.response, kExporter, later));
  EXPECT_EQ(member.chain[0].id, next.id());
  expect_error(accept_renew_response(trust, device, asked, renewed.response, kExporter, later),
               ErrorKind::unauthenticated, "was expected");
}

TEST_F(Renew, is_refused_to_the_revoked) {
  ASSERT_TRUE(network.authority.revoke("laptop", kTestNow).ok());
  Bytes asked;
  const Answer refused = renew(device, asked);
  expect_refused(refused, "was revoked");
  expect_error(accept_renew_response(trust, device, asked, refused.response, kExporter, later),
               ErrorKind::refused, "was revoked");
}

TEST_F(Renew, brings_the_new_root_and_the_revocation_list) {
  const RootSuccession next = take(replace_root(network.root.key, network.root.certificate,
                                                network.trust->network(), kTestNow, network.random));
  const CertifiedKey next_issuer =
      take(make_intermediate(next.root.key, next.root.certificate, kTestNow, network.random));
  ASSERT_TRUE(take(network.trust->adopt_root(next.root.certificate, next.cross, kTestNow)));
  Authority authority =
      take(Authority::open({next_issuer.key.clone(), {next_issuer.certificate}, network.trust, {next.cross}},
                           network.authority.encode_register(), kTestNow));
  network.member("gone");
  ASSERT_TRUE(network.authority.revoke("gone", kTestNow).ok());
  issuer.authority = &authority;
  Bytes asked;
  const Answer renewed = renew(device, asked);
  const Membership member =
      take(accept_renew_response(trust, device, asked, renewed.response, kExporter, later));
  EXPECT_EQ(trust->roots().size(), 2u);
  EXPECT_EQ(trust->revocations().number(), 1u);
  EXPECT_EQ(member.chain[0].overlay, joined.chain[0].overlay);  // the address survives the root
}

TEST_F(Renew, believes_no_answer_of_another_network_or_another_exchange) {
  TestNetwork other(2);
  secrets.add(NetworkSecret::make(9, network.random));
  IssuerContext impostor{&other.authority, &codes, &secrets, {}, node.key.id()};
  const Bytes asked = make_renew_request(device, "laptop");
  const Answer forged = answer_renew(impostor, joined.chain[0].der, asked, kExporter, later, other.random);
  ASSERT_FALSE(forged.refused);
  expect_error(accept_renew_response(trust, device, asked, forged.response, kExporter, later),
               ErrorKind::unauthenticated, "another network");
  Bytes mine;
  const Answer good = renew(device, mine);
  expect_error(accept_renew_response(trust, device, mine, good.response, kOtherExporter, later),
               ErrorKind::unauthenticated, "for this exchange");
}

// The answer as `signer` would give it: the same grant under its own chain and signature.
Bytes resign(const Bytes& response, const Bytes& asked, const PrivateKey& signer,
             std::span<const Certificate> chain) {
  join::Response message;
  join::Grant grant;
  EXPECT_TRUE(message.ParseFromArray(response.data(), static_cast<int>(response.size())));
  EXPECT_TRUE(grant.ParseFromString(message.body()));
  grant.clear_issuer_chain();
  messages::write_chain(*grant.mutable_issuer_chain(), chain);
  return messages::make_signed_answer(signer, kExporter, asked, messages::serialise(grant));
}

TEST_F(Renew, believes_no_answer_that_a_member_or_a_strange_ca_signs) {
  Bytes asked;
  const Bytes good = renew(device, asked).response;
  const auto try_with = [&](const PrivateKey& signer, std::span<const Certificate> chain) {
    return accept_renew_response(trust, device, asked, resign(good, asked, signer, chain), kExporter, later);
  };
  expect_error(try_with(node.key, node.chain), ErrorKind::unauthenticated, "not signed by an issuer");
  TestNetwork other(2);
  const std::vector<Certificate> strange{other.intermediate.certificate},
      ours{network.intermediate.certificate};
  expect_error(try_with(other.intermediate.key, strange), ErrorKind::unauthenticated, "not trusted");
  EXPECT_TRUE(try_with(network.intermediate.key, ours).ok());
}

}  // namespace
}  // namespace ravine::identity
