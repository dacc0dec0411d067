// The write loop: fills packets with datagrams, then with streams by urgency, until congestion control,
// pacing or the space says stop. After NGTCP2_ERR_WRITE_MORE a packet is half made, and ngtcp2 aborts on any
// call but those that go on with it: write_packet() never leaves in that state (trap 1).
#include <algorithm>

#include "session/connection_impl.h"

namespace ravine::session {
namespace {

// Short header 1, connection ID 12, packet number ≤ 4, tag 16, DATAGRAM type and length ≤ 3 (trap 12).
constexpr std::size_t kDatagramOverhead = 36;
constexpr std::size_t kVectors = 8;

}  // namespace

std::size_t Connection::Impl::datagram_room() const {
  const std::size_t payload = ngtcp2_conn_get_path_max_tx_udp_payload_size(connection.get());
  const ngtcp2_transport_params* peer = ngtcp2_conn_get_remote_transport_params(connection.get());
  if (peer == nullptr || peer->max_datagram_frame_size <= 3) return 0;
  return std::min<std::size_t>(payload - kDatagramOverhead, peer->max_datagram_frame_size - 3);
}

std::size_t Connection::Impl::write(Instant now, MutableBytes space, std::vector<OutgoingPacket>& packets) {
  const ngtcp2_tstamp at = tick(now);
  if (closed) return 0;
  streams.return_credit();
  // Probes of path MTU discovery may be larger than the packets of the path.
  const std::size_t largest = ngtcp2_conn_get_max_tx_udp_payload_size(connection.get());
  const std::size_t quantum = ngtcp2_conn_get_send_quantum(connection.get());
  std::size_t used = 0;
  while (space.size() - used >= largest && used < quantum) {
    const ngtcp2_ssize written = write_packet(space.subspan(used, largest), at);
    if (written < 0) {
      fail(static_cast<int>(written));
      break;
    }
    if (written == 0) break;
    last_write_path = synthetic_path_of(write_path.path, options.role);
    packets.push_back(
        {space.data() + used, static_cast<std::uint32_t>(written), write_info.ecn, last_write_path});
    used += static_cast<std::size_t>(written);
  }
  if (used > 0 && !closed) ngtcp2_conn_update_pkt_tx_time(connection.get(), at);
  if (datagram_room_wanted && datagrams_out.is_half_empty()) {
    datagram_room_wanted = false;
    streams.events().push(EventKind::datagram_writable, nullptr);
  }
  return used;
}

// One packet: its size, 0 when nothing may or need be sent, or an ngtcp2 error.
ngtcp2_ssize Connection::Impl::write_packet(MutableBytes space, ngtcp2_tstamp at) {
  for (;;) {
    ngtcp2_ssize written = 0;
    Step step = Step::skip;
    if (!handshake_complete) {
      // Nothing of the application's goes out yet.
    } else if (!datagrams_out.empty()) {
      step = write_datagram(space, at, written);
      if (step == Step::skip) continue;
    } else {
      step = write_stream(space, at, written);
    }
    if (step == Step::more) continue;
    if (step == Step::packet) return written;
    return ngtcp2_conn_writev_stream(connection.get(), &write_path.path, &write_info, space.data(),
                                     space.size(), nullptr, NGTCP2_WRITE_STREAM_FLAG_NONE, -1, nullptr, 0,
                                     at);
  }
}

// skip: the head was dropped, look again.
Connection::Impl::Step Connection::Impl::write_datagram(MutableBytes space, ngtcp2_tstamp at,
                                                        ngtcp2_ssize& written) {
  const ByteView head = datagrams_out.front();
  // ngtcp2 aborts on an empty vector, so an empty datagram has none.
  const std::size_t vectors = head.empty() ? 0 : 1;
  const ngtcp2_vec vector{const_cast<std::uint8_t*>(head.data()), head.size()};
  int accepted = 0;
  written = ngtcp2_conn_writev_datagram(connection.get(), &write_path.path, &write_info, space.data(),
                                        space.size(), &accepted, NGTCP2_WRITE_DATAGRAM_FLAG_MORE, datagram_id,
                                        &vector, vectors, at);
  if (accepted != 0) {
    ++datagram_id;
    datagrams_out.pop();
  }
  if (written == NGTCP2_ERR_WRITE_MORE) return Step::more;
  if (written == NGTCP2_ERR_INVALID_ARGUMENT || written == NGTCP2_ERR_INVALID_STATE) {
    datagrams_out.pop();
    return Step::skip;
  }
  // "Not accepted, nothing written" means limited by congestion, or too large for the path that we moved to.
  if (written == 0 && accepted == 0 && head.size() > datagram_room()) {
    datagrams_out.pop();
    return Step::skip;
  }
  return Step::packet;
}

// skip: no stream has anything that may go.
Connection::Impl::Step Connection::Impl::write_stream(MutableBytes space, ngtcp2_tstamp at,
                                                      ngtcp2_ssize& written) {
  for (;;) {
    Stream* stream = streams.first_ready();
    if (stream == nullptr) return Step::skip;
    std::array<ngtcp2_vec, kVectors> vectors;
    std::size_t offered = 0;
    const std::size_t count = stream->send.unsent_vectors(vectors, space.size(), offered);
    const bool fin = stream->fin_wanted && !stream->fin_sent && offered == stream->send.unsent();
    const std::uint32_t flags =
        NGTCP2_WRITE_STREAM_FLAG_MORE | (fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : NGTCP2_WRITE_STREAM_FLAG_NONE);
    ngtcp2_ssize taken = -1;
    written = ngtcp2_conn_writev_stream(connection.get(), &write_path.path, &write_info, space.data(),
                                        space.size(), &taken, flags, stream->id, vectors.data(), count, at);
    if (written == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
      // Of the two credits only the stream's announces itself; the connection's is simply tried again.
      if (ngtcp2_conn_get_max_data_left(connection.get()) == 0) return Step::skip;
      streams.block(stream);
      continue;
    }
    if (written == NGTCP2_ERR_STREAM_SHUT_WR || written == NGTCP2_ERR_STREAM_NOT_FOUND) {
      streams.kill_send(stream);
      continue;
    }
    if (taken >= 0) {
      const auto size = static_cast<std::size_t>(taken);
      streams.sent(stream, size, fin && size == offered);
    }
    return written == NGTCP2_ERR_WRITE_MORE ? Step::more : Step::packet;
  }
}

}  // namespace ravine::session
