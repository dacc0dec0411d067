#include "forward/forwarder.h"

#include <algorithm>

namespace ravine::forward {

Result<> Forwarder::claim(Label label, const EntryOptions& options) {
  if (options.ingress.remote == options.egress.remote) {
    return Error{ErrorKind::refused, "forwarding entry goes back to where it comes from: it would loop"};
  }
  if (used_ >= limits_.entries) {
    return Error{ErrorKind::limit_reached,
                 "forwarding table is full: raise its limit or wait for leases to end"};
  }
  std::size_t& of_owner = per_owner_[options.owner];
  if (of_owner >= limits_.entries_per_owner) {
    return Error{ErrorKind::limit_reached,
                 "this link holds as many forwarding entries as it may: release some"};
  }
  const auto index = free_.empty() ? static_cast<std::uint32_t>(entries_.size()) : free_.back();
  if (!table_.claim(label, {TargetKind::forward, 0, index})) {
    if (of_owner == 0) per_owner_.erase(options.owner);
    return Error{ErrorKind::already_exists, "label is taken: choose another"};
  }
  if (free_.empty()) {
    entries_.emplace_back();
  } else {
    free_.pop_back();
  }
  Entry& entry = entries_[index];
  entry = {};
  entry.used = true;
  entry.label = label;
  entry.options = options;
  entry.tokens = options.burst_bytes;
  ++of_owner;
  ++used_;
  return {};
}

Forwarder::Entry* Forwarder::find_owned(Label label, OwnerId owner) {
  const Target target = table_.find(label);
  if (target.kind != TargetKind::forward) return nullptr;
  Entry& entry = entries_[target.index];
  return entry.options.owner == owner ? &entry : nullptr;
}

bool Forwarder::renew(Label label, OwnerId owner, Instant lease_until) {
  Entry* entry = find_owned(label, owner);
  if (entry == nullptr) return false;
  entry->options.lease_until = lease_until;
  return true;
}

bool Forwarder::move_ingress(Label label, OwnerId owner, const Route& ingress) {
  Entry* entry = find_owned(label, owner);
  if (entry == nullptr || ingress.remote == entry->options.egress.remote) return false;
  entry->options.ingress = ingress;
  return true;
}

bool Forwarder::move_egress(Label label, OwnerId owner, const Route& egress) {
  Entry* entry = find_owned(label, owner);
  if (entry == nullptr || egress.remote == entry->options.ingress.remote) return false;
  entry->options.egress = egress;
  return true;
}

bool Forwarder::release(Label label, OwnerId owner) {
  if (find_owned(label, owner) == nullptr) return false;
  erase(table_.find(label).index);
  return true;
}

void Forwarder::erase(std::uint32_t index) {
  Entry& entry = entries_[index];
  table_.release(entry.label);
  if (auto owner = per_owner_.find(entry.options.owner); owner != per_owner_.end() && --owner->second == 0) {
    per_owner_.erase(owner);
  }
  entry = {};
  free_.push_back(index);
  --used_;
}

void Forwarder::release_owner(OwnerId owner) {
  if (!per_owner_.contains(owner)) return;
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].used && entries_[i].options.owner == owner) erase(i);
  }
}

void Forwarder::expire(Instant now) {
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].used && entries_[i].options.lease_until <= now) erase(i);
  }
}

Instant Forwarder::next_expiry() const {
  Instant next = Instant::never();
  for (const Entry& entry : entries_) {
    if (entry.used) next = std::min(next, entry.options.lease_until);
  }
  return next;
}

bool Forwarder::take_tokens(Entry& entry, Instant now, std::size_t size) {
  const std::uint64_t rate = entry.options.bytes_per_second;
  if (rate == 0) return true;
  if (now > entry.filled_at) {
    // At most the time that fills the bucket counts, so that the product cannot overflow.
    const std::uint64_t full = entry.options.burst_bytes * 1'000'000'000 / rate + 1;
    const std::uint64_t elapsed = std::min(now.nanoseconds - entry.filled_at.nanoseconds, full);
    const std::uint64_t earned = elapsed * rate / 1'000'000'000;
    if (earned > 0) {
      entry.tokens = std::min(entry.tokens + earned, entry.options.burst_bytes);
      entry.filled_at = now;
    }
  }
  if (entry.tokens < size) return false;
  entry.tokens -= size;
  return true;
}

Forwarder::Outcome Forwarder::check(Instant now, std::uint32_t index, const SocketAddress& source,
                                    std::size_t size) {
  Entry& entry = entries_[index];
  if (entry.options.ingress.remote != source) {
    ++entry.counters.wrong_source;
    return {Verdict::wrong_source, nullptr};
  }
  if (entry.options.lease_until <= now) return {Verdict::expired, nullptr};
  if (!take_tokens(entry, now, size)) {
    ++entry.counters.over_rate;
    return {Verdict::over_rate, nullptr};
  }
  ++entry.counters.packets;
  entry.counters.bytes += size;
  return {Verdict::forward, &entry.options.egress};
}

std::optional<EntryCounters> Forwarder::counters(Label label) const {
  const Target target = table_.find(label);
  if (target.kind != TargetKind::forward) return std::nullopt;
  return entries_[target.index].counters;
}

}  // namespace ravine::forward
