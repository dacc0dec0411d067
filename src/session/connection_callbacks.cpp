// ngtcp2's callbacks. They only record: no application code runs inside ngtcp2, none of them throws, and none
// aborts.
#include <algorithm>
#include <cstring>

#include "session/connection_impl.h"

namespace ravine::session {
namespace {

Stream* stream_of(void* stream_user_data) {
  return static_cast<Stream*>(stream_user_data);
}

}  // namespace

int Connection::Impl::complete_handshake() {
  if (!tls.accept_completion()) return NGTCP2_ERR_CALLBACK_FAILURE;
  tls.describe(info);
  handshake_complete = true;
  if (options.role == Role::acceptor) {
    tls.send_ticket();
    confirm();
  }
  return 0;
}

void Connection::Impl::confirm() {
  confirmed = true;
  confirmed_at = last_now;
  info.handshake_time = last_now - started;
}

// A ticket follows the handshake at once; an acceptor that sent none within seconds sends none.
bool Connection::Impl::may_free_tls() const {
  return confirmed && tls.is_live() && (!tls.awaits_ticket() || last_now - confirmed_at > 3s);
}

void Connection::Impl::count_reset() {
  if (last_now - resets_since >= 1s) {
    resets_since = last_now;
    resets = 0;
  }
  if (++resets > options.limits.peer_resets_per_second) reset_flood = true;
}

void Connection::Impl::install_handshake_callbacks(ngtcp2_callbacks& made) {
  made.recv_crypto_data = [](ngtcp2_conn*, ngtcp2_encryption_level level, std::uint64_t,
                             const std::uint8_t* data, std::size_t size, void* user_data) {
    Connection::Impl& self = of(user_data);
    const bool had_ticket = self.tls.has_ticket();
    const int status = self.tls.receive(level, {data, size});
    if (!had_ticket && self.tls.has_ticket()) {
      self.streams.events().push(EventKind::ticket_received, nullptr);
    }
    return status;
  };
  made.handshake_completed = [](ngtcp2_conn*, void* user_data) { return of(user_data).complete_handshake(); };
  made.handshake_confirmed = [](ngtcp2_conn*, void* user_data) {
    of(user_data).confirm();
    return 0;
  };
  made.rand = [](std::uint8_t* out, std::size_t size, const ngtcp2_rand_ctx* context) {
    static_cast<RandomSource*>(context->native_handle)->fill({out, size});
  };
  made.recv_new_token = [](ngtcp2_conn*, const std::uint8_t* token, std::size_t size, void* user_data) {
    of(user_data).token.assign(token, token + size);
    return 0;
  };
  made.recv_stateless_reset = [](ngtcp2_conn*, const ngtcp2_pkt_stateless_reset*, void* user_data) {
    of(user_data).got_reset = true;
    return 0;
  };
}

void Connection::Impl::install_path_callbacks(ngtcp2_callbacks& made) {
  made.get_path_challenge_data = [](ngtcp2_conn*, std::uint8_t* out, void* user_data) {
    of(user_data).random.fill({out, NGTCP2_PATH_CHALLENGE_DATALEN});
    return 0;
  };
  made.get_new_connection_id = [](ngtcp2_conn*, ngtcp2_cid* cid, std::uint8_t* token, std::size_t,
                                  void* user_data) {
    Connection::Impl& self = of(user_data);
    *cid = self.make_cid(self.cid_prefix);
    const auto reset_token = make_reset_token(self.secret, {cid->data, cid->datalen});
    std::memcpy(token, reset_token.data(), reset_token.size());
    CidChange issued{{}, static_cast<std::uint8_t>(cid->datalen), false};
    std::memcpy(issued.cid.data(), cid->data, cid->datalen);
    self.cid_changes.push_back(issued);
    return 0;
  };
  made.remove_connection_id = [](ngtcp2_conn*, const ngtcp2_cid* cid, void* user_data) {
    Connection::Impl& self = of(user_data);
    CidChange retired{{}, static_cast<std::uint8_t>(cid->datalen), true};
    std::memcpy(retired.cid.data(), cid->data, cid->datalen);
    self.cid_changes.push_back(retired);
    return 0;
  };
  made.path_validation = [](ngtcp2_conn*, std::uint32_t, const ngtcp2_path* path, const ngtcp2_path*,
                            ngtcp2_path_validation_result result, void* user_data) {
    Connection::Impl& self = of(user_data);
    if (self.verdicts.size() == 64) self.verdicts.erase(self.verdicts.begin());
    self.verdicts.push_back(
        {synthetic_path_of(*path, self.options.role), result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS});
    return 0;
  };
}

void Connection::Impl::install_stream_callbacks(ngtcp2_callbacks& made) {
  made.recv_datagram = [](ngtcp2_conn*, std::uint32_t, const std::uint8_t* data, std::size_t size,
                          void* user_data) {
    Connection::Impl& self = of(user_data);
    if (!self.datagrams_in.push({data, size}) || self.datagram_readable_told) return 0;
    self.datagram_readable_told = true;
    self.streams.events().push(EventKind::datagram_readable, nullptr);
    return 0;
  };
  made.stream_open = [](ngtcp2_conn*, std::int64_t id, void* user_data) {
    of(user_data).streams.on_open(id);
    return 0;
  };
  made.recv_stream_data = [](ngtcp2_conn*, std::uint32_t flags, std::int64_t, std::uint64_t,
                             const std::uint8_t* data, std::size_t size, void* user_data, void* stream) {
    of(user_data).streams.on_data(stream_of(stream), {data, size},
                                  (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
    return 0;
  };
  made.acked_stream_data_offset = [](ngtcp2_conn*, std::int64_t, std::uint64_t offset, std::uint64_t size,
                                     void* user_data, void* stream) {
    of(user_data).streams.on_acknowledged(stream_of(stream), offset + size);
    return 0;
  };
  made.stream_reset = [](ngtcp2_conn*, std::int64_t, std::uint64_t, std::uint64_t code, void* user_data,
                         void* stream) {
    Connection::Impl& self = of(user_data);
    self.count_reset();
    self.streams.on_reset(stream_of(stream), code);
    return 0;
  };
  made.stream_close = [](ngtcp2_conn*, std::uint32_t, std::int64_t, std::uint64_t, void* user_data,
                         void* stream) {
    of(user_data).streams.on_closed(stream_of(stream));
    return 0;
  };
  made.extend_max_stream_data = [](ngtcp2_conn*, std::int64_t, std::uint64_t, void* user_data, void* stream) {
    of(user_data).streams.on_credit(stream_of(stream));
    return 0;
  };
  made.extend_max_local_streams_bidi = [](ngtcp2_conn*, std::uint64_t, void* user_data) {
    of(user_data).streams.on_more_streams();
    return 0;
  };
  made.extend_max_local_streams_uni = made.extend_max_local_streams_bidi;
}

const ngtcp2_callbacks& Connection::Impl::callbacks() {
  static const ngtcp2_callbacks table = [] {
    ngtcp2_callbacks made{};
    install_packet_crypto(made);
    install_handshake_callbacks(made);
    install_path_callbacks(made);
    install_stream_callbacks(made);
    return made;
  }();
  return table;
}

}  // namespace ravine::session
