#include "gateway/security/oscore.h"

#include <gtest/gtest.h>

#include <set>

#include "gateway/security/test_store.h"

namespace ravine::gateway::security {
namespace {

constexpr std::uint8_t kGet = 0x01, kPost = 0x02, kContent = 0x45, kChanged = 0x44;

Bytes hex(std::string_view text) {
  return decode_hex(text).value();
}

// RFC 8613 Appendix C, the client's side of each of the three key sets.
struct KeySet {
  std::string_view salt, id_context, client_id, server_id;
  std::string_view client_key, server_key, common_iv;
};
constexpr KeySet kWithSalt{"9e7ca92223786340",
                           "",
                           "",
                           "01",
                           "f0910ed7295e6ad4b54fc793154302ff",
                           "ffb14e093c94c9cac9471648b4f98710",
                           "4622d4dd6d944168eefb54987c"};
constexpr KeySet kWithoutSalt{"",
                              "",
                              "00",
                              "01",
                              "321b26943253c7ffb6003b0b64d74041",
                              "e57b5635815177cd679ab4bcec9d7dda",
                              "be35ae297d2dace910c52e99f9"};
constexpr KeySet kWithContext{"9e7ca92223786340",
                              "37cbf3210017a2d3",
                              "",
                              "01",
                              "af2a1300a5e95788b356336eeecd2b92",
                              "e39a0c7c77b43f03b4b39ab9a268699f",
                              "2ca58fb85ff1b81c0b7181b85e"};

OscoreParameters parameters(const KeySet& set, bool client) {
  OscoreParameters result;
  result.master_secret = hex("0102030405060708090a0b0c0d0e0f10");
  result.master_salt = hex(set.salt);
  if (!set.id_context.empty()) result.id_context = hex(set.id_context);
  result.sender_id = hex(client ? set.client_id : set.server_id);
  result.recipient_id = hex(client ? set.server_id : set.client_id);
  return result;
}

OscoreContext make(const KeySet& set, bool client, SequenceStore& store) {
  return OscoreContext::make(parameters(set, client), store).value();
}

CoapContent vector_request() {
  return {kGet, {{3, to_bytes(as_bytes("localhost"))}, {11, to_bytes(as_bytes("tv1"))}}, {}};
}

Bytes option_value(const CoapContent& message, std::uint16_t number) {
  for (const CoapOption& option : message.options)
    if (option.number == number) return option.value;
  ADD_FAILURE() << "no option " << number;
  return {};
}

bool has_option(const CoapContent& message, std::uint16_t number) {
  return std::any_of(message.options.begin(), message.options.end(),
                     [&](const CoapOption& option) { return option.number == number; });
}

TEST(OscoreVectors, c1_to_c3_derive_the_same_keys_at_both_ends) {
  for (const KeySet& set : {kWithSalt, kWithoutSalt, kWithContext}) {
    TestStore store;
    const OscoreContext client = make(set, true, store), server = make(set, false, store);
    EXPECT_EQ(to_bytes(client.sender_key()), hex(set.client_key));
    EXPECT_EQ(to_bytes(client.recipient_key()), hex(set.server_key));
    EXPECT_EQ(to_bytes(client.common_iv()), hex(set.common_iv));
    EXPECT_EQ(to_bytes(server.sender_key()), hex(set.server_key));
    EXPECT_EQ(to_bytes(server.recipient_key()), hex(set.client_key));
    EXPECT_EQ(to_bytes(server.common_iv()), hex(set.common_iv));
  }
}

TEST(OscoreVectors, c4_to_c6_protect_requests) {
  struct Case {
    KeySet set;
    std::string_view option, ciphertext;
  };
  for (const Case& each : {Case{kWithSalt, "0914", "612f1092f1776f1c1668b3825e"},
                           Case{kWithoutSalt, "091400", "4ed339a5a379b0b8bc731fffb0"},
                           Case{kWithContext, "19140837cbf3210017a2d3", "72cd7273fd331ac45cffbe55c3"}}) {
    TestStore store;
    OscoreContext client = make(each.set, true, store), server = make(each.set, false, store);
    client.skip_to(20);
    const auto sealed = client.protect_request(vector_request()).value();
    EXPECT_EQ(sealed.message.code, kPost);
    EXPECT_EQ(option_value(sealed.message, 9), hex(each.option));
    EXPECT_EQ(option_value(sealed.message, 3), to_bytes(as_bytes("localhost")));
    EXPECT_FALSE(has_option(sealed.message, 11));
    EXPECT_EQ(sealed.message.payload, hex(each.ciphertext));
    const auto opened = server.unprotect_request(sealed.message);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->message, vector_request());
    EXPECT_TRUE(opened->fresh);
  }
}

TEST(OscoreVectors, c7_and_c8_protect_responses) {
  const CoapContent response{kContent, {}, to_bytes(as_bytes("Hello World!"))};
  for (const bool own : {false, true}) {
    TestStore client_store, server_store;
    OscoreContext client = make(kWithSalt, true, client_store), server = make(kWithSalt, false, server_store);
    client.skip_to(20);
    auto request = client.protect_request(vector_request()).value();
    auto opened = server.unprotect_request(request.message);
    ASSERT_TRUE(opened);
    const CoapContent sealed = server.protect_response(response, opened->exchange, own).value();
    EXPECT_EQ(sealed.code, kChanged);
    EXPECT_EQ(option_value(sealed, 9), own ? hex("0100") : Bytes{});
    EXPECT_EQ(sealed.payload, own ? hex("4d4c13669384b67354b2b6175ff4b8658c666a6cf88e")
                                  : hex("dbaad1e9a7e7b2a813d3c31524378303cdafae119106"));
    const auto read = client.unprotect_response(sealed, request.exchange);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->message, response);
  }
}

struct Ends {
  TestStore client_store, server_store;
  OscoreContext client = make(kWithSalt, true, client_store);
  OscoreContext server = make(kWithSalt, false, server_store);
  SeededRandom random{11};

  CoapContent request(std::string_view payload = "x") {
    CoapContent message = vector_request();
    message.code = kPost;
    message.payload = to_bytes(as_bytes(payload));
    return message;
  }
};

TEST(Oscore, refuses_a_replay_and_takes_what_was_reordered) {
  Ends ends;
  std::vector<CoapContent> sent;
  for (int i = 0; i < 40; ++i) sent.push_back(ends.client.protect_request(ends.request()).value().message);
  EXPECT_TRUE(ends.server.unprotect_request(sent[39]));
  for (std::size_t i = 0; i < 39; ++i) EXPECT_TRUE(ends.server.unprotect_request(sent[i])) << i;
  for (const CoapContent& message : sent) {
    const auto again = ends.server.unprotect_request(message);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error(), OscoreDrop::replayed);
    EXPECT_EQ(error_code(again.error()), 0x81);
  }
}

TEST(Oscore, a_forged_message_moves_nothing) {
  Ends ends;
  ends.client.skip_to(1000);
  const CoapContent good = ends.client.protect_request(ends.request()).value().message;
  for (std::size_t i = 0; i < good.payload.size(); ++i) {
    CoapContent forged = good;
    forged.payload[i] ^= 0x40;
    const auto opened = ends.server.unprotect_request(forged);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error(), OscoreDrop::decryption_failed);
    EXPECT_EQ(error_code(opened.error()), 0x80);
  }
  EXPECT_EQ(ends.server.failed_opens(), good.payload.size());
  EXPECT_TRUE(ends.server.unprotect_request(good));
}

TEST(Oscore, every_truncation_of_option_and_payload_is_refused) {
  Ends ends;
  const CoapContent good = ends.client.protect_request(ends.request()).value().message;
  for (std::size_t cut = 0; cut < good.payload.size(); ++cut) {
    CoapContent shorter = good;
    shorter.payload.resize(cut);
    EXPECT_FALSE(ends.server.unprotect_request(shorter));
  }
  for (std::size_t i = 0; i < good.options.size(); ++i) {
    if (good.options[i].number != kOptionOscore) continue;
    for (std::size_t cut = 0; cut < good.options[i].value.size(); ++cut) {
      CoapContent shorter = good;
      shorter.options[i].value.resize(cut);
      EXPECT_FALSE(ends.server.unprotect_request(shorter));
    }
  }
  EXPECT_TRUE(ends.server.unprotect_request(good));
}

TEST(Oscore, says_which_unprotected_error_fits) {
  Ends ends;
  CoapContent message = ends.client.protect_request(ends.request()).value().message;
  const auto drop_of = [&](Bytes option) {
    CoapContent changed = message;
    for (CoapOption& each : changed.options)
      if (each.number == kOptionOscore) each.value = option;
    return ends.server.unprotect_request(changed).error();
  };
  EXPECT_EQ(drop_of(hex("e914")), OscoreDrop::bad_option);  // reserved flags
  EXPECT_EQ(drop_of(hex("0e14")), OscoreDrop::bad_option);  // partial IV of 6 bytes
  EXPECT_EQ(drop_of(hex("00")), OscoreDrop::bad_option);    // one zero byte in place of nothing
  EXPECT_EQ(drop_of(hex("")), OscoreDrop::bad_option);      // neither kid nor partial IV
  EXPECT_EQ(drop_of(hex("0114")), OscoreDrop::bad_option);  // no kid
  EXPECT_EQ(drop_of(hex("0914ff")), OscoreDrop::unknown_context);
  EXPECT_EQ(drop_of(hex("191401aa")), OscoreDrop::unknown_context);
  EXPECT_EQ(error_code(OscoreDrop::bad_option), 0x82);
  EXPECT_EQ(error_code(OscoreDrop::unknown_context), 0x81);
  EXPECT_EQ(ends.server.unprotect_request(ends.request()).error(), OscoreDrop::no_option);
}

TEST(Oscore, option_round_trips_and_has_one_spelling) {
  for (unsigned bits = 0; bits < 8; ++bits)
    for (std::size_t size : {1U, 5U}) {
      OscoreOption option;
      if ((bits & 1) != 0) option.partial_iv = Bytes(size, 1);
      if ((bits & 2) != 0) option.kid = Bytes(size - 1, 2);
      if ((bits & 4) != 0) option.kid_context = Bytes(size, 3);
      const auto decoded = OscoreOption::decode(option.encode());
      ASSERT_TRUE(decoded);
      EXPECT_EQ(decoded->partial_iv, option.partial_iv);
      EXPECT_EQ(decoded->kid, option.kid);
      EXPECT_EQ(decoded->kid_context, option.kid_context);
    }
}

TEST(Oscore, hides_inner_options_and_ignores_them_outside) {
  Ends ends;
  CoapContent request = ends.request();
  request.options = {{3, hex("61")},  {11, hex("62")},  {15, hex("63")},
                     {39, hex("64")}, {252, hex("65")}, {2048, hex("66")}};
  CoapContent sealed = ends.client.protect_request(request).value().message;
  std::vector<std::uint16_t> outside;
  for (const CoapOption& option : sealed.options) outside.push_back(option.number);
  EXPECT_EQ(outside, (std::vector<std::uint16_t>{3, 9, 39}));
  sealed.options.insert(sealed.options.begin() + 2, {12, hex("00")});  // a forged Content-Format outside
  EXPECT_EQ(ends.server.unprotect_request(sealed)->message, request);
}

TEST(Oscore, refuses_proxy_uri_and_repeated_protection) {
  Ends ends;
  CoapContent request = ends.request();
  request.options = {{kOptionProxyUri, hex("61")}};
  EXPECT_FALSE(ends.client.protect_request(request).ok());
  request.options = {{kOptionOscore, {}}};
  EXPECT_FALSE(ends.client.protect_request(request).ok());
  request.options = {{11, {}}, {3, {}}};
  EXPECT_FALSE(ends.client.protect_request(request).ok());
}

TEST(Oscore, uses_the_requests_nonce_for_one_response_only) {
  Ends ends;
  auto request = ends.client.protect_request(ends.request()).value();
  auto opened = ends.server.unprotect_request(request.message);
  ASSERT_TRUE(opened);
  const CoapContent response{kChanged, {}, hex("00")};
  EXPECT_EQ(option_value(ends.server.protect_response(response, opened->exchange).value(), 9), Bytes{});
  const CoapContent second = ends.server.protect_response(response, opened->exchange).value();
  EXPECT_FALSE(option_value(second, 9).empty());
  EXPECT_TRUE(ends.client.unprotect_response(second, request.exchange));
}

TEST(Oscore, orders_notifications_by_partial_iv) {
  Ends ends;
  CoapContent request = ends.request();
  request.code = kGet;
  request.options = {{kOptionObserve, {}}, {11, hex("61")}};
  auto registration = ends.client.protect_request(request).value();
  EXPECT_EQ(registration.message.code, 0x05);
  auto opened = ends.server.unprotect_request(registration.message);
  ASSERT_TRUE(opened);
  EXPECT_TRUE(opened->exchange.observe());
  std::vector<CoapContent> notifications;
  for (std::uint8_t i = 0; i < 3; ++i)
    notifications.push_back(
        ends.server.protect_response({kContent, {{kOptionObserve, {i}}}, {i}}, opened->exchange).value());
  const auto first = ends.client.unprotect_response(notifications[0], registration.exchange);
  ASSERT_TRUE(first);
  const auto third = ends.client.unprotect_response(notifications[2], registration.exchange);
  ASSERT_TRUE(third);
  EXPECT_LT(*first->notification, *third->notification);
  const auto late = ends.client.unprotect_response(notifications[1], registration.exchange);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error(), OscoreDrop::stale_notification);
  EXPECT_FALSE(ends.client.unprotect_response(notifications[2], registration.exchange));
}

TEST(Oscore, a_response_to_another_request_is_refused) {
  Ends ends;
  auto first = ends.client.protect_request(ends.request("a")).value();
  auto second = ends.client.protect_request(ends.request("b")).value();
  auto opened = ends.server.unprotect_request(first.message);
  ASSERT_TRUE(opened);
  const CoapContent answer = ends.server.protect_response({kChanged, {}, {}}, opened->exchange).value();
  EXPECT_FALSE(ends.client.unprotect_response(answer, second.exchange));
  EXPECT_TRUE(ends.client.unprotect_response(answer, first.exchange));
}

TEST(Oscore, goes_on_behind_the_reserved_block_after_each_restart) {
  TestStore store;
  std::set<Bytes> used;
  OscoreContext client = make(kWithSalt, true, store);
  for (int restart = 0; restart < 3; ++restart) {
    for (int i = 0; i < 70; ++i) {
      const Bytes option = option_value(client.protect_request(vector_request()).value().message, 9);
      EXPECT_TRUE(used.insert(option).second) << "number used twice";
    }
    client = OscoreContext::restore(parameters(kWithSalt, true), store.durable, store).value();
  }
  EXPECT_LE(store.writes, 10);
}

TEST(Oscore, sends_nothing_that_it_could_not_reserve) {
  TestStore store;
  OscoreContext client = make(kWithSalt, true, store);
  store.failing = true;
  const auto failed = client.protect_request(vector_request());
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind, ErrorKind::io);
  store.failing = false;
  EXPECT_TRUE(client.protect_request(vector_request()).ok());
}

TEST(Oscore, stops_at_the_limit_of_seals) {
  TestStore store;
  OscoreContext client = make(kWithSalt, true, store);
  client.skip_to(kMaxSends - 1);
  EXPECT_TRUE(client.rekey_due());
  EXPECT_TRUE(client.protect_request(vector_request()).ok());
  EXPECT_EQ(client.protect_request(vector_request()).error().kind, ErrorKind::limit_reached);
  client = OscoreContext::restore(parameters(kWithSalt, true), store.durable, store).value();
  EXPECT_FALSE(client.protect_request(vector_request()).ok());
}

TEST(Oscore, stops_at_the_limit_of_failed_opens_also_across_a_restart) {
  Ends ends;
  const CoapContent good = ends.client.protect_request(ends.request()).value().message;
  CoapContent forged = good;
  forged.payload[0] ^= 1;
  for (std::uint64_t i = 0; i < kMaxFailedOpens; ++i) EXPECT_FALSE(ends.server.unprotect_request(forged));
  EXPECT_EQ(ends.server.unprotect_request(good).error(), OscoreDrop::limit_reached);
  auto again =
      OscoreContext::restore(parameters(kWithSalt, false), ends.server_store.durable, ends.server_store);
  EXPECT_EQ(again.value().unprotect_request(good).error(), OscoreDrop::limit_reached);
}

TEST(Oscore, wins_back_its_window_by_echo_after_a_restart) {
  Ends ends;
  const CoapContent old = ends.client.protect_request(ends.request("old")).value().message;
  ASSERT_TRUE(ends.server.unprotect_request(old));
  ends.server =
      OscoreContext::restore(parameters(kWithSalt, false), ends.server_store.durable, ends.server_store)
          .value();
  auto replayed = ends.server.unprotect_request(old);
  ASSERT_TRUE(replayed);
  EXPECT_FALSE(replayed->fresh);

  auto request = ends.client.protect_request(ends.request("new")).value();
  auto opened = ends.server.unprotect_request(request.message);
  ASSERT_TRUE(opened);
  EXPECT_FALSE(opened->fresh);
  const CoapContent challenge =
      ends.server.protect_response(ends.server.echo_challenge(ends.random), opened->exchange).value();
  EXPECT_FALSE(option_value(challenge, 9).empty()) << "a challenge must not use the request's nonce";
  const auto read = ends.client.unprotect_response(challenge, request.exchange);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->message.code, 0x81);

  CoapContent repeated = ends.request("new");
  repeated.options.push_back({kOptionEcho, option_value(read->message, kOptionEcho)});
  const CoapContent proof = ends.client.protect_request(repeated).value().message;
  EXPECT_TRUE(ends.server.unprotect_request(proof)->fresh);
  EXPECT_TRUE(ends.server.window_trusted());
  EXPECT_EQ(ends.server.unprotect_request(proof).error(), OscoreDrop::replayed);
  EXPECT_EQ(ends.server.unprotect_request(old).error(), OscoreDrop::replayed);
}

TEST(Oscore, a_guessed_echo_brings_no_trust) {
  Ends ends;
  ends.server =
      OscoreContext::restore(parameters(kWithSalt, false), ends.server_store.durable, ends.server_store)
          .value();
  for (const Bytes& guess : {Bytes{}, Bytes(8, 0)}) {
    CoapContent request = ends.request();
    request.options.push_back({kOptionEcho, guess});
    EXPECT_FALSE(ends.server.unprotect_request(ends.client.protect_request(request).value().message)->fresh);
    (void)ends.server.echo_challenge(ends.random);
  }
}

TEST(Oscore, damaged_state_and_bad_parameters_are_refused) {
  TestStore store;
  const OscoreContext client = make(kWithSalt, true, store);
  const Bytes state = client.encode();
  for (std::size_t cut = 0; cut < state.size(); ++cut)
    EXPECT_FALSE(OscoreContext::restore(parameters(kWithSalt, true), ByteView(state).first(cut), store).ok());
  OscoreParameters bad = parameters(kWithSalt, true);
  bad.sender_id = bad.recipient_id;
  EXPECT_FALSE(OscoreContext::make(bad, store).ok());
  bad.sender_id = Bytes(8);
  EXPECT_FALSE(OscoreContext::make(bad, store).ok());
  bad = parameters(kWithSalt, true);
  bad.master_secret.clear();
  EXPECT_FALSE(OscoreContext::make(bad, store).ok());
}

}  // namespace
}  // namespace ravine::gateway::security
