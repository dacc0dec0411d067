#include <gtest/gtest.h>

#include "gateway/coap/http_mapping.h"
#include "gateway/coap/uri.h"

namespace ravine::gateway::coap {
namespace {

Message get() {
  Message message;
  message.code = Code::get;
  return message;
}

TEST(Uri, a_target_survives_the_options_and_back) {
  for (const std::string target : {"/", "/a/b?x=1&y", "/_matrix/client/r0/rooms/!r:s/send/m.room.message/7",
                                   "/a//b/", "//", "/a%2Fb", "/a?q=%26", "/%C3%A4", "/a?", "/?x=a/b?c"}) {
    Message message = get();
    ASSERT_TRUE(add_target(message, target).ok()) << target;
    EXPECT_EQ(*target_of(message), target);
  }
}

TEST(Uri, a_long_segment_is_refused_with_a_reason_and_not_cut) {
  Message message = get();
  const Result<> outcome = add_target(message, "/" + std::string(256, 'a'));
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().kind, ErrorKind::limit_reached);
  Message fits = get();
  EXPECT_TRUE(add_target(fits, "/" + std::string(255, 'a')).ok());
}

TEST(Uri, nothing_that_http_takes_for_structure_passes) {
  for (const std::string target : {"/a%0d%0aX: y", "/a%00", "/a\r\nb", "/..", "/a/%2e%2e/b", "/.", "a", "/%4",
                                   "/%zz", "/a?x=%0A", "/x\x7f"}) {
    Message message = get();
    EXPECT_FALSE(add_target(message, target).ok()) << target;
  }
  for (const std::string& text :
       {std::string("a\r\nb"), std::string(".."), std::string("."), std::string("a\0b", 3)}) {
    Message message = get();
    message.add(kUriPath, as_bytes(text));
    EXPECT_FALSE(target_of(message).ok()) << text;
  }
  Message space = get();
  space.add(kUriPath, as_bytes("a b HTTP/1.1"));
  EXPECT_EQ(*target_of(space), "/a%20b%20HTTP%2F1.1");
}

TEST(Uri, a_plus_sign_that_cannot_be_told_from_a_space_is_refused) {
  Message message = get();
  EXPECT_EQ(add_target(message, "/a?q=1%2B1").error().kind, ErrorKind::unsupported);
}

TEST(Uri, proxy_uri_and_proxy_scheme_name_the_same_target) {
  Message by_uri = get();
  by_uri.add(kProxyUri, as_bytes("HTTP://Example.org:8008/a?b"));
  Message by_scheme = get();
  by_scheme.add(kProxyScheme, as_bytes("http"));
  by_scheme.add(kUriHost, as_bytes("example.org"));
  by_scheme.add_uint(kUriPort, 8008);
  ASSERT_TRUE(add_target(by_scheme, "/a?b").ok());
  for (const Message& message : {by_uri, by_scheme}) {
    const Result<ProxyTarget> proxy = proxy_target_of(message);
    ASSERT_TRUE(proxy.ok());
    EXPECT_TRUE(proxy->wanted);
    EXPECT_EQ(proxy->uri.scheme, "http");
    EXPECT_EQ(proxy->uri.host, "example.org");
    EXPECT_EQ(proxy->uri.port, 8008);
    EXPECT_EQ(proxy->uri.target, "/a?b");
  }
  EXPECT_FALSE(proxy_target_of(get())->wanted);
}

TEST(Uri, a_host_option_cannot_smuggle_an_authority) {
  for (const std::string host : {"a/b", "user@host", "a:80", "a b", "a\r\nHost: b", "a?x", "a#", ""}) {
    Message message = get();
    message.add(kProxyScheme, as_bytes("http"));
    message.add(kUriHost, as_bytes(host));
    EXPECT_FALSE(proxy_target_of(message).ok()) << host;
  }
}

TEST(HttpMapping, every_status_comes_back_exactly_with_the_option) {
  for (unsigned status = 100; status <= 599; ++status) {
    for (const Code method : {Code::get, Code::post, Code::put, Code::del}) {
      Message response;
      set_http_status(response, status, method);
      EXPECT_TRUE(is_response(response.code));
      EXPECT_EQ(exact_http_status(response, method_of_code(method)), status);
    }
  }
}

TEST(HttpMapping, the_usual_statuses_need_no_option) {
  for (const unsigned status :
       {200u, 201u, 304u, 400u, 401u, 403u, 404u, 405u, 409u, 413u, 429u, 500u, 502u, 503u, 504u}) {
    Message response;
    response.payload = {1};
    set_http_status(response, status, Code::get);
    EXPECT_FALSE(response.has(kHttpStatus)) << status;
  }
  EXPECT_EQ(code_of_http_status(413, Code::post), Code::request_entity_too_large);
  EXPECT_EQ(code_of_http_status(204, Code::del), Code::deleted);
  EXPECT_EQ(code_of_http_status(200, Code::post), Code::changed);
  EXPECT_EQ(code_of_http_status(302, Code::get), Code::bad_gateway);
}

TEST(HttpMapping, one_byte_holds_the_registered_statuses) {
  EXPECT_EQ(encode_http_status(418).size(), 1u);
  EXPECT_EQ(encode_http_status(599).size(), 2u);
  EXPECT_EQ(decode_http_status(Bytes{}), std::nullopt);
  EXPECT_EQ(decode_http_status(Bytes{0, 1}), std::nullopt);
}

TEST(HttpMapping, media_types_are_known_by_any_spelling) {
  EXPECT_EQ(content_format_of("application/json"), 50);
  EXPECT_EQ(content_format_of("Application/JSON; charset=\"UTF-8\""), 50);
  EXPECT_EQ(content_format_of("text/plain; charset=utf-8"), 0);
  EXPECT_EQ(content_format_of("text/plain; charset=latin1"), std::nullopt);
  EXPECT_EQ(content_format_of("text/html"), std::nullopt);
  EXPECT_EQ(media_type_of(60), "application/cbor");
  EXPECT_EQ(media_type_of(4711), "application/coap-payload;cf=4711");
  EXPECT_EQ(content_format_of(media_type_of(4711)), 4711);
  EXPECT_EQ(content_format_of("application/coap-payload;cf=70000"), std::nullopt);
}

TEST(HopLimit, counts_down_and_stops) {
  Message request = get();
  EXPECT_EQ(take_hop(request), HopOutcome::forward);
  for (unsigned left = 15; left >= 1; --left) {
    EXPECT_EQ(take_hop(request), HopOutcome::forward);
    EXPECT_EQ(request.uint_option(kHopLimit), left);
  }
  EXPECT_EQ(take_hop(request), HopOutcome::loop);
  request.set(kHopLimit, Bytes{0});
  EXPECT_EQ(take_hop(request), HopOutcome::invalid);
}

}  // namespace
}  // namespace ravine::gateway::coap
