// Prints the goodput of CUBIC and BBR over the degradation ladder in virtual time, one way and both ways at
// once, so that the default is chosen by measurement. Not a test:
// docs/decisions/0003-congestion-control-default.md has its figures.
#include <fmt/format.h>

#include "sim/world.h"

namespace ravine::sim {
namespace {

struct Rung {
  const char* name;
  double bits_per_second;
  Duration round_trip;
  double loss;
  unsigned burst;
  Duration queue;
};

constexpr Rung kLadder[] = {
    {"100 Mbit/s, 16 ms, 0 %", 100e6, 16ms, 0, 1, 30ms},
    {"100 Mbit/s, 16 ms, 0.1 %", 100e6, 16ms, 0.001, 1, 30ms},
    {"100 Mbit/s, 40 ms, 1 %", 100e6, 40ms, 0.01, 1, 40ms},
    {"20 Mbit/s, 60 ms, 0.5 %", 20e6, 60ms, 0.005, 1, 60ms},
    {"20 Mbit/s, 60 ms, 0 %, 500 ms queue", 20e6, 60ms, 0, 1, 500ms},
    {"3 Mbit/s, 200 ms, 3 % in bursts of 10", 3e6, 200ms, 0.03, 10, 200ms},
    {"256 kbit/s, 800 ms, 25 % in bursts of 40", 256e3, 800ms, 0.25, 40, 800ms},
};

struct Goodput {
  double forward = 0, backward = 0;  // Mbit/s
};

Goodput measure(const Rung& rung, session::CongestionControl congestion, bool both_ways) {
  World world(42);
  const auto change = [&](session::EndpointOptions& options) {
    options.defaults.congestion = congestion;
    options.defaults.handshake_timeout = 60s;
  };
  Node& alice = world.add("alice", 1, change);
  Node& bob = world.add("bob", 2, change);
  world.both(alice, bob, [&](Link& link) {
    link.bits_per_second = rung.bits_per_second;
    link.delay = rung.round_trip / 2;
    link.loss = rung.loss;
    link.burst = rung.burst;
    link.queue = rung.queue;
  });
  const SessionId id = alice.dial(bob);
  const auto up = [](Node& from, Node& to) {
    session::Session* found = from.session_to(to);
    return found != nullptr && found->is_established();
  };
  if (!world.run_until([&] { return up(alice, bob) && up(bob, alice); }, 60s)) return {};
  alice.send(id, std::uint64_t{1} << 40);
  if (both_ways) bob.send(bob.session_to(alice)->id(), std::uint64_t{1} << 40);
  constexpr auto kTime = 20s;
  world.run(kTime);
  const auto megabits = [&](const Node& node) {
    return static_cast<double>(node.received()) * 8 / 1e6 / std::chrono::duration<double>(kTime).count();
  };
  return {megabits(bob), megabits(alice)};
}

}  // namespace
}  // namespace ravine::sim

int main() {
  using namespace ravine::sim;
  fmt::print("{:<42} {:>8} {:>8}   {:>17} {:>17}\n", "Mbit/s of goodput in the first 20 s", "cubic", "bbr",
             "cubic both ways", "bbr both ways");
  for (const Rung& rung : kLadder) {
    using ravine::session::CongestionControl;
    const Goodput cubic = measure(rung, CongestionControl::cubic, false);
    const Goodput bbr = measure(rung, CongestionControl::bbr, false);
    const Goodput cubic_both = measure(rung, CongestionControl::cubic, true);
    const Goodput bbr_both = measure(rung, CongestionControl::bbr, true);
    fmt::print("{:<42} {:>8.2f} {:>8.2f}   {:>8.2f} {:>8.2f} {:>8.2f} {:>8.2f}\n", rung.name, cubic.forward,
               bbr.forward, cubic_both.forward, cubic_both.backward, bbr_both.forward, bbr_both.backward);
  }
}
