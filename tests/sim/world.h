// World: virtual time, links, NATs and nodes with real endpoints (ngtcp2, GnuTLS), all from one seed. Events
// happen in the order (time, sequence). The digest covers what happened, its lengths and virtual times;
// ciphertext differs from run to run because GnuTLS draws its own randomness.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "base/machine.h"
#include "session/endpoint.h"

namespace ravine::sim {

using session::NetworkId;
using session::SessionId;
using session::StreamId;

// One direction between two hosts.
struct Link {
  Duration delay = 5ms, jitter{0};
  double loss = 0;                                 // share of packets
  unsigned burst = 1;                              // packets lost in a row at each loss
  double duplicate = 0, corrupt = 0, reorder = 0;  // shares; a reordered packet takes twice the delay
  double bits_per_second = 0;                      // 0: infinite
  Duration queue = 50ms;
  std::size_t mtu = 1472;                                   // bytes of UDP payload
  bool down = false, bleach_ecn = false, drop_ecn = false;  // drop_ecn: packets marked ECT are lost
  unsigned burst_left = 0;
  Instant free_at;
  std::uint64_t packets = 0, lost = 0;
};

// RFC 4787 behaviours of mapping and filtering.
enum class NatRule : std::uint8_t { endpoint_independent, address_dependent, address_and_port_dependent };

struct Nat {
  IpAddress public_ip;
  NatRule mapping = NatRule::endpoint_independent;
  NatRule filtering = NatRule::address_and_port_dependent;
  std::uint16_t next_port = 40000;
  struct Mapping {
    SocketAddress inside;
    SocketAddress towards;  // normalised by the mapping rule
    std::uint16_t port = 0;
    std::set<SocketAddress> allowed;  // normalised by the filtering rule
  };
  std::vector<Mapping> mappings;
  void rebind() { mappings.clear(); }
};

// What a node received on one stream of a peer, checked against the pattern.
struct Inflow {
  std::uint64_t bytes = 0, wrong = 0;
  bool finished = false;
};
struct Outflow {
  SessionId session;
  StreamId stream = -1;
  std::uint64_t written = 0, total = 0;
  bool finish = true, finished = false;
};

class World;

class Node {
 public:
  Node(World& world, std::string name, SocketAddress address, session::EndpointOptions options);

  session::Endpoint& endpoint() { return *endpoint_; }
  SessionId dial(Node& peer, session::DialOptions options = {});
  session::Session* session_to(Node& peer);
  session::Session* session(SessionId which) { return endpoint_->find(which); }
  // Opens a stream and sends `bytes` of the pattern, then FIN.
  void send(SessionId session, std::uint64_t bytes, bool finish = true);
  std::uint64_t received() const;  // on all streams
  std::uint64_t wrong() const;     // bytes that differ from the pattern
  std::uint64_t written() const;
  bool all_acknowledged();

  void restart(bool same_secret = true);  // crash: everything in memory is gone
  void drain();                           // after calls from outside of the world's loop

  World& world;
  std::string name;
  SocketAddress address;
  bool alive = true;
  NetworkId network;
  identity::PeerId id;
  std::map<session::EventKind, int> events;
  std::vector<session::CloseReason> closed;
  std::map<std::pair<std::uint32_t, StreamId>, Inflow> inflows;
  std::vector<Outflow> outflows;
  Instant last_data;
  Duration longest_gap{0};

 private:
  friend class World;
  void build();
  void handle(const SocketAddress& from, std::uint8_t ecn, Bytes bytes);
  void handle_event(const session::Event& event);
  void pump(Outflow& flow);
  void read(const session::Event& event);
  session::EndpointOptions options_;
  SeededRandom random_;
  std::unique_ptr<session::Endpoint> endpoint_;
  session::TransmitBatch batch_{512 * 1024};
};

class World {
 public:
  explicit World(std::uint64_t seed);
  ~World();

  // Hosts are 10.0.0.<host>, port 4433. All nodes share one network and certificate authority.
  Node& add(const std::string& name, std::uint8_t host,
            std::function<void(session::EndpointOptions&)> change = {});
  Link& link(const Node& from, const Node& to) { return links_[{from.address.ip, to.address.ip}]; }
  void both(const Node& a, const Node& b, const std::function<void(Link&)>& change);
  void all_links(const std::function<void(Link&)>& change);  // those that exist or were named
  Nat& put_behind_nat(Node& node, std::uint8_t public_host);
  SocketAddress seen_address(Node& node, const SocketAddress& towards);  // opens the mapping

  void at(Instant when, std::function<void()> action);
  void run(Duration time);
  bool run_until(const std::function<bool()>& done, Duration limit);
  void send(SocketAddress from, SocketAddress to, std::uint8_t ecn, Bytes bytes, bool from_inside = true);
  void leap(Duration time) { now = now + time; }  // everybody slept: what was due is late
  void jump_wall_clock(std::int64_t seconds);
  double chance() { return random.unit(); }
  void note(std::string_view what, std::uint64_t value);  // into the digest
  std::uint64_t digest() const { return digest_; }

  Instant now{1'000'000'000};
  SeededRandom random;
  std::uint64_t seed;
  // Sees every datagram as it enters the network; true takes it away.
  std::function<bool(const SocketAddress& from, const SocketAddress& to, const Bytes& bytes)> tap;
  std::vector<std::unique_ptr<Node>> nodes;

 private:
  struct Happening {
    Instant at;
    std::uint64_t sequence;
    std::function<void()> action;
    bool operator<(const Happening& other) const {
      return at != other.at ? at > other.at : sequence > other.sequence;
    }
  };
  SocketAddress translate_out(const SocketAddress& from, const SocketAddress& to);
  bool translate_in(const SocketAddress& from, SocketAddress& to);
  void deliver(const SocketAddress& from, SocketAddress to, std::uint8_t ecn, Bytes bytes);
  bool step(Instant end);

  std::map<std::pair<IpAddress, IpAddress>, Link> links_;
  std::map<IpAddress, Nat> nats_;              // by inside address
  std::map<IpAddress, IpAddress> nat_inside_;  // public → inside
  std::priority_queue<Happening> queue_;
  std::uint64_t sequence_ = 0;
  std::uint64_t digest_ = 0xcbf29ce484222325;
};

// Runs a scenario twice and returns whether both digests agree; the scenario asserts what it wants by itself.
bool same_twice(std::uint64_t seed, const std::function<void(World&)>& scenario);

}  // namespace ravine::sim
