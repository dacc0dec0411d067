// What TlsContext holds; for TlsSession alone.
#pragma once

#include <gnutls/gnutls.h>

#include <array>

#include "session/tls_context.h"

namespace ravine::session {

inline constexpr std::size_t kTicketKeySize = 64;  // GnuTLS: name 16, AES-256 key 32, MAC key 16

struct TlsContext::Impl {
  gnutls_certificate_credentials_t credentials = nullptr;
  std::array<std::uint8_t, kTicketKeySize> ticket_key{};
  bool has_certificate = false;
  ~Impl();
};

}  // namespace ravine::session
