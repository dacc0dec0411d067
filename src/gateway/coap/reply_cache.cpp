#include "gateway/coap/reply_cache.h"

#include <algorithm>

namespace ravine::gateway::coap {
namespace {

constexpr std::size_t kScan = 64;  // entries looked at for one that may go: bounds the work of a full cache

}  // namespace

void ReplyCache::forget(Map::iterator at) {
  bytes_ -= at->second.entry.answer.size();
  const auto count = per_peer_.find(at->first.first);
  if (count != per_peer_.end() && --count->second == 0) per_peer_.erase(count);
  by_age_.erase(at->second.age);
  entries_.erase(at);
}

// Lifetimes of confirmable and other messages differ, so one long-lived entry may hide a shorter one behind
// it until find() meets it; nothing depends on that but memory, which the limits bound.
void ReplyCache::expire(Instant now) {
  while (!by_age_.empty()) {
    const auto oldest = entries_.find(by_age_.front());
    if (oldest->second.entry.expires_at > now) return;
    forget(oldest);
  }
}

ReplyCache::Entry* ReplyCache::find(Instant now, const SocketAddress& peer, std::uint16_t message_id) {
  const auto at = entries_.find({peer, message_id});
  if (at == entries_.end()) return nullptr;
  if (at->second.entry.expires_at <= now) {
    forget(at);
    return nullptr;
  }
  return &at->second.entry;
}

bool ReplyCache::make_room(const SocketAddress& peer) {
  const auto count = per_peer_.find(peer);
  const bool peer_full = count != per_peer_.end() && count->second >= limits_.entries_per_peer;
  if (!peer_full && entries_.size() < limits_.entries) return true;
  std::size_t looked = 0;
  for (const Key& key : by_age_) {
    if (++looked > kScan) return false;
    const auto at = entries_.find(key);
    const bool helps = !peer_full || key.first == peer;
    if (helps && at->second.entry.idempotent) {
      forget(at);
      return true;
    }
  }
  return false;
}

ReplyCache::Entry* ReplyCache::insert(Instant now, const SocketAddress& peer, std::uint16_t message_id,
                                      Entry entry) {
  expire(now);
  if (!make_room(peer)) return nullptr;
  const Key key{peer, message_id};
  if (const auto old = entries_.find(key); old != entries_.end()) forget(old);
  bytes_ += entry.answer.size();
  by_age_.push_back(key);
  ++per_peer_[peer];
  return &entries_.emplace(key, Slot{std::move(entry), std::prev(by_age_.end())}).first->second.entry;
}

void ReplyCache::keep_answer(const SocketAddress& peer, std::uint16_t message_id, ByteView answer,
                             std::uint64_t queued) {
  const auto at = entries_.find({peer, message_id});
  if (at == entries_.end()) return;
  Entry& entry = at->second.entry;
  bytes_ -= entry.answer.size();
  entry.answer.clear();
  entry.queued = queued;
  for (auto key = by_age_.begin(); key != by_age_.end() && bytes_ + answer.size() > limits_.bytes; ++key) {
    Entry& older = entries_.find(*key)->second.entry;
    if (!older.idempotent) continue;
    bytes_ -= older.answer.size();
    older.answer.clear();
    older.answer.shrink_to_fit();
  }
  if (bytes_ + answer.size() > limits_.bytes) return;
  entry.answer = to_bytes(answer);
  bytes_ += answer.size();
}

}  // namespace ravine::gateway::coap
