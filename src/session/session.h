// Session: everything between two peers. One QUIC connection, a set of paths, one control stream.
// What applications and services use; they get a Session& from the endpoint and never keep it over a turn of
// the loop. Thread rule: the thread that drives the endpoint.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "session/connection.h"
#include "session/types.h"
#include "wire/control.h"

namespace ravine::session {

class PathSet;
class Endpoint;

inline constexpr std::string_view kGatewayExporter = "EXPORTER-ravine-gateway";

class Session {
 public:
  SessionId id() const;
  const SessionInfo& info() const;
  bool is_established() const;
  bool is_closing() const;
  void set_context(void* context);
  void* context() const;

  // Closes with an application error. Streams end; session_closed follows. With `none` and `shutdown`,
  // streams that were finished get up to a second for what the peer did not acknowledge yet; a second call
  // ends that.
  void close(Instant now, AppError code, std::string text = {});

  // --- streams (RFC 9000 §2). Calls on an unknown or ended stream do nothing and return nothing.
  // Fails with limit_reached when the peer's stream limit is used up: wait for streams_available.
  Result<StreamId> open_stream(StreamKind kind, void* context = nullptr);
  void set_stream_context(StreamId stream, void* context);
  // Copies up to the free send buffer; returns bytes taken. Less than data.size(): wait for stream_writable.
  std::size_t write(StreamId stream, ByteView data);
  // Zero-copy write: a contiguous span of at most `wanted` bytes inside the send buffer (empty when full),
  // then commit what was filled, before any other call on this stream.
  MutableBytes reserve(StreamId stream, std::size_t wanted);
  void commit(StreamId stream, std::size_t size);
  void finish(StreamId stream);                // FIN after what was written
  void reset(StreamId stream, AppError code);  // drop what was not sent, RESET_STREAM
  void stop(StreamId stream, AppError code);   // STOP_SENDING: want no more
  void set_priority(StreamId stream,
                    std::uint8_t urgency);  // 0 first … 7 last, default 3; equal ones take turns
  // Contiguous received bytes, valid until the next call on this session. Consume to open flow control.
  ByteView peek(StreamId stream) const;
  void consume(StreamId stream, std::size_t size);
  bool is_finished(StreamId stream) const;  // FIN arrived and everything was consumed
  std::uint64_t unacknowledged(StreamId stream) const;

  // --- datagrams (RFC 9221): unreliable, unordered, congestion controlled
  Connection::DatagramOutcome send_datagram(ByteView data);
  std::size_t max_datagram_size() const;
  std::optional<ByteView> peek_datagram() const;
  void pop_datagram();

  // --- control messages that other layers define (proto/control.proto)
  void send_control(const wire::ControlMessage& message);
  std::optional<wire::ControlMessage> poll_control();

  // --- paths
  std::vector<PathInfo> paths() const;
  PathInfo current_path() const;
  // Adds a path and offers its labels to the peer on the control stream; it becomes usable once it echoes.
  // `route` leads to the next hop. Without `labels` two random ones are taken (direct paths); forwarded paths
  // name those that the forwarders already know. limit_reached above kMaxPaths, already_exists when the
  // receive label is occupied.
  Result<PathId> add_path(Instant now, PathKind kind, const Route& route,
                          std::optional<PathLabels> labels = {});
  // Forgets a path on both ends. Refused for the current path.
  Result<> retire_path(Instant now, PathId path);
  // Asks for a move: diallers migrate, acceptors ask the dialler to. Refused unless the path echoed lately.
  Result<> move_to(Instant now, PathId path);
  // The local side's interfaces changed: the current path's local address may be gone. Echo at once on all
  // paths.
  void handle_local_change(Instant now);
  void ping(Instant now, PathId path,
            std::uint64_t nonce);  // answered by path_state with a fresh smoothed_rtt

  std::uint64_t congestion_window() const;
  Duration smoothed_rtt() const;

  // RFC 5705 / RFC 8446 §7.5 exporter of this session's TLS, for identity's join and renew exchanges
  // (kJoinExporter) and keys of gateways (kGatewayExporter), no other label: answers as long as the session
  // lives, also after its TLS state was released.
  std::array<std::uint8_t, 32> export_keying_material(std::string_view label) const;

  // For the files of this folder alone.
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  ~Session();
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::session
