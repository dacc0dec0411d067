// Two machines and a link between them in virtual time, for tests: loss, copies, reordering, delay, and a
// rate at which each direction serialises. Everything comes from one seed.
#pragma once

#include <functional>
#include <map>

#include "base/machine.h"
#include "gateway/coap/endpoint.h"

namespace ravine::gateway::coap {

struct LinkOptions {
  double loss = 0;       // probability, each direction
  double duplicate = 0;  // probability
  Duration delay = 50ms;
  Duration jitter{0};   // uniform beside delay: reorders
  double rate_bps = 0;  // 0: endless
  std::size_t overhead_bytes = 28;
  std::uint64_t seed = 1;
};

inline const SocketAddress kClientAddress = *SocketAddress::parse("192.0.2.1:40000");
inline const SocketAddress kServerAddress = *SocketAddress::parse("192.0.2.2:5683");

template <class Machine>
class VirtualLink {
 public:
  VirtualLink(const LinkOptions& options, Machine& client, Machine& server)
      : options_(options), random_(options.seed), client_(client), server_(server) {}

  // Called after each input with the machine and whether it is the client: drains its events.
  std::function<void(Machine&, bool is_client)> on_events;
  // Sees every datagram that leaves; false swallows it.
  std::function<bool(const OutgoingDatagram&, bool from_client)> filter;

  Instant now{1'000'000'000'000};
  std::size_t sent_by_client = 0, sent_by_server = 0;

  void settle() {
    drain(client_, true);
    drain(server_, false);
  }

  void inject(const SocketAddress& from, bool to_client, Bytes bytes) {
    if (to_client) {
      client_.handle_datagram(now, from, bytes);
    } else {
      server_.handle_datagram(now, from, bytes);
    }
    settle();
  }

  // Runs until `done`, or nothing is left to happen, or `limit` passed. True when done.
  bool run(const std::function<bool()>& done, Duration limit = 24h) {
    const Instant end = now + limit;
    settle();
    for (std::size_t steps = 0; steps < 2'000'000; ++steps) {
      if (done()) return true;
      Instant next = std::min(client_.next_deadline().at, server_.next_deadline().at);
      if (!flying_.empty()) next = std::min(next, flying_.begin()->first.first);
      if (next.is_never() || next > end) {
        now = std::max(now, end);
        return false;
      }
      now = std::max(now, next);
      deliver_due();
      if (client_.next_deadline().at <= now) client_.handle_timeout(now);
      if (server_.next_deadline().at <= now) server_.handle_timeout(now);
      settle();
    }
    return false;
  }

 private:
  struct Flying {
    bool to_client;
    Bytes bytes;
  };

  void deliver_due() {
    while (!flying_.empty() && flying_.begin()->first.first <= now) {
      const Flying datagram = std::move(flying_.begin()->second);
      flying_.erase(flying_.begin());
      inject(datagram.to_client ? kServerAddress : kClientAddress, datagram.to_client, datagram.bytes);
    }
  }

  void drain(Machine& machine, bool is_client) {
    for (bool again = true; again;) {
      again = false;
      while (std::optional<OutgoingDatagram> datagram = machine.poll_transmit(now)) {
        send(*datagram, is_client);
        again = true;
      }
      if (on_events) on_events(machine, is_client);
      // Events may have made the owner send more.
      if (machine.next_deadline().at <= now && again) continue;
    }
    while (std::optional<OutgoingDatagram> datagram = machine.poll_transmit(now)) send(*datagram, is_client);
  }

  void send(const OutgoingDatagram& datagram, bool from_client) {
    (from_client ? sent_by_client : sent_by_server) += 1;
    Instant& free_at = from_client ? up_free_ : down_free_;
    free_at = std::max(free_at, now) +
              serialisation_time(datagram.bytes.size() + options_.overhead_bytes, options_.rate_bps);
    if (filter && !filter(datagram, from_client)) return;
    const unsigned copies = random_.unit() < options_.duplicate ? 2 : 1;
    for (unsigned copy = 0; copy < copies; ++copy) {
      if (random_.unit() < options_.loss) continue;
      const auto spread =
          static_cast<std::int64_t>(random_.unit() * static_cast<double>(options_.jitter.count()));
      const Instant at = free_at + options_.delay + Duration{spread};
      flying_.emplace(std::pair{at, next_++}, Flying{!from_client, datagram.bytes});
    }
  }

  LinkOptions options_;
  SeededRandom random_;
  Machine& client_;
  Machine& server_;
  Instant up_free_, down_free_;
  std::map<std::pair<Instant, std::uint64_t>, Flying> flying_;
  std::uint64_t next_ = 0;
};

}  // namespace ravine::gateway::coap
