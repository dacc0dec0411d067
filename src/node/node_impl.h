// The inside of Node, shared by its .cpp files: node.cpp (start, stop), node_reload.cpp (another
// configuration while sessions run), node_networks.cpp (memberships over time), node_renewal.cpp
// (certificates), node_issuer.cpp (what an issuing or pairing node answers), node_status.cpp and
// node_methods*.cpp (control calls).
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <map>
#include <optional>
#include <set>

#include "host/clock.h"
#include "host/file.h"
#include "identity/invite.h"
#include "node/ca_store.h"
#include "node/member.h"
#include "node/node.h"
#include "node/peer_cache.h"
#include "node/state_dir.h"
#include "runtime/driver.h"
#include "services/bench_service.h"
#include "services/control_server.h"
#include "services/expose.h"
#include "services/flow.h"
#include "services/forward.h"
#include "services/join.h"
#include "services/metrics.h"
#include "services/peers.h"
#include "services/proxy.h"
#include "services/revocation_exchange.h"
#include "services/streams.h"
#include "services/tunnel.h"

namespace ravine::node {

inline constexpr Duration kTick = 60s;  // upkeep: expiry, names of the day, renewals, caches
inline constexpr Duration kStopLimit = 2s;
inline constexpr Duration kRefusalPause = 600s;  // between warnings that peers refuse our certificate
// Retries of a renewal start with a 300th of the certificate's lifetime and double up to a tenth, in these
// bounds.
inline constexpr Duration kRenewRetryFirst = 60s;
inline constexpr Duration kRenewRetryLast = 3600s;
inline constexpr Duration kRenewRetryLeast = 1s;
inline constexpr std::size_t kMaxRenewalWaiters = 16;
inline constexpr std::size_t kMaxNetworks = 64;

struct Network {
  session::NetworkId id;  // of the endpoint; unset while the certificate is unusable
  Member member;
  Instant next_renewal;  // earliest next attempt
  Duration renewal_delay{0};
  std::optional<Instant> renew_early;  // before its time, for a secret that was replaced
  bool renewing = false;
  std::optional<Instant> refusal_told;  // when a warning last said that peers refuse our certificate
  std::string renewal_error;            // of the last attempt; empty after a success
  std::vector<std::function<void(Result<>)>> renewal_waiters;  // of renew_now(), ≤ kMaxRenewalWaiters

  bool active() const { return id != session::NetworkId{}; }
};

// Steps back, newest first, when something later fails.
class Undo {
 public:
  Undo() = default;
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    while (!steps_.empty()) {
      steps_.back()();
      steps_.pop_back();
    }
  }
  void add(std::function<void()> step) { steps_.push_back(std::move(step)); }
  void keep_all() { steps_.clear(); }

 private:
  std::vector<std::function<void()>> steps_;
};

struct SessionFacts {
  Instant since;
};

struct Node::Impl final : services::Issuer, services::RevocationStore, runtime::SessionObserver {
  Impl(boost::asio::io_context& loop, NodeOptions options, RandomSource& random, Log log);

  // --- node.cpp
  Result<> start();
  Result<> open_state();
  Result<> open_driver();
  Result<> start_services();
  Result<> start_proxy(const ProxyConfig& wanted);
  Result<> start_metrics(const std::optional<SocketAddress>& listen);
  void stop(std::function<void()> done);
  void finish_stop();
  services::ServiceContext context() { return {loop, *driver, log, resolve}; }

  // --- node_reload.cpp
  Result<ReloadReport> reload();
  using NamedNetworks = std::vector<std::pair<session::NetworkId, const Member*>>;
  Result<std::vector<services::StaticPeer>> static_peers(const Config& wanted,
                                                         const NamedNetworks& networks) const;
  Result<> apply_peers(const Config& wanted);
  Result<> apply_exposes(const Config& wanted, ReloadReport* report);
  Result<> apply_forwards(const Config& wanted, ReloadReport* report, Undo& undo);
  Result<> apply_listeners(const Config& wanted, ReloadReport& report, Undo& undo);
  Result<> check_peers(const Config& wanted, const std::vector<Member>& members) const;
  Result<> check_exposes(const Config& wanted) const;

  // --- node_networks.cpp
  Result<> load_networks();
  Result<std::vector<Member>> load_members(const Config& wanted) const;
  Result<std::optional<CaStore>> load_authority(const std::vector<Member>& members) const;
  // Puts what was loaded in force; only a fault of ours can fail.
  Result<> take_members(std::vector<Member> members, std::optional<CaStore> authority, ReloadReport& report);
  Result<> reload_networks(ReloadReport& report);  // the files again, under the running configuration
  Result<> activate(Network& network);
  void deactivate(Network& network, std::string_view why);
  void follow_dates();  // activates and deactivates as certificates become valid and end
  Result<session::NetworkOptions> network_options(const Network& network) const;
  Result<> update_endpoint(Network& network);
  Network* find_network(session::NetworkId id);
  Network* find_network(std::string_view name);
  const Network* find_network(session::NetworkId id) const;
  Network* issuing_network();  // the one whose authority is here
  Network* pairing_network();  // the first without CA
  void tick();
  void schedule_tick();
  Duration until_upkeep() const;
  void refresh_names();
  void add_network_metrics(const Network& network);
  void save_peers();
  void sync_join_names();  // after invites changed

  // --- node_renewal.cpp
  Duration until_renewal(const Network& network) const;
  void renew_due(Network& network);
  void renew_from_issuer(Network& network);
  void finish_renewal(session::NetworkId id, Result<services::Exchanged> exchanged);
  void renewal_failed(Network& network, std::string_view why);
  void renewal_succeeded(Network& network);
  // Renews before its time. `name` may be empty when one network alone has an authority.
  void renew_now(std::string_view name, std::function<void(Result<>)> done);
  void renew_for_secret(Network& network);  // soon, but not all members at once

  // --- node_issuer.cpp
  Result<Bytes> answer_join(session::NetworkId network, ByteView request, ByteView exporter,
                            const SocketAddress& from) override;
  Result<Bytes> answer_renewal(session::NetworkId network, ByteView leaf, ByteView request,
                               ByteView exporter) override;
  Result<Bytes> answer_pairing(ByteView request, ByteView exporter, const SocketAddress& from);
  std::vector<identity::KnownPeer> peers_to_tell(const Network& network) const;
  std::uint64_t number(session::NetworkId network) const override;
  std::vector<Bytes> parts(session::NetworkId network) const override;
  Result<std::uint64_t> offer(session::NetworkId network, ByteView signed_list) override;
  Result<identity::Invite> make_invite(identity::CodeKind kind, const std::string& name,
                                       std::vector<std::string> groups, std::chrono::seconds lifetime);
  Result<> after_revocation();  // the authority made a new list and secret
  std::vector<HostPort> own_addresses() const;

  // --- SessionObserver
  void on_established(session::Session& session) override;
  void on_closed(session::SessionId id, const session::SessionInfo& info,
                 const session::CloseReason& reason) override;

  void warn_of_refusal(const session::SessionInfo& info, const session::CloseReason& reason);

  // --- node_status.cpp
  boost::json::object status() const;
  boost::json::array sessions_json() const;
  boost::json::array peers_json() const;
  boost::json::array networks_json() const;
  boost::json::array exposures_json() const;
  boost::json::array forwards_json() const;
  void add_metrics();

  // --- node_methods.cpp
  void add_methods();
  Result<> set_log_level(const boost::json::object& params);
  void add_service_methods();
  void add_peer_methods();
  void add_bench_method();
  void add_gateway_methods();
  void add_authority_methods();

  boost::asio::io_context& loop;
  NodeOptions options;
  RandomSource& random;
  Log log;
  Config config;
  StateDir state;
  std::string control_path;
  std::optional<host::FileLock> lock;
  std::unique_ptr<host::FlooredClock> clock;
  services::Resolver resolve;
  std::unique_ptr<runtime::Driver> driver;
  std::vector<std::unique_ptr<Network>> networks;
  std::optional<CaStore> ca;
  identity::InviteRegister invites;
  PeerCache peer_cache;

  services::PeerDirectory directory;
  std::unique_ptr<services::StreamRouter> router;
  std::unique_ptr<services::FlowTable> flows;
  std::unique_ptr<services::PeerConnector> connector;
  std::unique_ptr<services::Tunnels> tunnels;
  std::unique_ptr<services::ExposeService> exposes;
  std::unique_ptr<services::ForwardService> forwards;
  std::unique_ptr<services::ProxyServer> proxy;
  std::unique_ptr<services::JoinService> join;
  std::unique_ptr<services::RevocationExchange> revocations;
  std::unique_ptr<services::BenchService> bench;
  std::unique_ptr<services::Metrics> metrics;
  std::unique_ptr<services::MetricsServer> metrics_server;
  std::unique_ptr<services::ControlServer> control;

  boost::asio::steady_timer tick_timer;
  boost::asio::steady_timer stop_timer;
  std::function<void()> stop_done;
  bool stopping = false;
  Instant started_at;
  Instant clock_recorded_at;
  std::int64_t day = 0;  // of the server names in force, days since 1970
  std::uint64_t invites_changed = 0;
  std::set<std::string> measured_networks;  // that have their metrics
  std::map<session::SessionId, SessionFacts> session_facts;
  std::vector<std::string> warnings;  // that status shows
};

// "tcp" or "udp".
std::string_view protocol_text(services::Protocol protocol);
// "box" means box.fuse; everything else stays as it is.
std::string fuse_host(std::string_view host);

}  // namespace ravine::node
