#include "session/tls_session.h"

#include <fmt/format.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include <array>
#include <utility>

#include "session/tls_context_impl.h"

namespace ravine::session {
namespace {

// Immutable once made, so one serves every session of the process. Null when GnuTLS is built without one of
// them.
gnutls_priority_t cipher_priorities() {
  static const gnutls_priority_t priorities = [] {
    gnutls_priority_t made = nullptr;
    gnutls_priority_init2(&made,
                          "NONE:+VERS-TLS1.3:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:+GROUP-X25519:"
                          "+SIGN-EDDSA-ED25519:+CTYPE-X509:%DISABLE_TLS13_COMPAT_MODE",
                          nullptr, 0);
    return made;
  }();
  return priorities;
}

gnutls_datum_t datum_of(ByteView view) {
  return {const_cast<std::uint8_t*>(view.data()), static_cast<unsigned>(view.size())};
}

Error start_error(std::string_view what, int status) {
  return {ErrorKind::internal, fmt::format("cannot set up TLS: {}: {}", what, gnutls_strerror(status))};
}

}  // namespace

TlsSession::~TlsSession() {
  free();
}

void TlsSession::free() {
  if (session_ == nullptr) return;
  if (connection_ != nullptr) ngtcp2_conn_set_tls_native_handle(connection_, nullptr);
  gnutls_deinit(session_);
  session_ = nullptr;
}

ngtcp2_conn* TlsSession::on_connection(ngtcp2_crypto_conn_ref* reference) {
  return static_cast<TlsSession*>(reference)->connection_;
}

TlsSession& TlsSession::of(gnutls_session_t session) {
  return *static_cast<TlsSession*>(static_cast<ngtcp2_crypto_conn_ref*>(gnutls_session_get_ptr(session)));
}

Result<> TlsSession::start(ngtcp2_conn* connection, PacketCrypto& crypto, const ConnectionOptions& options) {
  connection_ = connection;
  get_conn = on_connection;
  user_data = &crypto;
  unsigned flags = role_ == Role::acceptor ? GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET : GNUTLS_CLIENT;
  flags |= GNUTLS_NO_END_OF_EARLY_DATA;
  int status = gnutls_init(&session_, flags);
  if (status != 0) return start_error("session", status);
  gnutls_session_set_ptr(session_, static_cast<ngtcp2_crypto_conn_ref*>(this));
  if (cipher_priorities() == nullptr) {
    return Error{ErrorKind::unsupported,
                 "cannot set up TLS: this GnuTLS lacks X25519, Ed25519 or AES-128-GCM"};
  }
  status = gnutls_priority_set(session_, cipher_priorities());
  if (status != 0) return start_error("priorities", status);
  Result<> started = role_ == Role::dialler ? start_dialler(options) : start_acceptor(*options.selector);
  if (!started) return started;
  hook_tls_secrets(session_);
  ngtcp2_conn_set_tls_native_handle(connection, session_);
  return {};
}

Result<> TlsSession::start_dialler(const ConnectionOptions& options) {
  choice_ = {options.network, options.tls, options.policy, true};
  expected_peer_ = options.expected_peer;
  int status = gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, choice_.tls->impl_->credentials);
  if (status != 0) return start_error("credentials", status);
  if (ngtcp2_crypto_gnutls_configure_client_session(session_) != 0) return start_error("transport", 0);
  if (!options.server_name.empty()) {
    status = gnutls_server_name_set(session_, GNUTLS_NAME_DNS, options.server_name.data(),
                                    options.server_name.size());
    if (status != 0) return start_error("server name", status);
  }
  const gnutls_datum_t alpn = datum_of(as_bytes(options.alpn));
  status = gnutls_alpn_set_protocols(session_, &alpn, 1, GNUTLS_ALPN_MANDATORY);
  if (status != 0) return start_error("ALPN", status);
  gnutls_handshake_set_hook_function(session_, GNUTLS_HANDSHAKE_NEW_SESSION_TICKET, GNUTLS_HOOK_POST,
                                     on_handshake_message);
  // A ticket that GnuTLS cannot read costs a full handshake, nothing more.
  if (!options.ticket.empty())
    gnutls_session_set_data(session_, options.ticket.data(), options.ticket.size());
  return {};
}

Result<> TlsSession::start_acceptor(const AcceptSelector& selector) {
  selector_ = &selector;
  if (ngtcp2_crypto_gnutls_configure_server_session(session_) != 0) return start_error("transport", 0);
  std::vector<gnutls_datum_t> alpns;
  for (const std::string& alpn : selector.alpns()) alpns.push_back(datum_of(as_bytes(alpn)));
  const int status = gnutls_alpn_set_protocols(session_, alpns.data(), static_cast<unsigned>(alpns.size()),
                                               GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE);
  if (status != 0) return start_error("ALPN", status);
  // 1 means: do not send the names of our CAs, which would name the network to everybody who asks.
  gnutls_certificate_send_x509_rdn_sequence(session_, 1);
  gnutls_handshake_set_post_client_hello_function(session_, on_client_hello);
  return {};
}

std::string_view TlsSession::negotiated_alpn() const {
  gnutls_datum_t alpn{};
  if (gnutls_alpn_get_selected_protocol(session_, &alpn) != 0) return {};
  return {reinterpret_cast<const char*>(alpn.data), alpn.size};
}

int TlsSession::on_client_hello(gnutls_session_t session) {
  return of(session).choose_network();
}

int TlsSession::choose_network() {
  std::array<char, 256> name{};
  std::size_t size = name.size();
  unsigned type = 0;
  if (gnutls_server_name_get(session_, name.data(), &size, &type, 0) != 0 || type != GNUTLS_NAME_DNS)
    size = 0;
  const std::string_view alpn = negotiated_alpn();
  if (alpn.empty()) return GNUTLS_E_NO_APPLICATION_PROTOCOL;
  auto selected = selector_->select({name.data(), size}, alpn);
  if (const auto* refusal = std::get_if<AcceptRefusal>(&selected)) {
    return *refusal == AcceptRefusal::unrecognized_name ? GNUTLS_E_UNRECOGNIZED_NAME
                                                        : GNUTLS_E_NO_APPLICATION_PROTOCOL;
  }
  choice_ = std::get<AcceptChoice>(std::move(selected));
  const bool usable = choice_.tls != nullptr && choice_.tls->has_certificate() &&
                      (choice_.policy != nullptr || !choice_.require_certificate);
  if (!usable) return GNUTLS_E_INTERNAL_ERROR;
  TlsContext::Impl& context = *choice_.tls->impl_;
  int status = gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, context.credentials);
  if (status != 0) return status;
  if (!choice_.require_certificate) return 0;
  gnutls_certificate_server_set_request(session_, GNUTLS_CERT_REQUIRE);
  const gnutls_datum_t key = datum_of(context.ticket_key);
  return gnutls_session_ticket_enable_server(session_, &key);
}

int TlsSession::on_verify(gnutls_session_t session) {
  return of(session).verify_peer() ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
}

bool TlsSession::verify_peer() {
  chain_.clear();
  unsigned count = 0;
  const gnutls_datum_t* list = gnutls_certificate_get_peers(session_, &count);
  for (unsigned i = 0; list != nullptr && i < count; ++i)
    chain_.emplace_back(list[i].data, list[i].data + list[i].size);
  if (chain_.empty()) {
    rejection_ = {identity::TlsAlert::certificate_required, "the peer showed no certificate"};
    return false;
  }
  identity::VerifyRequest request;
  request.chain = chain_;
  request.now = clock_.unix_time();
  request.peer_dials = role_ == Role::acceptor;
  request.expected = expected_peer_;
  identity::VerifyOutcome outcome = choice_.policy->verify(request);
  if (auto* refused = std::get_if<identity::Rejection>(&outcome)) {
    rejection_ = std::move(*refused);
    return false;
  }
  peer_ = std::get<identity::VerifiedPeer>(std::move(outcome));
  return true;
}

int TlsSession::receive(ngtcp2_encryption_level level, ByteView data) {
  // Without TLS state only late tickets can come, and those we do not want.
  if (session_ == nullptr) return 0;
  if (ngtcp2_crypto_read_write_crypto_data(connection_, level, data.data(), data.size()) == 0) return 0;
  if (rejection_) ngtcp2_conn_set_tls_alert(connection_, static_cast<std::uint8_t>(rejection_->alert));
  const int status = ngtcp2_conn_get_tls_error(connection_);
  return status != 0 ? status : NGTCP2_ERR_CRYPTO;
}

bool TlsSession::accept_completion() {
  if (peer_ || rejection_) return !rejection_;
  if (role_ == Role::acceptor && !choice_.require_certificate) return true;
  return verify_peer();
}

void TlsSession::describe(SessionInfo& info) {
  info.network = choice_.network;
  info.alpn = negotiated_alpn();
  info.has_certificate = peer_.has_value();
  if (peer_) info.peer = std::move(*peer_);
  info.chain = std::exchange(chain_, {});
  info.resumed = gnutls_session_is_resumed(session_) != 0;
  info.tls_cipher = gnutls_cipher_get_name(gnutls_cipher_get(session_));
}

void TlsSession::send_ticket() {
  if (session_ != nullptr && choice_.require_certificate) gnutls_session_ticket_send(session_, 1, 0);
}

int TlsSession::on_handshake_message(gnutls_session_t session, unsigned, unsigned, unsigned incoming,
                                     const gnutls_datum_t*) {
  if (incoming == 0) return 0;
  TlsSession& self = of(session);
  gnutls_datum_t data{};
  if (gnutls_session_get_data2(session, &data) != 0) return 0;
  self.ticket_.assign(data.data, data.data + data.size);
  self.ticket_seen_ = true;
  gnutls_free(data.data);
  return 0;
}

std::optional<Bytes> TlsSession::take_ticket() {
  if (ticket_.empty()) return std::nullopt;
  return std::exchange(ticket_, {});
}

bool TlsSession::export_secret(std::string_view label, MutableBytes out) const {
  return session_ != nullptr && gnutls_prf_rfc5705(session_, label.size(), label.data(), 0, nullptr,
                                                   out.size(), reinterpret_cast<char*>(out.data())) == 0;
}

std::string describe_alert(std::uint8_t alert) {
  std::string_view name = "alert";
  switch (alert) {
    case 40:
      name = "handshake_failure";
      break;
    case 42:
      name = "bad_certificate";
      break;
    case 44:
      name = "certificate_revoked";
      break;
    case 45:
      name = "certificate_expired";
      break;
    case 46:
      name = "certificate_unknown";
      break;
    case 47:
      name = "illegal_parameter";
      break;
    case 48:
      name = "unknown_ca";
      break;
    case 49:
      name = "access_denied";
      break;
    case 80:
      name = "internal_error";
      break;
    case 112:
      name = "unrecognized_name";
      break;
    case 116:
      name = "certificate_required";
      break;
    case 120:
      name = "no_application_protocol";
      break;
    default:
      break;
  }
  return fmt::format("{} ({})", name, alert);
}

}  // namespace ravine::session
