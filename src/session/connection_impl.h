// What a Connection is made of. Concerns live in their own classes (TLS, packet protection, streams,
// datagrams); this struct holds them together and is implemented in connection*.cpp: creation and state,
// ngtcp2's callbacks, the write loop, endings, paths.
#pragma once

#include <ngtcp2/ngtcp2.h>

#include <memory>

#include "session/connection.h"
#include "session/datagrams.h"
#include "session/packet_crypto.h"
#include "session/streams.h"
#include "session/synthetic_address.h"
#include "session/tls_session.h"

namespace ravine::session {

struct ConnectionDeleter {
  void operator()(ngtcp2_conn* connection) const { ngtcp2_conn_del(connection); }
};

// PacketCrypto comes first and is what ngtcp2's user_data points to.
struct Connection::Impl : PacketCrypto {
  Impl(Instant now, ConnectionOptions chosen, RandomSource& source, const WallClock& clock,
       ByteView reset_secret, Label prefix);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  static Impl& of(void* user_data) { return static_cast<Impl&>(*static_cast<PacketCrypto*>(user_data)); }
  void* user_data() { return static_cast<PacketCrypto*>(this); }

  // --- creation (connection.cpp)
  Result<> create_dialler(Label initial_label, SyntheticPath path);
  Result<> create_acceptor(const AcceptedInitial& initial, SyntheticPath path);
  Duration initial_rtt() const;
  void fill_settings(ngtcp2_settings& settings);
  void fill_parameters(ngtcp2_transport_params& parameters) const;
  Result<> finish_creation(int status, const ngtcp2_cid& scid);
  ngtcp2_cid make_cid(Label label);
  ngtcp2_tstamp tick(Instant now);  // ngtcp2 aborts when time goes back: this never does
  void forget_options();            // what only the handshake needed

  // --- callbacks (connection_callbacks.cpp)
  static const ngtcp2_callbacks& callbacks();
  static void install_handshake_callbacks(ngtcp2_callbacks& made);
  static void install_path_callbacks(ngtcp2_callbacks& made);
  static void install_stream_callbacks(ngtcp2_callbacks& made);
  int complete_handshake();
  void confirm();
  bool may_free_tls() const;
  void count_reset();

  // --- write loop (connection_write.cpp)
  std::size_t write(Instant now, MutableBytes space, std::vector<OutgoingPacket>& packets);
  ngtcp2_ssize write_packet(MutableBytes space, ngtcp2_tstamp at);
  enum class Step : std::uint8_t { packet, more, skip };
  Step write_datagram(MutableBytes space, ngtcp2_tstamp at, ngtcp2_ssize& written);
  Step write_stream(MutableBytes space, ngtcp2_tstamp at, ngtcp2_ssize& written);
  std::size_t datagram_room() const;

  // --- endings (connection_close.cpp)
  ReadOutcome handle_read_status(int status);
  void fail(int status);      // ngtcp2 said so
  void end(CloseReason why);  // streams end; nothing is sent any more but the close packet
  void close_for(AppError code, std::string text, CloseCause cause);
  void note_remote_close();
  std::optional<OutgoingPacket> write_close(Instant now, MutableBytes space);

  ConnectionOptions options;
  RandomSource& random;
  std::array<std::uint8_t, 32> secret{};
  Label cid_prefix;
  Instant started, confirmed_at, last_now;

  TlsSession tls;
  Streams streams;
  DatagramQueue datagrams_out, datagrams_in;
  SyntheticAddresses addresses;  // of the path last read from
  SyntheticPath addresses_path;
  SyntheticAddresses migration_addresses;
  ngtcp2_path_storage write_path{};
  ngtcp2_pkt_info write_info{};
  SyntheticPath last_write_path;
  std::array<std::uint16_t, 8> probes{};  // ngtcp2 keeps a pointer into it

  SessionInfo info;
  std::vector<CidChange> cid_changes;
  std::vector<PathVerdict> verdicts;
  Bytes token;
  ngtcp2_ccerr error{};
  CloseReason reason;
  std::string error_text;  // error points into it
  Bytes close_packet;
  std::uint64_t datagram_id = 0;
  Instant resets_since;
  std::uint32_t resets = 0;
  bool handshake_complete = false, confirmed = false, closed = false, got_reset = false, peer_closed = false;
  bool release_wanted = false, reset_flood = false;
  bool datagram_readable_told = false, datagram_room_wanted = false;

  // Last, so that it goes first: its deletion calls back for keys.
  std::unique_ptr<ngtcp2_conn, ConnectionDeleter> connection;
};

}  // namespace ravine::session
