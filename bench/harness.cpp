#include "bench/harness.h"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <new>
#include <thread>

namespace ravine::bench {

namespace {

Result<> pin_to(int core) {
  if (core == kAnyCore) return {};
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(core), &set);
  if (sched_setaffinity(0, sizeof set, &set) == 0) return {};
  return Error{ErrorKind::unsupported, fmt::format("cannot pin to core {}: {}; benchmarks need two cores",
                                                   core, std::strerror(errno))};
}

void set_text(std::span<char> out, std::string_view text) {
  const std::size_t size = std::min(out.size() - 1, text.size());
  std::copy_n(text.data(), size, out.data());
  out[size] = '\0';
}

// The forked side: never returns, and runs no destructor of the parent's.
[[noreturn]] void run_side(int core, pid_t parent, const SideGroup::Body& body, SharedState& shared,
                           SideState& mine) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  Result<> result = pin_to(core);
  if (result.ok()) {
    try {
      result = body(shared, mine);
    } catch (const std::exception& e) {
      result = Error{ErrorKind::internal, e.what()};
    }
  }
  if (!result.ok()) set_text(mine.error, result.error().message);
  _exit(result.ok() ? 0 : 1);
}

double cpu_seconds_of(pid_t pid) {
  clockid_t clock;
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

std::size_t Histogram::bucket_of(std::uint64_t nanoseconds) {
  if (nanoseconds < 64) return nanoseconds;
  const auto exponent =
      static_cast<std::size_t>(std::bit_width(nanoseconds)) - 7;  // keeps 7 significant bits
  const std::size_t bucket = exponent * 64 + (nanoseconds >> exponent);
  return std::min(bucket, kBuckets - 1);
}

std::vector<std::uint64_t> Histogram::counts() const {
  std::vector<std::uint64_t> out(kBuckets);
  for (std::size_t i = 0; i < kBuckets; ++i) out[i] = buckets_[i].load(std::memory_order_relaxed);
  return out;
}

double quantile(const std::vector<std::uint64_t>& counts, double share) {
  std::uint64_t total = 0;
  for (std::uint64_t count : counts) total += count;
  if (total == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total - 1));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < counts.size(); ++bucket) {
    seen += counts[bucket];
    if (seen <= wanted) continue;
    if (bucket < 64) return static_cast<double>(bucket);
    const std::size_t exponent = (bucket - 64) / 64;
    const std::size_t mantissa = bucket - exponent * 64;
    return (static_cast<double>(mantissa) + 0.5) * static_cast<double>(std::uint64_t{1} << exponent);
  }
  return 0;
}

void SideState::set_note(std::string_view text) {
  set_text(note, text);
}

struct SideGroup::Snapshot {
  std::uint64_t at = 0;
  std::array<SideWindow, kMaxSides> sides;
};

SideGroup::SideGroup() {
  void* memory =
      mmap(nullptr, sizeof(SharedState), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ensure(memory != MAP_FAILED);
  shared_ = new (memory) SharedState;
}

SideGroup::~SideGroup() {
  end_all();
  munmap(shared_, sizeof(SharedState));
}

void SideGroup::end_all() {
  shared_->stop = true;
  for (Side& side : sides_) {
    if (side.pid <= 0) continue;
    for (int waited = 0; waited < 100 && waitpid(side.pid, nullptr, WNOHANG) == 0; ++waited) {
      if (waited == 99) {
        kill(side.pid, SIGKILL);
        waitpid(side.pid, nullptr, 0);
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
    side.pid = -1;
  }
}

Result<> SideGroup::start(std::string_view name, int core, const Body& body,
                          std::chrono::milliseconds patience) {
  ensure(sides_.size() < kMaxSides);
  SideState& state = shared_->sides[sides_.size()];
  std::fflush(nullptr);  // or buffered output would leave twice
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0)
    return Error{ErrorKind::io, fmt::format("cannot fork side {}: {}", name, std::strerror(errno))};
  if (pid == 0) run_side(core, parent, body, *shared_, state);
  sides_.push_back({std::string(name), pid});
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!state.ready) {
    if (Result<> alive = check(); !alive.ok()) return alive;
    if (std::chrono::steady_clock::now() > until) {
      return Error{ErrorKind::timed_out,
                   fmt::format("side {} was not ready after {} ms", name, patience.count())};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return {};
}

Result<> SideGroup::check() {
  for (std::size_t i = 0; i < sides_.size(); ++i) {
    int status = 0;
    if (sides_[i].pid <= 0 || waitpid(sides_[i].pid, &status, WNOHANG) == 0) continue;
    sides_[i].pid = -1;
    const std::string_view reason = shared_->sides[i].error.data();
    const std::string how = WIFSIGNALED(status) ? fmt::format("killed by signal {}", WTERMSIG(status))
                                                : fmt::format("exit status {}", WEXITSTATUS(status));
    return Error{ErrorKind::closed, fmt::format("side {} ended: {}", sides_[i].name,
                                                reason.empty() ? how : std::string(reason))};
  }
  return {};
}

Result<> SideGroup::sleep(double seconds) {
  const auto until = now_nanoseconds() + static_cast<std::uint64_t>(seconds * 1e9);
  while (now_nanoseconds() < until) {
    if (Result<> alive = check(); !alive.ok()) return alive;
    const std::uint64_t rest = until - std::min(until, now_nanoseconds());
    std::this_thread::sleep_for(std::chrono::nanoseconds(std::min<std::uint64_t>(rest, 50'000'000)));
  }
  return {};
}

SideGroup::Snapshot SideGroup::snapshot() const {
  Snapshot out;
  for (std::size_t i = 0; i < sides_.size(); ++i) {
    const SideState& from = shared_->sides[i];
    SideWindow& to = out.sides[i];
    to.bytes = static_cast<double>(from.bytes.load());
    to.operations = static_cast<double>(from.operations.load());
    to.packets_sent = static_cast<double>(from.packets_sent.load());
    to.packets_received = static_cast<double>(from.packets_received.load());
    to.cpu_seconds = cpu_seconds_of(sides_[i].pid);
    to.latency = from.latency.counts();
  }
  out.at = now_nanoseconds();
  return out;
}

Result<Window> SideGroup::measure(double seconds) {
  const Snapshot before = snapshot();
  if (Result<> slept = sleep(seconds); !slept.ok()) return slept.error();
  const Snapshot after = snapshot();
  Window window;
  window.seconds = static_cast<double>(after.at - before.at) * 1e-9;
  for (std::size_t i = 0; i < kMaxSides; ++i) {
    const SideWindow &a = before.sides[i], &b = after.sides[i];
    SideWindow& out = window.sides[i];
    out = {b.cpu_seconds - a.cpu_seconds,
           b.bytes - a.bytes,
           b.operations - a.operations,
           b.packets_sent - a.packets_sent,
           b.packets_received - a.packets_received,
           b.latency};
    for (std::size_t k = 0; k < a.latency.size(); ++k) out.latency[k] -= a.latency[k];
  }
  return window;
}

Result<double> SideGroup::anonymous_memory(std::size_t side) const {
  std::ifstream status(fmt::format("/proc/{}/status", sides_[side].pid));
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with("RssAnon:")) return std::strtod(line.c_str() + 8, nullptr);
  }
  return Error{ErrorKind::unsupported, "the kernel does not tell RssAnon in /proc/PID/status"};
}

std::uint64_t now_nanoseconds() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Result<Window> measure_pair(const PairPlan& plan, const SideGroup::Body& server,
                            const SideGroup::Body& client, std::string* client_note) {
  using namespace std::chrono_literals;
  SideGroup group;
  const std::string name(plan.name);
  if (Result<> up = group.start(name + " server", kServerCore, server, 10s); !up.ok()) return up.error();
  if (Result<> up = group.start(name + " client", kClientCore, client, 10s); !up.ok()) return up.error();
  if (Result<> warm = group.sleep(plan.warm_up); !warm.ok()) return warm.error();
  Result<Window> window = group.measure(plan.seconds);
  if (client_note != nullptr) *client_note = group.shared().sides[1].note.data();
  return window;
}

}  // namespace ravine::bench
