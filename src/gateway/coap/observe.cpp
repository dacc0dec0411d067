#include "gateway/coap/observe.h"

#include <algorithm>

namespace ravine::gateway::coap {
namespace {

constexpr std::uint32_t kHalf = 1u << 23;
constexpr std::uint32_t kMask = (1u << 24) - 1;
constexpr Duration kStale = 128s;

}  // namespace

bool ObserveFreshness::accept(Instant now, std::uint32_t sequence) {
  if (sequence_) {
    const std::uint32_t ahead = (sequence - *sequence_) & kMask;
    const bool newer = (ahead != 0 && ahead < kHalf) || now > at_ + kStale;
    if (!newer) return false;
  }
  sequence_ = sequence & kMask;
  at_ = now;
  return true;
}

bool ObserveFreshness::accept_partial_iv(std::uint64_t partial_iv) {
  if (partial_iv_ && partial_iv <= *partial_iv_) return false;
  partial_iv_ = partial_iv;
  return true;
}

Result<ObserverId> ObserverTable::add(Instant now, Observer observer) {
  std::size_t of_peer = 0;
  for (auto& [id, known] : observers_) {
    if (known.peer != observer.peer) continue;
    ++of_peer;
    if (known.token != observer.token) continue;
    observer.id = id;
    observer.sequence = known.sequence;
    observer.confirmed_at = now;
    known = std::move(observer);
    return id;
  }
  if (observers_.size() >= options_.observers || of_peer >= options_.per_peer) {
    return Error{ErrorKind::limit_reached, "too many observers"};
  }
  observer.id = next_id_++;
  observer.confirmed_at = now;
  const ObserverId id = observer.id;
  observers_.emplace(id, std::move(observer));
  return id;
}

std::optional<ObserverId> ObserverTable::find(const SocketAddress& peer, const Bytes& token) const {
  for (const auto& [id, observer] : observers_) {
    if (observer.peer == peer && observer.token == token) return id;
  }
  return std::nullopt;
}

void ObserverTable::remove(ObserverId id) {
  observers_.erase(id);
}

Observer* ObserverTable::find(ObserverId id) {
  const auto at = observers_.find(id);
  return at == observers_.end() ? nullptr : &at->second;
}

const Observer* ObserverTable::find(ObserverId id) const {
  const auto at = observers_.find(id);
  return at == observers_.end() ? nullptr : &at->second;
}

std::vector<ObserverId> ObserverTable::observers_of(const std::string& resource) const {
  std::vector<ObserverId> ids;
  for (const auto& [id, observer] : observers_) {
    if (observer.resource == resource) ids.push_back(id);
  }
  return ids;
}

bool ObserverTable::number_next(Instant now, Observer& observer) {
  observer.sequence = (observer.sequence + 1) & kMask;
  ++observer.since_confirmed;
  return observer.since_confirmed >= options_.confirm_every ||
         now >= observer.confirmed_at + options_.confirm_after;
}

void ObserverTable::handle_confirmed(Instant now, Observer& observer) {
  observer.since_confirmed = 0;
  observer.confirmed_at = now;
}

void ObserverTable::expire(Instant now) {
  std::erase_if(observers_,
                [&](const auto& entry) { return entry.second.confirmed_at + options_.lease <= now; });
}

Instant ObserverTable::next_expiry() const {
  Instant first = Instant::never();
  for (const auto& [id, observer] : observers_)
    first = std::min(first, observer.confirmed_at + options_.lease);
  return first;
}

}  // namespace ravine::gateway::coap
