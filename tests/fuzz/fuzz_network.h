// Two members of a network that is the same on every run, and endpoints for them in virtual time.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "identity/authority.h"
#include "identity/certificate.h"
#include "identity/network_trust.h"
#include "session/endpoint.h"

namespace ravine::fuzz {

class FixedClock final : public WallClock {
 public:
  UnixTime unix_time() const override { return {1'800'000'000}; }
};

struct Members {
  session::NetworkOptions server, client;
};

inline session::NetworkOptions make_member(identity::Authority& authority, const char* name,
                                           RandomSource& random) {
  const auto key = identity::PrivateKey::generate(random);
  const UnixTime now = FixedClock().unix_time();
  auto chain =
      authority.issue(identity::make_signing_request(key, name), {.name = name, .groups = {}}, now, random);
  expect(chain.ok());
  auto local = identity::make_local_identity(key, *chain);
  expect(local.ok());
  session::NetworkOptions out;
  out.name = "fuzz";
  out.local = std::move(*local);
  out.server_names = {"fuzz"};
  return out;
}

// Made once: certificates cost more than a run.
inline const Members& members() {
  static const Members made = [] {
    SeededRandom random(7);
    const UnixTime now = FixedClock().unix_time();
    auto root = identity::make_root("fuzz", now, random);
    expect(root.ok());
    auto trust = identity::NetworkTrust::make({root->certificate});
    expect(trust.ok());
    auto authority = identity::Authority::open(
        {.key = std::move(root->key), .chain = {root->certificate}, .trust = *trust, .crosses = {}}, {}, now);
    expect(authority.ok());
    Members out{make_member(*authority, "server", random), make_member(*authority, "client", random)};
    out.server.policy = out.client.policy = identity::make_network_policy(*trust);
    return out;
  }();
  return made;
}

struct Datagram {
  SocketAddress from, to;
  std::uint8_t ecn = 0;
  Bytes bytes;
};

inline SocketAddress address(std::uint8_t host, std::uint16_t port) {
  return {IpAddress::v4({192, 0, 2, host}), port};
}

// An endpoint at one address, drained after every input as the contract of base/machine.h says.
class Peer {
 public:
  Peer(const session::NetworkOptions& network, std::uint64_t seed, SocketAddress at)
      : random_(seed), at_(at), endpoint_(make_options(seed), random_, clock_) {
    network_ = endpoint_.add_network(network);
  }

  session::Endpoint& endpoint() { return endpoint_; }
  SocketAddress at() const { return at_; }
  void move_to(SocketAddress at) { at_ = at; }  // as a NAT does: the endpoint is not told

  void dial(Instant now, SocketAddress to) {
    session::DialOptions options;
    options.network = network_;
    options.route.remote = to;
    (void)endpoint_.dial(now, options);
  }
  // `segment` 0: one datagram.
  void receive(Instant now, const SocketAddress& from, ByteView bytes, std::uint8_t ecn,
               std::uint32_t segment) {
    Bytes copy = to_bytes(bytes);
    Received received;
    received.route.remote = from;
    received.bytes = copy;
    received.segment_size = segment == 0 ? static_cast<std::uint32_t>(copy.size()) : segment;
    received.ecn = ecn;
    endpoint_.handle_datagrams(now, received);
  }
  void timeout(Instant now) {
    if (endpoint_.next_deadline().at <= now) endpoint_.handle_timeout(now);
  }
  // What it sends now, from its address.
  void drain(Instant now, std::deque<Datagram>& out) {
    TransmitBatch batch;
    for (int rounds = 0; rounds < 64; ++rounds) {
      const bool more = endpoint_.poll_transmit(now, batch);
      for (const Transmit& packet : batch.packets()) {
        expect(packet.size > 0);
        out.push_back(
            {at_, batch.routes()[packet.route].remote, packet.ecn, to_bytes({packet.data, packet.size})});
      }
      batch.clear();
      if (!more) return;
    }
    expect(false);  // an endpoint must come to rest without new input
  }

 private:
  static session::EndpointOptions make_options(std::uint64_t seed) {
    session::EndpointOptions options;
    options.seed = seed;
    options.static_secret = Bytes(32, static_cast<std::uint8_t>(seed));
    options.node_name = "fuzz";
    options.software = "fuzz";
    options.limits.retry_above_half_open = 8;
    options.limits.half_open = 32;
    return options;
  }
  SeededRandom random_;
  FixedClock clock_;
  SocketAddress at_;
  session::Endpoint endpoint_;
  session::NetworkId network_;
};

}  // namespace ravine::fuzz
