#include "bench/loopback_node.h"

#include <utility>

#include "host/clock.h"
#include "host/random.h"
#include "identity/authority.h"
#include "identity/certificate.h"
#include "identity/network_trust.h"

namespace ravine::bench {

namespace {

constexpr std::string_view kServerName = "bench";
constexpr auto kTick = std::chrono::milliseconds(5);

class SystemClock final : public WallClock {
 public:
  UnixTime unix_time() const override { return host::system_time(); }
};

// Checks as the network's policy does, then calls the accepted peer what the dialler expects, or a new one.
class StrangerPolicy final : public identity::VerifyPolicy {
 public:
  explicit StrangerPolicy(std::shared_ptr<const identity::VerifyPolicy> inner) : inner_(std::move(inner)) {}
  identity::VerifyOutcome verify(const identity::VerifyRequest& request) const override {
    identity::VerifyRequest unnamed = request;
    unnamed.expected.reset();
    identity::VerifyOutcome outcome = inner_->verify(unnamed);
    if (auto* peer = std::get_if<identity::VerifiedPeer>(&outcome)) {
      if (request.expected) {
        peer->id = *request.expected;
      } else {
        store_big_endian(peer->id.bytes.data(), ++count_);
      }
    }
    return outcome;
  }

 private:
  std::shared_ptr<const identity::VerifyPolicy> inner_;
  mutable std::uint64_t count_ = 0;
};

Result<identity::LocalIdentity> make_member(identity::Authority& authority, std::string name, UnixTime now,
                                            RandomSource& random) {
  const identity::PrivateKey key = identity::PrivateKey::generate(random);
  auto chain =
      authority.issue(identity::make_signing_request(key, name), {.name = name, .groups = {}}, now, random);
  if (!chain.ok()) return chain.error();
  return identity::make_local_identity(key, *chain);
}

}  // namespace

Result<Members> make_members(bool strangers) {
  host::SystemRandom random;
  const UnixTime now = host::system_time();
  auto root = identity::make_root("bench", now, random);
  if (!root.ok()) return root.error();
  auto trust = identity::NetworkTrust::make({root->certificate});
  if (!trust.ok()) return trust.error();
  auto authority = identity::Authority::open(
      {.key = std::move(root->key), .chain = {root->certificate}, .trust = *trust, .crosses = {}}, {}, now);
  if (!authority.ok()) return authority.error();
  auto server = make_member(*authority, "server", now, random);
  if (!server.ok()) return server.error();
  auto client = make_member(*authority, "client", now, random);
  if (!client.ok()) return client.error();
  std::shared_ptr<const identity::VerifyPolicy> policy = identity::make_network_policy(*trust);
  if (strangers) policy = std::make_shared<StrangerPolicy>(policy);
  Members out;
  out.server_id = server->id;
  for (auto* network : {&out.server, &out.client}) {
    network->name = "bench";
    network->policy = policy;
    network->server_names = {std::string(kServerName)};
  }
  out.server.local = std::move(*server);
  out.client.local = std::move(*client);
  return out;
}

LoopbackNode::LoopbackNode(SharedState& shared, SideState& mine, session::NetworkOptions network,
                           const NodeTuning& tuning)
    : shared_(shared),
      mine_(mine),
      network_(std::move(network)),
      tuning_(tuning),
      random_(std::make_unique<host::SystemRandom>()),
      clock_(std::make_unique<SystemClock>()) {}

LoopbackNode::~LoopbackNode() = default;

Result<> LoopbackNode::open() {
  runtime::DriverOptions options;
  options.listen = {IpAddress::v4({127, 0, 0, 1})};
  options.watch_interfaces = false;
  options.endpoint.seed = random_->next_u64();
  options.endpoint.static_secret.resize(32);
  random_->fill(options.endpoint.static_secret);
  options.endpoint.node_name = network_.local.id.to_text();
  options.endpoint.software = "ravine-bench";
  session::ConnectionOptions& connection = options.endpoint.defaults;
  connection.protection = tuning_.protection;
  connection.max_udp_payload = tuning_.max_udp_payload;
  connection.idle_timeout = tuning_.idle_timeout;
  if (tuning_.send_buffer != 0) connection.limits.send_buffer = tuning_.send_buffer;
  driver_ = std::make_unique<runtime::Driver>(loop_, std::move(options), *random_, *clock_, Log());
  if (Result<> opened = driver_->open(); !opened.ok()) return opened;
  network_id_ = driver_->endpoint().add_network(std::move(network_));
  mine_.port = driver_->port();
  return {};
}

Result<session::SessionId> LoopbackNode::dial(std::optional<identity::PeerId> peer) {
  session::DialOptions options;
  options.network = network_id_;
  options.expected_peer = peer;
  options.route.remote = {IpAddress::v4({127, 0, 0, 1}), shared_.sides[0].port.load()};
  auto dialled = driver_->endpoint().dial(driver_->enter(), options);
  driver_->touch();
  return dialled;
}

void LoopbackNode::run() {
  tick();
  loop_.run();
}

void LoopbackNode::tick() {
  const session::Endpoint::Counters& counters = driver_->endpoint().counters();
  mine_.packets_sent.store(counters.datagrams_sent, std::memory_order_relaxed);
  mine_.packets_received.store(counters.datagrams_received, std::memory_order_relaxed);
  if (shared_.stop) {
    loop_.stop();
    return;
  }
  timer_.expires_after(kTick);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) tick();
  });
}

void LoopbackNode::fail(Error error) {
  if (!failure_) failure_ = std::move(error);
  loop_.stop();
}

}  // namespace ravine::bench
