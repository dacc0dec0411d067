// The harness under the benchmarks: forked sides, one core each, that count in shared memory while the
// parent, which does no work itself, opens and closes the measuring windows and reads the sides' CPU clocks
// from outside.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "bench/bench.h"

namespace ravine::bench {

// Latencies in nanoseconds with a resolution of 1/64; one writer.
class Histogram {
 public:
  static constexpr std::size_t kBuckets = 64 * 32;
  void add(std::uint64_t nanoseconds) {
    auto& bucket = buckets_[bucket_of(nanoseconds)];
    bucket.store(bucket.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  std::vector<std::uint64_t> counts() const;

 private:
  static std::size_t bucket_of(std::uint64_t nanoseconds);
  std::array<std::atomic<std::uint64_t>, kBuckets> buckets_{};
};

// The value below which `share` (0..1) of the counted latencies lie, in nanoseconds; 0 when there are none.
double quantile(const std::vector<std::uint64_t>& counts, double share);

// What one side tells the others. Written by that side alone.
struct SideState {
  std::atomic<std::uint64_t> bytes{0};       // payload delivered or sent, the benchmark says which
  std::atomic<std::uint64_t> operations{0};  // requests, handshakes, datagrams
  std::atomic<std::uint64_t> packets_sent{0};
  std::atomic<std::uint64_t> packets_received{0};
  std::atomic<std::uint64_t> failures{0};
  std::atomic<std::uint16_t> port{0};  // where a server listens
  std::atomic<bool> ready{false};      // set once, when the others may begin
  Histogram latency;
  std::array<char, 512> error{};  // zero-terminated; set before the side ends with an error
  std::array<char, 64> note{};    // zero-terminated; e.g. the packet protection in use

  void set_note(std::string_view text);
};

inline constexpr std::size_t kMaxSides = 4;
struct SharedState {
  std::array<SideState, kMaxSides> sides;
  std::atomic<bool> stop{false};  // every side ends soon after it reads true
};

inline constexpr std::uint32_t kServerCore = 0;
inline constexpr std::uint32_t kClientCore = 1;
inline constexpr int kAnyCore = -1;

// Differences of one side's counters over a window.
struct SideWindow {
  double cpu_seconds = 0;  // user and system, of the side's process alone
  double bytes = 0, operations = 0, packets_sent = 0, packets_received = 0;
  std::vector<std::uint64_t> latency;
};
struct Window {
  double seconds = 0;
  std::array<SideWindow, kMaxSides> sides;
};

// Up to four forked processes. A side's body runs in its own process with `mine` as its state; it ends when
// it returns. Sides are killed when the group goes, and when the parent dies.
class SideGroup {
 public:
  using Body = std::function<Result<>(SharedState& shared, SideState& mine)>;
  SideGroup();
  ~SideGroup();
  SideGroup(const SideGroup&) = delete;
  SideGroup& operator=(const SideGroup&) = delete;

  // Forks the next side, pinned to `core` (or nowhere), and waits until it is ready. Fails with the side's
  // own error.
  Result<> start(std::string_view name, int core, const Body& body, std::chrono::milliseconds patience);
  // Sleeps `seconds` and tells what happened in them. Fails when a side ended.
  Result<Window> measure(double seconds);
  Result<> sleep(double seconds);  // fails likewise
  // RssAnon of a side's process now, in KiB.
  Result<double> anonymous_memory(std::size_t side) const;
  SharedState& shared() { return *shared_; }
  pid_t pid(std::size_t side) const { return sides_[side].pid; }

 private:
  struct Side {
    std::string name;
    pid_t pid = -1;
  };
  struct Snapshot;
  Snapshot snapshot() const;
  Result<> check();
  void end_all();
  SharedState* shared_ = nullptr;
  std::vector<Side> sides_;
};

// Monotonic nanoseconds.
std::uint64_t now_nanoseconds();
double median(std::vector<double> values);

// A server and a client, the usual case: sides 0 and 1. `warm_up` seconds pass before the window.
struct PairPlan {
  std::string_view name;
  double warm_up = 0.5;
  double seconds = 3;
};
Result<Window> measure_pair(const PairPlan& plan, const SideGroup::Body& server,
                            const SideGroup::Body& client, std::string* client_note = nullptr);

}  // namespace ravine::bench
