#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "services/peers.h"
#include "services/streams.h"

namespace ravine::services {
namespace {

using session::AppError;
using session::CloseCause;
using session::SessionId;

constexpr Duration kKeepPeriod = 1s;
constexpr Duration kFirstBackoff = 1s, kLastBackoff = 60s;
constexpr Duration kHandshakePatience = 10s;  // once a peer was heard; the handshake's own limit
constexpr Duration kRivalPatience = 2s;       // several echoes of another session to the same peer

std::string display_name(const PeerRecord& peer) {
  return peer.name.empty() ? peer.short_id : peer.name;
}

bool is_peer(const PeerRecord& wanted, const identity::VerifiedPeer& peer) {
  if (wanted.id) return *wanted.id == peer.id;
  if (!wanted.short_id.empty()) return peer.id.matches_text(wanted.short_id);
  return !wanted.name.empty() && wanted.name == peer.name;
}

boost::asio::steady_timer::duration to_timer(Duration duration) {
  return std::chrono::duration_cast<boost::asio::steady_timer::duration>(duration);
}

// RFC 8305 §4: families take turns, IPv6 first; within a family the given order stays.
std::vector<SocketAddress> interleave(const std::vector<SocketAddress>& all) {
  std::vector<SocketAddress> v6, v4, out;
  for (const SocketAddress& address : all) (address.ip.is_v6() ? v6 : v4).push_back(address);
  for (std::size_t i = 0; i < std::max(v6.size(), v4.size()); ++i) {
    if (i < v6.size()) out.push_back(v6[i]);
    if (i < v4.size()) out.push_back(v4[i]);
  }
  return out;
}

}  // namespace

// One race for one peer.
struct PeerConnector::Attempt {
  Attempt(boost::asio::io_context& loop, PeerHandle wanted)
      : peer(std::move(wanted)), limit(loop), stagger(loop) {}

  PeerHandle peer;
  std::vector<Done> waiting;
  std::vector<SocketAddress> waiting_addresses;  // not dialled yet, in order
  std::vector<SocketAddress> dialled_addresses;
  std::map<SessionId, SocketAddress> dials;  // running
  std::size_t lookups = 0;                   // running
  std::vector<std::string> failures;
  ErrorKind kind = ErrorKind::unreachable;
  std::optional<SessionId> stale;  // established, but doubted: does not count
  boost::asio::steady_timer limit, stagger;
  bool patient = false;  // the peer answered: a slow link
  bool done = false;
};

PeerConnector::PeerConnector(ServiceContext context, PeerDirectory& directory)
    : context_(std::move(context)), directory_(directory) {
  context_.driver.add_observer(this);
}

PeerConnector::~PeerConnector() {
  stop();
  context_.driver.remove_observer(this);
}

void PeerConnector::stop() {
  keep_timer_.reset();
  rivals_.clear();
  const auto running = std::exchange(attempts_, {});
  for (const auto& [peer, attempt] : running) fail(attempt, "the node stops");
}

std::optional<SessionId> PeerConnector::find_session(const PeerRecord& peer) const {
  session::Endpoint& endpoint = context_.driver.endpoint();
  if (peer.id) {
    const session::Session* session = endpoint.find_peer(peer.network, *peer.id);
    if (session != nullptr && session->is_established() && !session->is_closing()) return session->id();
    return std::nullopt;
  }
  for (const SessionId id : endpoint.sessions()) {
    const session::Session* session = endpoint.find(id);
    if (session == nullptr || !session->is_established() || session->is_closing()) continue;
    const session::SessionInfo& info = session->info();
    if (info.network == peer.network && info.has_certificate && is_peer(peer, info.peer)) return id;
  }
  return std::nullopt;
}

void PeerConnector::connect(std::string_view host, Done done) {
  auto peer = directory_.find(host);
  if (!peer) return done(peer.error());
  connect(*peer, std::move(done));
}

void PeerConnector::connect(const PeerHandle& peer, Done done) {
  if (const auto live = find_session(*peer)) {
    ++counters_.reused;
    return done(*live);
  }
  const auto found = attempts_.find(peer.get());
  if (found != attempts_.end()) {
    found->second->waiting.push_back(std::move(done));
    return;
  }
  if (peer->addresses.empty() && peer->learned.empty()) {
    return done(
        Error{ErrorKind::unreachable,
              fmt::format("peer {} is offline: no address of it is known here", display_name(*peer))});
  }
  const AttemptHandle attempt = start(peer);
  attempt->waiting.push_back(std::move(done));
  gather(attempt);
}

void PeerConnector::reconnect(std::string_view host, SessionId stale, Done done) {
  auto found = directory_.find(host);
  if (!found) return done(found.error());
  const PeerHandle peer = *found;
  if (const auto live = find_session(*peer); live && *live != stale) {
    ++counters_.reused;
    return done(*live);
  }
  ++counters_.redials;
  if (const auto running = attempts_.find(peer.get()); running != attempts_.end()) {
    running->second->stale = stale;
    running->second->waiting.push_back(std::move(done));
    return;
  }
  const AttemptHandle attempt = start(peer);
  attempt->stale = stale;
  attempt->waiting.push_back(std::move(done));
  gather(attempt);
}

PeerConnector::AttemptHandle PeerConnector::start(const PeerHandle& peer) {
  ++counters_.attempts;
  auto attempt = std::make_shared<Attempt>(context_.loop, peer);
  attempts_[peer.get()] = attempt;
  adopt_lingering(attempt);
  wait_limit(attempt, kConnectTimeout);
  return attempt;
}

void PeerConnector::wait_limit(const AttemptHandle& attempt, Duration limit) {
  attempt->limit.expires_after(to_timer(limit));
  attempt->limit.async_wait([this, weak = std::weak_ptr(attempt)](boost::system::error_code error) {
    const auto self = weak.lock();
    if (!error && self && !self->done) end_of_time(self);
  });
}

// Nothing heard is an answer: offline. A peer that answered, however slowly, is waited for.
void PeerConnector::end_of_time(const AttemptHandle& attempt) {
  session::Endpoint& endpoint = context_.driver.endpoint();
  context_.driver.enter();
  const bool heard = std::any_of(attempt->dials.begin(), attempt->dials.end(), [&](const auto& dial) {
    const session::Session* session = endpoint.find(dial.first);
    return session != nullptr && last_heard(*session) != Instant{};
  });
  if (heard && !std::exchange(attempt->patient, true)) {
    return wait_limit(attempt, kHandshakePatience - kConnectTimeout);
  }
  for (const auto& [id, address] : attempt->dials) {
    attempt->failures.push_back(fmt::format("{} did not answer", address.to_text()));
    if (!id.is_none()) lingering_[id] = {attempt->peer, address};
  }
  attempt->dials.clear();
  fail(attempt,
       fmt::format(
           "no answer within {:.1f} s",
           std::chrono::duration<double>(attempt->patient ? kHandshakePatience : kConnectTimeout).count()));
}

// Dials that an earlier attempt gave up waiting for may still succeed, over a link of many seconds.
void PeerConnector::adopt_lingering(const AttemptHandle& attempt) {
  for (auto at = lingering_.begin(); at != lingering_.end();) {
    if (at->second.peer != attempt->peer) {
      ++at;
      continue;
    }
    attempt->dials[at->first] = at->second.address;
    attempt->dialled_addresses.push_back(at->second.address);
    at = lingering_.erase(at);
  }
}

// Collects addresses: those that are known go at once, names when they are looked up.
void PeerConnector::gather(const AttemptHandle& attempt) {
  const PeerRecord& peer = *attempt->peer;
  std::vector<SocketAddress> known(peer.learned.begin(), peer.learned.end());
  std::vector<HostPort> names;
  for (const HostPort& entry : peer.addresses) {
    if (const auto ip = IpAddress::parse(entry.host)) {
      known.push_back({*ip, entry.port});
    } else {
      names.push_back(entry);
    }
  }
  for (const SocketAddress& address : interleave(known)) add_address(attempt, address);
  attempt->lookups = names.size();
  for (const HostPort& entry : names) {
    const auto found = [this, weak = std::weak_ptr(attempt), entry](Addresses addresses) {
      const auto self = weak.lock();
      if (!self || self->done) return;
      --self->lookups;
      if (!addresses) {
        note_failure(self, fmt::format("{}: {}", entry.host, addresses.error().message),
                     ErrorKind::unreachable);
      } else {
        std::vector<SocketAddress> resolved;
        for (const IpAddress& ip : *addresses) resolved.push_back({ip, entry.port});
        for (const SocketAddress& address : interleave(resolved)) add_address(self, address);
        if (self->dials.empty()) schedule_dial(self, Duration{0});
      }
      fail_if_exhausted(self);
    };
    if (context_.resolve) {
      context_.resolve(entry.host, found);
    } else {
      found(Error{ErrorKind::unsupported, "this node looks up no names"});
    }
  }
  if (attempt->done) return;
  schedule_dial(attempt, Duration{0});
}

void PeerConnector::add_address(const AttemptHandle& attempt, const SocketAddress& address) {
  const auto holds = [&](const std::vector<SocketAddress>& list) {
    return std::find(list.begin(), list.end(), address) != list.end();
  };
  if (holds(attempt->waiting_addresses) || holds(attempt->dialled_addresses)) return;
  if (attempt->waiting_addresses.size() + attempt->dialled_addresses.size() >= kMaxDialAddresses) return;
  attempt->waiting_addresses.push_back(address);
}

void PeerConnector::schedule_dial(const AttemptHandle& attempt, Duration after) {
  attempt->stagger.expires_after(to_timer(after));
  attempt->stagger.async_wait([this, weak = std::weak_ptr(attempt)](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || self->done) return;
    dial_next(self);
  });
}

void PeerConnector::dial_next(const AttemptHandle& attempt) {
  runtime::Driver& driver = context_.driver;
  while (!attempt->waiting_addresses.empty()) {
    const SocketAddress address = attempt->waiting_addresses.front();
    attempt->waiting_addresses.erase(attempt->waiting_addresses.begin());
    attempt->dialled_addresses.push_back(address);
    session::DialOptions options;
    options.network = attempt->peer->network;
    options.expected_peer = attempt->peer->id;
    options.route.remote = address;
    options.route.interface_index = address.ip.scope();
    const Instant now = driver.enter();
    const auto dialled = driver.endpoint().dial(now, options);
    if (!dialled) {
      note_failure(attempt, fmt::format("{}: {}", address.to_text(), dialled.error().message),
                   dialled.error().kind);
      continue;
    }
    ++counters_.dials;
    attempt->dials[*dialled] = address;
    driver.touch();
    if (!attempt->waiting_addresses.empty()) schedule_dial(attempt, kDialStagger);
    return;
  }
  fail_if_exhausted(attempt);
}

void PeerConnector::note_failure(const AttemptHandle& attempt, std::string what, ErrorKind kind) {
  if (kind == ErrorKind::unauthenticated || kind == ErrorKind::refused) attempt->kind = kind;
  if (attempt->failures.size() < kMaxDialAddresses) attempt->failures.push_back(std::move(what));
}

void PeerConnector::fail_if_exhausted(const AttemptHandle& attempt) {
  if (attempt->done || attempt->lookups > 0 || !attempt->dials.empty() ||
      !attempt->waiting_addresses.empty()) {
    return;
  }
  fail(attempt, "no address led to it");
}

void PeerConnector::fail(const AttemptHandle& attempt, std::string_view why) {
  std::string message = fmt::format("peer {} is offline: {}", display_name(*attempt->peer), why);
  if (attempt->kind == ErrorKind::unauthenticated) {
    message = fmt::format("peer {} and this node do not accept each other", display_name(*attempt->peer));
  }
  for (const std::string& failure : attempt->failures) message += "; " + failure;
  attempt->peer->last_error = message;
  Backoff& backoff = backoff_[attempt->peer.get()];
  backoff.delay = std::clamp(backoff.delay * 2, kFirstBackoff, kLastBackoff);
  backoff.next = context_.driver.now() + backoff.delay;
  ++counters_.failed;
  complete(attempt, Error{attempt->kind, std::move(message)});
}

void PeerConnector::complete(const AttemptHandle& attempt, const Result<SessionId>& result) {
  if (attempt->done) return;
  const AttemptHandle keep = attempt;
  keep->done = true;
  keep->limit.cancel();
  keep->stagger.cancel();
  attempts_.erase(keep->peer.get());
  runtime::Driver& driver = context_.driver;
  for (const auto& [id, address] : std::exchange(keep->dials, {})) {
    if (result.ok() && *result == id) continue;
    session::Session* session = driver.endpoint().find(id);
    if (session != nullptr && !session->is_established()) {
      session->close(driver.now(), AppError::goaway, "another dial was faster");
    }
  }
  driver.touch();
  for (const Done& done : std::exchange(keep->waiting, {})) done(result);
}

void PeerConnector::on_established(session::Session& session) {
  const session::SessionInfo& info = session.info();
  if (info.alpn != session::kAlpn || !info.has_certificate) return;
  // Who was dialled is found where it was dialled; who dialled us comes from a port that a NAT may have
  // chosen, but it is the best that we know.
  const PeerHandle known =
      directory_.learn(context_.driver.now(), info.network, info.peer, session.current_path().route.remote);
  known->last_error.clear();
  backoff_.erase(known.get());
  lingering_.erase(info.id);
  std::vector<AttemptHandle> matching, mistaken;
  for (const auto& [peer, attempt] : attempts_) {
    if (attempt->peer->network != info.network) continue;
    if (is_peer(*attempt->peer, info.peer)) {
      matching.push_back(attempt);
    } else if (attempt->dials.contains(info.id)) {
      mistaken.push_back(attempt);
    }
  }
  for (const AttemptHandle& attempt : matching) {
    ++counters_.succeeded;
    complete(attempt, info.id);
  }
  for (const AttemptHandle& attempt : mistaken) {
    const SocketAddress address = attempt->dials[info.id];
    attempt->dials.erase(info.id);
    note_failure(attempt,
                 fmt::format("{} is peer {} ({})", address.to_text(), info.peer.name, info.peer.id.to_text()),
                 ErrorKind::unreachable);
    fail_if_exhausted(attempt);
  }
  live_.emplace(info.peer.id, info.id);
  question_rivals(session);
}

// Another session to the same peer may be the remains of a peer that died, or of a path: it has to answer an
// echo now, or it goes. Of two that live, convergence keeps one.
void PeerConnector::question_rivals(const session::Session& fresh) {
  session::Endpoint& endpoint = context_.driver.endpoint();
  const Instant now = context_.driver.now();
  const auto [first, end] = live_.equal_range(fresh.info().peer.id);
  for (auto at = first; at != end; ++at) {
    const SessionId id = at->second;
    session::Session* session = endpoint.find(id);
    if (session == nullptr || id == fresh.id() || !session->is_established()) continue;
    if (session->info().network != fresh.info().network) continue;
    for (const session::PathInfo& path : session->paths()) session->ping(now, path.id, 0);
    auto timer = std::make_shared<boost::asio::steady_timer>(context_.loop);
    timer->expires_after(to_timer(std::max<Duration>(kRivalPatience, session->smoothed_rtt() * 3)));
    timer->async_wait([this, id, now, weak = std::weak_ptr(timer)](boost::system::error_code error) {
      if (error || weak.expired()) return;
      rivals_.erase(id);
      const Instant later = context_.driver.enter();
      session::Session* rival = context_.driver.endpoint().find(id);
      if (rival == nullptr || !rival->is_established() || last_heard(*rival) > now) return;
      ++counters_.silent_closed;
      rival->close(later, AppError::goaway, "silent, and replaced by a fresh session");
      context_.driver.touch();
    });
    rivals_[id] = std::move(timer);
  }
}

void PeerConnector::on_addresses_stale(session::Session& session) {
  const session::SessionInfo& info = session.info();
  if (info.alpn != session::kAlpn || !info.has_certificate) return;
  const PeerHandle peer = directory_.find_id(info.network, info.peer.id);
  if (!peer || !peer->keep || attempts_.contains(peer.get())) return;
  const auto backoff = backoff_.find(peer.get());
  if (backoff != backoff_.end() && context_.driver.now() < backoff->second.next) return;
  ++counters_.redials;
  const AttemptHandle attempt = start(peer);
  attempt->stale = info.id;
  gather(attempt);
}

void PeerConnector::on_closed(SessionId id, const session::SessionInfo& info,
                              const session::CloseReason& reason) {
  lingering_.erase(id);
  rivals_.erase(id);
  const auto [first, end] = live_.equal_range(info.peer.id);
  const auto known = std::find_if(first, end, [&](const auto& entry) { return entry.second == id; });
  if (known != end) live_.erase(known);
  std::vector<AttemptHandle> affected;
  for (const auto& [peer, attempt] : attempts_) {
    if (attempt->dials.contains(id)) affected.push_back(attempt);
  }
  for (const AttemptHandle& attempt : affected) {
    const SocketAddress address = attempt->dials[id];
    attempt->dials.erase(id);
    if (const auto live = find_session(*attempt->peer); live && live != attempt->stale) {
      ++counters_.succeeded;
      complete(attempt, *live);
      continue;
    }
    // The other of two sessions stays: its on_established, or the limit of time, ends this attempt.
    if (reason.cause == CloseCause::dial_superseded) {
      if (attempt->dials.empty()) attempt->dials[SessionId{}] = address;
      continue;
    }
    constexpr std::uint64_t kCryptoError = 0x100;  // RFC 9000 §20.1, with a TLS alert in the low byte
    const bool tls =
        (reason.cause == CloseCause::remote_transport || reason.cause == CloseCause::local_transport) &&
        (reason.code & ~std::uint64_t{0xff}) == kCryptoError;
    const bool refused = tls || reason.cause == CloseCause::verify_refused;
    note_failure(attempt, fmt::format("{}: {}", address.to_text(), reason.text),
                 refused ? ErrorKind::unauthenticated : ErrorKind::unreachable);
    if (!attempt->waiting_addresses.empty()) {
      schedule_dial(attempt, Duration{0});
    } else {
      fail_if_exhausted(attempt);
    }
  }
}

void PeerConnector::keep_sessions() {
  if (keep_timer_) return;
  keep_timer_ = std::make_unique<boost::asio::steady_timer>(context_.loop);
  redial_kept();
}

void PeerConnector::schedule_keep() {
  keep_timer_->expires_after(to_timer(kKeepPeriod));
  keep_timer_->async_wait([this](boost::system::error_code error) {
    if (!error) redial_kept();
  });
}

void PeerConnector::redial_kept() {
  const Instant now = context_.driver.enter();
  for (const PeerHandle& peer : std::vector<PeerHandle>(directory_.peers())) {
    if (!peer->keep || attempts_.contains(peer.get()) || find_session(*peer)) continue;
    const auto backoff = backoff_.find(peer.get());
    if (backoff != backoff_.end() && now < backoff->second.next) continue;
    gather(start(peer));
  }
  schedule_keep();
}

}  // namespace ravine::services
