// Values that cross the border of the session layer: identifiers, datagrams in and out, paths, events.
// Nothing here does anything.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/datagram.h"
#include "base/label.h"
#include "base/time.h"
#include "identity/verify.h"

namespace ravine::session {

// Index and generation of a session in its endpoint: a stale one finds nothing, never another session.
struct SessionId {
  std::uint32_t index = UINT32_MAX;
  std::uint32_t generation = 0;
  bool is_none() const { return index == UINT32_MAX; }
  friend auto operator<=>(const SessionId&, const SessionId&) = default;
};

// Index of a network in its endpoint.
struct NetworkId {
  std::uint32_t value = UINT32_MAX;
  friend auto operator<=>(const NetworkId&, const NetworkId&) = default;
};

using StreamId = std::int64_t;  // QUIC stream ID (RFC 9000 §2.1)
enum class StreamKind : std::uint8_t { bidirectional, unidirectional };

// Application error codes on the wire (RESET_STREAM, STOP_SENDING, CONNECTION_CLOSE of type 0x1d). See
// docs/protocol.md.
enum class AppError : std::uint64_t {
  none = 0,
  internal = 1,
  refused = 2,           // policy: not allowed
  unreachable = 3,       // the far side could not reach the target
  connection_reset = 4,  // the TCP connection behind the stream was reset
  timed_out = 5,
  limit = 6,
  protocol = 7,    // the peer broke Ravine's own protocol
  goaway = 8,      // the other of two sessions to this peer stays
  revoked = 9,     // the peer's certificate was revoked or expired past its grace
  shutdown = 10,   // the node stops
  version = 11,    // no common protocol version
  not_found = 12,  // no such exposed port or service
};

// Datagrams in and out, shared with the host.
using ravine::Received;
using ravine::Route;
using ravine::Transmit;
using ravine::TransmitBatch;

using PathId = std::uint8_t;  // index in its session's path set, equal on both ends; 0 carried the handshake
enum class PathKind : std::uint8_t { direct, relayed, circuit };
enum class PathState : std::uint8_t {
  offered,    // labels agreed or being agreed; has not echoed yet
  validated,  // echoed within the last keepalive period: a spare to move to
  current,    // carries the session
  silent,     // missed its echoes; kept, and probed with back-off
};

// The labels of one path: `transmit` is in front of the packets that we send, `receive` of those that we get.
struct PathLabels {
  Label transmit, receive;
};

// A path as `status` shows it.
struct PathInfo {
  PathId id = 0;
  PathKind kind = PathKind::direct;
  PathState state = PathState::offered;
  Route route;  // next hop: the peer itself on a direct path
  Label transmit_label, receive_label;
  Duration smoothed_rtt{0};  // 0: unknown
  double loss = 0;           // share of echoes lost lately, 0..1
  std::uint32_t mtu = 1200;  // bytes of UDP payload known to pass
  Instant last_received;
  std::uint64_t packets_received = 0, packets_sent = 0, bytes_received = 0, bytes_sent = 0;
  const char* reason = "";  // why it is in this state, static text for people
};

enum class CloseCause : std::uint8_t {
  local_application,   // we closed; code is ours
  remote_application,  // the peer closed; code is the peer's AppError
  remote_transport,    // CONNECTION_CLOSE of QUIC; code is RFC 9000 §20.1 (0x100 + alert: TLS)
  local_transport,     // we found a QUIC or TLS error; code likewise
  handshake_timeout,
  idle_timeout,
  stateless_reset,
  verify_refused,   // our policy refused the peer's certificate
  dial_superseded,  // convergence kept the other session to this peer
};

struct CloseReason {
  CloseCause cause = CloseCause::local_application;
  std::uint64_t code = 0;
  std::string text;  // for people: what happened and what to do
};

enum class Role : std::uint8_t { dialler, acceptor };

// Facts about a session that do not change after session_established.
struct SessionInfo {
  SessionId id;
  NetworkId network;
  Role role = Role::dialler;
  std::string alpn;
  identity::VerifiedPeer peer;  // default-constructed for a guest without certificate
  bool has_certificate = false;
  std::vector<Bytes> chain;  // DER as presented, leaf first
  bool resumed = false;
  Duration handshake_time{0};  // first packet to confirmed
  std::string tls_cipher;
  std::string protection;              // "ipsec-mb" or "gnutls"
  std::uint32_t protocol_version = 0;  // negotiated by hello
  std::uint64_t capabilities = 0;      // the peer's, from hello
};

enum class EventKind : std::uint8_t {
  session_established,  // confirmed, hello exchanged; streams may open
  session_closed,       // last event of a session; `Endpoint::close_reason` answers until the next poll
  path_changed,         // current path moved; code = new PathId
  path_state,           // a path's state changed; code = PathId
  streams_available,    // a failed open_stream may be tried again
  stream_opened,        // by the peer; set a context
  stream_readable,      // data or FIN; edge: again only after peek() came up empty
  stream_writable,      // room again after write() took less than offered
  stream_reset,         // the peer reset its sending side; code = its error
  stream_stopped,       // the peer wants no more; code = its error
  stream_closed,        // both sides done, all acknowledged, all read; with it the ID is gone
  datagram_readable,    // edge, as stream_readable
  datagram_writable,
  control_received,       // a control message that the session layer leaves to others: poll_control()
  ticket_received,        // a resumption ticket: poll_ticket()
  local_addresses_stale,  // every path is silent: the driver may rescan interfaces, re-resolve, redial
};

struct Event {
  EventKind kind = EventKind::session_closed;
  SessionId session;
  StreamId stream = -1;
  void* context = nullptr;  // of the stream, or of the session
  std::uint64_t code = 0;
};

}  // namespace ravine::session
