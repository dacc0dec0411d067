#include "session/path_set.h"

#include <algorithm>

#include "base/ensure.h"

namespace ravine::session {
namespace {

constexpr std::size_t kMaxOrders = 64;
constexpr unsigned kLostToSilent = 3;  // echoes lost in a row
constexpr Duration kFirstOfferInterval = 250ms;
constexpr Duration kFirstSilentInterval = 1s;
constexpr Duration kMinAnswerWait = 100ms, kMaxAnswerWait = 3s;
constexpr Duration kLateAnswer = 10s;  // then an answer says nothing any more
constexpr Duration kMinCandidateWait = 60ms, kMaxCandidateWait = 500ms;
constexpr Duration kCandidateLife = 3s;
constexpr Duration kCandidateInterval = 20ms;
constexpr Duration kMaxAskInterval = 1s;
constexpr std::size_t kUnvalidatedFactor = 3;  // RFC 9000 §9.3.1
constexpr double kAnswersPerSecond = 200;
constexpr double kAnswerBurst = 64;

bool same_source(const Route& a, const Route& b) {
  return a.remote == b.remote;
}

}  // namespace

PathInfo Path::info() const {
  PathInfo info;
  info.id = id;
  info.kind = kind;
  info.state = state;
  info.route = route;
  info.transmit_label = transmit;
  info.receive_label = receive;
  info.smoothed_rtt = smoothed_rtt;
  info.loss = loss;
  info.mtu = mtu;
  info.last_received = last_received;
  info.packets_received = packets_received;
  info.packets_sent = packets_sent;
  info.bytes_received = bytes_received;
  info.bytes_sent = bytes_sent;
  info.reason = reason;
  return info;
}

bool Path::awaits_answer() const {
  return std::any_of(outstanding.begin(), outstanding.end(),
                     [](const Outstanding& request) { return !request.late; });
}

Path& PathSet::add(const Path& path) {
  ensure(!full() && find(path.id) == nullptr);
  paths_.push_back(path);
  changes_.push_back(path.id);
  return paths_.back();
}

void PathSet::remove(PathId id) {
  std::erase_if(paths_, [&](const Path& path) { return path.id == id; });
  std::erase_if(orders_, [&](const Order& order) { return order.path == id; });
  std::erase(changes_, id);
}

Path* PathSet::find(PathId id) {
  for (Path& path : paths_) {
    if (path.id == id) return &path;
  }
  return nullptr;
}

const Path* PathSet::find(PathId id) const {
  return const_cast<PathSet*>(this)->find(id);
}

void PathSet::start(Instant now) {
  started_ = true;
  for (Path& path : paths_) {
    path.next_echo = path.id == current_ ? now + keepalive_ : now;
  }
}

Duration PathSet::answer_wait(const Path& path) {
  const Duration round_trip = std::max(path.smoothed_rtt, path.quic_rtt);
  if (round_trip.count() == 0) return 1s;
  return std::clamp<Duration>(round_trip * 3, kMinAnswerWait, kMaxAnswerWait);
}

Duration PathSet::candidate_wait(const Path& path) {
  const Duration round_trip = std::max(path.smoothed_rtt, path.quic_rtt);
  if (round_trip.count() == 0) return kMaxCandidateWait;
  return std::clamp<Duration>(round_trip * 3, kMinCandidateWait, kMaxCandidateWait);
}

PathSet::Source PathSet::source_of(const Path& path, const Route& from) {
  if (!path.has_route) return Source::unknown;
  if (same_source(path.route, from)) return Source::known;
  return path.kind == PathKind::direct ? Source::candidate : Source::refused;
}

PathSet::Source PathSet::note_packet(Instant now, Path& path, const Route& from, std::size_t size) {
  ++path.packets_received;
  path.bytes_received += size;
  const Source source = source_of(path, from);
  if (source == Source::known) path.last_received = now;
  if (source == Source::candidate) note_candidate(now, path, from, size);
  return source;
}

void PathSet::note_candidate(Instant now, Path& path, const Route& from, std::size_t size) {
  if (!started_) return;
  for (Path::Candidate& candidate : path.candidates) {
    if (!same_source(candidate.route, from)) continue;
    candidate.heard = now;
    candidate.allowance += kUnvalidatedFactor * size;
    return ask_candidate(now, path, candidate);
  }
  if (now < path.next_candidate) return;
  path.next_candidate = now + kCandidateInterval;
  if (path.candidates.size() >= kMaxCandidates) {
    const auto oldest = std::find_if(path.candidates.begin(), path.candidates.end(),
                                     [](const Path::Candidate& candidate) { return !candidate.answered; });
    if (oldest == path.candidates.end()) return;
    path.candidates.erase(oldest);
  }
  if (path.candidates.empty()) path.old_answered = false;
  Path::Candidate candidate;
  candidate.route = from;
  candidate.started = candidate.heard = candidate.next_ask = now;
  candidate.allowance = kUnvalidatedFactor * size;
  path.candidates.push_back(candidate);
  ask_candidate(now, path, path.candidates.back());
}

// Asks again until it answers: the echo may be lost, most likely on the full link on which addresses change,
// and a peer that only receives has no reason to send another packet that would show where it is.
void PathSet::ask_candidate(Instant now, Path& path, Path::Candidate& candidate) {
  if (candidate.answered || now < candidate.next_ask || candidate.allowance < kMinEchoSize) return;
  candidate.allowance -= kMinEchoSize;
  candidate.interval = candidate.interval.count() == 0
                           ? candidate_wait(path)
                           : std::min<Duration>(candidate.interval * 2, kMaxAskInterval);
  candidate.next_ask = now + candidate.interval;
  order_request(now, path, candidate.route, kMinEchoSize, Path::Outstanding::Use::candidate);
  order_request(now, path, path.route, kMinEchoSize, Path::Outstanding::Use::old_address);
}

// The candidate wins only if it answered and the old address stayed silent all the while: somebody who copies
// packets cannot silence the old address, even when relaying the echo as well.
bool PathSet::settle_candidates(Instant now, Path& path) {
  if (path.candidates.empty()) return false;
  if (path.old_answered) {
    path.candidates.clear();
    return false;
  }
  for (const Path::Candidate& candidate : path.candidates) {
    if (candidate.answered && now >= candidate.started + candidate_wait(path)) {
      path.route = candidate.route;
      path.candidates.clear();
      path.last_received = now;
      path.last_answer = now;
      path.unanswered = 0;
      ++rebindings;
      set_state(path, path.id == current_ ? PathState::current : PathState::validated,
                "peer's address changed");
      return true;
    }
  }
  std::erase_if(path.candidates,
                [&](const Path::Candidate& candidate) { return now >= candidate.heard + kCandidateLife; });
  return false;
}

PathSet::EchoEffect PathSet::handle_echo(Instant now, Path& path, const Echo& echo, const Route& from,
                                         std::size_t size) {
  if (echo.path != path.id && echo.type != EchoType::move) return EchoEffect::none;
  if (!path.has_route) {  // the first authenticated echo of an offered path says where the peer, or the last
                          // hop, is
    path.route = from;
    path.has_route = true;
    path.next_echo = now;
  }
  const Source source = note_packet(now, path, from, size);
  if (source == Source::refused) return EchoEffect::none;
  if (echo.type == EchoType::request) {
    answer_tokens_ = std::min(
        kAnswerBurst,
        answer_tokens_ + kAnswersPerSecond * std::chrono::duration<double>(now - answers_filled_).count());
    answers_filled_ = now;
    if (answer_tokens_ < 1 || orders_.size() >= kMaxOrders) {
      ++answers_refused;
      return EchoEffect::none;
    }
    answer_tokens_ -= 1;
    Order order{path.id, from, {EchoType::answer, path.id, next_nonce_++, echo.nonce}, kMinEchoSize};
    orders_.push_back(order);
    for (Path::Candidate& candidate : path.candidates) {
      if (same_source(candidate.route, from))
        candidate.allowance -= std::min(candidate.allowance, kMinEchoSize);
    }
    if (started_ && path.state != PathState::current && path.last_answer == Instant{}) path.next_echo = now;
    return EchoEffect::none;
  }
  if (echo.type != EchoType::answer) return EchoEffect::none;
  const auto request = std::find_if(path.outstanding.begin(), path.outstanding.end(),
                                    [&](const Path::Outstanding& one) { return one.nonce == echo.value; });
  if (request == path.outstanding.end()) return EchoEffect::none;
  const Path::Outstanding answered = *request;
  path.outstanding.erase(request);
  if (answered.use == Path::Outstanding::Use::candidate) {
    for (Path::Candidate& candidate : path.candidates) {
      if (candidate.route.remote == answered.to) candidate.answered = true;
    }
    return settle_candidates(now, path) ? EchoEffect::rebound : EchoEffect::none;
  }
  // An answer is the old address's only when it comes from there: the peer answers to where the request came
  // from, but a request sent to the old address can be answered from the new one when a NAT still forwards
  // it.
  if (answered.use == Path::Outstanding::Use::old_address && source == Source::known)
    path.old_answered = true;
  if (source != Source::known) return EchoEffect::none;
  const bool was_alive = path.state == PathState::validated || path.state == PathState::current;
  note_answer(now, path, answered);
  return was_alive ? EchoEffect::answered : EchoEffect::validated;
}

void PathSet::note_answer(Instant now, Path& path, const Path::Outstanding& request) {
  const Duration sample = now - request.sent_at;
  // A late answer is not averaged in: requests would go on to count as lost for as long as the average takes.
  const bool first = path.smoothed_rtt.count() == 0 || request.late;
  path.smoothed_rtt = first ? sample : (path.smoothed_rtt * 7 + sample) / 8;
  path.loss *= 0.875;
  path.last_answer = now;
  path.unanswered = 0;
  path.backoff = 0;
  if (request.use == Path::Outstanding::Use::size_test) {
    path.mtu = std::max(path.mtu, request.size);
    size_tests_lost = 0;
  }
  if (path.state == PathState::offered || path.state == PathState::silent) {
    set_state(path, PathState::validated, "answers echoes");
  }
  if (path.asked) changes_.push_back(path.id);
  path.asked = false;
  path.next_echo = now + keepalive_;
}

void PathSet::order_request(Instant now, Path& path, const Route& route, std::uint32_t size,
                            Path::Outstanding::Use use) {
  const std::uint64_t nonce = next_nonce_++;
  if (orders_.size() >= kMaxOrders) return;
  if (path.outstanding.size() >= kMaxOutstanding) path.outstanding.erase(path.outstanding.begin());
  path.outstanding.push_back({nonce, now, size, use, false, route.remote});
  orders_.push_back({path.id, route, {EchoType::request, path.id, nonce, 0}, size});
}

void PathSet::ping(Instant now, Path& path, std::uint32_t size) {
  if (!started_ || !path.has_route || !path.agreed) return;
  order_request(now, path, path.route, size,
                size > kMinEchoSize ? Path::Outstanding::Use::size_test : Path::Outstanding::Use::liveness);
}

void PathSet::ping_all(Instant now) {
  for (Path& path : paths_) ping(now, path);
}

void PathSet::order_move(Instant, Path& over, PathId to, MoveReason reason) {
  if (!started_ || !over.has_route || orders_.size() >= kMaxOrders) return;
  orders_.push_back({over.id,
                     over.route,
                     {EchoType::move, to, next_nonce_++, static_cast<std::uint64_t>(reason)},
                     kMinEchoSize});
}

void PathSet::expire_outstanding(Instant now, Path& path) {
  const Duration wait = answer_wait(path);
  std::erase_if(path.outstanding, [&](const auto& request) { return now >= request.sent_at + kLateAnswer; });
  for (Path::Outstanding& request : path.outstanding) {
    if (request.late || now < request.sent_at + wait) continue;
    request.late = true;
    if (request.use == Path::Outstanding::Use::size_test) ++size_tests_lost;
    if (request.use != Path::Outstanding::Use::liveness) continue;
    path.loss = path.loss * 0.875 + 0.125;
    ++path.unanswered;
    if (path.state == PathState::validated && path.unanswered >= kLostToSilent) {
      set_state(path, PathState::silent, "echoes lost");
      path.backoff = 0;
      path.next_echo = now + kFirstSilentInterval;
    }
    const bool alive = path.state == PathState::validated || path.state == PathState::current;
    if (alive && path.unanswered < kLostToSilent) path.next_echo = std::min(path.next_echo, now);
  }
}

void PathSet::schedule_next(Instant now, Path& path) {
  switch (path.state) {
    case PathState::validated:
    case PathState::current:
      path.next_echo = now + keepalive_;
      return;
    case PathState::offered:
    case PathState::silent: {
      const Duration first = path.state == PathState::offered ? kFirstOfferInterval : kFirstSilentInterval;
      path.next_echo = now + std::min<Duration>(first * (1 << std::min(path.backoff, 10u)), keepalive_);
      ++path.backoff;
    }
  }
}

void PathSet::handle_timeout(Instant now) {
  if (!started_) return;
  for (Path& path : paths_) {
    expire_outstanding(now, path);
    if (!settle_candidates(now, path)) {
      for (Path::Candidate& candidate : path.candidates) ask_candidate(now, path, candidate);
    }
    if (now < path.next_echo) continue;
    if (!path.has_route || !path.agreed) {
      path.next_echo = Instant::never();
      continue;
    }
    // What arrived on the current path proves it as well as an echo does.
    const bool heard = path.state == PathState::current && path.unanswered == 0 &&
                       path.last_received + keepalive_ > now && path.last_received != Instant{};
    if (heard) {
      path.next_echo = path.last_received + keepalive_;
      continue;
    }
    ping(now, path);
    schedule_next(now, path);
  }
}

Deadline PathSet::next_deadline() const {
  Deadline deadline;
  if (!started_) return deadline;
  for (const Path& path : paths_) {
    deadline.earlier(path.next_echo, "path echo");
    const auto waiting = std::find_if(path.outstanding.begin(), path.outstanding.end(),
                                      [](const Path::Outstanding& request) { return !request.late; });
    if (waiting != path.outstanding.end())
      deadline.earlier(waiting->sent_at + answer_wait(path), "echo answer");
    for (const Path::Candidate& candidate : path.candidates) {
      if (candidate.answered) {
        deadline.earlier(candidate.started + candidate_wait(path), "rebinding");
        continue;
      }
      deadline.earlier(candidate.heard + kCandidateLife, "rebinding");
      if (candidate.allowance >= kMinEchoSize) deadline.earlier(candidate.next_ask, "rebinding");
    }
  }
  return deadline;
}

void PathSet::set_state(Path& path, PathState state, const char* reason) {
  path.reason = reason;
  if (path.state == state) return;
  path.state = state;
  if (std::find(changes_.begin(), changes_.end(), path.id) == changes_.end()) changes_.push_back(path.id);
}

void PathSet::mark_silent(Path& path, const char* reason) {
  if (path.state == PathState::current) return;
  path.last_answer = Instant{};
  path.backoff = 0;
  set_state(path, PathState::silent, reason);
}

void PathSet::set_current(PathId id) {
  if (Path* old = find(current_); old != nullptr && current_ != id) {
    set_state(*old, old->unanswered > 0 ? PathState::silent : PathState::validated, "moved away");
    old->next_echo = Instant{};  // is it a warm spare?
  }
  current_ = id;
  if (Path* path = find(id)) set_state(*path, PathState::current, "carries the session");
}

Path* PathSet::best_alive(Instant now, PathId except, Duration within) {
  Path* best = nullptr;
  for (Path& path : paths_) {
    if (path.id == except || path.last_answer == Instant{} || now > path.last_answer + within) continue;
    if (best == nullptr || path.kind < best->kind ||
        (path.kind == best->kind && path.smoothed_rtt < best->smoothed_rtt)) {
      best = &path;
    }
  }
  return best;
}

std::optional<PathSet::Order> PathSet::poll_order() {
  if (orders_.empty()) return std::nullopt;
  Order order = orders_.front();
  orders_.erase(orders_.begin());
  return order;
}

std::optional<PathId> PathSet::poll_state_change() {
  if (changes_.empty()) return std::nullopt;
  const PathId id = changes_.back();
  changes_.pop_back();
  return id;
}

}  // namespace ravine::session
