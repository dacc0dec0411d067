#include "session/tls_context.h"

#include <fmt/format.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>

#include <array>

#include "session/tls_context_impl.h"
#include "session/tls_session.h"

namespace ravine::session {
namespace {

Error gnutls_error(std::string_view what, int status) {
  return {ErrorKind::invalid_argument,
          fmt::format("{}: {}; make the identity anew or restore it from a backup", what,
                      gnutls_strerror(status))};
}

// The chain and the key in GnuTLS's own objects, freed at the end.
struct X509Material {
  std::vector<gnutls_x509_crt_t> chain;
  gnutls_x509_privkey_t key = nullptr;
  ~X509Material() {
    for (gnutls_x509_crt_t certificate : chain) gnutls_x509_crt_deinit(certificate);
    if (key != nullptr) gnutls_x509_privkey_deinit(key);
  }
};

gnutls_datum_t datum_of(ByteView view) {
  return {const_cast<std::uint8_t*>(view.data()), static_cast<unsigned>(view.size())};
}

Result<> load_identity(gnutls_certificate_credentials_t credentials, const identity::LocalIdentity& local) {
  X509Material material;
  for (const Bytes& der : local.chain) {
    gnutls_x509_crt_t certificate = nullptr;
    if (gnutls_x509_crt_init(&certificate) != 0) return Error{ErrorKind::internal, "out of memory"};
    material.chain.push_back(certificate);
    const gnutls_datum_t datum = datum_of(der);
    const int status = gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_DER);
    if (status != 0) return gnutls_error("cannot read our certificate chain", status);
  }
  if (material.chain.empty()) {
    return Error{ErrorKind::invalid_argument,
                 "the identity has no certificate; join a network or make a CA first"};
  }
  gnutls_x509_privkey_init(&material.key);
  const gnutls_datum_t key = datum_of(local.private_key);
  int status =
      gnutls_x509_privkey_import_pkcs8(material.key, &key, GNUTLS_X509_FMT_DER, nullptr, GNUTLS_PKCS_PLAIN);
  if (status != 0) return gnutls_error("cannot read our private key", status);
  status = gnutls_certificate_set_x509_key(credentials, material.chain.data(),
                                           static_cast<int>(material.chain.size()), material.key);
  if (status < 0) return gnutls_error("our certificate and private key do not fit together", status);
  return {};
}

}  // namespace

TlsContext::TlsContext() : impl_(std::make_unique<Impl>()) {}
TlsContext::~TlsContext() = default;
bool TlsContext::has_certificate() const {
  return impl_->has_certificate;
}

TlsContext::Impl::~Impl() {
  wipe(ticket_key);
  if (credentials != nullptr) gnutls_certificate_free_credentials(credentials);
}

Result<std::shared_ptr<const TlsContext>> TlsContext::make(const identity::LocalIdentity* local,
                                                           ByteView secret) {
  std::shared_ptr<TlsContext> context(new TlsContext);
  Impl& impl = *context->impl_;
  if (secret.empty())
    return Error{ErrorKind::invalid_argument, "a TLS context needs a secret for its tickets"};
  int status = gnutls_certificate_allocate_credentials(&impl.credentials);
  if (status != 0) return gnutls_error("cannot allocate TLS credentials", status);
  gnutls_certificate_set_verify_function(impl.credentials, TlsSession::on_verify);
  if (local == nullptr) return std::shared_ptr<const TlsContext>(context);
  if (Result<> loaded = load_identity(impl.credentials, *local); !loaded) return loaded.error();
  impl.has_certificate = true;

  std::array<std::uint8_t, 32> derived;
  const gnutls_datum_t salt = datum_of(local->id.view()), key = datum_of(secret);
  const gnutls_datum_t label = datum_of(as_bytes("ravine tickets"));
  status = gnutls_hkdf_extract(GNUTLS_MAC_SHA256, &key, &salt, derived.data());
  const gnutls_datum_t extracted = datum_of(derived);
  if (status == 0) {
    status = gnutls_hkdf_expand(GNUTLS_MAC_SHA256, &extracted, &label, impl.ticket_key.data(),
                                impl.ticket_key.size());
  }
  wipe(derived);
  if (status != 0) return gnutls_error("cannot derive the ticket key", status);
  return std::shared_ptr<const TlsContext>(context);
}

}  // namespace ravine::session
