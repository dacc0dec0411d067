// Numbers that are never used twice under one key: reserved in blocks, durably, before use; and the window
// that refuses what was received before. Pure values; the owner of a context supplies where state is kept.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"

namespace ravine::gateway::security {

inline constexpr std::uint64_t kMaxSends = std::uint64_t{1} << 20;        // per key
inline constexpr std::uint64_t kMaxFailedOpens = std::uint64_t{1} << 14;  // per key
inline constexpr std::uint64_t kSequenceBlock =
    64;  // numbers per reservation; a restart skips at most so many

// Where a context keeps its state. Host port: called with a context's own encode() before it uses numbers
// that the stored state does not cover.
class SequenceStore {
 public:
  virtual ~SequenceStore() = default;
  // Replaces what was stored for this context. Returns only when `state` is durable (written and synced,
  // under a name that a crash cannot tear). On an error nothing is sent, and the number is not used.
  virtual Result<> persist(ByteView state) = 0;
};

// A counter whose next value lies below a durable limit. The owner persists when reserve() moved the limit.
class NumberBlock {
 public:
  NumberBlock() = default;
  // Continues at `limit`, as after a restart: everything below may have been used. Requires limit ≤ end.
  explicit NumberBlock(std::uint64_t limit, std::uint64_t end = kMaxSends)
      : next_(limit), limit_(limit), end_(end) {}

  std::uint64_t next() const { return next_; }
  std::uint64_t limit() const { return limit_; }
  bool exhausted() const { return next_ >= end_; }
  bool needs_reservation() const { return next_ >= limit_; }
  void reserve() { limit_ = next_ + kSequenceBlock < end_ ? next_ + kSequenceBlock : end_; }
  void withdraw(std::uint64_t limit) { limit_ = limit; }
  // Requires !exhausted() and !needs_reservation().
  std::uint64_t take();
  // Goes on at `number` when that is ahead; the numbers between are never used.
  void skip_to(std::uint64_t number);

 private:
  std::uint64_t next_ = 0;
  std::uint64_t limit_ = 0;
  std::uint64_t end_ = kMaxSends;
};

// Which of the last kSpan numbers were accepted. The caller checks the tag between judge() and accept().
class ReplayWindow {
 public:
  static constexpr std::uint64_t kSpan = 128;
  enum class Verdict : std::uint8_t { fresh, duplicate, stale };  // stale: older than the window reaches

  Verdict judge(std::uint64_t number) const;
  void accept(std::uint64_t number);
  // Forgets all; `number` and everything below count as seen.
  void start_after(std::uint64_t number);
  bool empty() const { return !any_; }
  std::uint64_t highest() const { return highest_; }  // 0 when empty

 private:
  bool bit(std::uint64_t back) const { return (seen_[back / 64] >> (back % 64) & 1) != 0; }
  std::array<std::uint64_t, 2> seen_{};  // bit i: highest_ − i
  std::uint64_t highest_ = 0;
  bool any_ = false;
};

}  // namespace ravine::gateway::security
