// `ravine bench peer NAME`: echo, sink and source streams, and the measuring side.
#pragma once

#include <functional>
#include <memory>

#include "services/peers.h"
#include "services/streams.h"

namespace ravine::services {

inline constexpr std::uint64_t kMaxBenchBytes = 64ull << 30;
inline constexpr std::size_t kMaxBenchStreamsPerSession = 4;

// Answers StreamRequest.BENCH of every member.
class BenchService {
 public:
  explicit BenchService(StreamRouter& router);
  ~BenchService();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

struct BenchProgress {
  std::string_view phase;  // "latency", "upload", "download"
  Duration elapsed{0};
  std::uint64_t bytes = 0;
  double bits_per_second = 0;  // so far, of this phase
};
struct BenchResult {
  Duration latency_p50{0}, latency_p99{0}, latency_min{0};  // of 64-byte echoes on one stream
  std::uint64_t echoes = 0;
  double upload_bits_per_second = 0, download_bits_per_second = 0;
  std::uint64_t upload_bytes = 0, download_bytes = 0;
};
struct BenchOptions {
  std::uint32_t echoes = 200;
  Duration upload = 3s, download = 3s;
};
// Runs the three phases one after the other on a live session. `progress` about four times a second.
// Destroying the handle stops. Errors: closed, refused, timed_out.
Pending run_bench(StreamRouter& router, session::SessionId session, BenchOptions options,
                  std::function<void(const BenchProgress&)> progress,
                  std::function<void(Result<BenchResult>)> done);

}  // namespace ravine::services
