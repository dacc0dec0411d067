#include "lab/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "gateway/security/uframe.h"

namespace ravine::lab {
namespace {

constexpr std::size_t kMaxFaults = 20;
constexpr unsigned kIdBits = 48;
constexpr Duration kSettle = 4min;  // less than a gateway takes a client without polls for gone
constexpr Duration kAfter = 10min;  // for what still travels when the last response is there

class Replay {
 public:
  Replay(const Trace& trace, ReplayOptions options)
      : trace_(trace),
        options_(std::move(options)),
        overhead_(options_.gateway.link.overhead_bytes),
        alias_(options_.gateway.near.alias_events),
        server_(trace),
        world_(with_patience(std::move(options_.gateway), options_.patience)) {
    for (const Exchange& wanted : trace) {
      ReplayFigures::Part part{.kind = wanted.kind, .exchanges = 1};
      part.http_bytes = wanted.path.size() + wanted.request.value_or("").size() + wanted.response.size();
      figures_.exchanges.push_back(std::move(part));
    }
    world_.on_datagram = [this](bool up, ByteView datagram) { count(up, datagram); };
  }

  Result<ReplayFigures> run() {
    for (std::size_t i = 0; i < trace_.size(); ++i) {
      if (auto done = exchange(i); !done) return done.error();
      run_until(world_.now() + options_.think);
    }
    measure_idle();
    run_until(world_.now() + kAfter);
    figures_.air_up = world_.up().tally().busy;
    figures_.air_down = world_.down().tally().busy;
    figures_.coder = world_.near().link().coder_name();
    figures_.near = world_.near().link().stats();
    figures_.far = world_.far().link().stats();
    figures_.take_made(server_.made());
    if (server_.unknown() > 0)
      note(fmt::format("the server was asked {} requests that the trace does not have", server_.unknown()));
    return std::move(figures_);
  }

 private:
  // A gateway that gave up earlier would measure its limit.
  static VirtualOptions with_patience(VirtualOptions gateway, Duration patience) {
    gateway.near.gateway_timeout = patience;
    return gateway;
  }
  void count(bool up, ByteView datagram) {
    if (idle_) {
      *figures_.idle_minute_bytes += datagram.size() + overhead_;
      return;
    }
    ++(up ? figures_.up_datagrams : figures_.down_datagrams);
    ReplayFigures::Part& part = figures_.exchanges[attribution_.of(up, datagram)];
    (up ? part.up_bytes : part.down_bytes) += datagram.size() + overhead_;
  }
  void note(std::string fault) {
    if (figures_.faults.size() < kMaxFaults) figures_.faults.push_back(std::move(fault));
  }

  Result<> exchange(std::size_t index) {
    const Exchange& wanted = trace_[index];
    attribution_.asked(index);
    server_.handle_progress(index);
    const Instant begun = begun_ = world_.now();
    const Instant limit = begun + options_.patience;
    exchange_ = index;
    do {
      ask();
      for (drain(); !response_ && world_.now() < limit;) step(limit);
      // A long poll that ended without news is made again, as clients do.
    } while (response_ && world_.now() < limit && ended_early(wanted, *response_));
    if (!response_)
      return Error{
          ErrorKind::timed_out,
          fmt::format("exchange {} ({}) had no response after {} s of virtual time", index + 1, wanted.kind,
                      std::chrono::duration_cast<std::chrono::seconds>(options_.patience).count())};
    const Duration elapsed = world_.now() - begun;
    figures_.exchanges[index].elapsed = elapsed;
    figures_.elapsed += elapsed;
    if (auto why = difference(wanted, *response_, alias_); !why.empty())
      note(fmt::format("exchange {} ({}): {}", index + 1, wanted.kind, why));
    return {};
  }

  void ask() {
    response_.reset();
    current_ = ++last_id_;
    world_.near().handle_request(world_.now(), current_, request_of(trace_[exchange_], "localhost"));
  }

  // Of this exchange and those before.
  Instant next_disturbance() const {
    if (disturbed_ >= options_.disturbances.size()) return Instant::never();
    const Disturbance& next = options_.disturbances[disturbed_];
    if (next.exchange > exchange_) return Instant::never();
    return next.exchange == exchange_ ? begun_ + next.after : world_.now();
  }
  void disturb() {
    switch (options_.disturbances[disturbed_++].what) {
      case Disturbance::What::restart_near:
        world_.restart_near();
        // Its clients lose their connections and ask again.
        if (!response_) ask();
        break;
      case Disturbance::What::restart_far:
        world_.restart_far();
        ++far_life_;
        polls_.clear();
        break;
      case Disturbance::What::rebind_near:
        world_.rebind_near({IpAddress::v4({192, 0, 2, 77}), ++rebound_port_});
        break;
    }
    drain();
  }

  // Polls of a client that has all there is, as soon as nothing is under way any more.
  void measure_idle() {
    const auto last = std::find_if(trace_.rbegin(), trace_.rend(), [](const Exchange& exchange) {
      return core::classify(exchange.method, exchange.path).kind == core::RouteKind::sync;
    });
    if (last == trace_.rend()) return;
    const auto busy = [this] { return !world_.near().link().is_idle() || !world_.far().link().is_idle(); };
    for (const Instant end = world_.now() + kSettle; busy() && world_.now() < end;) step(end);
    Exchange poll = *last;
    poll.path = core::without_query(core::without_query(poll.path, "since"), "timeout");
    poll.path += poll.path.find('?') == std::string::npos ? '?' : '&';
    poll.path += fmt::format("timeout=30000&since={}", core::json_text(last->response, "next_batch"));
    idle_ = true;
    figures_.idle_minute_bytes = 0;
    for (const Instant end = world_.now() + 60s; world_.now() < end;) {
      response_.reset();
      current_ = ++last_id_;
      world_.near().handle_request(world_.now(), current_, request_of(poll, "localhost"));
      for (drain(); !response_ && world_.now() < end;) step(end);
    }
    idle_ = false;
  }

  void run_until(Instant end) {
    while (world_.now() < end) step(end);
  }

  // One event of gateways, link or server.
  void step(Instant limit) {
    Instant next = std::min(limit, server_.next_deadline().at);
    if (!due_.empty()) next = std::min(next, due_.begin()->first);
    next = std::min(next, next_disturbance());
    world_.step(next);
    while (next_disturbance() <= world_.now()) disturb();
    server_.handle_timeout(world_.now());
    while (!due_.empty() && due_.begin()->first <= world_.now()) {
      TraceServer::Answer answer = std::move(due_.begin()->second);
      due_.erase(due_.begin());
      if (answer.id >> kIdBits != far_life_) continue;  // of a process that is gone
      const core::UpstreamId id = answer.id & ((AskId{1} << kIdBits) - 1);
      const bool news = polls_.erase(answer.id) > 0;
      if (answer.exchange && (news || !is_quiet(trace_[*answer.exchange])))
        attribution_.answered(*answer.exchange, news);
      world_.far().handle_response(world_.now(), id, std::move(answer.response));
      world_.flush();
    }
    drain();
  }

  void drain() {
    for (bool again = true; again;) {
      again = false;
      world_.flush();
      while (auto answer = world_.near().poll_answer()) {
        again = true;
        if (answer->id == current_) response_ = std::move(answer->response);
      }
      while (auto asked = world_.far().poll_upstream()) {
        again = true;
        if (asked->long_poll) polls_.insert(ask_id(asked->id));
        server_.handle_request(world_.now(), ask_id(asked->id), asked->request);
      }
      while (auto gone = world_.far().poll_withdrawn()) server_.withdraw(ask_id(*gone));
      while (auto answer = server_.poll_answer()) {
        again = true;
        due_.emplace(world_.now() + options_.server_time, std::move(*answer));
      }
    }
  }

  // Each process of the far gateway counts from one.
  AskId ask_id(core::UpstreamId id) const { return far_life_ << kIdBits | id; }

  const Trace& trace_;
  ReplayOptions options_;
  std::uint32_t overhead_;
  bool alias_;
  TraceServer server_;
  VirtualGateway world_;
  std::multimap<Instant, TraceServer::Answer> due_;
  std::set<AskId> polls_;
  Attribution attribution_;
  std::optional<core::HttpResponse> response_;
  core::HttpId current_ = 0, last_id_ = 0;
  std::size_t exchange_ = 0, disturbed_ = 0;
  std::uint64_t far_life_ = 0;
  std::uint16_t rebound_port_ = 4000;
  Instant begun_;
  bool idle_ = false;
  ReplayFigures figures_;
};

void add(ReplayFigures::Part& sum, const ReplayFigures::Part& part) {
  sum.exchanges += part.exchanges;
  sum.up_bytes += part.up_bytes;
  sum.down_bytes += part.down_bytes;
  sum.http_bytes += part.http_bytes;
  sum.elapsed += part.elapsed;
  sum.made_once += part.made_once;
}

// Sums up those whose kind is `kind`; nullptr: all.
ReplayFigures::Part sum_of(const std::vector<ReplayFigures::Part>& parts, const std::string* kind) {
  ReplayFigures::Part sum{.kind = kind != nullptr ? *kind : "total"};
  std::vector<Duration> times;
  for (const ReplayFigures::Part& part : parts) {
    if (kind != nullptr && part.kind != *kind) continue;
    add(sum, part);
    times.push_back(part.elapsed);
  }
  if (times.empty()) return sum;
  std::sort(times.begin(), times.end());
  sum.median = times[times.size() / 2];
  return sum;
}

}  // namespace

void Attribution::answered(std::size_t exchange, bool news) {
  handed_ = exchange;
  if (!news) answered_ = exchange;
}

std::size_t Attribution::of(bool up, ByteView datagram) {
  using gateway::security::FrameKind;
  const auto frame = gateway::security::parse_frame(datagram);
  const bool answer = frame && frame->kind == FrameKind::answer;
  if (up) return answer ? message_ : asked_;
  if (answer) return answered_;
  message_ = handed_;
  return message_;
}

void ReplayFigures::take_made(std::vector<unsigned> counts) {
  made = std::move(counts);
  for (std::size_t i = 0; i < exchanges.size(); ++i) exchanges[i].made_once = made[i] == 1 ? 1 : 0;
}

std::vector<ReplayFigures::Part> ReplayFigures::by_kind() const {
  std::vector<Part> kinds;
  for (const Part& part : exchanges)
    if (std::none_of(kinds.begin(), kinds.end(), [&](const Part& known) { return known.kind == part.kind; }))
      kinds.push_back(sum_of(exchanges, &part.kind));
  return kinds;
}

ReplayFigures::Part ReplayFigures::total() const {
  return sum_of(exchanges, nullptr);
}

Result<ReplayFigures> replay(const Trace& trace, ReplayOptions options) {
  return Replay(trace, std::move(options)).run();
}

}  // namespace ravine::lab
