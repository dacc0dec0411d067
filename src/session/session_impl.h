// Session::Impl: the state of one session, and its parts by file: session.cpp (application calls, life
// cycle), session_control.cpp (control stream), session_paths.cpp (labels, synthetic paths, echoes, offers),
// session_moves.cpp (liveness, migration, carrying). Internal to this folder.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "session/endpoint_core.h"
#include "session/path_echo.h"
#include "session/path_set.h"
#include "session/session.h"
#include "wire/control.h"

namespace ravine::session {

inline constexpr std::uint32_t kVersionMin = 1, kVersionMax = 1;
inline constexpr std::string_view kEchoExporter = "EXPORTER-ravine-path-echo";
inline constexpr StreamId kControlStream = 0;  // the dialler's first bidirectional stream

enum class Phase : std::uint8_t {
  handshaking,
  confirmed,  // the peer accepted us; hello is not exchanged yet
  established,
  closing,  // over; answers late packets with its close packet
  gone,
};

struct Session::Impl {
  Impl(EndpointCore& endpoint, SessionId session_id, NetworkId network_id, Role session_role)
      : core(endpoint),
        id(session_id),
        network(network_id),
        role(session_role),
        paths(endpoint.options.path_keepalive) {}

  EndpointCore& core;
  SessionId id;
  NetworkId network;
  Role role;
  Phase phase = Phase::handshaking;
  std::unique_ptr<Connection> connection;  // null once session_closed was polled
  SessionInfo info;
  CloseReason close_reason;
  void* context = nullptr;
  bool dirty = false;        // in EndpointCore::dirty
  bool touched = false;      // got input in this handle_datagrams
  bool indexed = false;      // known under its peer's ID
  bool closed_told = false;  // session_closed was polled
  bool counted_half_open = false;
  std::uint64_t prefix = 0;  // of the dialler's address, while half open
  std::optional<identity::PeerId> expected_peer;
  std::shared_ptr<const identity::VerifyPolicy> policy;  // of this dial; null: the network's
  Instant dialled_at, established_at;
  std::size_t heap_position = SIZE_MAX;  // in the endpoint's deadline heap
  Instant heap_deadline = Instant::never();

  // --- life cycle (session.cpp)
  void settle(Instant now);  // after every input: events, control, verdicts, end
  void handle_timeout(Instant now);
  bool transmit(Instant now, TransmitBatch& batch,
                std::vector<OutgoingPacket>& packets);  // true: more to write
  Deadline next_deadline() const;
  void finish(Instant now, CloseReason reason, bool send_close);
  void answer_while_closing(const Route& from);
  void close_now(Instant now, AppError code, std::string text);
  struct Linger {  // closed by the application; what it finished before is still under way
    AppError code = AppError::none;
    std::string text;
    Instant until;
  };
  std::optional<Linger> linger;
  bool is_guest() const { return info.alpn == kJoinAlpn; }
  bool is_live() const { return phase < Phase::closing; }
  std::optional<identity::PeerId> peer_id() const;
  bool may_use(StreamId stream) const;
  void touch() { core.touch(*this); }
  Event event(EventKind kind) const;
  Bytes close_packet;
  Route close_route;
  unsigned closes_due = 0, late_packets = 0;
  Instant gone_at = Instant::never();
  std::array<std::uint8_t, 32> echo_key{}, join_key{}, gateway_key{};
  bool keys_exported = false;

  // --- control stream (session_control.cpp)
  void start_control(Instant now);
  void read_control(Instant now);
  void handle_control(Instant now, const wire::ControlMessage& message);
  void handle_hello(Instant now, const control::Hello& hello);
  void send_control(const wire::ControlMessage& message);
  void flush_control();
  void check_established(Instant now);
  void pump_events(Instant now);
  void pump_event(Instant now, Event event);
  bool control_opened = false, hello_sent = false, hello_heard = false;
  Bytes control_out;  // ≤ kMaxControlOut
  wire::ControlDecoder control_in;
  std::vector<wire::ControlMessage> control_queue;  // ≤ kMaxControlQueue
  unsigned guest_streams = 0;

  // --- convergence (convergence.cpp)
  bool converged = false;  // compared with the other sessions to this peer
  identity::PeerId indexed_peer;
  bool superseded = false;  // another session to this peer stays
  // Later sessions to this peer, which make way once a packet shows that this one is alive.
  std::vector<SessionId> contenders;
  Instant contended_at;
  bool goaway_sent = false, goaway_heard = false;
  Instant drain_at = Instant::never();  // acceptor: drop it then
  Instant last_packet;

  // --- paths (session_paths.cpp)
  PathSet paths;
  std::optional<EchoCodec> echo;
  Label canonical_transmit, canonical_receive;
  std::vector<PathLabels> offered;  // unused slots stay empty
  struct Binding {
    std::uint32_t suffix = 0;
    SyntheticPath path;
  };
  std::vector<Binding> bindings;   // connection ID suffix → path on which it first came, ≤ kMaxBindings
  bool tentative_binding = false;  // the newest one, until QUIC accepted its packet
  std::uint16_t next_epoch = 0;
  void receive(Instant now, PathId path, const Route& from, std::uint8_t ecn, MutableBytes packet);
  void handle_echo(Instant now, Path& path, const Route& from, ByteView packet);
  std::optional<SyntheticPath> synthetic_path(PathId arrival, ByteView packet);
  void note_carried(Instant now, PathId arrival);
  void follow_path_changes(Instant now);
  bool claim_path(Path& path);
  void release_labels();
  void handle_offer(Instant now, const control::PathOffer& offer);
  void handle_answer(Instant now, const control::PathAnswer& answer);
  void send_offer(const Path& path);
  Result<PathId> add_path(Instant now, PathKind kind, const Route& route, std::optional<PathLabels> labels);
  Result<> retire_path(Instant now, PathId path, bool tell);
  Path& current() { return *paths.find(current_slot); }
  std::uint64_t rebindings_counted = 0;
  PathId current_slot = 0;
  Instant path_changed_at;

  // --- moves (session_moves.cpp)
  struct Waiting {                     // something was sent on the current path and nothing came back since
    Instant since = Instant::never();  // any packet
    Instant quic_since = Instant::never();  // a QUIC packet
    Instant next_probe;
    Duration probe_interval{0};
    bool suspected = false;
    bool dead = false;      // the time is over; looking for another path
    bool was_dead = false;  // until a QUIC packet arrives again
    bool stale_told = false;
    Instant next_size_test;
  } waiting;
  struct Wish {  // a move that waits for an echo of its target
    PathId path = 0;
    bool immediate = false;
    Instant until;
  };
  std::optional<Wish> wish;
  std::optional<SyntheticPath> migrating;
  Instant migrating_until;
  std::optional<PathId> carry;  // the current synthetic path travels over this path's labels
  Instant carry_retry = Instant::never();
  Instant next_ask;  // acceptor: next Migrate request
  Instant next_self_move;
  Instant last_quic;
  SyntheticPath lifted;  // acceptor: the newest path that needs no amplification limit
  Instant next_stall_check = Instant::never();
  unsigned burst = 0;  // packets received since the last look at silence
  unsigned carry_turn = 0;
  void note_sent(Instant now);
  void note_received(Instant now, PathId arrival, bool quic);
  void check_liveness(Instant now);
  void check_silence(Instant now);
  void check_stall(Instant now);
  void lift_send_limit(Instant now);
  void wake_after_rebinding(Instant now);
  void check_black_hole(Instant now);
  void check_handshake_path(Instant now);
  void leave_dead_path(Instant now);
  void retry_carried(Instant now);
  bool migrate(Instant now, Path& path, bool immediate);
  void move_current_anew(Instant now, const char* reason);  // same labels, new epoch: MTU back to 1200
  void ask_move(Instant now, Path& path, MoveReason reason);
  void handle_move_request(Instant now, PathId path, MoveReason reason);
  void grant_wish(Instant now);
  void handle_verdicts(Instant now);
  Result<> move_to(Instant now, PathId path);
  void handle_local_change(Instant now);
  void handle_send_too_large(Instant now, std::size_t size);
  Duration suspect_after() const;
  Duration dead_after() const;
  Deadline liveness_deadline() const;
};

}  // namespace ravine::session
