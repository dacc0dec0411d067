#include "gateway/coap/send_queue.h"

#include <algorithm>

#include "base/ensure.h"
#include "gateway/coap/rto.h"

namespace ravine::gateway::coap {

Duration Pacer::allowance() const {
  return serialisation_time(options_.burst_bytes, options_.rate_bps);
}

Instant Pacer::charge(Instant now, std::size_t bytes) {
  const std::size_t whole = bytes + options_.overhead_bytes;
  charged_bytes_ += whole;
  free_at_ = std::max(free_at_, now) + serialisation_time(whole, options_.rate_bps);
  return free_at_;
}

std::list<QueueItem>::iterator SendQueue::locate(QueueItemId id) {
  return std::find_if(items_.begin(), items_.end(), [id](const QueueItem& item) { return item.id == id; });
}

QueueItem SendQueue::take(std::list<QueueItem>::iterator at) {
  QueueItem item = std::move(*at);
  bytes_ -= item.bytes.size();
  items_.erase(at);
  return item;
}

std::optional<QueueItemId> SendQueue::find_key(const SocketAddress& to,
                                               const std::string& replace_key) const {
  if (replace_key.empty()) return std::nullopt;
  for (const QueueItem& item : items_) {
    if (item.replace_key == replace_key && item.to == to) return item.id;
  }
  return std::nullopt;
}

Result<QueueItemId> SendQueue::push(Instant now, QueueItem item) {
  item.queued_at = now;
  auto place = items_.end();
  if (const std::optional<QueueItemId> waiting = find_key(item.to, item.replace_key)) {
    const auto old = locate(*waiting);
    if (bytes_ - old->bytes.size() + item.bytes.size() > limits_.bytes) {
      return Error{ErrorKind::limit_reached,
                   "the send queue is full of bytes: slow down or cancel what waits"};
    }
    item.id = old->id;
    item.priority = std::min(item.priority, old->priority);
    if (item.priority == old->priority) place = std::next(old);
    (void)take(old);
  } else {
    if (items_.size() >= limits_.items || bytes_ + item.bytes.size() > limits_.bytes) {
      return Error{ErrorKind::limit_reached, "the send queue is full: slow down or cancel what waits"};
    }
    item.id = next_id_++;
  }
  if (place == items_.end()) {
    place = std::find_if(items_.begin(), items_.end(),
                         [&](const QueueItem& other) { return other.priority > item.priority; });
  }
  bytes_ += item.bytes.size();
  return items_.insert(place, std::move(item))->id;
}

const QueueItem* SendQueue::find(QueueItemId id) const {
  const auto at =
      std::find_if(items_.begin(), items_.end(), [id](const QueueItem& item) { return item.id == id; });
  return at == items_.end() ? nullptr : &*at;
}

bool SendQueue::rewrite(QueueItemId id, Bytes bytes) {
  const auto at = locate(id);
  if (at == items_.end() || bytes_ - at->bytes.size() + bytes.size() > limits_.bytes) return false;
  bytes_ = bytes_ - at->bytes.size() + bytes.size();
  at->bytes = std::move(bytes);
  return true;
}

bool SendQueue::cancel(QueueItemId id) {
  const auto at = locate(id);
  if (at == items_.end()) return false;
  (void)take(at);
  return true;
}

std::size_t SendQueue::cancel_if(const std::function<bool(const QueueItem&)>& which) {
  std::size_t gone = 0;
  for (auto at = items_.begin(); at != items_.end();) {
    const auto next = std::next(at);
    if (which(*at)) {
      (void)take(at);
      ++gone;
    }
    at = next;
  }
  return gone;
}

std::optional<QueueItem> SendQueue::pop(Instant now, const Admission& admit) {
  if (!pacer_.is_ready(now)) return std::nullopt;
  for (auto at = items_.begin(); at != items_.end(); ++at) {
    if (at->expires_at <= now) continue;  // expire() reports it
    if (!admit || admit(*at)) return take(at);
  }
  return std::nullopt;
}

std::vector<QueueItem> SendQueue::take_group(const SocketAddress& to, std::uint64_t group, std::size_t room) {
  std::vector<QueueItem> taken;
  if (group == 0) return taken;
  for (auto at = items_.begin(); at != items_.end();) {
    const auto next = std::next(at);
    if (at->merge_group == group && at->to == to) {
      if (at->bytes.size() > room) break;  // a later one must not overtake it
      room -= at->bytes.size();
      taken.push_back(take(at));
    }
    at = next;
  }
  return taken;
}

Instant SendQueue::next_departure() const {
  return items_.empty() ? Instant::never() : pacer_.ready_at();
}

std::vector<QueueItem> SendQueue::expire(Instant now) {
  std::vector<QueueItem> gone;
  for (auto at = items_.begin(); at != items_.end();) {
    const auto next = std::next(at);
    if (at->expires_at <= now) gone.push_back(take(at));
    at = next;
  }
  return gone;
}

Instant SendQueue::next_expiry() const {
  Instant first = Instant::never();
  for (const QueueItem& item : items_) first = std::min(first, item.expires_at);
  return first;
}

Duration SendQueue::delay_ahead(Instant now, std::uint8_t priority) const {
  Duration delay = pacer_.ready_at() > now ? pacer_.ready_at() - now : Duration{0};
  for (const QueueItem& item : items_) {
    if (item.priority > priority) continue;
    delay += serialisation_time(item.bytes.size() + pacer_.overhead_bytes(), pacer_.rate_bps());
  }
  return delay;
}

}  // namespace ravine::gateway::coap
