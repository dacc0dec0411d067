// Ways past a thin link that is silent, the advertisement of a far gateway, and the pairing store's limits.
#include <boost/json/parse.hpp>

#include "services/gateway/test_gateways.h"

namespace ravine::services::test {
namespace {

class Fallback : public Gateways {
 protected:
  // The near side's options while nobody is at the far side's address.
  NearServiceOptions lonely() {
    pair();
    http::test::RawServer nobody(loop_);  // takes a port that UDP has free as well
    far_address_ = nobody.address();
    auto options = near_options();
    options.fallback_after = 50ms;
    options.gateway_timeout = 5s;
    return options;
  }
};

TEST_F(Fallback, takes_requests_to_the_server_while_the_far_side_is_silent) {
  auto options = lonely();
  options.fallback = upstream_->url();
  start_near(options);
  // The first one waits for the link, and is moved.
  EXPECT_EQ(get("/first").status, 200);
  EXPECT_EQ(get("/second").status, 200);
  EXPECT_EQ(upstream_->requests.size(), 2u);
  const auto pairing = near_->status().at("pairings").at(0).as_object();
  EXPECT_EQ(pairing.at("fallback_requests"), 2);
  EXPECT_EQ(pairing.at("fallback_active"), true);
}

TEST_F(Fallback, never_moves_what_may_have_run) {
  auto options = lonely();
  options.fallback = upstream_->url();
  options.gateway_timeout = 400ms;
  start_near(options);
  EXPECT_EQ(ask(send_request("1")).status, 504);
  EXPECT_TRUE(upstream_->requests.empty());
}

TEST_F(Fallback, is_not_used_unasked) {
  auto options = lonely();
  options.gateway_timeout = 200ms;
  start_near(options);
  EXPECT_EQ(get("/").status, 504);
  EXPECT_TRUE(upstream_->requests.empty());
}

TEST_F(Fallback, by_https_goes_to_hosts_of_the_configuration_alone) {
  auto options = lonely();
  options.fallback = "https";
  options.gateway_timeout = 300ms;
  // Nothing speaks TLS there: that it was tried shows in the answer.
  options.peers[0].hosts = {upstream_->address.to_text()};
  start_near(options);
  const auto tried = ask({"GET", "/", {{"host", upstream_->address.to_text()}}, {}});
  EXPECT_EQ(tried.status, 502);
  EXPECT_NE(text_of(tried.body).find("fallback"), std::string::npos) << text_of(tried.body);
  EXPECT_TRUE(upstream_->requests.empty());
}

TEST_F(Fallback, leaves_a_link_that_answers_alone) {
  pair();
  start_far();
  const auto other = start_server([](const HttpRequest&) { return json(200, "{}"); });
  auto options = near_options();
  options.fallback = other->url();
  options.fallback_after = 5s;
  start_near(options);
  EXPECT_EQ(get("/").status, 200);
  EXPECT_TRUE(other->requests.empty());
  EXPECT_EQ(upstream_->requests.size(), 1u);
}

TEST_F(Gateways, tell_where_the_far_side_is) {
  pair();
  auto options = far_options();
  options.well_known_listen = {kAnyPort};
  options.public_address = "far.example:5683";
  options.tuning.rate_bps = 100;
  start_far(options);
  near_address_ = far_->well_known_addresses().front();  // any HTTP client will do
  const auto response = get("/.well-known/ravine-gateway");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(header_value(response.headers, "content-type"), "application/json");
  const auto document = boost::json::parse(text_of(response.body));
  EXPECT_EQ(document.at("address"), "far.example:5683");
  EXPECT_EQ(document.at("rate_bps").to_number<int>(), 100);
  EXPECT_EQ(text_of(response.body).find("RVG1"), std::string::npos);
  EXPECT_EQ(get("/other").status, 404);
  EXPECT_EQ(ask({"POST", "/.well-known/ravine-gateway", {}, {}}).status, 405);
}

TEST_F(Gateways, keep_a_limited_number_of_pairings) {
  StoredPairing pairing;
  pairing.role = gateway::security::Role::near;
  for (std::size_t i = 0; i < kMaxPairings; ++i) {
    pairing.name = "p" + std::to_string(i);
    pairing.code = gateway::security::Pairing::make(gateway::security::Role::near, std::nullopt, random_);
    ASSERT_TRUE(near_store_.add(pairing).ok()) << i;
  }
  pairing.name = "more";
  pairing.code = gateway::security::Pairing::make(gateway::security::Role::near, std::nullopt, random_);
  EXPECT_EQ(near_store_.add(pairing).error().kind, ErrorKind::limit_reached);
  ASSERT_TRUE(near_store_.remove("p7").ok());
  EXPECT_TRUE(near_store_.add(pairing).ok());
}

TEST_F(Gateways, refuse_requests_over_the_number_that_may_wait) {
  pair();
  answer_ = [](const HttpRequest&) { return std::nullopt; };
  start_far();
  auto options = near_options();
  options.max_waiting = 2;
  start_near(options);
  const auto first = begin({"GET", "/1", {}, {}});
  const auto second = begin({"GET", "/2", {}, {}});
  ASSERT_TRUE(run_until(loop_, [&] { return upstream_->requests.size() == 2; }));
  EXPECT_EQ(get("/3").status, 503);
  EXPECT_EQ(upstream_->requests.size(), 2u);
}

}  // namespace
}  // namespace ravine::services::test
