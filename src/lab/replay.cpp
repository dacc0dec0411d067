#include "lab/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "gateway/security/uframe.h"

namespace ravine::lab {
namespace {

constexpr std::size_t kMaxFaults = 20;
constexpr Duration kAfter = 10min;  // for what still travels when the last response is there

class Replay {
 public:
  Replay(const Trace& trace, ReplayOptions options)
      : trace_(trace),
        options_(std::move(options)),
        overhead_(options_.gateway.link.overhead_bytes),
        alias_(options_.gateway.near.alias_events),
        server_(trace),
        world_(std::move(options_.gateway)) {
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
    const Instant begun = world_.now();
    run_until(begun + kAfter);
    figures_.air_up = world_.up().tally().busy;
    figures_.air_down = world_.down().tally().busy;
    figures_.near = world_.near().link().stats();
    figures_.far = world_.far().link().stats();
    figures_.made = server_.made();
    if (server_.unknown() > 0)
      note(fmt::format("the server was asked {} requests that the trace does not have", server_.unknown()));
    return std::move(figures_);
  }

 private:
  void count(bool up, ByteView datagram) {
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
    const Instant begun = world_.now();
    const Instant limit = begun + options_.patience;
    do {
      response_.reset();
      current_ = ++last_id_;
      world_.near().handle_request(world_.now(), current_, request_of(wanted, "localhost"));
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

  void run_until(Instant end) {
    while (world_.now() < end) step(end);
  }

  // One event of gateways, link or server.
  void step(Instant limit) {
    Instant next = std::min(limit, server_.next_deadline().at);
    if (!due_.empty()) next = std::min(next, due_.begin()->first);
    world_.step(next);
    server_.handle_timeout(world_.now());
    while (!due_.empty() && due_.begin()->first <= world_.now()) {
      TraceServer::Answer answer = std::move(due_.begin()->second);
      due_.erase(due_.begin());
      const bool news = polls_.erase(answer.id) > 0;
      if (answer.exchange && (news || !is_quiet(trace_[*answer.exchange])))
        attribution_.answered(*answer.exchange, news);
      world_.far().handle_response(world_.now(), answer.id, std::move(answer.response));
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
        if (asked->long_poll) polls_.insert(asked->id);
        server_.handle_request(world_.now(), asked->id, asked->request);
      }
      while (auto gone = world_.far().poll_withdrawn()) server_.withdraw(*gone);
      while (auto answer = server_.poll_answer()) {
        again = true;
        due_.emplace(world_.now() + options_.server_time, std::move(*answer));
      }
    }
  }

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
  ReplayFigures figures_;
};

void add(ReplayFigures::Part& sum, const ReplayFigures::Part& part) {
  sum.exchanges += part.exchanges;
  sum.up_bytes += part.up_bytes;
  sum.down_bytes += part.down_bytes;
  sum.http_bytes += part.http_bytes;
  sum.elapsed += part.elapsed;
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

std::vector<ReplayFigures::Part> ReplayFigures::by_kind() const {
  std::vector<Part> kinds;
  for (const Part& part : exchanges) {
    auto at = std::find_if(kinds.begin(), kinds.end(), [&](const Part& k) { return k.kind == part.kind; });
    if (at == kinds.end()) at = kinds.insert(kinds.end(), Part{.kind = part.kind});
    add(*at, part);
  }
  return kinds;
}

ReplayFigures::Part ReplayFigures::total() const {
  Part sum{.kind = "total"};
  for (const Part& part : exchanges) add(sum, part);
  return sum;
}

Result<ReplayFigures> replay(const Trace& trace, ReplayOptions options) {
  return Replay(trace, std::move(options)).run();
}

}  // namespace ravine::lab
