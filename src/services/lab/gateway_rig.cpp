#include "services/lab/gateway_rig.h"

#include <fmt/format.h>

#include <optional>
#include <set>

#include "host/clock.h"
#include "host/deadline_timer.h"
#include "services/gateway/cobs.h"
#include "services/http/http_server.h"
#include "services/http/upstream.h"
#include "services/lab/link_relay.h"
#include "services/lab/loopback_capture.h"
#include "services/lab/loopback_gateways.h"

namespace ravine::services {
namespace {

constexpr std::size_t kMaxFaults = 20;
constexpr std::size_t kMaxFrame = 1200;
constexpr Duration kPatience = 6h;
constexpr Duration kSettle = 10min;  // for what still travels when the last response is there
const SocketAddress kAnyPort{IpAddress::v4({127, 0, 0, 1}), 0};

class Rig {
 public:
  Rig(const lab::Trace& trace, RigOptions options)
      : trace_(trace), options_(std::move(options)), server_(trace) {
    for (const lab::Exchange& wanted : trace) {
      lab::ReplayFigures::Part part{.kind = wanted.kind, .exchanges = 1};
      part.http_bytes = wanted.path.size() + wanted.request.value_or("").size() + wanted.response.size();
      figures_.exchanges.push_back(std::move(part));
    }
  }

  Result<RigFigures> run() {
    if (auto started = start(); !started) return started.error();
    ask(0);
    loop_.run();
    if (failure_) return *failure_;
    finish();
    return RigFigures{std::move(figures_), std::move(counted_by_)};
  }

 private:
  Result<> start();
  Result<> start_server();
  Result<> start_gateways(const std::string& upstream);
  Result<std::string> start_relay(const FarService& far, const OnParcel& on_parcel);
  void serve(http::HttpId id, const gateway::core::HttpRequest& request);
  void turn();
  void count(const ParcelEvent& parcel);
  void ask(std::size_t index);
  void send(std::size_t index);
  void take(std::size_t index, http::UpstreamClient::Outcome outcome);
  void settle();
  void finish();
  void fail(Error error) {
    failure_ = std::move(error);
    loop_.stop();
  }
  void note(std::string fault) {
    if (figures_.faults.size() < kMaxFaults) figures_.faults.push_back(std::move(fault));
  }

  const lab::Trace& trace_;
  RigOptions options_;
  boost::asio::io_context loop_;
  lab::TraceServer server_;
  std::unique_ptr<http::HttpServer> http_;
  std::unique_ptr<LinkRelay> relay_;
  std::unique_ptr<SerialRelay> serial_;
  std::unique_ptr<LoopbackGateways> gateways_;
  std::unique_ptr<LoopbackCapture> capture_;
  std::unique_ptr<http::UpstreamClient> client_;
  std::unique_ptr<host::DeadlineTimer> timer_;
  LineReader up_line_{kMaxFrame}, down_line_{kMaxFrame};
  std::set<lab::AskId> polls_;
  lab::Attribution attribution_;
  lab::ReplayFigures figures_;
  std::string counted_by_ = "the emulated link: datagrams and 28 bytes of IPv4 and UDP each";
  std::optional<Error> failure_;
  std::optional<std::size_t> next_;
  Instant asked_at_, next_at_ = Instant::never(), settled_at_ = Instant::never();
  Instant settle_limit_ = Instant::never();
  std::uint64_t next_id_ = 1;
};

Result<> Rig::start_server() {
  http_ = std::make_unique<http::HttpServer>(
      loop_, http::HttpServerOptions{.listen = {kAnyPort}},
      [this](http::HttpId id, gateway::core::HttpRequest request) { serve(id, request); },
      [this](http::HttpId id) { server_.withdraw(id); }, Log{});
  auto bound = http_->start();
  if (!bound) return bound.error();
  auto started = start_gateways("http://" + bound->front().to_text());
  if (!started) return started;
  auto client = http::UpstreamClient::make(
      loop_, {.base = gateways_->near_url(), .host_header = {}, .tls = {}}, no_names(), Log{});
  if (!client) return client.error();
  client_ = std::move(*client);
  return {};
}

Result<> Rig::start_gateways(const std::string& upstream) {
  const auto on_parcel = [this](const ParcelEvent& parcel) { count(parcel); };
  LoopbackOptions options{
      .upstream = upstream,
      .tuning = {.rate_bps = options_.link.rate_bps, .alias_events = options_.alias_events},
      .gateway_timeout = kPatience,
      .make_coders = options_.make_coders};
  if (options_.serial) {
    auto serial = SerialRelay::start(loop_, options_.link, options_.link, options_.seed, on_parcel);
    if (!serial) return serial.error();
    serial_ = std::move(*serial);
    options.far_line = serial_->far_path();
    options.way = [this](const FarService&) -> Result<std::string> { return serial_->near_path(); };
    counted_by_ = "the emulated line: every byte that a gateway wrote";
  } else {
    options.way = [this, on_parcel](const FarService& far) { return start_relay(far, on_parcel); };
  }
  auto gateways = LoopbackGateways::start(loop_, std::move(options));
  if (!gateways) return gateways.error();
  gateways_ = std::move(*gateways);
  return {};
}

Result<std::string> Rig::start_relay(const FarService& far, const OnParcel& on_parcel) {
  const SocketAddress far_address = far.addresses().front();
  auto relay = LinkRelay::start(loop_,
                                {.listen = kAnyPort,
                                 .to = far_address,
                                 .up = options_.link,
                                 .down = options_.link,
                                 .seed = options_.seed},
                                on_parcel);
  if (!relay) return relay.error();
  relay_ = std::move(*relay);
  if (auto capture = LoopbackCapture::start(loop_, relay_->address().port, far_address.port))
    capture_ = std::move(*capture);
  return relay_->address().to_text();
}

Result<> Rig::start() {
  auto timer = host::DeadlineTimer::make(loop_, [this] { turn(); });
  if (!timer) return timer.error();
  timer_ = std::move(*timer);
  return start_server();
}

void Rig::serve(http::HttpId id, const gateway::core::HttpRequest& request) {
  // The far gateway's own polls ask with its timeout; a client's first sync comes without one.
  if (!gateway::core::query_value(request.target, "timeout").empty()) polls_.insert(id);
  server_.handle_request(host::monotonic_now(), id, request);
  turn();
}

// What is due: answers of the server, the next request, the end.
void Rig::turn() {
  const Instant now = host::monotonic_now();
  server_.handle_timeout(now);
  while (auto answer = server_.poll_answer()) {
    const bool news = polls_.erase(answer->id) > 0;
    if (answer->exchange && (news || !lab::is_quiet(trace_[*answer->exchange])))
      attribution_.answered(*answer->exchange, news);
    http_->respond(answer->id, std::move(answer->response));
  }
  if (next_ && next_at_ <= now) {
    const std::size_t index = *std::exchange(next_, std::nullopt);
    next_at_ = Instant::never();
    index < trace_.size() ? ask(index) : settle();
  }
  if (settled_at_ <= now) settle();
  timer_->arm(std::min({server_.next_deadline().at, next_at_, settled_at_}));
}

void Rig::count(const ParcelEvent& parcel) {
  ++(parcel.up ? figures_.up_datagrams : figures_.down_datagrams);
  Bytes datagram = to_bytes(parcel.bytes);
  if (serial_ || options_.serial)
    (parcel.up ? up_line_ : down_line_).feed(parcel.bytes, [&](ByteView frame) {
      datagram = to_bytes(frame);
    });
  lab::ReplayFigures::Part& part = figures_.exchanges[attribution_.of(parcel.up, datagram)];
  (parcel.up ? part.up_bytes : part.down_bytes) += parcel.size;
}

void Rig::ask(std::size_t index) {
  attribution_.asked(index);
  server_.handle_progress(index);
  asked_at_ = host::monotonic_now();
  send(index);
  turn();
}

void Rig::send(std::size_t index) {
  client_->send(
      next_id_++, lab::request_of(trace_[index], "localhost"), kPatience, true,
      [this, index](auto, http::UpstreamClient::Outcome outcome) { take(index, std::move(outcome)); });
}

void Rig::take(std::size_t index, http::UpstreamClient::Outcome outcome) {
  const lab::Exchange& wanted = trace_[index];
  const auto* response = std::get_if<gateway::core::HttpResponse>(&outcome);
  if (response == nullptr)
    return fail({ErrorKind::timed_out, fmt::format("exchange {} ({}) had no response from the near gateway",
                                                   index + 1, wanted.kind)});
  if (lab::ended_early(wanted, *response)) return send(index);
  const Instant now = host::monotonic_now();
  figures_.exchanges[index].elapsed = now - asked_at_;
  figures_.elapsed += now - asked_at_;
  if (auto why = lab::difference(wanted, *response, options_.alias_events); !why.empty())
    note(fmt::format("exchange {} ({}): {}", index + 1, wanted.kind, why));
  if (options_.on_progress) options_.on_progress(index + 1);
  next_ = index + 1;
  next_at_ = now + options_.think;
  turn();
}

// The last response is there; acknowledgements and quiet requests may still travel.
void Rig::settle() {
  const Instant now = host::monotonic_now();
  constexpr Duration kQuiet = 500ms;
  const auto tally = relay_ ? relay_->tally() : serial_->tally();
  const Duration air{
      static_cast<std::int64_t>(options_.link.rate_bps > 0 ? 200 * 8e9 / options_.link.rate_bps : 0)};
  const bool arrived = tally.up.delivered + tally.up.lost + tally.up.outage + tally.up.queue_full >=
                       tally.up.datagrams + tally.up.duplicated;
  if (!settled_at_.is_never() && gateways_->near().is_idle() && arrived) {
    loop_.stop();
    return;
  }
  if (settle_limit_.is_never()) settle_limit_ = now + kSettle;
  if (settle_limit_ <= now) {
    note("the near gateway was still busy ten minutes after the last response");
    loop_.stop();
    return;
  }
  settled_at_ = now + kQuiet + air + options_.link.delay * 2;
  timer_->arm(settled_at_);
}

// Status of the one pairing's link.
boost::json::object link_status(const boost::json::object& status) {
  return status.at("pairings").as_array().front().at("link").as_object();
}

gateway::link::LinkStats stats_of(const boost::json::object& link) {
  gateway::link::LinkStats stats;
  const auto read = [&](std::string_view name, std::uint64_t& value) {
    if (const auto* found = link.if_contains(name); found != nullptr && found->is_number())
      value = found->to_number<std::uint64_t>();
  };
  read("frames_out", stats.frames_out);
  read("retransmissions", stats.copies_out);
  read("acknowledgements_out", stats.acks_out);
  read("text_bytes_out", stats.text_bytes_out);
  read("coded_bytes_out", stats.coded_bytes_out);
  return stats;
}

void Rig::finish() {
  const auto tally = relay_ ? relay_->tally() : serial_->tally();
  figures_.air_up = tally.up.busy;
  figures_.air_down = tally.down.busy;
  const auto near = link_status(gateways_->near().status());
  if (const auto* coder = near.if_contains("coder"); coder != nullptr && coder->is_string())
    figures_.coder = coder->as_string();
  figures_.near = stats_of(near);
  figures_.far = stats_of(link_status(gateways_->far().status()));
  const std::uint64_t overhead = options_.link.overhead_bytes;
  figures_.near.bytes_out = tally.up.bytes - std::min(tally.up.bytes, tally.up.datagrams * overhead);
  figures_.far.bytes_out = tally.down.bytes - std::min(tally.down.bytes, tally.down.datagrams * overhead);
  figures_.take_made(server_.made());
  if (server_.unknown() > 0)
    note(fmt::format("the server was asked {} requests that the trace does not have", server_.unknown()));
  if (!capture_) return;
  const auto up = capture_->towards(), down = capture_->from();
  if (up.ip_bytes == tally.up.bytes && down.ip_bytes == tally.down.bytes) {
    counted_by_ = "a capture on loopback (AF_PACKET), equal to the emulated link's count";
  } else if (options_.link.overhead_bytes == 28) {
    note(fmt::format("the capture on loopback counts {} + {} IP bytes, the emulated link {} + {}",
                     up.ip_bytes, down.ip_bytes, tally.up.bytes, tally.down.bytes));
  }
}

}  // namespace

Result<RigFigures> replay_in_real_time(const lab::Trace& trace, RigOptions options) {
  return Rig(trace, std::move(options)).run();
}

}  // namespace ravine::services
