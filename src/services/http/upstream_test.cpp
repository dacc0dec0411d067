// The upstream client against a raw server that answers by hand, well and badly, and against TLS servers with
// certificates of every kind.
#include "services/http/upstream.h"

#include <filesystem>
#include <map>

#include "services/http/fetcher.h"
#include "services/http/test_net.h"
#include "services/http/test_tls.h"

namespace ravine::services::http::test {
namespace {

using gateway::core::header_value;
using gateway::core::HttpRequest;
using gateway::core::HttpResponse;

class Upstream : public testing::Test {
 protected:
  void make(UpstreamOptions options = {}) {
    if (options.base.empty()) options.base = server_.url();
    auto made = UpstreamClient::make(loop_, std::move(options), resolver(), Log());
    ASSERT_TRUE(made.ok()) << made.error().message;
    client_ = std::move(*made);
  }
  Resolver resolver() {
    return [this](const std::string& host, std::function<void(Addresses)> done) {
      ++looked_up_[host];
      if (host.ends_with(".example")) return done(std::vector{IpAddress::v4({127, 0, 0, 1})});
      done(Error{ErrorKind::not_found, "no such host"});
    };
  }
  void send(UpstreamId id, HttpRequest request, Duration timeout = 10s, bool long_poll = false) {
    client_->send(id, std::move(request), timeout, long_poll,
                  [this](UpstreamId done, UpstreamClient::Outcome outcome) {
                    EXPECT_TRUE(outcomes_.emplace(done, std::move(outcome)).second);
                  });
  }
  void get(UpstreamId id, std::string target = "/", Duration timeout = 10s, bool long_poll = false) {
    send(id, {"GET", std::move(target), {}, {}}, timeout, long_poll);
  }
  bool wait_for(UpstreamId id) {
    return run_until(loop_, [&] { return outcomes_.contains(id); });
  }
  HttpResponse response(UpstreamId id) {
    EXPECT_TRUE(wait_for(id));
    const auto* response = std::get_if<HttpResponse>(&outcomes_[id]);
    EXPECT_NE(response, nullptr) << client_->last_error();
    return response != nullptr ? *response : HttpResponse{};
  }
  std::optional<UpstreamError> failure(UpstreamId id) {
    EXPECT_TRUE(wait_for(id));
    const auto* error = std::get_if<UpstreamError>(&outcomes_[id]);
    return error != nullptr ? std::optional(*error) : std::nullopt;
  }
  // What a fresh client makes of `answer` to its request; the server then ends when `ends`.
  UpstreamClient::Outcome outcome_of(std::string_view answer, bool ends = true, std::string method = "GET") {
    make({.max_head = 2000, .max_body = 1000});
    send(1, {std::move(method), "/", {}, {}}, 2s);
    RawPeer peer = server_.accept();
    peer.wait_for("\r\n\r\n");
    peer.send(answer);
    if (ends) peer.close();
    EXPECT_TRUE(wait_for(1));
    auto outcome = std::move(outcomes_[1]);
    outcomes_.clear();
    return outcome;
  }
  std::string body_of(std::string_view answer, bool ends = true, std::string method = "GET") {
    const auto outcome = outcome_of(answer, ends, std::move(method));
    const auto* response = std::get_if<HttpResponse>(&outcome);
    return response == nullptr ? "no response"
                               : std::to_string(response->status) + " " + text_of(response->body);
  }
  std::optional<UpstreamError> error_of(std::string_view answer, bool ends = true) {
    const auto outcome = outcome_of(answer, ends);
    const auto* error = std::get_if<UpstreamError>(&outcome);
    return error != nullptr ? std::optional(*error) : std::nullopt;
  }

  boost::asio::io_context loop_;
  RawServer server_{loop_};
  std::unique_ptr<UpstreamClient> client_;
  std::map<UpstreamId, UpstreamClient::Outcome> outcomes_;
  std::map<std::string, int> looked_up_;
};

constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

TEST_F(Upstream, sends_requests_with_its_own_framing_behind_the_prefix) {
  make({.base = server_.url() + "/base/", .host_header = "matrix.example"});
  send(1, {"POST",
           "/a?b",
           {{"Host", "client.example"},
            {"Connection", "x-hop"},
            {"X-Hop", "1"},
            {"Content-Length", "77"},
            {"Transfer-Encoding", "chunked"},
            {"Expect", "100-continue"},
            {"Content-Encoding", "gzip"}},
           to_bytes(as_bytes("\x1f\x8b"))});
  RawPeer peer = server_.accept();
  EXPECT_EQ(peer.wait_for("\x1f\x8b"),
            "POST /base/a?b HTTP/1.1\r\nHost: matrix.example\r\nContent-Encoding: gzip\r\n"
            "Content-Length: 2\r\n\r\n\x1f\x8b");
  peer.send(kOk);
  EXPECT_EQ(text_of(response(1).body), "ok");
}

TEST_F(Upstream, uses_its_connection_again) {
  make();
  get(1);
  RawPeer peer = server_.accept();
  for (UpstreamId id = 1; id < 5; ++id) {
    peer.wait_for("\r\n\r\n");
    peer.forget();
    peer.send(kOk);
    response(id);
    get(id + 1);
  }
  EXPECT_EQ(client_->counters().connects, 1u);
}

TEST_F(Upstream, reads_every_framing_of_a_response) {
  EXPECT_EQ(body_of(kOk, false), "200 ok");
  EXPECT_EQ(
      body_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: x\r\n\r\n",
              false),
      "200 abc");
  EXPECT_EQ(body_of("HTTP/1.1 200 OK\r\n\r\nuntil the end"), "200 until the end");
  EXPECT_EQ(body_of("HTTP/1.0 404 Not Found\r\n\r\nnone"), "404 none");
  EXPECT_EQ(body_of("HTTP/1.1 204 No Content\r\n\r\n", false), "204 ");
  EXPECT_EQ(body_of("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false), "304 ");
  EXPECT_EQ(body_of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, "HEAD"), "200 ");
  EXPECT_EQ(
      body_of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + std::string(kOk),
              false),
      "200 ok");
  EXPECT_EQ(body_of("HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", false), "no response");
  EXPECT_EQ(body_of("HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n", false), "299 ");
}

TEST_F(Upstream, tells_malformed_responses) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  const std::vector<std::string> malformed{
      "",
      "HTTP/1.1 200",
      "nonsense\r\n\r\n",
      ok + "Content-Length: 5\r\n\r\nabc",
      ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
      ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      ok + "Transfer-Encoding: gzip\r\n\r\nabc",
      ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
      ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
      ok + "Transfer-Encoding: chunked\r\n\r\n2\nab\n0\n\n",
      ok + "X: a\r\n folded\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\n\r\n",
      "HTTP/1.1 700 Odd\r\nContent-Length: 0\r\n\r\n",
      "HTTP/2.0 200 OK\r\n\r\n",
  };
  for (const std::string& answer : malformed) EXPECT_EQ(error_of(answer), UpstreamError::malformed) << answer;
  std::string interim;
  for (int i = 0; i < 40; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
  EXPECT_EQ(error_of(interim, false), UpstreamError::malformed);
}

TEST_F(Upstream, takes_no_more_than_its_limits) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  EXPECT_EQ(error_of(ok + "X: " + std::string(4000, 'x'), false), UpstreamError::too_large);
  std::string fields = ok;
  for (int i = 0; i < 300; ++i) fields += "a:\r\n";
  EXPECT_EQ(error_of(fields, false), UpstreamError::too_large);
  EXPECT_EQ(error_of(ok + "Content-Length: 1000000000\r\n\r\n", false), UpstreamError::too_large);
  EXPECT_EQ(error_of(ok + "Transfer-Encoding: chunked\r\n\r\n3E9\r\n", false), UpstreamError::too_large);
  EXPECT_EQ(error_of(ok + "\r\n" + std::string(1001, 'x'), false), UpstreamError::too_large);
  EXPECT_EQ(client_->counters().open, 0u);
}

TEST_F(Upstream, ends_a_request_whose_server_stalls_or_drips) {
  make();
  get(1, "/", 100ms);
  RawPeer silent = server_.accept();
  EXPECT_EQ(failure(1), UpstreamError::timed_out);
  silent.wait_for_end();
  get(2, "/", 200ms);
  RawPeer dripping = server_.accept();
  dripping.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
  EXPECT_TRUE(run_until(loop_, [&] {
    if (!outcomes_.contains(2)) dripping.send("x");
    return outcomes_.contains(2);
  }));
  EXPECT_EQ(failure(2), UpstreamError::timed_out);
}

TEST_F(Upstream, repeats_a_request_on_a_fresh_connection_when_the_kept_one_was_closed) {
  make();
  for (const char* method : {"GET", "PUT", "POST"}) {
    outcomes_.clear();
    get(1);
    RawPeer first = server_.accept();
    first.wait_for("\r\n\r\n");
    first.send(kOk);
    response(1);
    send(2, {method, "/", {}, {}});
    first.forget();
    first.wait_for("\r\n\r\n");
    first.close();
    if (method == std::string_view("POST")) {
      EXPECT_EQ(failure(2), UpstreamError::malformed);
      EXPECT_FALSE(server_.has_waiting());
      continue;
    }
    RawPeer second = server_.accept();
    second.wait_for(std::string(method) + " / ");
    second.close();  // a fresh one that fails is not tried again
    EXPECT_EQ(failure(2), UpstreamError::malformed);
    EXPECT_FALSE(server_.has_waiting());
  }
  EXPECT_EQ(client_->counters().retried, 2u);
}

TEST_F(Upstream, notices_that_an_idle_connection_was_closed) {
  make();
  get(1);
  RawPeer first = server_.accept();
  first.send(kOk);
  response(1);
  first.close();
  EXPECT_TRUE(run_until(loop_, [&] { return client_->counters().open == 0; }));
  send(2, {"POST", "/", {}, {}});
  RawPeer second = server_.accept();
  second.send(kOk);
  EXPECT_EQ(response(2).status, 200);
}

TEST_F(Upstream, drops_a_connection_that_sent_more_than_its_response) {
  make();
  get(1);
  RawPeer peer = server_.accept();
  peer.send(std::string(kOk) + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  EXPECT_EQ(text_of(response(1).body), "ok");
  EXPECT_EQ(client_->counters().open, 0u);
}

TEST_F(Upstream, takes_an_answer_that_comes_before_the_request_is_sent) {
  make();
  send(1, {"PUT", "/", {}, Bytes(std::size_t{32} << 20)});
  RawPeer peer = server_.accept();
  peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(response(1).status, 413);
  EXPECT_EQ(client_->counters().open, 0u);
}

TEST_F(Upstream, queues_what_is_over_the_connection_limit) {
  make({.max_connections = 2, .max_waiting = 3});
  get(1, "/1");
  RawPeer one = server_.accept();
  get(2, "/2");
  RawPeer two = server_.accept();
  for (UpstreamId id = 3; id <= 6; ++id) get(id, "/" + std::to_string(id));
  EXPECT_EQ(failure(6), UpstreamError::unreachable);
  EXPECT_FALSE(server_.has_waiting());
  for (const UpstreamId id : {1, 3, 4, 5}) {
    one.wait_for("GET /" + std::to_string(id));
    one.send(kOk);
    response(id);
  }
  two.send(kOk);
  response(2);
  EXPECT_EQ(client_->counters().connects, 2u);
}

TEST_F(Upstream, long_polls_leave_connections_to_other_requests) {
  make({.max_connections = 1, .max_poll_connections = 2});
  for (UpstreamId id = 1; id <= 3; ++id) get(id, "/sync", 10s, true);
  RawPeer first = server_.accept();
  RawPeer second = server_.accept();
  get(4, "/now");
  RawPeer third = server_.accept();
  third.wait_for("/now");
  third.send(kOk);
  response(4);
  EXPECT_EQ(outcomes_.size(), 1u);
}

TEST_F(Upstream, cancelling_closes_the_connection_and_frees_its_place) {
  make({.max_connections = 1});
  get(1);
  get(2);
  get(3);
  RawPeer first = server_.accept();
  first.wait_for("\r\n\r\n");
  client_->cancel(2);
  client_->cancel(1);
  client_->cancel(99);
  first.wait_for_end();
  RawPeer next = server_.accept();
  next.send(kOk);
  response(3);
  EXPECT_FALSE(outcomes_.contains(1) || outcomes_.contains(2));
  EXPECT_EQ(client_->counters().waiting, 0u);
}

TEST_F(Upstream, tells_unreachable_servers) {
  make();
  server_.close();
  get(1);
  EXPECT_EQ(failure(1), UpstreamError::unreachable);
  EXPECT_NE(client_->last_error().find("refused"), std::string::npos) << client_->last_error();
  make({.base = "http://nowhere.invalid"});
  get(2);
  EXPECT_EQ(failure(2), UpstreamError::unreachable);
  EXPECT_NE(client_->last_error().find("no such host"), std::string::npos);
}

TEST_F(Upstream, sends_no_request_that_could_be_read_in_another_way) {
  make({.base = server_.url() + "/base"});
  UpstreamId id = 0;
  for (const char* target : {"", "x", "//../admin", "/../admin", "/a/%2e%2E/b", "/a%2f..%5Cb", "/a b",
                             "/a\r\nb", "/a#b", "http://other/", "*"}) {
    get(++id, target);
    EXPECT_EQ(failure(id), UpstreamError::malformed) << target;
  }
  const std::vector<gateway::core::Headers> bad{
      {{"X\r\nY", "1"}}, {{"X", "1\r\nY: 2"}}, {{"", "1"}}, {{"X ", "1"}}};
  for (const auto& headers : bad) {
    send(++id, {"GET", "/", headers, {}});
    EXPECT_EQ(failure(id), UpstreamError::malformed);
  }
  send(++id, {"GET /x", "/", {}, {}});
  EXPECT_EQ(failure(id), UpstreamError::malformed);
  EXPECT_EQ(client_->counters().connects, 0u);
}

TEST_F(Upstream, refuses_bases_that_are_no_servers) {
  for (const char* base : {"", "example.org", "ftp://a", "http://", "http://a:99999", "http://u@a",
                           "http://a/?q", "http://a/../b", "http://a b"}) {
    const auto made = UpstreamClient::make(loop_, {.base = base}, resolver(), Log());
    ASSERT_FALSE(made.ok()) << base;
    EXPECT_EQ(made.error().kind, ErrorKind::invalid_argument);
  }
  EXPECT_FALSE(UpstreamClient::make(loop_, {.base = "https://a", .tls = {.ca_file = "/nowhere.pem"}},
                                    resolver(), Log())
                   .ok());
}

TEST_F(Upstream, may_be_destroyed_with_requests_at_work) {
  make({.max_connections = 1});
  get(1);
  get(2);
  RawPeer peer = server_.accept();
  client_.reset();
  peer.wait_for_end();
  EXPECT_TRUE(outcomes_.empty());
}

class UpstreamTls : public Upstream {
 protected:
  // Serves one request over TLS with a certificate of that kind, and returns what the client sees.
  UpstreamClient::Outcome ask(TestTls::Kind kind, TlsOptions tls, const std::string& host = "web.example") {
    TestTls server(loop_, kind);
    if (tls.ca_file == "own") tls.ca_file = server.ca_file();
    make({.base = "https://" + host + ":" + std::to_string(server.address().port), .tls = tls});
    get(1);
    server.serve([&] { return outcomes_.contains(1); });
    sni_ = server.server_name();
    EXPECT_TRUE(wait_for(1));
    auto outcome = std::move(outcomes_[1]);
    outcomes_.clear();
    return outcome;
  }
  static bool is_ok(const UpstreamClient::Outcome& outcome) {
    const auto* response = std::get_if<HttpResponse>(&outcome);
    return response != nullptr && text_of(response->body) == "secret";
  }
  static bool is_unreachable(const UpstreamClient::Outcome& outcome) {
    const auto* error = std::get_if<UpstreamError>(&outcome);
    return error != nullptr && *error == UpstreamError::unreachable;
  }
  std::string sni_;
};

TEST_F(UpstreamTls, accepts_a_certificate_for_the_name_from_a_known_authority) {
  EXPECT_TRUE(is_ok(ask(TestTls::Kind::good, {.ca_file = "own"}))) << client_->last_error();
  EXPECT_EQ(sni_, "web.example");
  EXPECT_TRUE(is_ok(ask(TestTls::Kind::good, {.ca_file = "own"}, "127.0.0.1"))) << client_->last_error();
  EXPECT_EQ(sni_, "");
}

TEST_F(UpstreamTls, refuses_other_certificates_and_says_why) {
  EXPECT_TRUE(is_unreachable(ask(TestTls::Kind::good, {.ca_file = "own"}, "other.example")));
  EXPECT_NE(client_->last_error().find("hostname mismatch"), std::string::npos) << client_->last_error();
  EXPECT_TRUE(is_unreachable(ask(TestTls::Kind::expired, {.ca_file = "own"})));
  EXPECT_NE(client_->last_error().find("expired"), std::string::npos) << client_->last_error();
  EXPECT_TRUE(is_unreachable(ask(TestTls::Kind::self_signed, {.ca_file = "own"})));
  EXPECT_NE(client_->last_error().find("self-signed"), std::string::npos) << client_->last_error();
  EXPECT_TRUE(is_unreachable(ask(TestTls::Kind::good, {})));
  EXPECT_NE(client_->last_error().find("certificate is not accepted"), std::string::npos);
}

TEST_F(UpstreamTls, accepts_anything_only_when_told_to) {
  EXPECT_TRUE(is_ok(ask(TestTls::Kind::self_signed, {.verify = false}, "other.example")));
}

TEST_F(UpstreamTls, takes_a_body_without_a_length_only_with_a_proper_end) {
  EXPECT_TRUE(is_ok(ask(TestTls::Kind::unframed, {.ca_file = "own"})));
  const auto cut = ask(TestTls::Kind::truncated, {.ca_file = "own"});
  ASSERT_TRUE(std::holds_alternative<UpstreamError>(cut));
  EXPECT_EQ(std::get<UpstreamError>(cut), UpstreamError::malformed);
}

TEST_F(UpstreamTls, tells_a_server_without_tls) {
  make({.base = "https://" + server_.address().to_text()});
  get(1);
  RawPeer peer = server_.accept();
  peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
  EXPECT_EQ(failure(1), UpstreamError::unreachable);
}

class Fetching : public Upstream {
 protected:
  void allow(std::vector<std::string> hosts) {
    auto made = Fetcher::make(loop_, {.allowed = std::move(hosts), .allow_http = true}, resolver(), Log());
    ASSERT_TRUE(made.ok());
    fetcher_ = std::move(*made);
  }
  Result<> fetch(UpstreamId id, const std::string& url) {
    return fetcher_->fetch(id, url, {"GET", "", {{"Authorization", "token"}}, {}}, 10s,
                           [this](UpstreamId done, UpstreamClient::Outcome outcome) {
                             outcomes_.emplace(done, std::move(outcome));
                           });
  }
  std::string at(const std::string& host, const std::string& path = "/") {
    return "http://" + host + ":" + std::to_string(server_.address().port) + path;
  }
  std::string entry(const std::string& host) { return host + ":" + std::to_string(server_.address().port); }
  std::unique_ptr<Fetcher> fetcher_;
};

TEST_F(Fetching, reaches_allowed_hosts_only) {
  allow({entry("one.example"), "two.example"});
  EXPECT_TRUE(fetch(1, at("ONE.example", "/.well-known/matrix/server")).ok());
  RawPeer peer = server_.accept();
  peer.wait_for("GET /.well-known/matrix/server HTTP/1.1\r\nHost: ONE.example:");
  peer.send(kOk);
  ASSERT_TRUE(wait_for(1));
  EXPECT_TRUE(std::holds_alternative<HttpResponse>(outcomes_[1]));
  for (const std::string& url :
       {at("two.example"), at("127.0.0.1"), at("xone.example"), at("one.example.evil.example"),
        std::string("https://one.example/"), std::string("http://two.example:8000/")}) {
    const auto refused = fetch(2, url);
    ASSERT_FALSE(refused.ok()) << url;
    EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  }
  EXPECT_EQ(fetch(2, "file:///etc/passwd").error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(looked_up_.size(), 1u);
}

TEST_F(Fetching, follows_redirects_to_allowed_hosts_without_the_token) {
  allow({entry("one.example"), entry("two.example")});
  EXPECT_TRUE(fetch(1, at("one.example", "/a")).ok());
  RawPeer first = server_.accept();
  first.wait_for("Authorization: token");
  first.send("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /b\r\n\r\n");
  first.wait_for("GET /b ");
  first.send("HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: " + at("two.example", "/c") + "\r\n\r\n");
  RawPeer second = server_.accept();
  EXPECT_EQ(second.wait_for("\r\n\r\n").find("Authorization"), std::string::npos);
  second.send("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + at("three.example") + "\r\n\r\n");
  ASSERT_TRUE(wait_for(1));
  ASSERT_TRUE(std::holds_alternative<HttpResponse>(outcomes_[1]));
  EXPECT_EQ(std::get<HttpResponse>(outcomes_[1]).status, 302);
  EXPECT_FALSE(looked_up_.contains("three.example"));
}

TEST_F(Fetching, ends_redirect_loops) {
  allow({entry("one.example")});
  EXPECT_TRUE(fetch(1, at("one.example")).ok());
  RawPeer peer = server_.accept();
  for (int i = 0; i < 6; ++i) {
    peer.wait_for("\r\n\r\n");
    peer.forget();
    peer.send("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /\r\n\r\n");
  }
  EXPECT_TRUE(wait_for(1));
}

}  // namespace
}  // namespace ravine::services::http::test
