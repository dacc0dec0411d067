// The HTTP server against raw sockets with chosen bytes, and against curl.
#include "services/http/http_server.h"

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <fstream>

#include "services/http/http_text.h"
#include "services/http/test_net.h"

namespace ravine::services::http::test {
namespace {

using namespace std::string_literals;
using gateway::core::header_value;
using gateway::core::HttpRequest;
using gateway::core::HttpResponse;

struct Asked {
  HttpId id;
  HttpRequest request;
};

class Server : public testing::Test {
 protected:
  void start(HttpServerOptions options = {}) {
    options.listen = {kAnyPort};
    server_ = std::make_unique<HttpServer>(
        loop_, options,
        [this](HttpId id, HttpRequest request) {
          if (answer_) {
            server_->respond(id, answer_(request));
          } else {
            asked_.push_back({id, std::move(request)});
          }
        },
        [this](HttpId id) { gone_.push_back(id); }, Log());
    auto started = server_->start();
    ASSERT_TRUE(started.ok()) << started.error().message;
    address_ = started->front();
  }
  RawPeer connect() { return RawPeer::connect(loop_, address_); }
  Asked next() {
    EXPECT_TRUE(run_until(loop_, [&] { return !asked_.empty(); }));
    if (asked_.empty()) return {};
    Asked asked = std::move(asked_.front());
    asked_.pop_front();
    return asked;
  }
  // What a fresh connection gets for `bytes`, after which it must end.
  std::string refused(std::string_view bytes) {
    auto client = connect();
    client.send(bytes);
    const std::string answer = client.wait_for_end();
    EXPECT_TRUE(asked_.empty()) << bytes;
    return answer.substr(0, 12);
  }
  static HttpResponse text(std::uint16_t status, std::string_view body) {
    return {status, {{"Content-Type", "text/plain"}}, to_bytes(as_bytes(body))};
  }

  boost::asio::io_context loop_;
  std::unique_ptr<HttpServer> server_;
  SocketAddress address_;
  std::deque<Asked> asked_;
  std::vector<HttpId> gone_;
  std::function<HttpResponse(const HttpRequest&)> answer_;
};

TEST_F(Server, hands_requests_over_as_they_came_and_keeps_the_connection) {
  start();
  auto client = connect();
  for (int round = 0; round < 3; ++round) {
    client.send(
        "PUT /a%20b?c=d&e HTTP/1.1\r\nHost: one.example\r\nX-Odd:  two  words \r\n"
        "Content-Length: 5\r\n\r\nhello");
    const Asked asked = next();
    EXPECT_EQ(asked.request.method, "PUT");
    EXPECT_EQ(asked.request.target, "/a%20b?c=d&e");
    EXPECT_EQ(header_value(asked.request.headers, "x-odd"), "two  words");
    EXPECT_EQ(text_of(asked.request.body), "hello");
    server_->respond(asked.id, text(201, "made"));
    const std::string answer = client.wait_for("\r\n\r\nmade");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 201 Created\r\n")) << answer;
    EXPECT_NE(answer.find("\r\nContent-Length: 4\r\n"), std::string::npos);
    EXPECT_NE(answer.find("\r\nDate: "), std::string::npos);
    client.forget();
  }
  EXPECT_EQ(server_->counters().accepted, 1u);
  EXPECT_EQ(server_->counters().requests, 3u);
}

TEST_F(Server, reads_requests_that_come_byte_by_byte) {
  start();
  auto client = connect();
  for (const char c : std::string_view("\r\nPOST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                                       "3;a=b\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Trailer: no\r\n\r\n")) {
    client.send(std::string_view(&c, 1));
    loop_.restart();
    loop_.poll();
  }
  const Asked asked = next();
  EXPECT_EQ(text_of(asked.request.body), "abc0123456789");
  EXPECT_EQ(header_value(asked.request.headers, "x-trailer"), "");
}

TEST_F(Server, reads_an_empty_chunked_body_that_comes_byte_by_byte) {
  start();
  auto client = connect();
  client.send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char c : std::string_view("0\r\n\r\n")) {
    client.send(std::string_view(&c, 1));
    loop_.restart();
    loop_.poll();
  }
  EXPECT_TRUE(next().request.body.empty());
}

TEST_F(Server, answers_pipelined_requests_in_order) {
  start();
  auto client = connect();
  client.send(
      "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
      "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
  for (const char* target : {"/1", "/2", "/3"}) {
    const Asked asked = next();
    EXPECT_EQ(asked.request.target, target);
    server_->respond(asked.id, text(200, "answer to " + asked.request.target));
  }
  const std::string all = client.wait_for("answer to /3");
  EXPECT_LT(all.find("answer to /1"), all.find("answer to /2"));
}

TEST_F(Server, answers_thousands_of_pipelined_requests_at_once_without_deep_recursion) {
  start();
  answer_ = [](const HttpRequest&) { return text(200, "x"); };
  auto client = connect();
  std::string many;
  for (int i = 0; i < 5000; ++i) many += "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  client.send(many + "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  client.wait_for_end();
  EXPECT_EQ(server_->counters().responses, 5001u);
}

TEST_F(Server, sends_no_body_with_head_204_and_304) {
  start();
  answer_ = [](const HttpRequest& request) {
    HttpResponse response = text(200, "body");
    if (request.target == "/204") response.status = 204;
    if (request.target == "/304") {
      response.status = 304;
      response.body.clear();
      response.headers.emplace_back("Content-Length", "77");
    }
    return response;
  };
  auto client = connect();
  client.send("HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_NE(client.wait_for("\r\n\r\n").find("Content-Length: 4\r\n"), std::string::npos);
  client.send("GET /204 HTTP/1.1\r\nHost: h\r\n\r\n");
  client.wait_for("204 No Content");
  client.send("GET /304 HTTP/1.1\r\nHost: h\r\n\r\n");
  client.wait_for("Content-Length: 77\r\n");
  client.send("GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const std::string all = client.wait_for_end();
  EXPECT_EQ(all.find("body"), all.size() - 4);  // in the last answer alone
}

TEST_F(Server, speaks_http_1_0) {
  start();
  answer_ = [](const HttpRequest&) { return text(200, "x"); };
  auto client = connect();
  client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_NE(client.wait_for("\r\n\r\nx").find("Connection: keep-alive\r\n"), std::string::npos);
  client.forget();
  client.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_NE(client.wait_for_end().find("Connection: close\r\n"), std::string::npos);
}

TEST_F(Server, asks_for_a_body_that_waits_for_100_continue) {
  start();
  auto client = connect();
  client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.wait_for("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("abc");
  EXPECT_EQ(text_of(next().request.body), "abc");
  EXPECT_EQ(refused("GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n"), "HTTP/1.1 417");
}

TEST_F(Server, turns_absolute_targets_into_origin_form) {
  start();
  auto client = connect();
  const auto ask = [&](std::string_view line) {
    client.send(std::string(line) + " HTTP/1.1\r\nHost: other.example\r\n\r\n");
    Asked asked = next();
    server_->respond(asked.id, text(200, ""));
    return asked.request.target + " " + std::string(header_value(asked.request.headers, "host"));
  };
  EXPECT_EQ(ask("GET http://one.example:8008/p?q"), "/p?q one.example:8008");
  EXPECT_EQ(ask("GET HTTP://one.example"), "/ one.example");
  EXPECT_EQ(ask("GET http://[::1]:80?q=http://x/"), "/?q=http://x/ [::1]:80");
  EXPECT_EQ(ask("OPTIONS http://one.example"), "* one.example");
  EXPECT_EQ(ask("OPTIONS *"), "* other.example");
}

TEST_F(Server, refuses_what_two_parsers_could_read_in_two_ways) {
  start();
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\n";
  const std::vector<std::string> shapes{
      head + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
      head + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
      head + "Content-Length: 3, 3\r\n\r\nabc",
      head + "Content-Length: +3\r\n\r\nabc",
      head + "Content-Length: 0x3\r\n\r\nabc",
      head + "Content-Length: -1\r\n\r\n",
      head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: identity\r\n\r\n",
      head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
      head +
          "Transfer-Encoding:\x0b"
          "chunked\r\n\r\n0\r\n\r\n",
      "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      head + "X: a\r\n folded\r\n\r\n",
      " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET / HTTP/1.1\nHost: h\n\n",
      "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n"s,
      "GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
      "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
      "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
      "GET /\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
      "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET http://user@h/ HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET http:///p HTTP/1.1\r\nHost: h\r\n\r\n",
      "GET ftp://h/p HTTP/1.1\r\nHost: h\r\n\r\n",
      "\x16\x03\x01\x02\x00\x01\x00"s,
      head + "Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
      head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\nabc\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n\r\n" + std::string(30000, '0'),
      head + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + std::string(30000, 'x'),
  };
  for (const std::string& shape : shapes) EXPECT_EQ(refused(shape), "HTTP/1.1 400") << shape.substr(0, 120);
  EXPECT_EQ(server_->counters().malformed, shapes.size());
  EXPECT_EQ(refused("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"), "HTTP/1.1 501");
}

TEST_F(Server, never_reads_a_second_request_behind_a_refused_one) {
  start();
  auto client = connect();
  client.send(
      "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
      "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = client.wait_for_end();
  EXPECT_TRUE(asked_.empty());
  EXPECT_EQ(answer.find("HTTP/1.1"), answer.rfind("HTTP/1.1"));
}

TEST_F(Server, refuses_a_large_body_before_it_is_read) {
  start({.max_body = 1000});
  auto client = connect();
  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n");
  client.wait_for("HTTP/1.1 413 ");
  EXPECT_LT(server_->counters().bytes_in, 1000u);
  EXPECT_EQ(refused("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n"),
            "HTTP/1.1 413");
  std::string chunks = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 11; ++i) chunks += "64\r\n" + std::string(100, 'x') + "\r\n";
  EXPECT_EQ(refused(chunks), "HTTP/1.1 413");
  EXPECT_EQ(server_->counters().too_large, 3u);
}

TEST_F(Server, tells_which_part_of_a_head_is_too_large) {
  start({.max_target = 100, .max_head = 2000});
  EXPECT_EQ(refused("GET /" + std::string(3000, 'x')), "HTTP/1.1 414");
  EXPECT_EQ(refused("GET /" + std::string(200, 'x') + " HTTP/1.1\r\nHost: h\r\n\r\n"), "HTTP/1.1 414");
  EXPECT_EQ(refused("GET / HTTP/1.1\r\nX: " + std::string(3000, 'x')), "HTTP/1.1 431");
  std::string fields = "GET / HTTP/1.1\r\nHost: h\r\n";
  for (int i = 0; i < 200; ++i) fields += "a:\r\n";
  EXPECT_EQ(refused(fields + "\r\n"), "HTTP/1.1 431");
}

TEST_F(Server, holds_no_more_bodies_than_its_limit) {
  start({.max_body = 1000, .max_buffered = 1500});
  auto first = connect();
  first.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'x'));
  const Asked asked = next();
  EXPECT_EQ(refused("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 600\r\n\r\n"), "HTTP/1.1 503");
  server_->respond(asked.id, text(200, "ok"));
  first.wait_for("200 OK");
  auto second = connect();
  second.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 600\r\n\r\n" + std::string(600, 'x'));
  EXPECT_EQ(next().request.body.size(), 600u);
}

TEST_F(Server, ends_connections_that_are_slow) {
  start({.head_timeout = 50ms, .body_timeout = 50ms, .idle_timeout = 50ms});
  EXPECT_EQ(refused("GET / HT"), "HTTP/1.1 408");
  EXPECT_EQ(refused("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"), "HTTP/1.1 408");
  EXPECT_EQ(refused(""), "");
  EXPECT_EQ(server_->counters().timed_out, 2u);
}

TEST_F(Server, drip_feeding_does_not_extend_the_time_for_a_head) {
  start({.head_timeout = 100ms});
  auto client = connect();
  client.send("GET / HTTP/1.1\r\n");
  const bool ended = run_until(loop_, [&] {
    client.send("a");
    return client.received().find("408") != std::string::npos;
  });
  EXPECT_TRUE(ended);
}

TEST_F(Server, ends_a_client_that_does_not_read) {
  start({.max_body = 100u << 20, .write_timeout = 100ms});
  answer_ = [](const HttpRequest&) { return HttpResponse{200, {}, Bytes(std::size_t{32} << 20)}; };
  auto client = connect();
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(run_until(loop_, [&] { return server_->counters().timed_out == 1; }));
  EXPECT_EQ(server_->counters().active, 0u);
}

TEST_F(Server, tells_when_a_client_leaves_before_its_response) {
  start();
  auto client = connect();
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const Asked asked = next();
  client.close();
  EXPECT_TRUE(run_until(loop_, [&] { return !gone_.empty(); }));
  EXPECT_EQ(gone_, std::vector<HttpId>{asked.id});
  server_->respond(asked.id, text(200, "late"));
  EXPECT_EQ(server_->counters().active, 0u);
  EXPECT_EQ(server_->counters().waiting, 0u);
}

TEST_F(Server, makes_room_by_closing_idle_connections_only) {
  start({.max_connections = 2});
  auto idle = connect();
  auto busy = connect();
  busy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const Asked asked = next();
  auto third = connect();
  third.send("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(next().request.target, "/3");
  idle.wait_for_end();
  auto fourth = connect();
  fourth.wait_for_end();
  EXPECT_EQ(server_->counters().over_limit, 1u);
  server_->respond(asked.id, text(200, "ok"));
  busy.wait_for("200 OK");
}

TEST_F(Server, frames_responses_itself_and_drops_fields_that_are_not_valid) {
  start();
  answer_ = [](const HttpRequest&) {
    return HttpResponse{200,
                        {{"Transfer-Encoding", "chunked"},
                         {"Content-Length", "999"},
                         {"Connection", "X-Hop, close"},
                         {"X-Hop", "1"},
                         {"Keep-Alive", "timeout=5"},
                         {"X-Split", "a\r\nX-Injected: b"},
                         {"bad name", "c"},
                         {"Content-Encoding", "gzip"}},
                        to_bytes(as_bytes("\x1f\x8b"))};
  };
  auto client = connect();
  client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = client.wait_for("\x1f\x8b");
  for (const char* unwanted : {"chunked", "999", "X-Hop", "Keep-Alive", "Injected", "bad name", "close"})
    EXPECT_EQ(answer.find(unwanted), std::string::npos) << unwanted << " in " << answer;
  EXPECT_NE(answer.find("Content-Encoding: gzip\r\n"), std::string::npos);
  EXPECT_NE(answer.find("Content-Length: 2\r\n"), std::string::npos);
}

TEST_F(Server, stopping_lets_waiting_requests_end) {
  start();
  auto idle = connect();
  auto busy = connect();
  busy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const Asked asked = next();
  server_->stop();
  idle.wait_for_end();
  server_->respond(asked.id, text(200, "last words"));
  EXPECT_NE(busy.wait_for_end().find("Connection: close"), std::string::npos);
}

TEST_F(Server, tells_when_its_port_is_taken) {
  start();
  HttpServer other(loop_, {.listen = {address_}}, {}, {}, Log());
  const auto started = other.start();
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().kind, ErrorKind::already_exists);
}

// Runs curl beside the loop.
class Curl : public Server {
 protected:
  std::string curl(const std::string& arguments) {
    const std::string command = "curl -sS -m 20 " + arguments + " 2>&1; printf ' exit %s' $?";
    FILE* pipe = ::popen(command.c_str(), "r");
    const int descriptor = ::fileno(pipe);
    Socket output = adopt(loop_, ::dup(descriptor));
    std::string text;
    EXPECT_TRUE(run_until(loop_, [&] {
      char chunk[65536];
      const ssize_t got = ::read(output.native_handle(), chunk, sizeof chunk);
      if (got > 0) text.append(chunk, static_cast<std::size_t>(got));
      return got == 0;
    }));
    ::pclose(pipe);
    return text;
  }
  std::string url(std::string_view path) { return "http://" + address_.to_text() + std::string(path); }
};

TEST_F(Curl, gets_posts_and_keeps_its_connection) {
  if (std::system("curl --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "curl is not installed";
  start();
  answer_ = [](const HttpRequest& request) {
    return text(200,
                request.method + " " + request.target + " " + std::to_string(request.body.size()) + "\n");
  };
  const std::string file = testing::TempDir() + "ravine-http-body";
  std::ofstream(file) << std::string(3000000, 'x');
  EXPECT_EQ(curl(url("/a") + " " + url("/b")), "GET /a 0\nGET /b 0\n exit 0");
  EXPECT_EQ(server_->counters().accepted, 1u);
  EXPECT_EQ(curl("--data-binary @" + file + " " + url("/c")), "POST /c 3000000\n exit 0");
  EXPECT_EQ(curl("-H 'Transfer-Encoding: chunked' -T " + file + " " + url("/d")), "PUT /d 3000000\n exit 0");
  EXPECT_EQ(curl("-x " + url("") + " http://matrix.example/e"), "GET /e 0\n exit 0");
  EXPECT_EQ(curl("-I -o /dev/null -w '%{http_code}' " + url("/f")), "200 exit 0");
  EXPECT_EQ(curl("-0 " + url("/g")), "GET /g 0\n exit 0");
  std::filesystem::remove(file);
}

TEST_F(Curl, sees_413_for_a_body_over_the_limit) {
  if (std::system("curl --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "curl is not installed";
  start({.max_body = 100000});
  const std::string file = testing::TempDir() + "ravine-http-large";
  std::ofstream(file) << std::string(3000000, 'x');
  for (const char* expect : {"", "-H Expect: "})
    EXPECT_EQ(
        curl(std::string(expect) + "-o /dev/null -w '%{http_code}' --data-binary @" + file + " " + url("/")),
        "413 exit 0");
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace ravine::services::http::test
