// TlsContext: what TLS handshakes of one local identity share: GnuTLS credentials, cipher priorities and the
// key that seals resumption tickets. Build one per identity and keep it; building costs more than a
// handshake. AcceptSelector: how an acceptor that serves several networks chooses among them once it has read
// the ClientHello. RFC 8446. Thread rule: immutable after make(), may be shared.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "identity/verify.h"
#include "session/types.h"

namespace ravine::session {

class TlsContext {
 public:
  // `local` null: a guest without certificate, for dialling only. `secret` (any size, not empty) seals
  // tickets, together with the identity's ID: with the same secret, tickets outlive the context, the
  // certificate and a restart. Fails with invalid_argument when GnuTLS does not take the certificate chain or
  // key.
  static Result<std::shared_ptr<const TlsContext>> make(const identity::LocalIdentity* local,
                                                        ByteView secret);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  bool has_certificate() const;

 private:
  friend class TlsSession;
  TlsContext();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What an acceptor shows to a dialler, and demands of it.
struct AcceptChoice {
  NetworkId network;                      // told in SessionInfo
  std::shared_ptr<const TlsContext> tls;  // requires a certificate
  std::shared_ptr<const identity::VerifyPolicy>
      policy;                       // null with require_certificate false: guests stay unverified
  bool require_certificate = true;  // false: none is asked for
};

// Why a ClientHello fits nothing that we serve; the dialler gets the TLS alert of that name.
enum class AcceptRefusal : std::uint8_t { unrecognized_name, no_application_protocol };

class AcceptSelector {
 public:
  virtual ~AcceptSelector() = default;
  // Protocols of all networks together, most wanted first. TLS agrees on one of them before it asks select().
  virtual std::span<const std::string> alpns() const = 0;
  // Called inside the handshake, from Connection::read. `server_name` is empty when the dialler sent none.
  virtual std::variant<AcceptChoice, AcceptRefusal> select(std::string_view server_name,
                                                           std::string_view alpn) const = 0;
};

}  // namespace ravine::session
