// Connection: one ngtcp2 connection with GnuTLS inside, as a machine. It knows streams, datagrams, congestion
// and keys. It does not know real addresses, labels, other connections or policy beyond its verify policy:
// paths are synthetic, and its endpoint translates. Driven by Session alone. RFC 9000, 9001, 9002, 9221.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/machine.h"
#include "base/result.h"
#include "session/block_pool.h"
#include "session/tls_context.h"
#include "session/types.h"

namespace ravine::session {

// A path as ngtcp2 sees it. `slot` is the PathId; `epoch` makes every migration a new path for ngtcp2 on both
// ends (docs/protocol.md, "Synthetic addresses"). Different slot → different IP; same slot, other epoch →
// other port only.
struct SyntheticPath {
  PathId slot = 0;
  std::uint16_t epoch = 0;
  friend auto operator<=>(const SyntheticPath&, const SyntheticPath&) = default;
};

enum class CongestionControl : std::uint8_t { cubic, bbr };
enum class ProtectionBackend : std::uint8_t { automatic, ipsec_mb, gnutls };

// Sizes in bytes; 0 means unlimited only where said.
struct ConnectionLimits {
  std::uint64_t receive_window = 16u << 20;  // connection flow control; auto-tuned between initial and this
  std::uint64_t stream_receive_window = 8u << 20;  // likewise per stream
  std::uint64_t initial_receive_window = 1u << 20;
  std::uint64_t send_buffer = 8u << 20;             // unacknowledged bytes held per stream
  std::uint64_t peer_streams_bidirectional = 1024;  // open at once
  std::uint64_t peer_streams_unidirectional = 256;
  std::uint32_t datagram_queue = 4096;  // datagrams, each way
  std::uint32_t datagram_queue_bytes = 4u << 20;
  std::uint32_t peer_resets_per_second = 2000;  // RESET_STREAM and STOP_SENDING; above: the connection closes
};

// A dialler names itself and its peer here. An acceptor gives `selector` instead of alpn, server_name, tls,
// policy, expected_peer: they follow from the ClientHello.
struct ConnectionOptions {
  Role role = Role::dialler;
  std::string alpn;                                      // dialler only
  std::string server_name;                               // SNI; dialler only
  std::shared_ptr<const TlsContext> tls;                 // dialler only
  std::shared_ptr<const identity::VerifyPolicy> policy;  // dialler only
  std::optional<identity::PeerId> expected_peer;         // dialler only
  NetworkId network;                                     // dialler only: told in SessionInfo
  const AcceptSelector* selector = nullptr;              // acceptor only; must outlive the handshake
  std::shared_ptr<BlockPool> blocks;                     // stream buffers; null: a pool of its own
  ProtectionBackend protection = ProtectionBackend::automatic;
  CongestionControl congestion = CongestionControl::cubic;
  Duration initial_rtt{0};  // 0: unknown
  Duration idle_timeout = 60s;
  Duration keep_alive{0};  // 0: off
  Duration handshake_timeout = 10s;
  std::uint32_t max_udp_payload = 1452;  // cap of PMTU discovery, 1200..65527; first packets are 1200
  std::uint64_t packets_per_key =
      1u << 23;  // then the keys are updated; RFC 9001 §6.6 allows 2^23 for AES-GCM
  ConnectionLimits limits;
  Bytes ticket;  // resumption ticket of this peer (opaque), dialler only
  Bytes token;   // NEW_TOKEN from an earlier session, dialler only
};

// What arrived with an Initial that the endpoint accepts.
struct AcceptedInitial {
  Bytes original_dcid;              // DCID of the client's very first Initial
  std::optional<Bytes> retry_scid;  // set when the token came from our Retry
  Bytes client_scid;
  Bytes token;
  std::uint32_t version = 1;
};

struct OutgoingPacket {
  std::uint8_t* data = nullptr;
  std::uint32_t size = 0;
  std::uint8_t ecn = 0;
  SyntheticPath path;
};

enum class ReadOutcome : std::uint8_t {
  ok,
  dropped,   // not decodable or before the handshake could start: nothing changed, an offer stays
  draining,  // the peer closed, or reset
  failed,    // a connection error: write_close() has the packet, then delete after a drain period
};

// The stateless reset token of a connection ID that was issued under `secret` (RFC 9000 §10.3).
std::array<std::uint8_t, 16> make_reset_token(ByteView secret, ByteView cid);

// Any call may give write() something to send (consumed bytes become credit, ended streams new ones): write
// after it. When a connection closes, every open stream ends with stream_closed; its code is the application
// error, if that was the cause, else AppError::internal.
class Connection {
 public:
  // `cid_prefix` is the first 8 bytes of every connection ID that we issue (our canonical receive label).
  // dialler: initial_dcid = canonical transmit label ‖ random (≥ 8 bytes).
  static Result<std::unique_ptr<Connection>> dial(Instant now, ConnectionOptions options,
                                                  RandomSource& random, const WallClock& clock,
                                                  ByteView secret, Label cid_prefix, Label initial_label,
                                                  SyntheticPath path);
  static Result<std::unique_ptr<Connection>> accept(Instant now, ConnectionOptions options,
                                                    RandomSource& random, const WallClock& clock,
                                                    ByteView secret, Label cid_prefix,
                                                    const AcceptedInitial& initial, SyntheticPath path);
  ~Connection();

  // --- inputs of the driver
  ReadOutcome read(Instant now, SyntheticPath path, std::uint8_t ecn, ByteView packet);
  void handle_timeout(Instant now);
  // Packets read so far that were authentic, and of them those newer than all before: signs of life of the
  // peer.
  std::uint64_t opened_packets() const;
  std::uint64_t fresh_packets() const;

  // --- outputs of the driver
  // Writes packets into `space` and appends them to `packets`; returns bytes used. Respects pacing and
  // congestion.
  std::size_t write(Instant now, MutableBytes space, std::vector<OutgoingPacket>& packets);
  // One CONNECTION_CLOSE packet for the error at hand, or an application close. Empty when none can be made.
  std::optional<OutgoingPacket> write_close(Instant now, MutableBytes space);
  Deadline next_deadline() const;
  // The session field is left empty: Session fills it. The stream of a stream_closed can be read, and has its
  // context, until forget_stream().
  std::optional<Event> poll_event();
  void forget_stream(StreamId stream);
  bool has_events() const;
  // Connection IDs to route: issued and retired since the last call.
  struct CidChange {
    std::array<std::uint8_t, 20> cid;
    std::uint8_t size;
    bool retired;
  };
  std::optional<CidChange> poll_cid_change();

  // --- state
  bool is_handshake_complete() const;  // TLS is done and the policy accepted the peer; not yet the peer us
  bool is_confirmed() const;           // the peer accepted us (trap 6)
  bool is_closed() const;
  const CloseReason& close_reason() const;
  void close(Instant now, AppError code, std::string text);
  const SessionInfo& info() const;
  void forget_chain();  // info().chain is empty from now on: the caller keeps its own copy
  // RFC 5705. Requires is_handshake_complete() and that release_tls() was not called.
  std::array<std::uint8_t, 32> export_keying_material(std::string_view label) const;
  // Frees the TLS state (about 10 KiB) as soon as it is confirmed and no ticket is awaited: now or later.
  void release_tls();

  // --- streams: see Session for the meaning of each
  Result<StreamId> open_stream(StreamKind kind, void* context);
  void set_stream_context(StreamId stream, void* context);
  void* stream_context(StreamId stream) const;
  std::size_t write_stream(StreamId stream, ByteView data);
  MutableBytes reserve_stream(StreamId stream, std::size_t wanted);
  void commit_stream(StreamId stream, std::size_t size);
  void finish_stream(StreamId stream);
  void reset_stream(StreamId stream, AppError code);
  void stop_stream(StreamId stream, AppError code);
  void set_stream_priority(StreamId stream, std::uint8_t urgency);
  ByteView peek_stream(StreamId stream) const;
  void consume_stream(StreamId stream, std::size_t size);
  bool is_stream_finished(StreamId stream) const;
  std::uint64_t stream_unacknowledged(StreamId stream) const;
  std::size_t open_streams() const;
  bool has_unacknowledged_end() const;  // of a stream that was finished here

  // --- datagrams
  enum class DatagramOutcome : std::uint8_t { queued, too_large, queue_full, unsupported };
  DatagramOutcome send_datagram(ByteView data);
  std::size_t max_datagram_size() const;  // bytes that fit one packet on the current path now; 0: not yet
  std::optional<ByteView> peek_datagram() const;
  void pop_datagram();

  // --- paths
  enum class MigrateOutcome : std::uint8_t { started, not_yet, no_spare_id, refused };
  // Dialler only (trap 2, never abort): `immediate` when the current path is dead.
  MigrateOutcome migrate(Instant now, SyntheticPath path, bool immediate);
  struct PathVerdict {
    SyntheticPath path;
    bool validated;
  };
  std::optional<PathVerdict> poll_path_verdict();
  // Acceptor: the caller knows by its own means that the peer receives on the current path, so the limit of
  // three times what came (RFC 9000 §8.1) is off before QUIC's validation ends.
  void lift_amplification_limit(Instant now);
  SyntheticPath current_path() const;
  Duration probe_timeout() const;  // PTO of RFC 9002 §6.2.1
  Duration smoothed_rtt() const;
  std::uint64_t congestion_window() const;
  std::uint64_t bytes_in_flight() const;
  std::uint32_t path_mtu() const;                   // UDP payload bytes
  bool matches_reset_token(ByteView tail16) const;  // of a connection ID in use towards the peer
  Bytes current_dcid() const;
  std::vector<Bytes> issued_cids() const;
  void initiate_key_update(Instant now);
  std::optional<Bytes> poll_ticket();  // resumption tickets, opaque
  std::optional<Bytes> poll_token();   // NEW_TOKEN tokens
  void send_token(
      ByteView token);  // acceptor, from is_confirmed() on: a NEW_TOKEN for the dialler's next visit

 private:
  Connection();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::session
