// Deduplication (RFC 7252 §4.5): which messages of a peer were seen, and the bytes that answered them, for as
// long as a copy may still arrive. Bounded in count and bytes; what it forgets early can only be repeated
// harmlessly. Pure.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <utility>

#include "base/address.h"
#include "base/bytes.h"
#include "base/time.h"

namespace ravine::gateway::coap {

struct ReplyCacheLimits {
  std::size_t entries = 8192;
  std::size_t bytes = std::size_t{4} << 20;  // of kept answers
  std::size_t entries_per_peer = 4096;
};

class ReplyCache {
 public:
  explicit ReplyCache(const ReplyCacheLimits& limits = {}) : limits_(limits) {}

  struct Entry {
    bool idempotent = false;    // running it again does no harm, so it may be forgotten early
    Bytes answer;               // bytes to send again for a copy; empty: none yet, or none due
    std::uint64_t request = 0;  // the owner's id of what was made of it
    std::uint64_t queued = 0;   // queue item of an answer that may still be waiting
    Instant expires_at;
  };

  // The entry of (peer, message id) while it lives; null when it is new. Valid until the next insert.
  Entry* find(Instant now, const SocketAddress& peer, std::uint16_t message_id);
  // Remembers a new message. Null when the cache is full of messages that may not run twice: refuse it
  // with 5.03.
  Entry* insert(Instant now, const SocketAddress& peer, std::uint16_t message_id, Entry entry);
  // Keeps the answer's bytes, or nothing of them when that would exceed the limit (a copy is then ignored).
  void keep_answer(const SocketAddress& peer, std::uint16_t message_id, ByteView answer,
                   std::uint64_t queued);

  std::size_t size() const { return entries_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  using Key = std::pair<SocketAddress, std::uint16_t>;
  struct Slot {
    Entry entry;
    std::list<Key>::iterator age;
  };
  using Map = std::map<Key, Slot>;
  void forget(Map::iterator at);
  void expire(Instant now);
  bool make_room(const SocketAddress& peer);

  ReplyCacheLimits limits_;
  Map entries_;
  std::list<Key> by_age_;  // oldest first
  std::map<SocketAddress, std::size_t> per_peer_;
  std::size_t bytes_ = 0;
};

}  // namespace ravine::gateway::coap
