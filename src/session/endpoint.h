// Endpoint: all sessions behind one UDP port, as a machine. It demultiplexes by label, substitutes labels,
// accepts and dials, answers floods with Retry, converges simultaneous dials, and owns the label table that
// forwarding shares. It does no I/O; runtime/ drives it. See base/machine.h for the contract and
// docs/protocol.md for the bytes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/machine.h"
#include "base/result.h"
#include "forward/forwarder.h"
#include "session/session.h"
#include "session/types.h"

namespace ravine::session {

inline constexpr std::string_view kAlpn = "ravine/1";           // members of a network
inline constexpr std::string_view kJoinAlpn = "ravine-join/1";  // one-time joiners, without certificate

// One network as the endpoint sees it. Replace it (update_network) after renewal, revocation or secret
// rotation.
struct NetworkOptions {
  std::string name;  // for people
  identity::LocalIdentity local;
  std::shared_ptr<const identity::VerifyPolicy> policy;
  // SNI host names by which diallers mean this network: today's first (used when dialling), then yesterday's,
  // tomorrow's.
  std::vector<std::string> server_names;
  bool accept_joiners = false;  // kJoinAlpn on any of join_server_names
  std::vector<std::string> join_server_names;
};

struct EndpointLimits {
  std::size_t sessions = 20000;
  std::size_t half_open = 4096;  // handshakes not complete; above: Initials without a token are dropped
  std::size_t retry_above_half_open = 192;  // above: Retry; each takes about 66 KiB
  std::size_t half_open_per_prefix = 256;   // per /24 or /56
  std::size_t events = 1u << 20;
  std::size_t offers = 1024;
  std::size_t tickets = 4096;                  // resumption tickets kept, one per peer
  std::size_t forward_queue_bytes = 1u << 20;  // between input and transmit; beyond: dropped
  std::uint32_t replies_per_second = 200;      // Retry, Version Negotiation and stateless resets, per prefix
};

struct EndpointOptions {
  std::uint64_t seed = 0;      // of hash tables and jitter
  Bytes static_secret;         // 32 bytes: stateless reset tokens, Retry and NEW_TOKEN tokens
  ConnectionOptions defaults;  // role, alpn, identity fields are overwritten per session
  EndpointLimits limits;
  std::string node_name;  // told in hello
  std::string software;   // "ravine/0.1.0", told in hello
  std::uint64_t capabilities = 0;
  bool accept = true;  // take unlabelled Initials
  Duration path_keepalive = 15s;
};

// A further path of the same set-up, for the handshake alone: when the first path stays silent, the same
// first flight goes over this one's labels.
struct SparePath {
  PathKind kind = PathKind::circuit;
  Route route;
  PathLabels labels;
};

struct DialOptions {
  NetworkId network;
  std::optional<identity::PeerId> expected_peer;
  Route route;  // direct path of the first flight
  std::string_view alpn = kAlpn;
  std::string server_name;                               // empty: the network's of today
  std::shared_ptr<const identity::VerifyPolicy> policy;  // null: the network's
  bool with_certificate = true;
  void* context = nullptr;
  PathKind kind = PathKind::direct;
  std::optional<PathLabels> labels;  // those that the forwarders know; empty: random (direct)
  std::vector<SparePath> spares;     // become paths 1, 2, …; at most kMaxPaths - 1
  Duration initial_rtt{0};           // measured by the set-up; 0: unknown
};

// A first flight that a forwarder will bring: announced by the set-up message, consumed by the first Initial
// that QUIC accepts, kept when it is garbage.
struct OfferOptions {
  PathLabels labels;  // ours: receive is the label of the first flight
  Route ingress;      // the last hop; any other source is refused
  PathKind kind = PathKind::circuit;
  PathId path = 0;  // its place in the dialler's path set
  Label canonical;  // receive label of path 0 of the same dial; none: this is path 0
  Instant until;    // then it is forgotten
};

class Endpoint {
 public:
  Endpoint(EndpointOptions options, RandomSource& random, const WallClock& clock);
  ~Endpoint();

  // --- networks
  NetworkId add_network(NetworkOptions network);
  void update_network(NetworkId id, NetworkOptions network);
  void remove_network(Instant now, NetworkId id);  // closes its sessions
  // Runs the policy again over every live session (after a revocation list changed, and every minute for
  // expiry).
  void recheck_peers(Instant now);

  // --- inputs
  void handle_datagrams(Instant now, const Received& received);
  void handle_timeout(Instant now);
  // A datagram could not leave because it was larger than the outgoing interface allows.
  void handle_send_too_large(Instant now, const Route& route, std::size_t size);
  void handle_local_change(Instant now);  // interfaces or addresses changed, or the machine woke up

  // --- outputs
  // Appends packets until `batch` is full or nothing is left; call again while it returns true.
  bool poll_transmit(Instant now, TransmitBatch& batch);
  std::optional<Event> poll_event();
  Deadline next_deadline() const;

  // --- commands
  Result<SessionId> dial(Instant now, const DialOptions& options);
  Session* find(SessionId id);  // null when gone; valid until the next input
  Session* find_peer(NetworkId network,
                     const identity::PeerId& peer);  // the session that stays, established or not
  std::vector<SessionId> sessions() const;
  const CloseReason* close_reason(SessionId id) const;  // of the session_closed event just polled
  // Sends raw bytes from the same socket, for hole punching: at most 3 per address and second, ≤ 1200 bytes.
  Result<> punch(Instant now, const Route& route, ByteView bytes);
  void close_all(Instant now, AppError code);  // at once
  void set_accepting(bool accept);
  // already_exists: the label is occupied. limit_reached: EndpointLimits::offers.
  Result<> add_offer(Instant now, const OfferOptions& offer);
  bool remove_offer(Label receive);
  // Forwarding entries of this node, in the same table as the sessions' labels.
  forward::Forwarder& forwarder();

  struct Counters {
    std::uint64_t datagrams_received = 0, datagrams_sent = 0, bytes_received = 0, bytes_sent = 0;
    std::uint64_t unknown_label = 0, malformed = 0, wrong_source = 0, retries_sent = 0, resets_sent = 0;
    std::uint64_t initials_dropped = 0, accepted = 0, dialled = 0, echoes_bad = 0, half_open = 0,
                  sessions = 0;
    std::uint64_t migrations = 0, rebindings = 0, migrations_failed = 0;
    std::uint64_t forwarded = 0, forward_refused = 0, carried = 0, version_negotiations = 0;
  };
  const Counters& counters() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::session
