// Clients, both gateways, the wire between them and a server that is a function, in virtual time. For tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <set>

#include "gateway/core/far_gateway.h"
#include "gateway/core/matrix.h"
#include "gateway/core/near_gateway.h"
#include "gateway/link/test_world.h"

namespace ravine::gateway::core {

using link::Durable;
using link::Wire;
using link::WireOptions;

class World {
 public:
  explicit World(WireOptions wire = {}, NearOptions near_given = {}, FarOptions far_given = {},
                 link::LinkOptions link_given = {}, std::uint64_t seed = 1,
                 std::function<link::Coders()> coders_given = none)
      : up(wire, seed),
        down(wire, seed + 1),
        random(seed + 2),
        near_options(std::move(near_given)),
        far_options(std::move(far_given)),
        coders(std::move(coders_given)) {
    link_given.rate_bps = wire.rate_bps;
    link_options_ = link_options(link_given, near_options.matrix, near_options.alias_events);
    start_near();
    start_far();
  }
  static link::Coders none() { return {}; }
  void start_near() {
    near.emplace(near_options,
                 link::make_link(near_durable, security::Role::near, random, link_options_, coders()));
  }
  void start_far() {
    hanging.clear();
    far.emplace(far_options, link::make_link(far_durable, security::Role::far, random, link_options_,
                                             coders(), "192.0.2.1:4000"));
  }

  HttpId send(std::string method, std::string target, std::string_view body = {}, Headers headers = {}) {
    const HttpId id = next_id++;
    if (!token.empty()) headers.emplace_back("Authorization", "Bearer " + token);
    if (!body.empty()) headers.emplace_back("Content-Type", "application/json");
    near->handle_request(now, id, {std::move(method), std::move(target), headers, to_bytes(as_bytes(body))});
    drain();
    return id;
  }
  // Sends and runs until the answer is there.
  HttpResponse call(std::string method, std::string target, std::string_view body = {},
                    Headers headers = {}) {
    const HttpId id = send(std::move(method), std::move(target), body, std::move(headers));
    const Instant end = now + 3600s;
    while (!answers.contains(id) && now < end && step()) {
    }
    return answers[id];
  }

  void drain() {
    for (bool again = true; again;) {
      again = false;
      while (auto out = near->poll_transmit(now)) up.send(now, std::move(out->bytes)), again = true;
      while (auto out = far->poll_transmit(now)) down.send(now, std::move(out->bytes)), again = true;
      while (auto answer = near->poll_answer())
        answers[answer->id] = std::move(answer->response), again = true;
      while (auto asked = far->poll_upstream()) {
        again = true;
        seen.push_back(asked->request);
        const auto response = server(asked->request);
        if (response) {
          far->handle_response(now, asked->id, *response);
        } else {
          hanging[asked->id] = asked->request;
        }
      }
      while (const auto id = far->poll_withdrawn()) hanging.erase(*id);
    }
  }
  // Requests that the server let hang are asked again: it has news.
  void wake() {
    wake_at = Instant::never();
    for (const auto& [id, request] : std::map(hanging)) {
      const auto response = server(request);
      if (!response) continue;
      hanging.erase(id);
      far->handle_response(now, id, *response);
    }
  }
  Instant next() const {
    return std::min({up.next(), down.next(), near->next_deadline().at, far->next_deadline().at, wake_at});
  }
  bool step() {
    drain();
    if (next().is_never()) return false;
    now = std::max(now, next());
    if (wake_at <= now) wake();
    while (auto bytes = up.receive(now)) far->handle_datagram(now, near_address, *bytes), drain();
    while (auto bytes = down.receive(now)) near->handle_datagram(now, far_address, *bytes), drain();
    near->handle_timeout(now);
    far->handle_timeout(now);
    drain();
    return true;
  }
  void run(Duration span) {
    const Instant end = now + span;
    std::size_t steps = 0;
    while (steps++ < 100000) {
      drain();
      if (next() > end) break;
      step();
    }
    EXPECT_LT(steps, 100000u) << near->next_deadline().reason << " " << far->next_deadline().reason;
    now = end;
  }

  Wire up, down;
  SeededRandom random;
  NearOptions near_options;
  FarOptions far_options;
  std::function<link::Coders()> coders;
  link::LinkOptions link_options_;
  Durable near_durable, far_durable;
  std::optional<NearGateway> near;
  std::optional<FarGateway> far;
  Instant now{1'000'000'000};
  SocketAddress near_address = *SocketAddress::parse("192.0.2.1:4000");
  SocketAddress far_address = *SocketAddress::parse("192.0.2.9:5683");
  std::string token = "syt_alice";
  HttpId next_id = 1;
  std::map<HttpId, HttpResponse> answers;
  std::vector<HttpRequest> seen;
  std::map<UpstreamId, HttpRequest> hanging;  // at the server
  Instant wake_at = Instant::never();
  std::function<std::optional<HttpResponse>(const HttpRequest&)> server = [](const HttpRequest&) {
    return HttpResponse{200, {{"Content-Type", "application/json"}}, to_bytes(as_bytes("{}"))};
  };
};

inline HttpResponse json(std::uint16_t status, std::string_view body) {
  return {status, {{"Content-Type", "application/json"}}, to_bytes(as_bytes(body))};
}
inline std::string body_of(const HttpResponse& response) {
  return std::string(as_text(response.body));
}
// More by hand: RAVINE_SEEDS=2000.
inline std::uint64_t seeds(std::uint64_t usual) {
  const char* given = std::getenv("RAVINE_SEEDS");
  return given == nullptr ? usual : std::strtoull(given, nullptr, 10);
}
inline constexpr char kSend[] = "/_matrix/client/v3/rooms/%21r%3Ax/send/m.room.message/m1";

// A homeserver whose sync blocks until there is news.
struct SyncServer {
  std::vector<std::string> news;
  std::optional<HttpResponse> operator()(const HttpRequest& request) const {
    if (request.target.find("/sync") == std::string::npos) return json(200, "{}");
    const std::string since(query_value(request.target, "since"));
    const std::size_t at = since.empty() ? 0 : std::stoul(since.substr(1));
    if (since.empty()) return json(200, R"({"next_batch":"s0","rooms":{"initial":1}})");
    if (at >= news.size() && query_value(request.target, "timeout").empty())
      return json(200, "{\"next_batch\":\"" + since + "\"}");
    if (at >= news.size()) return std::nullopt;
    return json(
        200, "{\"next_batch\":\"s" + std::to_string(at + 1) + "\",\"rooms\":{\"t\":\"" + news[at] + "\"}}");
  }
};

}  // namespace ravine::gateway::core
