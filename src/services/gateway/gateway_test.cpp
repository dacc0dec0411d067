// Near and far gateways over UDP on loopback.
#include "services/gateway/test_gateways.h"

namespace ravine::services::test {
namespace {

TEST_F(Gateways, carry_a_request_to_the_server_and_its_response_back) {
  answer_ = [](const HttpRequest& request) {
    return json(201, R"({"method":")" + request.method + R"(","body":")" + text_of(request.body) + R"("})");
  };
  start_both();
  const auto response =
      ask({"POST", "/a%20b?c=d&e", {{"content-type", "text/plain"}}, to_bytes(as_bytes("hi"))});
  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(text_of(response.body), R"({"method":"POST","body":"hi"})");
  ASSERT_EQ(upstream_->requests.size(), 1u);
  EXPECT_EQ(upstream_->requests[0].target, "/a%20b?c=d&e");
  EXPECT_EQ(header_value(upstream_->requests[0].headers, "content-type"), "text/plain");
}

TEST_F(Gateways, stand_in_one_process_with_one_store) {
  pair("out", near_store_, far_store_);
  pair("in", far_store_, near_store_);
  // This side is far for "in" and near for "out"; so is the other.
  auto far_here = far_options();
  auto started = FarService::start(context(), near_store_, far_here);
  ASSERT_TRUE(started.ok()) << started.error().message;
  const auto far_of_near_side = std::move(*started);
  start_far();
  auto options = near_options();
  options.peers[0].pairing = "out";
  start_near(options);
  auto back = near_options();
  back.listen = {kAnyPort};
  back.peers[0].pairing = "in";
  back.peers[0].peer = far_of_near_side->addresses().front().to_text();
  auto other = NearService::start(context(), far_store_, back);
  ASSERT_TRUE(other.ok()) << other.error().message;
  EXPECT_EQ(get("/there").status, 200);
  near_address_ = (*other)->addresses().front();
  EXPECT_EQ(get("/back").status, 200);
  EXPECT_EQ(transactions(), (std::set<std::string>{"/there", "/back"}));
}

TEST_F(Gateways, serve_several_near_sides_by_one_far_side) {
  pair("one");
  PairingStore second(directory_ + "/second");
  pair("two", second, far_store_);
  start_far();
  start_near();
  auto options = near_options();
  options.listen = {kAnyPort};
  options.peers[0].pairing = "two";
  auto other = NearService::start(context(), second, options);
  ASSERT_TRUE(other.ok()) << other.error().message;
  const SocketAddress first = near_address_;
  for (int round = 0; round < 3; ++round) {
    near_address_ = first;
    EXPECT_EQ(get("/first").status, 200);
    near_address_ = (*other)->addresses().front();
    EXPECT_EQ(get("/second").status, 200);
  }
  EXPECT_EQ(upstream_->requests.size(), 6u);
}

TEST_F(Gateways, choose_the_far_side_by_host) {
  pair("one");
  PairingStore second(directory_ + "/second");
  pair("two", near_store_, second);
  const auto other_server = start_server([](const HttpRequest&) { return json(200, R"("other")"); });
  auto second_far = far_options();
  second_far.upstream.base = other_server->url();
  auto other = FarService::start(context(), second, second_far);
  ASSERT_TRUE(other.ok()) << other.error().message;
  start_far();
  auto options = near_options();
  options.peers[0].hosts = {"one.example"};
  NearPeer to_other;
  to_other.pairing = "two";
  to_other.peer = (*other)->addresses().front().to_text();
  to_other.hosts = {"two.example"};
  options.peers.push_back(to_other);
  start_near(options);
  EXPECT_EQ(ask({"GET", "/", {{"host", "ONE.example:8448"}}, {}}).status, 200);
  EXPECT_EQ(text_of(ask({"GET", "/", {{"host", "two.example"}}, {}}).body), R"("other")");
  EXPECT_EQ(upstream_->requests.size(), 1u);
  EXPECT_EQ(other_server->requests.size(), 1u);
  const auto refused = ask({"GET", "/", {{"host", "three.example"}}, {}});
  EXPECT_EQ(refused.status, 502);
  EXPECT_NE(text_of(refused.body).find("--route"), std::string::npos) << text_of(refused.body);
}

TEST_F(Gateways, answer_preflights_without_the_link) {
  start_both();
  const auto response = ask({"OPTIONS",
                             "/_matrix/client/v3/login",
                             {{"origin", "https://app.example"}, {"access-control-request-method", "POST"}},
                             {}});
  EXPECT_TRUE(response.status == 200 || response.status == 204) << response.status;
  EXPECT_EQ(header_value(response.headers, "access-control-allow-origin"), "*");
  EXPECT_TRUE(upstream_->requests.empty());
  EXPECT_EQ(far_->transport().counters().datagrams_in, 0u);
}

TEST_F(Gateways, make_keys_by_a_handshake_when_the_pairing_says_so) {
  StoredPairing pairing;
  pairing.name = "one";
  pairing.role = gateway::security::Role::far;
  pairing.keys = KeySource::handshake;
  pairing.code = gateway::security::Pairing::make(gateway::security::Role::near, std::nullopt, random_);
  const auto key = gateway::security::StaticKey::random(random_);
  pairing.local_static = key.private_key;
  pairing.code.remote_static = key.public_key;
  ASSERT_TRUE(far_store_.add(pairing).ok());
  pairing.role = gateway::security::Role::near;
  pairing.local_static = gateway::security::StaticKey::random(random_).private_key;
  ASSERT_TRUE(near_store_.add(pairing).ok());
  start_far();
  start_near();
  EXPECT_EQ(peer_field(near_->status(), "protection"), "no keys yet");
  EXPECT_EQ(get("/").status, 200);
  EXPECT_EQ(near_->status().at("pairings").at(0).at("link").at("handshakes"), 1);
}

TEST_F(Gateways, say_what_is_wrong_when_the_pairings_differ) {
  PairingStore unused(directory_ + "/unused");
  pair("one", near_store_, unused);
  PairingStore elsewhere(directory_ + "/elsewhere");
  pair("one", elsewhere, far_store_);
  start_far();
  auto options = near_options();
  options.gateway_timeout = 300ms;
  start_near(options);
  const auto response = ask(send_request("1"));
  EXPECT_EQ(response.status, 504);
  const std::string body = text_of(response.body);
  EXPECT_NE(body.find("errcode"), std::string::npos) << body;
  EXPECT_NE(body.find("pairing"), std::string::npos) << body;
  EXPECT_TRUE(upstream_->requests.empty());
}

TEST_F(Gateways, say_that_the_server_cannot_be_reached) {
  pair();
  auto options = far_options();
  http::test::RawServer gone(loop_);
  options.upstream.base = gone.url();
  gone.close();
  start_far(options);
  start_near();
  const auto response = ask(send_request("1"));
  EXPECT_EQ(response.status, 502);
  EXPECT_EQ(header_value(response.headers, "content-type"), "application/json");
  EXPECT_NE(text_of(response.body).find("errcode"), std::string::npos) << text_of(response.body);
}

TEST_F(Gateways, give_up_on_a_server_that_never_answers) {
  pair();
  answer_ = [](const HttpRequest&) { return std::nullopt; };
  auto options = far_options();
  options.upstream_timeout = 100ms;
  start_far(options);
  start_near();
  EXPECT_EQ(get("/slow").status, 504);
  EXPECT_EQ(upstream_->requests.size(), 1u);
}

TEST_F(Gateways, refuse_a_body_that_is_too_large_before_it_is_sent) {
  pair();
  start_far();
  auto options = near_options();
  options.tuning.max_body = 1000;
  start_near(options);
  const auto response = ask({"POST", "/", {}, Bytes(1001, 'x')});
  EXPECT_EQ(response.status, 413);
  EXPECT_TRUE(upstream_->requests.empty());
}

TEST_F(Gateways, carry_large_bodies_both_ways) {
  const Bytes large = [this] {
    Bytes made(200000);
    random_.fill(made);
    return made;
  }();
  answer_ = [](const HttpRequest& request) {
    return HttpResponse{200, {{"content-type", "application/octet-stream"}}, request.body};
  };
  start_both();
  const auto response = ask({"POST", "/media", {{"content-type", "application/octet-stream"}}, large});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, large);
}

TEST_F(Gateways, do_not_listen_beyond_loopback_unasked) {
  pair();
  start_far();
  auto options = near_options();
  options.listen = {{IpAddress::v4({0, 0, 0, 0}), 0}};
  const auto refused = NearService::start(context(), near_store_, options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
  EXPECT_NE(refused.error().message.find("--allow-remote"), std::string::npos);
}

TEST_F(Gateways, encrypt_on_udp_whatever_they_are_told) {
  pair();
  auto far = far_options();
  far.tuning.plain_point_to_point = true;
  EXPECT_EQ(FarService::start(context(), far_store_, far).error().kind, ErrorKind::refused);
  start_far();
  auto near = near_options();
  near.tuning.plain_point_to_point = true;
  EXPECT_EQ(NearService::start(context(), near_store_, near).error().kind, ErrorKind::refused);
}

TEST_F(Gateways, tell_far_from_near_pairings) {
  pair();
  start_far();
  auto options = near_options();
  EXPECT_NE(NearService::start(context(), far_store_, options).error().kind, ErrorKind::internal);
  far_.reset();
  const auto wrong = NearService::start(context(), far_store_, options);
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message.find("far gateway"), std::string::npos) << wrong.error().message;
}

TEST_F(Gateways, use_a_pairing_in_one_process_at_a_time) {
  start_both();
  auto options = near_options();
  options.listen = {kAnyPort};
  const auto second = NearService::start(context(), near_store_, options);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, ErrorKind::already_exists);
}

TEST_F(Gateways, count_what_each_kind_of_route_takes) {
  start_both();
  EXPECT_EQ(ask(send_request("1")).status, 200);
  EXPECT_EQ(get("/other").status, 200);
  const auto status = near_->status();
  const auto& pairing = status.at("pairings").at(0).as_object();
  EXPECT_EQ(pairing.at("exchanges"), 2);
  const auto& routes = pairing.at("routes").as_array();
  ASSERT_EQ(routes.size(), 2u);
  for (const auto& route : routes) {
    EXPECT_EQ(route.at("exchanges"), 1) << route;
    EXPECT_GT(route.at("link_bytes_out").to_number<int>(), 0) << route;
    EXPECT_GT(route.at("request_bytes").to_number<int>(), 0) << route;
  }
}

}  // namespace
}  // namespace ravine::services::test
