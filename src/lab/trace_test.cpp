#include "lab/trace.h"

#include <gtest/gtest.h>

#include "lab/test_session.h"

namespace ravine::lab {
namespace {

constexpr Instant kStart{1'000'000'000};

core::HttpRequest asking(const Exchange& exchange) {
  return request_of(exchange, "b.example");
}

TEST(Trace, reads_exchanges_and_arrays_of_sessions) {
  const auto trace = parse_trace(
      R"([[{"kind":"send","method":"PUT","path":"/a","token":"t","req":"{}","status":201,"resp":"[]"}],)"
      R"({"method":"GET","path":"/b","token":null,"req":null}])");
  ASSERT_TRUE(trace.ok()) << trace.error().message;
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ(trace->front().authorization, "Bearer t");
  EXPECT_EQ(trace->front().status, 201);
  EXPECT_EQ(trace->back().kind, "GET");
  EXPECT_FALSE(trace->back().request);
}

TEST(Trace, names_the_exchange_and_the_field_that_is_wrong) {
  for (const auto& [text, word] :
       {std::pair{"[]", "no exchange"},
        {"{}", "array"},
        {"[1]", "exchange 1"},
        {R"([{"method":"GET","path":"/a"},{"method":"GET","path":"a"}])", "exchange 2: \"path\""},
        {R"([{"path":"/a"}])", "method"},
        {R"([{"method":"GET","path":"/a","status":99}])", "status"},
        {"[", "JSON"}}) {
    const auto trace = parse_trace(text);
    ASSERT_FALSE(trace.ok()) << text;
    EXPECT_NE(trace.error().message.find(word), std::string::npos) << trace.error().message;
  }
}

TEST(TraceServer, makes_one_event_of_a_transaction_that_comes_twice) {
  const Trace trace = session_of(1);
  TraceServer server(trace);
  server.handle_request(kStart, 1, asking(trace[2]));
  server.handle_request(kStart, 2, asking(trace[2]));
  EXPECT_EQ(as_text(server.poll_answer()->response.body), trace[2].response);
  EXPECT_EQ(as_text(server.poll_answer()->response.body), trace[2].response);
  EXPECT_EQ(server.made()[2], 1u);
}

TEST(TraceServer, counts_the_same_message_under_two_names_twice) {
  const Trace trace = session_of(1);
  TraceServer server(trace);
  server.handle_request(kStart, 1, asking(trace[2]));
  Exchange renamed = trace[2];
  renamed.path.back() = '7';
  server.handle_request(kStart, 2, asking(renamed));
  EXPECT_EQ(server.made()[2], 2u);
}

TEST(TraceServer, echoes_a_transaction_by_the_name_that_it_was_asked_with) {
  const Trace trace = session_of(1);
  TraceServer server(trace);
  Exchange renamed = trace[2];
  renamed.path.replace(renamed.path.rfind('/'), std::string::npos, "/gw.5");
  server.handle_request(kStart, 1, asking(renamed));
  server.handle_request(kStart, 2, asking(trace[3]));
  (void)server.poll_answer();
  const auto sync = server.poll_answer();
  ASSERT_TRUE(sync);
  EXPECT_NE(as_text(sync->response.body).find(R"("transaction_id":"gw.5")"), std::string::npos);
}

TEST(TraceServer, holds_a_sync_until_the_sends_before_it_are_made_or_its_time_is_over) {
  const Trace trace = session_of(2);
  TraceServer server(trace);
  server.handle_request(kStart, 1, asking(trace[3]));
  EXPECT_FALSE(server.poll_answer());
  server.handle_request(kStart + 1s, 2, asking(trace[2]));
  EXPECT_EQ(server.poll_answer()->id, 2u);
  EXPECT_EQ(as_text(server.poll_answer()->response.body), trace[3].response);
  server.handle_request(kStart + 2s, 3, asking(trace[5]));
  EXPECT_EQ(server.next_deadline().at, kStart + 32s);
  server.handle_timeout(kStart + 32s);
  EXPECT_EQ(as_text(server.poll_answer()->response.body), R"({"next_batch":"s1"})");
  EXPECT_EQ(server.made()[5], 0u);
}

TEST(TraceServer, forgets_a_poll_that_is_withdrawn) {
  const Trace trace = session_of(1);
  TraceServer server(trace);
  server.handle_request(kStart, 1, asking(trace[3]));
  server.withdraw(1);
  server.handle_timeout(kStart + 1h);
  EXPECT_FALSE(server.poll_answer());
  EXPECT_TRUE(server.next_deadline().at.is_never());
}

TEST(TraceServer, answers_404_to_what_the_trace_does_not_have_and_counts_it) {
  const Trace trace = session_of(1);
  TraceServer server(trace);
  server.handle_request(kStart, 1, {"GET", "/elsewhere", {}, {}});
  EXPECT_EQ(server.poll_answer()->response.status, 404);
  EXPECT_EQ(server.unknown(), 1u);
}

TEST(TraceDifference, tells_status_body_and_where) {
  const Trace trace = session_of(1);
  core::HttpResponse response = response_of(trace[2]);
  EXPECT_EQ(difference(trace[2], response, false), "");
  response.body[3] = '#';
  EXPECT_NE(difference(trace[2], response, false).find("byte 3"), std::string::npos);
  response.status = 502;
  EXPECT_NE(difference(trace[2], response, false).find("502 in place of 200"), std::string::npos);
  response = response_of(trace[2]);
  response.body = to_bytes(as_bytes(R"({"event_id":"$alias"})"));
  EXPECT_NE(difference(trace[2], response, false), "");
  EXPECT_EQ(difference(trace[2], response, true), "");
}

}  // namespace
}  // namespace ravine::lab
