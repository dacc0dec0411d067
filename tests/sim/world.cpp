#include "sim/world.h"

#include <gnutls/gnutls.h>

#include <algorithm>
#include <cstdlib>

#include "session/test_certificates.h"

namespace ravine::sim {
namespace {

// One authority for the whole process: keys cannot be seeded, and making them is slow.
struct Authority {
  session::test::TestAuthority authority{"simulated"};
  std::shared_ptr<session::test::TestPolicy> policy = std::make_shared<session::test::TestPolicy>(authority);
  std::map<std::string, identity::LocalIdentity> identities;

  const identity::LocalIdentity& identity(const std::string& name) {
    auto known = identities.find(name);
    while (known == identities.end()) {
      // Keys cannot be seeded, but who dials whom depends on the order of IDs: alice's starts with a 0 bit,
      // others' with 1.
      identity::LocalIdentity made = authority.issue(name.c_str());
      if ((made.id.bytes[0] < 0x80) == (name == "alice"))
        known = identities.emplace(name, std::move(made)).first;
    }
    return known->second;
  }
};

Authority& authority() {
  static Authority one;
  return one;
}

std::int64_t wall_offset = 0;  // seconds
struct JumpingClock final : WallClock {
  UnixTime unix_time() const override { return {session::test::kTestTime + wall_offset}; }
} wall_clock;
constexpr std::string_view kServerName = "network.sim";
std::uint64_t virtual_seconds = 0;

time_t virtual_time(time_t* out) {
  const auto time = static_cast<time_t>(session::test::kTestTime + wall_offset +
                                        static_cast<std::int64_t>(virtual_seconds));
  if (out != nullptr) *out = time;
  return time;
}

std::uint8_t pattern(std::uint64_t offset) {
  return static_cast<std::uint8_t>((offset * 0x9e3779b97f4a7c15u) >> 56);
}

SocketAddress normalised(const SocketAddress& address, NatRule rule) {
  switch (rule) {
    case NatRule::endpoint_independent:
      return {};
    case NatRule::address_dependent:
      return {address.ip, 0};
    default:
      return address;
  }
}

}  // namespace

// ---------------------------------------------------------------------------------------------- Node

Node::Node(World& home, std::string its_name, SocketAddress its_address, session::EndpointOptions options)
    : world(home),
      name(std::move(its_name)),
      address(its_address),
      options_(std::move(options)),
      random_(home.random.next_u64()) {
  build();
}

void Node::build() {
  endpoint_ = std::make_unique<session::Endpoint>(options_, random_, wall_clock);
  session::NetworkOptions mine;
  mine.name = "sim";
  mine.local = authority().identity(name);
  mine.policy = authority().policy;
  mine.server_names = {std::string(kServerName)};
  mine.accept_joiners = true;
  mine.join_server_names = {"join.sim"};
  id = mine.local.id;
  network = endpoint_->add_network(std::move(mine));
}

void Node::restart(bool same_secret) {
  endpoint_.reset();
  inflows.clear();
  outflows.clear();
  if (!same_secret) random_.fill(options_.static_secret);
  options_.seed = random_.next_u64();
  build();
}

SessionId Node::dial(Node& peer, session::DialOptions options) {
  options.network = network;
  if (!options.expected_peer) options.expected_peer = peer.id;
  if (options.route.remote.port == 0) options.route.remote = peer.address;
  const auto dialled = endpoint_->dial(world.now, options);
  const SessionId made = dialled ? *dialled : SessionId{};
  drain();
  return made;
}

session::Session* Node::session_to(Node& peer) {
  return endpoint_->find_peer(network, peer.id);
}

void Node::send(SessionId to, std::uint64_t bytes, bool finish) {
  session::Session* session = endpoint_->find(to);
  if (session == nullptr) return;
  const auto stream = session->open_stream(session::StreamKind::bidirectional);
  if (!stream) return;
  outflows.push_back({to, *stream, 0, bytes, finish, false});
  pump(outflows.back());
  drain();
}

void Node::pump(Outflow& flow) {
  session::Session* session = endpoint_->find(flow.session);
  if (session == nullptr || flow.finished) return;
  while (flow.written < flow.total) {
    const std::size_t wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(flow.total - flow.written, 65536));
    if (session->unacknowledged(flow.stream) > (2u << 20)) return;
    const MutableBytes space = session->reserve(flow.stream, wanted);
    if (space.empty()) return;
    for (std::size_t i = 0; i < space.size(); ++i) space[i] = pattern(flow.written + i);
    session->commit(flow.stream, space.size());
    flow.written += space.size();
  }
  if (flow.finish) session->finish(flow.stream);
  flow.finished = true;
}

void Node::read(const session::Event& event) {
  session::Session* session = endpoint_->find(event.session);
  if (session == nullptr) return;
  Inflow& flow = inflows[{event.session.index, event.stream}];
  for (;;) {
    const ByteView bytes = session->peek(event.stream);
    if (bytes.empty()) break;
    for (const std::uint8_t byte : bytes) flow.wrong += byte != pattern(flow.bytes++);
    session->consume(event.stream, bytes.size());
    if (last_data != Instant{}) longest_gap = std::max(longest_gap, world.now - last_data);
    last_data = world.now;
  }
  if (session->is_finished(event.stream) && !flow.finished) {
    flow.finished = true;
    session->finish(event.stream);
  }
}

void Node::handle_event(const session::Event& event) {
  ++events[event.kind];
  world.note(name, static_cast<std::uint64_t>(event.kind) << 32 | (event.code & 0xffffffff));
  switch (event.kind) {
    case session::EventKind::stream_readable:
      return read(event);
    case session::EventKind::session_closed:
      if (const auto* reason = endpoint_->close_reason(event.session)) closed.push_back(*reason);
      return;
    default:
      return;
  }
}

void Node::handle(const SocketAddress& from, std::uint8_t ecn, Bytes bytes) {
  session::Received received;
  received.route.remote = from;
  received.route.local = address.ip;
  received.bytes = bytes;
  received.segment_size = static_cast<std::uint32_t>(bytes.size());
  received.ecn = ecn;
  endpoint_->handle_datagrams(world.now, received);
  drain();
}

void Node::drain() {
  for (bool more = true; more;) {
    for (Outflow& flow : outflows) pump(flow);
    more = endpoint_->poll_transmit(world.now, batch_);
    for (const session::Transmit& packet : batch_.packets()) {
      const session::Route& route = batch_.routes()[packet.route];
      world.send(address, route.remote, packet.ecn, Bytes(packet.data, packet.data + packet.size));
    }
    batch_.clear();
    while (const auto event = endpoint_->poll_event()) {
      handle_event(*event);
      more = true;
    }
  }
}

std::uint64_t Node::received() const {
  std::uint64_t sum = 0;
  for (const auto& [key, flow] : inflows) sum += flow.bytes;
  return sum;
}
std::uint64_t Node::wrong() const {
  std::uint64_t sum = 0;
  for (const auto& [key, flow] : inflows) sum += flow.wrong;
  return sum;
}
std::uint64_t Node::written() const {
  std::uint64_t sum = 0;
  for (const Outflow& flow : outflows) sum += flow.written;
  return sum;
}

// ---------------------------------------------------------------------------------------------- World

World::World(std::uint64_t world_seed) : random(world_seed), seed(world_seed) {
  gnutls_global_set_time_function(virtual_time);
  virtual_seconds = 0;
  wall_offset = 0;
}
World::~World() = default;

Node& World::add(const std::string& name, std::uint8_t host,
                 std::function<void(session::EndpointOptions&)> change) {
  session::EndpointOptions options;
  options.seed = random.next_u64();
  options.static_secret.resize(32);
  random.fill(options.static_secret);
  options.node_name = name;
  options.software = "sim";
  options.defaults.limits.initial_receive_window = 4u << 20;
  // The scenarios hold for either algorithm: RAVINE_SIM_CONGESTION=cubic or bbr runs them with that one.
  if (const char* asked = std::getenv("RAVINE_SIM_CONGESTION"); asked != nullptr) {
    options.defaults.congestion = std::string_view(asked) == "bbr" ? session::CongestionControl::bbr
                                                                   : session::CongestionControl::cubic;
  }
  if (change) change(options);
  const SocketAddress address{IpAddress::v4({10, 0, 0, host}), 4433};
  nodes.push_back(std::make_unique<Node>(*this, name, address, std::move(options)));
  return *nodes.back();
}

void World::jump_wall_clock(std::int64_t seconds) {
  wall_offset += seconds;
}

void World::both(const Node& a, const Node& b, const std::function<void(Link&)>& change) {
  change(link(a, b));
  change(link(b, a));
}

void World::all_links(const std::function<void(Link&)>& change) {
  for (const auto& a : nodes) {
    for (const auto& b : nodes) {
      if (a != b) change(link(*a, *b));
    }
  }
}

Nat& World::put_behind_nat(Node& node, std::uint8_t public_host) {
  Nat& nat = nats_[node.address.ip];
  nat.public_ip = IpAddress::v4({192, 0, 2, public_host});
  nat_inside_[nat.public_ip] = node.address.ip;
  return nat;
}

SocketAddress World::translate_out(const SocketAddress& from, const SocketAddress& to) {
  const auto found = nats_.find(from.ip);
  if (found == nats_.end()) return from;
  Nat& nat = found->second;
  const SocketAddress towards = normalised(to, nat.mapping);
  for (Nat::Mapping& mapping : nat.mappings) {
    if (mapping.inside == from && mapping.towards == towards) {
      mapping.allowed.insert(normalised(to, nat.filtering));
      return {nat.public_ip, mapping.port};
    }
  }
  nat.mappings.push_back({from, towards, nat.next_port++, {normalised(to, nat.filtering)}});
  return {nat.public_ip, nat.mappings.back().port};
}

bool World::translate_in(const SocketAddress& from, SocketAddress& to) {
  const auto inside = nat_inside_.find(to.ip);
  if (inside == nat_inside_.end()) return true;
  const Nat& nat = nats_[inside->second];
  for (const Nat::Mapping& mapping : nat.mappings) {
    if (mapping.port != to.port || !mapping.allowed.contains(normalised(from, nat.filtering))) continue;
    to = mapping.inside;
    return true;
  }
  return false;
}

SocketAddress World::seen_address(Node& node, const SocketAddress& towards) {
  return translate_out(node.address, towards);
}

void World::note(std::string_view what, std::uint64_t value) {
  const auto mix = [this](std::uint64_t word) { digest_ = (digest_ ^ word) * 0x100000001b3; };
  for (const char letter : what) mix(static_cast<std::uint8_t>(letter));
  mix(value);
  mix(now.nanoseconds);
}

void World::at(Instant when, std::function<void()> action) {
  queue_.push({when, sequence_++, std::move(action)});
}

void World::send(SocketAddress from, SocketAddress to, std::uint8_t ecn, Bytes bytes, bool from_inside) {
  const IpAddress sender = from.ip;
  if (from_inside) from = translate_out(from, to);
  note("send", bytes.size());
  if (tap && tap(from, to, bytes)) return;
  const auto inside = nat_inside_.find(to.ip);
  Link& way = links_[{sender, inside == nat_inside_.end() ? to.ip : inside->second}];
  ++way.packets;
  bool lost = way.down || bytes.size() > way.mtu || (way.drop_ecn && ecn != 0);
  if (!lost && way.burst_left > 0) {
    --way.burst_left;
    lost = true;
  } else if (!lost && way.loss > 0 && chance() < way.loss / way.burst) {
    way.burst_left = way.burst - 1;
    lost = true;
  }
  if (lost) {
    ++way.lost;
    return;
  }
  if (way.bleach_ecn) ecn = 0;
  if (way.corrupt > 0 && chance() < way.corrupt && !bytes.empty()) {
    bytes[random.below(bytes.size())] ^= static_cast<std::uint8_t>(1 + random.below(255));
  }
  Instant leaves = now;
  if (way.bits_per_second > 0) {
    leaves = std::max(now, way.free_at);
    if (leaves - now > way.queue) {
      ++way.lost;
      return;
    }
    const double seconds = static_cast<double>(bytes.size() + 28) * 8 / way.bits_per_second;
    leaves = leaves + Duration{static_cast<std::int64_t>(seconds * 1e9)};
    way.free_at = leaves;
  }
  Duration delay = way.delay;
  if (way.jitter.count() > 0)
    delay += Duration{static_cast<std::int64_t>(chance() * static_cast<double>(way.jitter.count()))};
  if (way.reorder > 0 && chance() < way.reorder) delay += way.delay;
  const int copies = way.duplicate > 0 && chance() < way.duplicate ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    at(leaves + delay, [this, from, to, ecn, bytes] { deliver(from, to, ecn, bytes); });
  }
}

void World::deliver(const SocketAddress& from, SocketAddress to, std::uint8_t ecn, Bytes bytes) {
  if (!translate_in(from, to)) return;
  for (const auto& node : nodes) {
    if (node->alive && node->address == to) {
      node->handle(from, ecn, std::move(bytes));
      return;
    }
  }
}

bool World::step(Instant end) {
  Instant next = queue_.empty() ? Instant::never() : queue_.top().at;
  Node* due = nullptr;
  for (const auto& node : nodes) {
    if (!node->alive) continue;
    const Instant deadline = node->endpoint().next_deadline().at;
    if (deadline < next) {
      next = deadline;
      due = node.get();
    }
  }
  if (next > end) {
    now = end;
    return false;
  }
  now = std::max(now, next);
  virtual_seconds = now.nanoseconds / 1'000'000'000;
  if (due != nullptr) {
    due->endpoint().handle_timeout(now);
    due->drain();
    // A deadline that stays in the past waits for the clock: no machine may spin.
    if (due->endpoint().next_deadline().at <= now) now = now + 1us;
    return true;
  }
  auto action = queue_.top().action;
  queue_.pop();
  action();
  return true;
}

void World::run(Duration time) {
  const Instant end = now + time;
  for (const auto& node : nodes) {
    if (node->alive) node->drain();
  }
  while (step(end)) {
  }
}

bool World::run_until(const std::function<bool()>& done, Duration limit) {
  const Instant end = now + limit;
  for (const auto& node : nodes) {
    if (node->alive) node->drain();
  }
  while (!done()) {
    if (!step(end)) return done();
  }
  return true;
}

bool same_twice(std::uint64_t seed, const std::function<void(World&)>& scenario) {
  std::uint64_t digests[2];
  for (std::uint64_t& digest : digests) {
    World world(seed);
    scenario(world);
    digest = world.digest();
  }
  return digests[0] == digests[1];
}

}  // namespace ravine::sim
