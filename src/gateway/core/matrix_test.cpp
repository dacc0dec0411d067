#include "gateway/core/matrix.h"

#include <gtest/gtest.h>

namespace ravine::gateway::core {
namespace {

link::Message message(std::string_view text) {
  return {to_bytes(as_bytes(text)), {}};
}

TEST(Matrix, knows_the_routes_of_every_version) {
  struct Case {
    std::string_view method, target;
    RouteKind kind;
  };
  for (const auto& [method, target, kind] : std::initializer_list<Case>{
           {"GET", "/_matrix/client/r0/sync?since=a", RouteKind::sync},
           {"GET", "/_matrix/client/v3/sync", RouteKind::sync},
           {"GET", "/_matrix/client/v1/sync", RouteKind::sync},
           {"POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", RouteKind::plain},
           {"GET", "/_matrix/client/versions", RouteKind::plain},
           {"POST", "/_matrix/client/v3/login", RouteKind::login},
           {"GET", "/_matrix/client/v3/login", RouteKind::plain},
           {"POST", "/_matrix/client/v3/refresh", RouteKind::login},
           {"POST", "/_matrix/client/r0/register?kind=guest", RouteKind::login},
           {"POST", "/_matrix/client/v3/logout/all", RouteKind::logout},
           {"PUT", "/_matrix/client/r0/rooms/!r:x/send/m.room.message/t1", RouteKind::transaction},
           {"PUT", "/_matrix/client/v3/rooms/%21r/redact/%24e/t1", RouteKind::transaction},
           {"PUT", "/_matrix/client/v3/sendToDevice/m.room.encrypted/t1", RouteKind::transaction},
           {"PUT", "/_matrix/client/v3/rooms/%21r/state/m.room.topic/", RouteKind::plain},
           {"PUT", "/_matrix/client/v3/rooms/%21r/typing/%40a%3Ax", RouteKind::typing},
           {"POST", "/_matrix/client/v3/rooms/%21r/receipt/m.read/%24e", RouteKind::receipt},
           {"POST", "/_matrix/client/v3/rooms/%21r/read_markers", RouteKind::marker},
           {"PUT", "/_matrix/client/v3/presence/%40a%3Ax/status", RouteKind::presence},
           {"GET", "/_matrix/client/v3/presence/%40a%3Ax/status", RouteKind::plain},
           {"GET", "/_matrix/media/v3/download/x/abc", RouteKind::media},
           {"GET", "/_matrix/client/v1/media/download/x/abc", RouteKind::media},
           {"GET", "/_matrix/client/v1/media/thumbnail/x/abc?width=9", RouteKind::avatar},
           {"PUT", "/_matrix/federation/v1/send/17", RouteKind::federation},
           {"PUT", "/_matrix/federation/v2/send_join/!r/$e", RouteKind::federation},
           {"GET", "/_matrix/key/v2/server", RouteKind::federation},
           {"GET", "/_matrix", RouteKind::other},
           {"GET", "/", RouteKind::other},
           {"GET", "*", RouteKind::other}})
    EXPECT_EQ(classify(method, target).kind, kind) << method << " " << target;
}

TEST(Matrix, every_kind_of_route_has_its_name) {
  EXPECT_EQ(to_text(RouteKind::other), "other");
  EXPECT_EQ(to_text(RouteKind::transaction), "send");
  EXPECT_EQ(to_text(RouteKind::federation), "federation");
  EXPECT_EQ(static_cast<std::size_t>(RouteKind::federation) + 1, kRouteKinds);
}

TEST(Matrix, receipts_of_another_room_or_type_supersede_nothing) {
  const auto subject = [](std::string_view target) { return classify("POST", target).subject; };
  const std::string room = "/_matrix/client/v3/rooms/a/receipt/";
  EXPECT_EQ(subject(room + "m.read/1"), subject(room + "m.read/2"));
  EXPECT_NE(subject(room + "m.read/1"), subject(room + "m.read.private/2"));
  EXPECT_NE(subject(room + "m.read/1"), subject("/_matrix/client/v3/rooms/b/receipt/m.read/1"));
}

TEST(Matrix, reads_members_of_the_top_level_only) {
  const std::string_view body =
      R"( {"rooms" : {"next_batch":"evil","x":"a\"}{"}, "next_batch" : "good" , "n": [1, {}] } )";
  EXPECT_EQ(json_text(body, "next_batch"), "good");
  EXPECT_EQ(json_member(body, "n"), "[1, {}]");
  EXPECT_EQ(json_member(body, "x"), "");
  EXPECT_EQ(json_text(R"({"next_batch":"a\u0062"})", "next_batch"), "");
  EXPECT_EQ(json_member(R"(["next_batch"])", "next_batch"), "");
  EXPECT_EQ(json_member(R"({"next_batch":"never ends)", "next_batch"), "");
}

TEST(Matrix, tells_empty_syncs_by_what_stands_in_them) {
  for (const std::string_view empty :
       {R"({"next_batch":"s"})", R"({ "next_batch": "s", "rooms": {"join":{},"invite":{},"leave":{}} })",
        R"({"account_data":{"events":[]},"to_device":{"events":[]},"device_lists":{"changed":[],"left":[]},)"
        R"("next_batch":"s","presence":{"events":[]}})",
        R"({"device_one_time_keys_count":{"signed_curve25519":50},"next_batch":"s"})"})
    EXPECT_TRUE(is_empty_sync(empty)) << empty;
  for (const std::string_view news :
       {R"({"next_batch":"s","rooms":{"join":{"!r":{}}}})",
        R"({"next_batch":"s","to_device":{"events":[{}]}})",
        R"({"next_batch":"s","device_lists":{"changed":["@a"]}})", R"({"next_batch":"s","org.new":1})", "[]",
        "", R"({"next_batch":"s","presence":{"events":[})"})
    EXPECT_FALSE(is_empty_sync(news)) << news;
  EXPECT_EQ(key_counts(R"({"device_one_time_keys_count":{"a": 5},"next_batch":"s"})"),
            R"(,"device_one_time_keys_count":{"a": 5})");
}

TEST(Matrix, hides_secrets_and_puts_them_back_byte_for_byte) {
  const std::string_view text =
      "200\n\n{\"access_token\": \"s\\\"x\",\"refresh_token\":\"\",\"password\":\"p\",\"password\":\"q\"}";
  link::Message hidden = message(text);
  hidden.tail = {9, 9};
  hide_secrets(hidden);
  EXPECT_EQ(as_text(hidden.text).find("s\\\"x"), std::string_view::npos);
  EXPECT_EQ(as_text(hidden.text).find("\"p\""), std::string_view::npos);
  ASSERT_TRUE(reveal_secrets(hidden));
  EXPECT_EQ(as_text(hidden.text), text);
  EXPECT_EQ(hidden.tail, (Bytes{9, 9}));
}

TEST(Matrix, a_text_whose_secrets_are_missing_is_told) {
  link::Message bare = message("200\n\n{\"access_token\":\"\x01\"}");
  EXPECT_FALSE(reveal_secrets(bare));
}

TEST(Matrix, marks_only_numbers_that_come_back_the_same) {
  for (const std::string_view id : {"rvaa.007", "rvaa.", "rvaa.7x", "rvaa.99999999999999999999"}) {
    Bytes text = to_bytes(as_bytes("{\"transaction_id\":\"" + std::string(id) + "\"}"));
    const Bytes before = text;
    mark_transactions(text, "rvaa.");
    EXPECT_EQ(text, before) << id;
  }
}

TEST(Matrix, refuses_marks_without_a_number_and_more_than_anyone_makes) {
  const auto name = [](std::uint64_t) { return std::string(100, 'x'); };
  Bytes bare = to_bytes(as_bytes("\x02"));
  EXPECT_FALSE(unmark_transactions(bare, name));
  std::string many;
  for (std::size_t i = 0; i < kMaxMarks; ++i)
    many +=
        "\x02"
        "1,";
  Bytes all = to_bytes(as_bytes(many));
  EXPECT_TRUE(unmark_transactions(all, name));
  EXPECT_EQ(all.size(), kMaxMarks * 101);
  Bytes over = to_bytes(as_bytes(many + "\x02"
                                        "1"));
  EXPECT_FALSE(unmark_transactions(over, name));
}

TEST(Matrix, marks_transactions_of_its_own_prefix_only) {
  const std::string_view text =
      R"({"transaction_id":"rvaa.16"} {"transaction_id":"m1"} {"transaction_id":"rvbb.16"} {"x":"rvaa.16"})";
  Bytes marked = to_bytes(as_bytes(text));
  mark_transactions(marked, "rvaa.");
  EXPECT_EQ(marked.size(), text.size() - 4);
  EXPECT_TRUE(
      unmark_transactions(marked, [](std::uint64_t number) { return "rvaa." + std::to_string(number); }));
  EXPECT_EQ(as_text(marked), text);
}

TEST(Matrix, a_transaction_stands_in_json_as_it_was_meant) {
  EXPECT_EQ(json_text_of("m%2F1%22%"), "m/1\\\"%");
  std::string transaction;
  EXPECT_EQ(without_transaction("/a/b/t%2f1?access=1", transaction), "/a/b/~?access=1");
  EXPECT_EQ(transaction, "t%2f1");
  EXPECT_EQ(with_transaction("/a/b/~?x=1", "rv.1"), "/a/b/rv.1?x=1");
}

TEST(Matrix, encrypted_rooms_have_no_aliases) {
  const auto alias = [](std::string_view target) { return may_alias(classify("PUT", target), target); };
  EXPECT_TRUE(alias("/_matrix/client/v3/rooms/r/send/m.room.message/1"));
  EXPECT_TRUE(alias("/_matrix/client/v3/rooms/r/redact/%24e/1"));
  EXPECT_FALSE(alias("/_matrix/client/v3/rooms/r/send/m.room.encrypted/1"));
  EXPECT_FALSE(alias("/_matrix/client/v3/sendToDevice/m.room.encrypted/1"));
}

}  // namespace
}  // namespace ravine::gateway::core
