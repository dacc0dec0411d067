// What waits for a slow link: a pacer at the link's rate, and a queue whose items can be replaced, merged or
// cancelled until the moment they leave. Used by CoAP and by the thin link. Pure, by virtual time; the driver
// polls.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"

namespace ravine::gateway::coap {

struct PacerOptions {
  double rate_bps = 0;  // bit/s of the link, or of our share of it; 0: no pacing
  std::uint32_t overhead_bytes =
      28;  // added to each datagram: 28 for UDP/IPv4, 48 for UDP/IPv6, framing of a pipe
  std::uint32_t burst_bytes =
      0;  // may leave ahead of the rate after a pause; 0: each waits for the one before
};

// A datagram may leave when the ones before it have been serialised at the rate.
class Pacer {
 public:
  explicit Pacer(const PacerOptions& options = {}) : options_(options) {}

  Instant ready_at() const { return free_at_ - allowance(); }
  bool is_ready(Instant now) const { return ready_at() <= now; }
  // A datagram of `bytes` (without overhead) leaves now. Returns when its last bit has left.
  Instant charge(Instant now, std::size_t bytes);
  void set_rate(double bits_per_second) { options_.rate_bps = bits_per_second; }
  double rate_bps() const { return options_.rate_bps; }
  std::uint32_t overhead_bytes() const { return options_.overhead_bytes; }
  // Bytes charged since construction, overhead too: the time on the air times the rate.
  std::uint64_t charged_bytes() const { return charged_bytes_; }

 private:
  Duration allowance() const;
  PacerOptions options_;
  Instant free_at_;
  std::uint64_t charged_bytes_ = 0;
};

using QueueItemId = std::uint64_t;  // never 0

struct QueueItem {
  QueueItemId id = 0;  // set by push
  SocketAddress to;
  Bytes bytes;                // datagram, or what its owner makes one of when it leaves
  std::uint8_t priority = 4;  // 0 leaves first; equal ones leave in the order of arrival
  std::string
      replace_key;  // a newer item with the same key and `to` takes the place of a waiting one; "": never
  std::uint64_t merge_group = 0;  // items of one group and `to` may leave together; 0: alone
  std::uint64_t context = 0;      // the owner's
  Instant queued_at;
  Instant expires_at = Instant::never();  // dropped when still waiting then
};

struct SendQueueLimits {
  std::size_t items = 1024;
  std::size_t bytes = std::size_t{1} << 20;
};

class SendQueue {
 public:
  explicit SendQueue(const PacerOptions& pacer = {}, const SendQueueLimits& limits = {})
      : pacer_(pacer), limits_(limits) {}

  // Takes the item, or lets it take the place of the waiting one with its replace_key (which keeps its id and
  // its turn, and gets the better of both priorities). Returns its id; limit_reached when the queue is full.
  Result<QueueItemId> push(Instant now, QueueItem item);
  // The id that push would replace; nullopt: it would be a new item.
  std::optional<QueueItemId> find_key(const SocketAddress& to, const std::string& replace_key) const;

  // The waiting item, for looking at it or growing it (merging); null when it has left. Valid until the next
  // call.
  const QueueItem* find(QueueItemId id) const;
  // Puts other bytes in a waiting item's place; false when it has left or the queue's bytes would be
  // exceeded.
  bool rewrite(QueueItemId id, Bytes bytes);
  bool cancel(QueueItemId id);
  std::size_t cancel_if(const std::function<bool(const QueueItem&)>& which);  // how many went

  using Admission = std::function<bool(const QueueItem&)>;
  // The next item in order of (priority, arrival), if the pacer lets one leave now, skipping those that
  // `admit` holds back. It is not charged: the owner calls charge() with the size it really sends.
  std::optional<QueueItem> pop(Instant now, const Admission& admit = {});
  // Further items of the same destination and merge group, oldest first, at most `room` bytes in all.
  std::vector<QueueItem> take_group(const SocketAddress& to, std::uint64_t group, std::size_t room);
  Instant charge(Instant now, std::size_t bytes) { return pacer_.charge(now, bytes); }

  // When pop may succeed: when the pacer is ready, if anything waits. Never when nothing does.
  Instant next_departure() const;
  // Items whose time ran out, by id, since the last call; they are gone.
  std::vector<QueueItem> expire(Instant now);
  Instant next_expiry() const;

  std::size_t size() const { return items_.size(); }
  std::size_t bytes() const { return bytes_; }
  bool empty() const { return items_.empty(); }
  // Serialisation time of all that waits ahead of a new item of `priority`, from now.
  Duration delay_ahead(Instant now, std::uint8_t priority) const;
  Pacer& pacer() { return pacer_; }
  const Pacer& pacer() const { return pacer_; }

 private:
  std::list<QueueItem>::iterator locate(QueueItemId id);
  QueueItem take(std::list<QueueItem>::iterator at);

  Pacer pacer_;
  SendQueueLimits limits_;
  std::list<QueueItem> items_;  // in order of departure
  std::size_t bytes_ = 0;
  QueueItemId next_id_ = 1;
};

}  // namespace ravine::gateway::coap
