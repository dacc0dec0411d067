// Whom we know and how to get a session with them. PeerDirectory maps names, short IDs and overlay addresses
// of every network to records; PeerConnector turns a record into a live session: it reuses the one that
// exists or races dials over all known addresses (in the manner of RFC 8305). Thread rule: the loop's thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "identity/peer_id.h"
#include "identity/verify.h"
#include "services/context.h"

namespace ravine::services {

inline constexpr std::size_t kMaxLearnedPeers = 10000;  // the least lately seen is forgotten
inline constexpr std::size_t kMaxLearnedAddresses = 4;  // per peer, newest first
inline constexpr std::size_t kMaxDialAddresses = 16;    // per attempt
inline constexpr Duration kDialStagger = 150ms;         // RFC 8305 §5 allows 100–2000 ms
inline constexpr Duration kConnectTimeout = 2800ms;     // so that a SOCKS client has its answer within 3 s

// A peer from the configuration, or from a join response. At least one of name and short_id is set.
struct StaticPeer {
  session::NetworkId network;
  std::string name;                    // as in its certificate, without ".fuse"; may be empty
  std::string short_id;                // 16 characters; may be empty
  std::optional<identity::PeerId> id;  // the whole ID when it is known (pinned peers): then TLS enforces it
  std::vector<HostPort> addresses;     // address literals or DNS names
  bool keep = false;                   // keep a session alive, redial with back-off
};

struct PeerRecord {
  session::NetworkId network;
  std::string name, short_id;  // either may be empty until a session tells
  std::optional<identity::PeerId> id;
  std::optional<IpAddress> overlay;
  std::vector<std::string> groups;
  std::vector<HostPort> addresses;     // static
  std::vector<SocketAddress> learned;  // where sessions with it came from, newest first
  bool is_static = false, keep = false;
  Instant last_seen;
  std::string last_error;  // of the last attempt that failed; empty after a success
};
using PeerHandle = std::shared_ptr<PeerRecord>;

class PeerDirectory {
 public:
  // `label` is the network's name as in <peer>.<label>.fuse; `prefix` any address of its /48.
  void add_network(session::NetworkId network, std::string label, IpAddress prefix);
  void remove_network(session::NetworkId network);
  // Replaces every static peer of all networks (reload). Errors: a peer with neither name nor ID, or a
  // duplicate.
  Result<> set_static(std::vector<StaticPeer> peers);
  Result<> add_static(StaticPeer peer);
  // From an established session, and from the peer database.
  PeerHandle learn(Instant now, session::NetworkId network, const identity::VerifiedPeer& peer,
                   std::optional<SocketAddress> from);

  // `host` is <name>.fuse, <16 characters>.fuse, <name>.<network>.fuse, an overlay address, or any of these
  // names without
  // ".fuse". A short ID or overlay address in a known prefix always yields a record. not_found, with the
  // reason, otherwise; invalid_argument when two networks know the name.
  Result<PeerHandle> find(std::string_view host) const;
  PeerHandle find_id(session::NetworkId network, const identity::PeerId& id) const;  // null when unknown
  const std::vector<PeerHandle>& peers() const { return peers_; }
  std::string_view network_label(session::NetworkId network) const;
  std::optional<session::NetworkId> find_network(std::string_view label) const;

 private:
  struct Network {
    session::NetworkId id;
    std::string label;
    IpAddress prefix;
  };
  Result<PeerHandle> find_overlay(const IpAddress& address) const;
  PeerHandle match(session::NetworkId network, std::string_view name, std::string_view short_id) const;
  PeerHandle add(session::NetworkId network);
  void forget_excess();
  std::vector<Network> networks_;
  std::vector<PeerHandle> peers_;
};

class PeerConnector final : public runtime::SessionObserver {
 public:
  using Done = std::function<void(Result<session::SessionId>)>;

  PeerConnector(ServiceContext context, PeerDirectory& directory);
  ~PeerConnector() override;

  // Calls back exactly once, inline when a session is up, within kConnectTimeout otherwise, or as long as a
  // handshake may take with a peer that answered. Errors: not_found
  // (unknown name), unreachable (no address known, or none answered), unauthenticated (a certificate was
  // refused), timed_out never. The message names the peer and every address tried.
  void connect(std::string_view host, Done done);
  void connect(const PeerHandle& peer, Done done);
  // The same for a peer whose session `stale` is silent: dials a fresh one beside it, which replaces it.
  // Calls back with any other live session to the peer, or why there is none.
  void reconnect(std::string_view host, session::SessionId stale, Done done);
  // The live session with a peer, or none.
  std::optional<session::SessionId> find_session(const PeerRecord& peer) const;
  // Starts keeping sessions to records with `keep`; call again after the directory changed.
  void keep_sessions();
  void stop();

  struct Counters {
    std::uint64_t attempts = 0, succeeded = 0, failed = 0, dials = 0, reused = 0;
    std::uint64_t redials = 0;        // beside a silent session
    std::uint64_t silent_closed = 0;  // sessions that a fresh one replaced
  };
  const Counters& counters() const { return counters_; }

  void on_established(session::Session& session) override;
  void on_closed(session::SessionId id, const session::SessionInfo& info,
                 const session::CloseReason& reason) override;
  void on_addresses_stale(session::Session& session) override;

 private:
  struct Attempt;
  using AttemptHandle = std::shared_ptr<Attempt>;
  AttemptHandle start(const PeerHandle& peer);
  void wait_limit(const AttemptHandle& attempt, Duration limit);
  void end_of_time(const AttemptHandle& attempt);
  void adopt_lingering(const AttemptHandle& attempt);
  void question_rivals(const session::Session& fresh);
  void gather(const AttemptHandle& attempt);
  void add_address(const AttemptHandle& attempt, const SocketAddress& address);
  void dial_next(const AttemptHandle& attempt);
  void schedule_dial(const AttemptHandle& attempt, Duration after);
  void note_failure(const AttemptHandle& attempt, std::string what, ErrorKind kind);
  void fail_if_exhausted(const AttemptHandle& attempt);
  void fail(const AttemptHandle& attempt, std::string_view why);
  void complete(const AttemptHandle& attempt, const Result<session::SessionId>& result);
  void schedule_keep();
  void redial_kept();

  struct Backoff {
    Instant next;
    Duration delay{0};
  };
  ServiceContext context_;
  PeerDirectory& directory_;
  std::unordered_map<PeerRecord*, AttemptHandle> attempts_;
  std::unordered_map<PeerRecord*, Backoff> backoff_;
  struct Lingering {
    PeerHandle peer;
    SocketAddress address;
  };
  std::map<session::SessionId, Lingering> lingering_;  // dials that nobody waits for any more
  std::map<session::SessionId, std::shared_ptr<boost::asio::steady_timer>> rivals_;
  std::unordered_multimap<identity::PeerId, session::SessionId, identity::PeerIdHash> live_;
  std::unique_ptr<boost::asio::steady_timer> keep_timer_;
  Counters counters_;
};

}  // namespace ravine::services
