// TlsSession: the TLS 1.3 handshake of one connection, in GnuTLS: what it offers, the verify policy, tickets
// and exporter. Driven by Connection and by GnuTLS's callbacks inside it. RFC 8446, RFC 9001 §4. Thread rule:
// its connection's thread.
#pragma once

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include <optional>
#include <string>
#include <vector>

#include "base/machine.h"
#include "session/packet_crypto.h"
#include "session/tls_context.h"

namespace ravine::session {

// The base is what ngtcp2's GnuTLS helper expects behind the GnuTLS session's pointer.
class TlsSession : private ngtcp2_crypto_conn_ref {
 public:
  TlsSession(Role role, const WallClock& clock) : role_(role), clock_(clock) {}
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Makes the GnuTLS session and gives it to `connection`. `crypto` must outlive this.
  Result<> start(ngtcp2_conn* connection, PacketCrypto& crypto, const ConnectionOptions& options);

  // Why the peer, or our own choice of network, was refused; null when it was not.
  const identity::Rejection* rejection() const { return rejection_ ? &*rejection_ : nullptr; }

  // Handshake data from the peer. 0, or an ngtcp2 error with the TLS alert set.
  int receive(ngtcp2_encryption_level level, ByteView data);
  // At handshake completion: runs the policy over a resumed peer, whom no callback verified. False: refused.
  bool accept_completion();
  void describe(SessionInfo& info);  // requires accept_completion()
  void send_ticket();                // acceptor
  bool has_ticket() const { return !ticket_.empty(); }
  std::optional<Bytes> take_ticket();  // dialler: one arrived
  bool export_secret(std::string_view label, MutableBytes out) const;

  bool is_live() const { return session_ != nullptr; }
  bool awaits_ticket() const { return role_ == Role::dialler && !ticket_seen_; }
  void free();

 private:
  static ngtcp2_conn* on_connection(ngtcp2_crypto_conn_ref* reference);
  static TlsSession& of(gnutls_session_t session);
  static int on_verify(gnutls_session_t session);
  static int on_client_hello(gnutls_session_t session);
  static int on_handshake_message(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
                                  const gnutls_datum_t* message);
  friend class TlsContext;

  Result<> start_dialler(const ConnectionOptions& options);
  Result<> start_acceptor(const AcceptSelector& selector);
  int choose_network();
  bool verify_peer();
  std::string_view negotiated_alpn() const;

  Role role_;
  const WallClock& clock_;
  ngtcp2_conn* connection_ = nullptr;
  gnutls_session_t session_ = nullptr;
  const AcceptSelector* selector_ = nullptr;
  AcceptChoice choice_;  // a dialler fills it from its options
  std::optional<identity::PeerId> expected_peer_;
  std::optional<identity::Rejection> rejection_;
  std::optional<identity::VerifiedPeer> peer_;
  std::vector<Bytes> chain_;
  Bytes ticket_;
  bool ticket_seen_ = false;
};

// "certificate_revoked (44)" and so on, RFC 8446 §6.
std::string describe_alert(std::uint8_t alert);

}  // namespace ravine::session
