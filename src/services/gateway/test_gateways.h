// Near and far gateways as running things, with an HTTP server behind and HTTP clients before them, all on
// loopback and driven from the test's own thread. For tests.
#pragma once

#include <filesystem>
#include <map>
#include <set>

#include "host/random.h"
#include "host/resolver.h"
#include "services/gateway/far_service.h"
#include "services/gateway/near_service.h"
#include "services/http/test_net.h"

namespace ravine::services::test {

using gateway::core::header_value;
using gateway::core::HttpRequest;
using gateway::core::HttpResponse;
using http::test::kAnyPort;
using http::test::run_until;
using http::test::text_of;

inline HttpResponse json(std::uint16_t status, std::string_view body) {
  return {status, {{"content-type", "application/json"}}, to_bytes(as_bytes(body))};
}

class Gateways : public testing::Test {
 protected:
  Gateways() {
    upstream_ = start_server([this](const HttpRequest& request) { return answer_(request); });
  }
  ~Gateways() override {
    near_.reset();
    far_.reset();
    std::filesystem::remove_all(directory_);
  }

  static std::string make_directory() {
    std::string pattern = testing::TempDir() + "rv-gateway-XXXXXX";
    return ::mkdtemp(pattern.data());
  }

  // An HTTP server; nullopt: it never answers.
  struct Server {
    std::unique_ptr<http::HttpServer> http;
    SocketAddress address;
    std::vector<HttpRequest> requests;
    std::vector<http::HttpId> stalled;
    std::string url() const { return "http://" + address.to_text(); }
  };
  using Answer = std::function<std::optional<HttpResponse>(const HttpRequest&)>;
  std::unique_ptr<Server> start_server(Answer answer) {
    auto server = std::make_unique<Server>();
    http::HttpServerOptions options;
    options.listen = {kAnyPort};
    server->http = std::make_unique<http::HttpServer>(
        loop_, options,
        [at = server.get(), answer = std::move(answer)](http::HttpId id, HttpRequest request) {
          at->requests.push_back(request);
          auto response = answer(request);
          if (response) at->http->respond(id, std::move(*response));
          if (!response) at->stalled.push_back(id);
        },
        [](http::HttpId) {}, Log());
    server->address = server->http->start().value().front();
    return server;
  }

  GatewayContext context() {
    GatewayContext made{loop_, random_, Log(), {}};
    made.resolve = [this](const std::string& host, const std::function<void(Addresses)>& done) {
      resolver_.resolve(host, 0, [done](const Result<std::vector<SocketAddress>>& found) {
        if (!found) return done(found.error());
        std::vector<IpAddress> addresses;
        for (const SocketAddress& one : *found) addresses.push_back(one.ip);
        done(std::move(addresses));
      });
    };
    return made;
  }

  // Timers of a fast link, so that what waits for one takes milliseconds.
  static LinkTuning quick() {
    LinkTuning tuning;
    tuning.rto.initial = 60ms;
    tuning.rto.minimum = 30ms;
    tuning.silence = 100ms;
    return tuning;
  }

  // Enters the far side's code on the near side; `name` is that of both.
  void pair(const std::string& name, PairingStore& near, PairingStore& far,
            KeySource keys = KeySource::pinned) {
    StoredPairing pairing;
    pairing.name = name;
    pairing.role = gateway::security::Role::far;
    pairing.code = gateway::security::Pairing::make(gateway::security::Role::near, std::nullopt, random_);
    pairing.keys = keys;
    pairing.made_here = true;
    ASSERT_TRUE(far.add(pairing).ok());
    pairing.role = gateway::security::Role::near;
    pairing.made_here = false;
    ASSERT_TRUE(near.add(pairing).ok());
  }
  void pair(const std::string& name = "one") { pair(name, near_store_, far_store_); }

  FarServiceOptions far_options() const {
    FarServiceOptions options;
    options.listen = {far_address_};
    options.upstream.base = upstream_->url();
    options.tuning = quick();
    return options;
  }
  void start_far() { start_far(far_options()); }
  void start_far(const FarServiceOptions& options) {
    auto started = FarService::start(context(), far_store_, options);
    ASSERT_TRUE(started.ok()) << started.error().message;
    far_ = std::move(*started);
    if (!far_->addresses().empty()) far_address_ = far_->addresses().front();
  }
  NearServiceOptions near_options() const {
    NearServiceOptions options;
    options.listen = {near_address_};
    NearPeer peer;
    peer.pairing = "one";
    peer.peer = far_address_.to_text();
    options.peers = {peer};
    options.tuning = quick();
    return options;
  }
  void start_near() { start_near(near_options()); }
  void start_near(const NearServiceOptions& options) {
    auto started = NearService::start(context(), near_store_, options);
    ASSERT_TRUE(started.ok()) << started.error().message;
    near_ = std::move(*started);
    near_address_ = near_->addresses().front();
  }
  void start_both() {
    pair();
    start_far();
    start_near();
  }

  // A request of a client of the near gateway, under way.
  struct Exchange {
    std::unique_ptr<http::UpstreamClient> client;
    std::optional<http::UpstreamClient::Outcome> outcome;
  };
  std::shared_ptr<Exchange> begin(HttpRequest request) {
    auto exchange = std::make_shared<Exchange>();
    http::UpstreamOptions options;
    options.base = "http://" + near_address_.to_text();
    exchange->client = http::UpstreamClient::make(loop_, options, {}, Log()).value();
    if (const auto host = header_value(request.headers, "host"); !host.empty()) {
      options.host_header = host;
      exchange->client = http::UpstreamClient::make(loop_, options, {}, Log()).value();
    }
    exchange->client->send(1, std::move(request), 60s, false,
                           [weak = std::weak_ptr(exchange)](auto, http::UpstreamClient::Outcome outcome) {
                             if (const auto self = weak.lock()) self->outcome = std::move(outcome);
                           });
    return exchange;
  }
  HttpResponse end(const std::shared_ptr<Exchange>& exchange) {
    EXPECT_TRUE(run_until(loop_, [&] { return exchange->outcome.has_value(); }));
    const auto* response = exchange->outcome ? std::get_if<HttpResponse>(&*exchange->outcome) : nullptr;
    return response != nullptr ? *response : HttpResponse{};
  }
  HttpResponse ask(HttpRequest request) { return end(begin(std::move(request))); }
  HttpResponse get(const std::string& target) { return ask({"GET", target, {}, {}}); }
  static HttpRequest send_request(const std::string& transaction, const std::string& text = "hello") {
    return {"PUT",
            "/_matrix/client/v3/rooms/!r%3Aexample.org/send/m.room.message/" + transaction,
            {{"content-type", "application/json"}, {"authorization", "Bearer secret-token"}},
            to_bytes(as_bytes(R"({"msgtype":"m.text","body":")" + text + R"("})"))};
  }
  // As a homeserver tells one message from another.
  std::set<std::string> transactions() const {
    std::set<std::string> all;
    for (const HttpRequest& request : upstream_->requests) all.insert(request.target);
    return all;
  }
  static std::string peer_field(const boost::json::object& status, std::string_view key) {
    const auto& pairing = status.at("pairings").as_array().at(0).as_object();
    const auto& value = pairing.at(key);
    return value.is_string() ? std::string(value.get_string()) : std::string();
  }

  std::string directory_ = make_directory();
  boost::asio::io_context loop_;
  host::SystemRandom random_;
  host::Resolver resolver_{loop_};
  PairingStore near_store_{directory_ + "/near"}, far_store_{directory_ + "/far"};
  Answer answer_ = [](const HttpRequest&) { return json(200, R"({"event_id":"$1"})"); };
  std::unique_ptr<Server> upstream_;
  SocketAddress far_address_ = kAnyPort, near_address_ = kAnyPort;
  std::unique_ptr<NearService> near_;
  std::unique_ptr<FarService> far_;
};

}  // namespace ravine::services::test
