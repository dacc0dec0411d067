#include <gtest/gtest.h>

#include "identity/join.h"
#include "identity/join_messages.h"
#include "identity/test_network.h"

namespace ravine::identity {
namespace {

const IpAddress kSource = *IpAddress::parse("192.0.2.7");
const Bytes kExporter(32, 0x11), kOtherExporter(32, 0x22);

struct Side {
  Side(std::string own_name, SeededRandom& random)
      : key(PrivateKey::generate(random)),
        name(own_name),
        chain{make_pinned_certificate(key, own_name, kTestNow, random)} {}
  PairSide view() const { return {&key, chain, name, {{"192.0.2.9", 4433}}}; }
  PrivateKey key;
  std::string name;
  std::vector<Certificate> chain;
};

struct Pair : ::testing::Test {
  Pair() { EXPECT_TRUE(codes.add(code, "", {}, kTestNow + kDay, kTestNow).ok()); }
  Bytes request(const Side& side, ByteView exporter = kExporter) {
    return take(make_pair_request(code, side.view(), exporter));
  }
  PairAnswer answer(ByteView bytes, ByteView exporter = kExporter) {
    PairContext context{&codes, home.view(), network, &secrets};
    return answer_pair(context, bytes, exporter, kSource, kTestNow);
  }
  Result<Paired> accept(ByteView bytes, ByteView response, ByteView exporter = kExporter) {
    return accept_pair_response(code, phone.view(), bytes, response, exporter, kTestNow);
  }

  SeededRandom random{1};
  Side home{"home-pc", random}, phone{"phone", random}, third{"third", random};
  Invite code = Invite::make(CodeKind::pair, home.key.id(), {{"192.0.2.1", 4433}}, random);
  InviteRegister codes;
  std::optional<NetworkHash> network;
  NetworkSecrets secrets;
};

TEST_F(Pair, both_sides_end_with_each_other_in_one_network) {
  const Bytes asked = request(phone);
  const PairAnswer answered = answer(asked);
  ASSERT_TRUE(answered.paired);
  const Paired ours = take(accept(asked, answered.response));
  EXPECT_EQ(ours.id, home.key.id());
  EXPECT_EQ(ours.name, "home-pc");
  EXPECT_EQ(answered.paired->id, phone.key.id());
  EXPECT_EQ(answered.paired->name, "phone");
  EXPECT_EQ(answered.paired->addresses.size(), 1u);
  EXPECT_EQ(ours.network, answered.paired->network);
  EXPECT_EQ(ours.network, PinnedNetwork::derive_from(code.secret).network);
  EXPECT_EQ(ours.secrets.server_names(kTestNow), answered.paired->secrets.server_names(kTestNow));
}

TEST_F(Pair, a_newcomer_enters_the_network_that_exists) {
  network = NetworkHash{{42}};
  secrets.add(NetworkSecret::make(3, random));
  const Bytes asked = request(phone);
  const PairAnswer answered = answer(asked);
  const Paired ours = take(accept(asked, answered.response));
  EXPECT_EQ(ours.network, *network);
  EXPECT_EQ(ours.secrets.newest().version, 3u);
  EXPECT_EQ(answered.paired->network, *network);
}

TEST_F(Pair, a_code_pairs_once) {
  ASSERT_TRUE(answer(request(phone)).paired);
  const PairAnswer second = answer(request(third));
  ASSERT_TRUE(second.refused);
  EXPECT_NE(second.refused->message.find("used before"), std::string::npos);
  EXPECT_TRUE(answer(request(phone)).paired);  // a lost answer is repeated
}

TEST_F(Pair, refuses_replays_wrong_codes_and_itself) {
  EXPECT_TRUE(answer(request(phone), kOtherExporter).refused);
  const Invite wrong = Invite::make(CodeKind::pair, home.key.id(), {{"192.0.2.1", 1}}, random);
  EXPECT_TRUE(answer(take(make_pair_request(wrong, phone.view(), kExporter))).refused);
  EXPECT_TRUE(answer(request(home)).refused);
  const Invite invitation = Invite::make(CodeKind::invite, home.key.id(), {{"192.0.2.1", 1}}, random);
  expect_error(make_pair_request(invitation, phone.view(), kExporter), ErrorKind::invalid_argument,
               "ravine join");
}

TEST_F(Pair, nobody_pairs_with_a_key_that_he_does_not_have) {
  PairSide thief = third.view();
  thief.chain = phone.chain;
  expect_error(make_pair_request(code, thief, kExporter), ErrorKind::invalid_argument, "own key");
  // A thief who knows the code and writes the message by himself: phone's certificate, but another key's
  // signature.
  const Bytes honest = request(phone);
  join::Request message;
  ASSERT_TRUE(message.ParseFromArray(honest.data(), static_cast<int>(honest.size())));
  const Bytes input =
      messages::proof_input("ravine pair request", kExporter, as_bytes(message.pair().body()));
  message.mutable_pair()->set_key_proof(std::string(as_text(third.key.sign(input))));
  const std::string forged = message.SerializeAsString();
  EXPECT_TRUE(answer(as_bytes(forged)).refused);
  message.mutable_pair()->set_key_proof(std::string(as_text(phone.key.sign(input))));
  const std::string good = message.SerializeAsString();
  EXPECT_TRUE(answer(as_bytes(good)).paired);
}

TEST_F(Pair, believes_only_the_peer_that_the_code_names) {
  const Bytes asked = request(phone);
  PairContext impostor{&codes, third.view(), network, &secrets};
  const PairAnswer forged = answer_pair(impostor, asked, kExporter, kSource, kTestNow);
  ASSERT_TRUE(forged.paired);
  expect_error(accept(asked, forged.response), ErrorKind::unauthenticated, "not from the peer");
}

TEST_F(Pair, changed_or_cut_messages_are_refused) {
  const Bytes asked = request(phone);
  const Bytes good = answer(asked).response;
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes changed = good;
    changed[i] = static_cast<std::uint8_t>(changed[i] ^ 1);
    EXPECT_FALSE(accept(asked, changed).ok()) << i;
    EXPECT_FALSE(accept(asked, ByteView(good).first(i)).ok()) << i;
  }
  expect_error(accept(asked, good, kOtherExporter), ErrorKind::unauthenticated, "for this exchange");
  for (std::size_t size = 0; size < asked.size(); ++size) {
    codes = InviteRegister();
    ASSERT_TRUE(codes.add(code, "", {}, kTestNow + kDay, kTestNow).ok());
    EXPECT_TRUE(answer(ByteView(asked).first(size)).refused) << size;
  }
}

}  // namespace
}  // namespace ravine::identity
