// Paths, keys and tokens of a living connection. The rules of moving are in docs/protocol.md.
#include <algorithm>
#include <array>

#include "session/connection_impl.h"

namespace ravine::session {
namespace {

// To ngtcp2 a datagram whose fixed bit is 0 (RFC 9000 §17.3.1), which it drops before decrypting.
constexpr std::array<std::uint8_t, 65000> kNothing{};

}  // namespace

Connection::MigrateOutcome Connection::migrate(Instant now, SyntheticPath path, bool immediate) {
  Impl& impl = *impl_;
  const ngtcp2_tstamp at = impl.tick(now);
  // ngtcp2 aborts when an acceptor calls it, and refuses before the handshake is confirmed.
  if (impl.closed || impl.options.role != Role::dialler) return MigrateOutcome::refused;
  if (!impl.confirmed) return MigrateOutcome::not_yet;
  if (path == current_path()) return MigrateOutcome::refused;
  const ngtcp2_path* pair = impl.migration_addresses.set(path, Role::dialler);
  ngtcp2_conn* connection = impl.connection.get();
  const int status = immediate ? ngtcp2_conn_initiate_immediate_migration(connection, pair, at)
                               : ngtcp2_conn_initiate_migration(connection, pair, at);
  if (status == 0) return MigrateOutcome::started;
  if (status == NGTCP2_ERR_CONN_ID_BLOCKED) return MigrateOutcome::no_spare_id;
  if (status == NGTCP2_ERR_INVALID_STATE) return MigrateOutcome::not_yet;
  if (status != NGTCP2_ERR_INVALID_ARGUMENT) impl.fail(status);
  return MigrateOutcome::refused;
}

std::optional<Connection::PathVerdict> Connection::poll_path_verdict() {
  if (impl_->verdicts.empty()) return std::nullopt;
  const PathVerdict verdict = impl_->verdicts.front();
  impl_->verdicts.erase(impl_->verdicts.begin());
  return verdict;
}

// ngtcp2 has no call for this, so the current path gets a large datagram that counts and means nothing. The
// limit does more harm than slowing down: at it ngtcp2 stops its loss timer, and when then everything on the
// way is lost while the window is full, nothing is ever sent again.
void Connection::lift_amplification_limit(Instant now) {
  Impl& impl = *impl_;
  if (impl.closed || !impl.confirmed || impl.options.role != Role::acceptor) return;
  const ngtcp2_tstamp at = impl.tick(now);
  const ngtcp2_pkt_info info{0};
  const ngtcp2_path* pair = impl.addresses.set(current_path(), Role::acceptor);
  impl.addresses_path = current_path();
  (void)impl.handle_read_status(
      ngtcp2_conn_read_pkt(impl.connection.get(), pair, &info, kNothing.data(), kNothing.size(), at));
}

SyntheticPath Connection::current_path() const {
  return synthetic_path_of(*ngtcp2_conn_get_path(impl_->connection.get()), impl_->options.role);
}

Duration Connection::probe_timeout() const {
  return Duration{static_cast<std::int64_t>(ngtcp2_conn_get_pto(impl_->connection.get()))};
}

namespace {
ngtcp2_conn_info read_info(ngtcp2_conn* connection) {
  ngtcp2_conn_info info;
  ngtcp2_conn_get_conn_info(connection, &info);
  return info;
}
}  // namespace

Duration Connection::smoothed_rtt() const {
  return Duration{static_cast<std::int64_t>(read_info(impl_->connection.get()).smoothed_rtt)};
}
std::uint64_t Connection::congestion_window() const {
  return read_info(impl_->connection.get()).cwnd;
}
std::uint64_t Connection::bytes_in_flight() const {
  return read_info(impl_->connection.get()).bytes_in_flight;
}

std::uint32_t Connection::path_mtu() const {
  return static_cast<std::uint32_t>(ngtcp2_conn_get_path_max_tx_udp_payload_size(impl_->connection.get()));
}

bool Connection::matches_reset_token(ByteView tail16) const {
  if (tail16.size() != NGTCP2_STATELESS_RESET_TOKENLEN) return false;
  ngtcp2_conn* connection = impl_->connection.get();
  std::vector<ngtcp2_cid_token> tokens(ngtcp2_conn_get_active_dcid(connection, nullptr));
  if (tokens.empty()) return false;
  tokens.resize(ngtcp2_conn_get_active_dcid(connection, tokens.data()));
  bool match = false;
  for (const ngtcp2_cid_token& known : tokens) {
    match |= known.token_present != 0 && equal_constant_time(known.token, tail16);
  }
  return match;
}

Bytes Connection::current_dcid() const {
  const ngtcp2_cid* dcid = ngtcp2_conn_get_dcid(impl_->connection.get());
  return {dcid->data, dcid->data + dcid->datalen};
}

std::vector<Bytes> Connection::issued_cids() const {
  std::vector<ngtcp2_cid> known(ngtcp2_conn_get_scid(impl_->connection.get(), nullptr));
  ngtcp2_conn_get_scid(impl_->connection.get(), known.data());
  std::vector<Bytes> issued;
  for (const ngtcp2_cid& cid : known) issued.emplace_back(cid.data, cid.data + cid.datalen);
  return issued;
}

// Refused by ngtcp2 while the last update is unacknowledged (RFC 9001 §6.1), which is no error to anybody.
void Connection::initiate_key_update(Instant now) {
  const ngtcp2_tstamp at = impl_->tick(now);
  if (impl_->confirmed && !impl_->closed) ngtcp2_conn_initiate_key_update(impl_->connection.get(), at);
}

void Connection::send_token(ByteView token) {
  if (impl_->closed || !impl_->confirmed || impl_->options.role != Role::acceptor || token.empty()) return;
  ngtcp2_conn_submit_new_token(impl_->connection.get(), token.data(), token.size());
}

}  // namespace ravine::session
