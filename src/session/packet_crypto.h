// PacketCrypto: gives ngtcp2 our packet protection instead of its GnuTLS helper's. The TLS handshake stays in
// GnuTLS; its traffic secrets come here. RFC 9001 §5. Driven by ngtcp2's and GnuTLS's callbacks.
#pragma once

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>

#include "session/opened_packets.h"
#include "session/packet_protection.h"
#include "session/stop_scanner.h"

namespace ravine::session {

// A connection's part of it. ngtcp2's user_data must point to the PacketCrypto of the connection, and so must
// the user_data of the ngtcp2_crypto_conn_ref that is the GnuTLS session's pointer.
struct PacketCrypto {
  ProtectionBackend backend = ProtectionBackend::gnutls;  // resolved
  std::uint64_t packets_per_key = 1u << 23;
  StopScanner scanner;
  OpenedPackets opened;
};

// Sets client_initial, recv_client_initial, recv_retry, update_key, encrypt, decrypt, hp_mask, the two delete
// callbacks and version_negotiation.
void install_packet_crypto(ngtcp2_callbacks& callbacks);

// Requires that ngtcp2_crypto_gnutls_configure_*_session was called.
void hook_tls_secrets(gnutls_session_t session);

}  // namespace ravine::session
