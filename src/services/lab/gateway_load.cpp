#include "services/lab/gateway_load.h"

#include <fmt/format.h>
#include <time.h>

#include "host/clock.h"
#include "host/deadline_timer.h"
#include "services/http/http_server.h"
#include "services/http/upstream.h"
#include "services/lab/loopback_gateways.h"

namespace ravine::services {
namespace {

const SocketAddress kAnyPort{IpAddress::v4({127, 0, 0, 1}), 0};

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

class Load {
 public:
  explicit Load(const LoadOptions& options) : options_(options) {}

  Result<LoadFigures> run() {
    if (auto started = start(); !started) return started.error();
    for (unsigned i = 0; i < options_.clients; ++i) ask();
    timer_->arm(host::monotonic_now() + options_.span / 10);
    loop_.run();
    if (figures_.exchanges == 0) return Error{ErrorKind::timed_out, "nothing came through the gateways"};
    return figures_;
  }

 private:
  Result<> start();
  void ask();
  void take(const http::UpstreamClient::Outcome& outcome);
  void tick();

  LoadOptions options_;
  boost::asio::io_context loop_{1};
  std::unique_ptr<http::HttpServer> server_;
  std::unique_ptr<LoopbackGateways> gateways_;
  std::unique_ptr<http::UpstreamClient> client_;
  std::unique_ptr<host::DeadlineTimer> timer_;
  LoadFigures figures_;
  std::uint64_t next_id_ = 1;
  bool measuring_ = false;
  Instant begun_;
  double cpu_begun_ = 0;
};

Result<> Load::start() {
  server_ = std::make_unique<http::HttpServer>(
      loop_, http::HttpServerOptions{.listen = {kAnyPort}},
      [this](http::HttpId id, const gateway::core::HttpRequest& request) {
        gateway::core::HttpResponse response{200, {{"Content-Type", "application/json"}}, {}};
        const std::string body = fmt::format(R"({{"path":"{}","ok":true}})", request.target);
        response.body = to_bytes(as_bytes(body));
        server_->respond(id, std::move(response));
      },
      [](http::HttpId) {}, Log{});
  auto bound = server_->start();
  if (!bound) return bound.error();
  auto gateways = LoopbackGateways::start(
      loop_, {.upstream = "http://" + bound->front().to_text(), .make_coders = options_.make_coders});
  if (!gateways) return gateways.error();
  gateways_ = std::move(*gateways);
  http::UpstreamOptions to_near{.base = gateways_->near_url()};
  to_near.max_connections = options_.clients;
  auto client = http::UpstreamClient::make(loop_, std::move(to_near), no_names(), Log{});
  if (!client) return client.error();
  client_ = std::move(*client);
  auto timer = host::DeadlineTimer::make(loop_, [this] { tick(); });
  if (!timer) return timer.error();
  timer_ = std::move(*timer);
  return {};
}

void Load::ask() {
  const std::uint64_t id = next_id_++;
  gateway::core::HttpRequest request{"GET", fmt::format("/items/{}", id % 1000), {}, {}};
  request.headers = {{"Accept", "application/json"}};
  client_->send(id, std::move(request), 60s, false,
                [this](auto, const http::UpstreamClient::Outcome& outcome) { take(outcome); });
}

void Load::take(const http::UpstreamClient::Outcome& outcome) {
  const auto* response = std::get_if<gateway::core::HttpResponse>(&outcome);
  if (measuring_) ++(response != nullptr && response->status == 200 ? figures_.exchanges : figures_.failed);
  ask();
}

void Load::tick() {
  const Instant now = host::monotonic_now();
  if (!measuring_) {
    measuring_ = true;
    begun_ = now;
    cpu_begun_ = cpu_seconds();
    timer_->arm(now + options_.span);
    return;
  }
  const double seconds = static_cast<double>((now - begun_).count()) / 1e9;
  const auto count = static_cast<double>(figures_.exchanges);
  figures_.exchanges_per_second = count / seconds;
  figures_.cpu_us_per_exchange = count > 0 ? (cpu_seconds() - cpu_begun_) * 1e6 / count : 0;
  const auto status = gateways_->near().status();
  const auto& link = status.at("pairings").as_array().front().at("link").as_object();
  if (const auto* coder = link.if_contains("coder"); coder != nullptr && coder->is_string())
    figures_.coder = coder->as_string();
  loop_.stop();
}

}  // namespace

Result<LoadFigures> measure_load(const LoadOptions& options) {
  return Load(options).run();
}

}  // namespace ravine::services
