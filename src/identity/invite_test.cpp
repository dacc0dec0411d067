#include "identity/invite.h"

#include <gtest/gtest.h>

#include "identity/test_network.h"

namespace ravine::identity {
namespace {

const IpAddress kSource = *IpAddress::parse("192.0.2.7");

Invite make_invite(std::uint64_t seed = 1, CodeKind kind = CodeKind::invite) {
  SeededRandom random(seed);
  PeerId issuer;
  random.fill(issuer.bytes);
  return Invite::make(kind, issuer, {{"192.0.2.1", 4433}, {"2001:db8::1", 4433}, {"relay.example.org", 443}},
                      random);
}

TEST(Invite, text_carries_everything) {
  const Invite invite = make_invite(1, CodeKind::pair);
  const Invite read = take(Invite::parse(invite.to_text()));
  EXPECT_EQ(read.kind, CodeKind::pair);
  EXPECT_EQ(read.pin, invite.pin);
  EXPECT_TRUE(read.secret.equals(invite.secret));
  ASSERT_EQ(read.addresses.size(), 3u);
  EXPECT_EQ(read.addresses[0].host, "192.0.2.1");
  EXPECT_EQ(read.addresses[1].host, "2001:db8::1");
  EXPECT_EQ(read.addresses[2].host, "relay.example.org");
  EXPECT_EQ(read.addresses[2].port, 443);
  EXPECT_EQ(read.server_name(), invite.server_name());
  EXPECT_EQ(read.proof_key().id(), invite.proof_key().id());
}

TEST(Invite, text_is_short_and_fits_the_alphanumeric_mode_of_qr_codes) {
  SeededRandom random(1);
  const std::string text = Invite::make(CodeKind::invite, PeerId{}, {{"192.0.2.1", 4433}}, random).to_text();
  EXPECT_LE(text.size(), 80u);
  EXPECT_EQ(text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"), std::string::npos);
}

TEST(Invite, forgives_case_spaces_line_ends_and_look_alikes) {
  const Invite invite = make_invite();
  std::string text;
  for (const char c : invite.to_text()) {
    text.push_back(static_cast<char>(std::tolower(c)));
    if (text.size() % 7 == 0) text += " \n-";
  }
  for (std::size_t i = 3; i < text.size(); ++i)
    if (text[i] == 'o') text[i] = '0';
  EXPECT_TRUE(take(Invite::parse(text)).secret.equals(invite.secret));
}

TEST(Invite, notices_every_single_mistyped_character) {
  const std::string text = make_invite().to_text();
  for (std::size_t i = 3; i < text.size(); ++i) {
    std::string typo = text;
    typo[i] = typo[i] == 'A' ? 'C' : 'A';
    expect_error(Invite::parse(typo), ErrorKind::invalid_argument, "mistyped");
    if (i + 1 < text.size() && text[i] != text[i + 1]) {
      std::string swapped = text;
      std::swap(swapped[i], swapped[i + 1]);
      EXPECT_FALSE(Invite::parse(swapped).ok());
    }
  }
}

TEST(Invite, says_what_is_wrong_with_a_text) {
  const std::string text = make_invite().to_text();
  for (std::size_t size = 0; size < text.size(); ++size)
    EXPECT_FALSE(Invite::parse(text.substr(0, size)).ok()) << size;
  expect_error(Invite::parse(text.substr(0, 40)), ErrorKind::invalid_argument, "cut off");
  expect_error(Invite::parse("hello"), ErrorKind::invalid_argument, "not a code");
  expect_error(Invite::parse(text.substr(0, 10) + "?" + text.substr(10)), ErrorKind::invalid_argument,
               "character 11");
  expect_error(Invite::parse(std::string(2000, 'A')), ErrorKind::invalid_argument, "too long");
  expect_error(Invite::parse(text + "AAAAAAAA"), ErrorKind::invalid_argument, "mistyped");
}

TEST(InviteRegister, a_code_is_consumed_once_and_repeatable_by_its_user_alone) {
  InviteRegister codes;
  const Invite invite = make_invite();
  const PeerId proof = invite.proof_key().id(), first{{1}}, second{{2}};
  EXPECT_TRUE(codes.add(invite, "web", {"ops"}, kTestNow + kDay, kTestNow).ok());
  EXPECT_EQ(take(codes.find(proof, first, kTestNow)).groups, std::vector<std::string>{"ops"});
  EXPECT_TRUE(codes.consume(proof, first, kTestNow));
  EXPECT_FALSE(codes.consume(proof, second, kTestNow));
  EXPECT_TRUE(codes.consume(proof, first, kTestNow));
  expect_error(codes.find(proof, second, kTestNow), ErrorKind::refused, "used before");
  EXPECT_TRUE(codes.find(proof, first, kTestNow).ok());
  EXPECT_FALSE(codes.consume(PeerId{{9}}, first, kTestNow));
}

TEST(InviteRegister, codes_expire_and_can_be_withdrawn) {
  InviteRegister codes;
  const Invite invite = make_invite();
  const PeerId proof = invite.proof_key().id();
  EXPECT_TRUE(codes.add(invite, "web", {}, kTestNow + kDay, kTestNow).ok());
  EXPECT_EQ(codes.server_names(kTestNow), std::vector<std::string>{invite.server_name()});
  expect_error(codes.find(proof, {}, kTestNow + kDay), ErrorKind::refused, "expired");
  EXPECT_FALSE(codes.consume(proof, {}, kTestNow + kDay));
  EXPECT_TRUE(codes.server_names(kTestNow + kDay).empty());
  expect_error(codes.add(make_invite(2), "web", {}, kTestNow + kDay, kTestNow), ErrorKind::already_exists,
               "withdraw");
  EXPECT_EQ(codes.withdraw("web"), 1u);
  expect_error(codes.find(proof, {}, kTestNow), ErrorKind::refused, "no such code");
  EXPECT_TRUE(codes.add(make_invite(2), "web", {}, kTestNow + kDay, kTestNow).ok());
}

TEST(InviteRegister, refuses_bad_names_and_too_many) {
  InviteRegister codes;
  expect_error(codes.add(make_invite(), "Web", {}, kTestNow + kDay, kTestNow), ErrorKind::invalid_argument,
               "\"Web\"");
  expect_error(codes.add(make_invite(), "", {}, kTestNow + kDay, kTestNow), ErrorKind::invalid_argument,
               "\"\"");
  EXPECT_TRUE(codes.add(make_invite(1, CodeKind::pair), "", {}, kTestNow + kDay, kTestNow).ok());
  expect_error(codes.add(make_invite(), "web", {}, kTestNow, kTestNow), ErrorKind::invalid_argument,
               "expire");
  for (std::uint64_t i = codes.pending().size(); i < kMaxPendingInvites; ++i)
    ASSERT_TRUE(codes.add(make_invite(i), "n" + std::to_string(i), {}, kTestNow + kDay, kTestNow).ok());
  expect_error(codes.add(make_invite(5000), "more", {}, kTestNow + kDay, kTestNow), ErrorKind::limit_reached,
               "1024");
}

TEST(InviteRegister, limits_guesses_per_source_and_minute) {
  InviteRegister codes;
  for (unsigned i = 0; i < kMaxJoinFailures; ++i) {
    EXPECT_TRUE(codes.may_try(kSource, kTestNow));
    codes.note_failure(kSource, kTestNow);
  }
  EXPECT_FALSE(codes.may_try(kSource, kTestNow));
  EXPECT_FALSE(codes.may_try(*IpAddress::parse("192.0.2.200"), kTestNow));  // the same /24
  EXPECT_TRUE(codes.may_try(*IpAddress::parse("192.0.3.7"), kTestNow));
  EXPECT_TRUE(codes.may_try(kSource, kTestNow + std::chrono::minutes(1)));
}

TEST(InviteRegister, survives_storage_without_the_secrets) {
  InviteRegister codes;
  const Invite invite = make_invite();
  EXPECT_TRUE(codes.add(invite, "web", {"ops"}, kTestNow + kDay, kTestNow).ok());
  EXPECT_TRUE(codes.consume(invite.proof_key().id(), PeerId{{7}}, kTestNow));
  const Bytes stored = codes.encode();
  const ByteView secret = invite.secret.view();
  EXPECT_EQ(std::search(stored.begin(), stored.end(), secret.begin(), secret.end()), stored.end());
  InviteRegister again = take(InviteRegister::decode(stored));
  EXPECT_EQ(again.encode(), stored);
  EXPECT_FALSE(again.consume(invite.proof_key().id(), PeerId{{8}}, kTestNow));
  for (std::size_t size = 1; size < stored.size(); ++size)
    EXPECT_FALSE(InviteRegister::decode(ByteView(stored).first(size)).ok()) << size;
}

}  // namespace
}  // namespace ravine::identity
