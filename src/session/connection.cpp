#include "session/connection.h"

#include <fmt/format.h>
#include <gnutls/crypto.h>

#include <algorithm>
#include <cstring>

#include "base/ensure.h"
#include "session/connection_impl.h"

namespace ravine::session {
namespace {

// RFC 9000 §14.1: what every path carries, and what first packets are padded to.
// RFC 9002 §6.2.2 suggests 333 ms, which gives a handshake three repetitions in ten seconds; with this one it
// has five, and a lossy link is no dead one. Long links pay with a repeated flight or two.
constexpr Duration kDiallerInitialRtt = 100ms;
// An acceptor repeats its flight when the dialler repeats its own, so it gains nothing by less. It would
// lose: ngtcp2 gives up validating a path after three probe timeouts of this round trip and falls back to the
// path before, whose connection ID it then retires twice; a few lost packets after a move end in
// CONNECTION_ID_LIMIT.
constexpr Duration kAcceptorInitialRtt = 333ms;
constexpr std::uint32_t kMinPayload = 1200;
constexpr std::uint32_t kMaxPayload = 65527;

std::uint64_t nanoseconds(Duration duration) {
  return duration.count() < 0 ? 0 : static_cast<std::uint64_t>(duration.count());
}

ngtcp2_cid cid_of(ByteView bytes) {
  ngtcp2_cid cid;
  ngtcp2_cid_init(&cid, bytes.data(), bytes.size());
  return cid;
}

Error invalid(std::string_view what) {
  return {ErrorKind::invalid_argument, fmt::format("cannot make a connection: {}", what)};
}

}  // namespace

std::array<std::uint8_t, 16> make_reset_token(ByteView secret, ByteView cid) {
  std::array<std::uint8_t, 32> digest{};
  gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret.data(), secret.size(), cid.data(), cid.size(), digest.data());
  std::array<std::uint8_t, 16> token;
  std::copy_n(digest.begin(), token.size(), token.begin());
  return token;
}

Connection::Impl::Impl(Instant now, ConnectionOptions chosen, RandomSource& source, const WallClock& clock,
                       ByteView reset_secret, Label prefix)
    : options(std::move(chosen)),
      random(source),
      cid_prefix(prefix),
      started(now),
      last_now(now),
      tls(options.role, clock),
      streams(options.role, options.limits, options.blocks ? options.blocks : std::make_shared<BlockPool>()),
      datagrams_out(options.limits.datagram_queue, options.limits.datagram_queue_bytes),
      datagrams_in(options.limits.datagram_queue, options.limits.datagram_queue_bytes) {
  backend = resolve_protection(options.protection);
  packets_per_key = options.packets_per_key;
  std::copy_n(reset_secret.begin(), std::min(reset_secret.size(), secret.size()), secret.begin());
  ngtcp2_ccerr_default(&error);
  ngtcp2_path_storage_zero(&write_path);
  info.role = options.role;
  info.protection = to_text(backend);
}

Connection::Impl::~Impl() {
  tls.free();
  connection.reset();
  wipe(secret);
}

ngtcp2_tstamp Connection::Impl::tick(Instant now) {
  last_now = std::max(last_now, now);
  return last_now.nanoseconds;
}

// The suffix ff×4 marks path echoes (docs/protocol.md) and is never issued.
ngtcp2_cid Connection::Impl::make_cid(Label label) {
  std::array<std::uint8_t, kConnectionIdSize> bytes;
  label.store(bytes.data());
  do {
    random.fill(MutableBytes(bytes).subspan(kLabelSize));
  } while (
      std::all_of(bytes.begin() + kLabelSize, bytes.end(), [](std::uint8_t byte) { return byte == 0xff; }));
  return cid_of(bytes);
}

Duration Connection::Impl::initial_rtt() const {
  if (options.role == Role::acceptor) return std::max(options.initial_rtt, kAcceptorInitialRtt);
  return options.initial_rtt > Duration{0} ? options.initial_rtt : kDiallerInitialRtt;
}

void Connection::Impl::fill_settings(ngtcp2_settings& settings) {
  ngtcp2_settings_default(&settings);
  settings.initial_ts = last_now.nanoseconds;
  settings.cc_algo = options.congestion == CongestionControl::bbr ? NGTCP2_CC_ALGO_BBR : NGTCP2_CC_ALGO_CUBIC;
  settings.initial_rtt = nanoseconds(initial_rtt());
  settings.handshake_timeout = nanoseconds(options.handshake_timeout);
  settings.max_window = options.limits.receive_window;
  settings.max_stream_window = options.limits.stream_receive_window;
  settings.rand_ctx.native_handle = &random;
  // The cap first: on most paths one probe then settles it. After a loss ngtcp2 tries the next smaller one.
  const std::uint32_t cap = std::clamp(options.max_udp_payload, kMinPayload, kMaxPayload);
  settings.max_tx_udp_payload_size = cap;
  std::size_t count = 0;
  for (const std::uint32_t size : {cap, 8928u, 4052u, 1452u, 1404u, 1300u, 1232u}) {
    if (size <= kMinPayload || size > cap || (count > 0 && size >= probes[count - 1])) continue;
    probes[count++] = static_cast<std::uint16_t>(size);
  }
  settings.pmtud_probes = count > 0 ? probes.data() : nullptr;
  settings.pmtud_probeslen = count;
}

void Connection::Impl::fill_parameters(ngtcp2_transport_params& parameters) const {
  const ConnectionLimits& limits = options.limits;
  ngtcp2_transport_params_default(&parameters);
  parameters.initial_max_data = std::min(limits.initial_receive_window, limits.receive_window);
  const std::uint64_t stream_window = std::min(limits.initial_receive_window, limits.stream_receive_window);
  parameters.initial_max_stream_data_bidi_local = stream_window;
  parameters.initial_max_stream_data_bidi_remote = stream_window;
  parameters.initial_max_stream_data_uni = stream_window;
  parameters.initial_max_streams_bidi = limits.peer_streams_bidirectional;
  parameters.initial_max_streams_uni = limits.peer_streams_unidirectional;
  parameters.max_idle_timeout = nanoseconds(options.idle_timeout);
  parameters.active_connection_id_limit = 8;  // exactly: docs/protocol.md, "Moving"
  parameters.max_datagram_frame_size = 65535;
  parameters.grease_quic_bit = 0;
}

Result<> Connection::Impl::finish_creation(int status, const ngtcp2_cid& scid) {
  if (status != 0) return invalid(ngtcp2_strerror(status));
  streams.attach(connection.get());
  CidChange issued{{}, static_cast<std::uint8_t>(scid.datalen), false};
  std::memcpy(issued.cid.data(), scid.data, scid.datalen);
  cid_changes.push_back(issued);
  if (options.keep_alive > Duration{0}) {
    ngtcp2_conn_set_keep_alive_timeout(connection.get(), nanoseconds(options.keep_alive));
  }
  Result<> started_tls = tls.start(connection.get(), *this, options);
  forget_options();
  return started_tls;
}

void Connection::Impl::forget_options() {
  options.tls.reset();
  options.policy.reset();
  for (Bytes* spent : {&options.ticket, &options.token}) Bytes().swap(*spent);
}

Result<> Connection::Impl::create_dialler(Label initial_label, SyntheticPath path) {
  if (options.tls == nullptr || options.policy == nullptr)
    return invalid("no TLS context or no verify policy");
  ngtcp2_settings settings;
  ngtcp2_transport_params parameters;
  fill_settings(settings);
  fill_parameters(parameters);
  settings.token = options.token.empty() ? nullptr : options.token.data();
  settings.tokenlen = options.token.size();
  const ngtcp2_cid scid = make_cid(cid_prefix), dcid = make_cid(initial_label);
  ngtcp2_conn* made = nullptr;
  const ngtcp2_path* pair = addresses.set(path, Role::dialler);
  addresses_path = last_write_path = path;
  const int status = ngtcp2_conn_client_new(&made, &dcid, &scid, pair, NGTCP2_PROTO_VER_V1, &callbacks(),
                                            &settings, &parameters, nullptr, user_data());
  connection.reset(made);
  return finish_creation(status, scid);
}

Result<> Connection::Impl::create_acceptor(const AcceptedInitial& initial, SyntheticPath path) {
  if (options.selector == nullptr) return invalid("no selector of networks");
  const auto fits = [](const Bytes& cid) { return cid.size() <= NGTCP2_MAX_CIDLEN; };
  if (!fits(initial.original_dcid) || !fits(initial.client_scid) || initial.version != NGTCP2_PROTO_VER_V1 ||
      (initial.retry_scid && !fits(*initial.retry_scid))) {
    return invalid("the Initial's connection IDs or version cannot be");
  }
  ngtcp2_settings settings;
  ngtcp2_transport_params parameters;
  fill_settings(settings);
  fill_parameters(parameters);
  parameters.original_dcid = cid_of(initial.original_dcid);
  parameters.original_dcid_present = 1;
  if (initial.retry_scid) {
    parameters.retry_scid = cid_of(*initial.retry_scid);
    parameters.retry_scid_present = 1;
  }
  if (!initial.token.empty()) {
    settings.token = initial.token.data();
    settings.tokenlen = initial.token.size();
    settings.token_type = initial.retry_scid ? NGTCP2_TOKEN_TYPE_RETRY : NGTCP2_TOKEN_TYPE_NEW_TOKEN;
  }
  const ngtcp2_cid scid = make_cid(cid_prefix), dcid = cid_of(initial.client_scid);
  const auto reset_token = make_reset_token(secret, {scid.data, scid.datalen});
  std::memcpy(parameters.stateless_reset_token, reset_token.data(), reset_token.size());
  parameters.stateless_reset_token_present = 1;
  ngtcp2_conn* made = nullptr;
  const ngtcp2_path* pair = addresses.set(path, Role::acceptor);
  addresses_path = last_write_path = path;
  const int status = ngtcp2_conn_server_new(&made, &dcid, &scid, pair, initial.version, &callbacks(),
                                            &settings, &parameters, nullptr, user_data());
  connection.reset(made);
  return finish_creation(status, scid);
}

Connection::Connection() = default;
Connection::~Connection() = default;

Result<std::unique_ptr<Connection>> Connection::dial(Instant now, ConnectionOptions options,
                                                     RandomSource& random, const WallClock& clock,
                                                     ByteView secret, Label cid_prefix, Label initial_label,
                                                     SyntheticPath path) {
  options.role = Role::dialler;
  std::unique_ptr<Connection> made(new Connection);
  made->impl_ = std::make_unique<Impl>(now, std::move(options), random, clock, secret, cid_prefix);
  if (Result<> created = made->impl_->create_dialler(initial_label, path); !created) return created.error();
  return made;
}

Result<std::unique_ptr<Connection>> Connection::accept(Instant now, ConnectionOptions options,
                                                       RandomSource& random, const WallClock& clock,
                                                       ByteView secret, Label cid_prefix,
                                                       const AcceptedInitial& initial, SyntheticPath path) {
  options.role = Role::acceptor;
  std::unique_ptr<Connection> made(new Connection);
  made->impl_ = std::make_unique<Impl>(now, std::move(options), random, clock, secret, cid_prefix);
  if (Result<> created = made->impl_->create_acceptor(initial, path); !created) return created.error();
  return made;
}

ReadOutcome Connection::read(Instant now, SyntheticPath path, std::uint8_t ecn, ByteView packet) {
  Impl& impl = *impl_;
  const ngtcp2_tstamp at = impl.tick(now);
  if (impl.closed) return impl.peer_closed ? ReadOutcome::draining : ReadOutcome::failed;
  if (packet.empty()) return ReadOutcome::dropped;
  if (path != impl.addresses_path) impl.addresses_path = path;
  const ngtcp2_path* pair = impl.addresses.set(path, impl.options.role);
  const ngtcp2_pkt_info info{ecn};
  const int status =
      ngtcp2_conn_read_pkt(impl.connection.get(), pair, &info, packet.data(), packet.size(), at);
  return impl.handle_read_status(status);
}

std::uint64_t Connection::opened_packets() const {
  return impl_->opened.opened();
}
std::uint64_t Connection::fresh_packets() const {
  return impl_->opened.fresh();
}

void Connection::handle_timeout(Instant now) {
  const ngtcp2_tstamp at = impl_->tick(now);
  if (impl_->closed) return;
  const int status = ngtcp2_conn_handle_expiry(impl_->connection.get(), at);
  if (status != 0) impl_->fail(status);
}

std::size_t Connection::write(Instant now, MutableBytes space, std::vector<OutgoingPacket>& packets) {
  return impl_->write(now, space, packets);
}

std::optional<OutgoingPacket> Connection::write_close(Instant now, MutableBytes space) {
  return impl_->write_close(now, space);
}

Deadline Connection::next_deadline() const {
  if (impl_->closed) return {};
  const std::uint64_t expiry = ngtcp2_conn_get_expiry(impl_->connection.get());
  return {Instant{expiry}, impl_->confirmed ? "quic timer" : "handshake timer"};
}

std::optional<Event> Connection::poll_event() {
  return impl_->streams.poll_event();
}
void Connection::forget_stream(StreamId stream) {
  impl_->streams.forget(stream);
}
bool Connection::has_events() const {
  return !impl_->streams.events().empty();
}

std::optional<Connection::CidChange> Connection::poll_cid_change() {
  if (impl_->cid_changes.empty()) return std::nullopt;
  const CidChange change = impl_->cid_changes.front();
  impl_->cid_changes.erase(impl_->cid_changes.begin());
  if (impl_->cid_changes.empty())
    impl_->cid_changes.shrink_to_fit();  // an idle session keeps no room for them
  return change;
}

bool Connection::is_handshake_complete() const {
  return impl_->handshake_complete;
}
bool Connection::is_confirmed() const {
  return impl_->confirmed;
}
bool Connection::is_closed() const {
  return impl_->closed;
}
const CloseReason& Connection::close_reason() const {
  return impl_->reason;
}
const SessionInfo& Connection::info() const {
  return impl_->info;
}

void Connection::close(Instant now, AppError code, std::string text) {
  impl_->tick(now);
  if (!impl_->closed) impl_->close_for(code, std::move(text), CloseCause::local_application);
}

std::array<std::uint8_t, 32> Connection::export_keying_material(std::string_view label) const {
  std::array<std::uint8_t, 32> out{};
  ensure(impl_->handshake_complete && impl_->tls.export_secret(label, out));
  return out;
}

void Connection::forget_chain() {
  std::vector<Bytes>().swap(impl_->info.chain);
}

void Connection::release_tls() {
  impl_->release_wanted = true;
  if (impl_->may_free_tls()) impl_->tls.free();
}

Result<StreamId> Connection::open_stream(StreamKind kind, void* context) {
  if (!impl_->handshake_complete) return Error{ErrorKind::closed, "cannot open a stream: no handshake yet"};
  return impl_->streams.open(kind, context);
}

void Connection::set_stream_context(StreamId stream, void* context) {
  if (Stream* found = impl_->streams.find(stream)) found->context = context;
}

void* Connection::stream_context(StreamId stream) const {
  const Stream* found = impl_->streams.find(stream);
  return found == nullptr ? nullptr : found->context;
}

std::size_t Connection::write_stream(StreamId stream, ByteView data) {
  return impl_->streams.write(stream, data);
}
MutableBytes Connection::reserve_stream(StreamId stream, std::size_t wanted) {
  return impl_->streams.reserve(stream, wanted);
}
void Connection::commit_stream(StreamId stream, std::size_t size) {
  impl_->streams.commit(stream, size);
}
void Connection::finish_stream(StreamId stream) {
  impl_->streams.finish(stream);
}
void Connection::reset_stream(StreamId stream, AppError code) {
  impl_->streams.reset(stream, code);
}
void Connection::stop_stream(StreamId stream, AppError code) {
  impl_->streams.stop(stream, code);
}
void Connection::set_stream_priority(StreamId stream, std::uint8_t urgency) {
  impl_->streams.set_priority(stream, urgency);
}
ByteView Connection::peek_stream(StreamId stream) const {
  return impl_->streams.peek(stream);
}
void Connection::consume_stream(StreamId stream, std::size_t size) {
  impl_->streams.consume(stream, size);
}
bool Connection::is_stream_finished(StreamId stream) const {
  return impl_->streams.is_finished(stream);
}

std::uint64_t Connection::stream_unacknowledged(StreamId stream) const {
  const Stream* found = impl_->streams.find(stream);
  return found == nullptr ? 0 : found->send.held();
}

bool Connection::has_unacknowledged_end() const {
  return !impl_->closed && impl_->streams.has_unacknowledged_end();
}

std::size_t Connection::open_streams() const {
  return impl_->streams.open_count();
}

Connection::DatagramOutcome Connection::send_datagram(ByteView data) {
  if (impl_->closed || !impl_->handshake_complete) return DatagramOutcome::unsupported;
  const ngtcp2_transport_params* peer = ngtcp2_conn_get_remote_transport_params(impl_->connection.get());
  if (peer == nullptr || peer->max_datagram_frame_size == 0) return DatagramOutcome::unsupported;
  if (data.size() > impl_->datagram_room()) return DatagramOutcome::too_large;
  if (impl_->datagrams_out.push(data)) return DatagramOutcome::queued;
  impl_->datagram_room_wanted = true;
  return DatagramOutcome::queue_full;
}

std::size_t Connection::max_datagram_size() const {
  return impl_->closed || !impl_->handshake_complete ? 0 : impl_->datagram_room();
}

std::optional<ByteView> Connection::peek_datagram() const {
  if (!impl_->datagrams_in.empty()) return impl_->datagrams_in.front();
  impl_->datagram_readable_told = false;
  return std::nullopt;
}

void Connection::pop_datagram() {
  if (!impl_->datagrams_in.empty()) impl_->datagrams_in.pop();
}

std::optional<Bytes> Connection::poll_ticket() {
  return impl_->tls.take_ticket();
}

std::optional<Bytes> Connection::poll_token() {
  if (impl_->token.empty()) return std::nullopt;
  return std::exchange(impl_->token, {});
}

}  // namespace ravine::session
