#include "interop/certificate.h"

#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace ravine::interop {

namespace {

constexpr const char* kLibp2pExtension = "1.3.6.1.4.1.53594.1.1";
constexpr std::string_view kLibp2pSignaturePrefix = "libp2p-tls-handshake:";

void check(int status, const char* what) {
  if (status >= 0) return;
  std::fprintf(stderr, "%s: %s\n", what, gnutls_strerror(status));
  std::exit(1);
}

struct Datum {
  gnutls_datum_t value{};
  Datum() = default;
  Datum(const Datum&) = delete;
  Datum& operator=(const Datum&) = delete;
  ~Datum() { gnutls_free(value.data); }
  ByteView view() const { return {value.data, value.size}; }
};

gnutls_datum_t datum(ByteView view) {
  return {const_cast<std::uint8_t*>(view.data()), static_cast<unsigned>(view.size())};
}

// DER of SignedKey: the host key as libp2p's protobuf, and its signature over the certificate's SPKI. The
// host key is the certificate's own key, which the specification allows.
Bytes make_signed_key(gnutls_privkey_t key, ByteView spki) {
  ByteWriter message;
  message.write(as_bytes(kLibp2pSignaturePrefix));
  message.write(spki);
  Datum signature;
  const gnutls_datum_t signed_text = datum(message.view());
  check(gnutls_privkey_sign_data2(key, GNUTLS_SIGN_EDDSA_ED25519, 0, &signed_text, &signature.value), "sign");

  const Bytes protobuf_head{0x08, 0x01, 0x12, 0x20};  // Type: Ed25519; Data: 32 bytes
  ByteWriter out;
  out.write(Bytes{0x30, static_cast<std::uint8_t>(2 + 36 + 2 + 64), 0x04, 36});
  out.write(protobuf_head);
  out.write(spki.last(32));
  out.write(Bytes{0x04, 64});
  out.write(signature.view());
  return out.take();
}

gnutls_x509_crt_t make_certificate(gnutls_x509_privkey_t x509_key, gnutls_privkey_t key, UnixTime now) {
  gnutls_pubkey_t public_key = nullptr;
  check(gnutls_pubkey_init(&public_key), "public key");
  check(gnutls_pubkey_import_privkey(public_key, key, 0, 0), "public key");
  Datum spki;
  check(gnutls_pubkey_export2(public_key, GNUTLS_X509_FMT_DER, &spki.value), "SPKI");
  gnutls_pubkey_deinit(public_key);

  gnutls_x509_crt_t certificate = nullptr;
  check(gnutls_x509_crt_init(&certificate), "certificate");
  check(gnutls_x509_crt_set_version(certificate, 3), "version");
  check(gnutls_x509_crt_set_serial(certificate, "\x01", 1), "serial");
  check(gnutls_x509_crt_set_dn(certificate, "CN=interop.test", nullptr), "name");
  check(gnutls_x509_crt_set_activation_time(certificate, now.seconds - 3600), "activation");
  check(gnutls_x509_crt_set_expiration_time(certificate, now.seconds + 86400), "expiration");
  check(gnutls_x509_crt_set_key(certificate, x509_key), "key");
  const Bytes signed_key = make_signed_key(key, spki.view());
  check(gnutls_x509_crt_set_extension_by_oid(certificate, kLibp2pExtension, signed_key.data(),
                                             signed_key.size(), 0),
        "extension");
  check(gnutls_x509_crt_sign2(certificate, certificate, x509_key, GNUTLS_DIG_SHA512, 0), "self-sign");
  return certificate;
}

}  // namespace

identity::LocalIdentity make_identity(UnixTime now) {
  gnutls_x509_privkey_t x509_key = nullptr;
  check(gnutls_x509_privkey_init(&x509_key), "key");
  check(gnutls_x509_privkey_generate(x509_key, GNUTLS_PK_EDDSA_ED25519, 0, 0), "key");
  gnutls_privkey_t key = nullptr;
  check(gnutls_privkey_init(&key), "key");
  check(gnutls_privkey_import_x509(key, x509_key, GNUTLS_PRIVKEY_IMPORT_COPY), "key");
  gnutls_x509_crt_t certificate = make_certificate(x509_key, key, now);

  identity::LocalIdentity identity;
  Datum der, pkcs8;
  check(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_DER, &der.value), "certificate");
  check(gnutls_x509_privkey_export2_pkcs8(x509_key, GNUTLS_X509_FMT_DER, nullptr, 0, &pkcs8.value), "key");
  std::size_t size = identity.id.bytes.size();
  check(gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, identity.id.bytes.data(), &size),
        "ID");
  identity.chain = {to_bytes(der.view())};
  identity.private_key = to_bytes(pkcs8.view());
  gnutls_x509_crt_deinit(certificate);
  gnutls_privkey_deinit(key);
  gnutls_x509_privkey_deinit(x509_key);
  return identity;
}

identity::VerifyOutcome AcceptAnyone::verify(const identity::VerifyRequest& request) const {
  if (request.chain.empty())
    return identity::Rejection{identity::TlsAlert::certificate_required, "no certificate"};
  gnutls_x509_crt_t certificate = nullptr;
  check(gnutls_x509_crt_init(&certificate), "certificate");
  const gnutls_datum_t der = datum(request.chain.front());
  const int status = gnutls_x509_crt_import(certificate, &der, GNUTLS_X509_FMT_DER);
  identity::VerifiedPeer peer;
  std::size_t size = peer.id.bytes.size();
  if (status >= 0)
    check(gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, peer.id.bytes.data(), &size),
          "ID");
  gnutls_x509_crt_deinit(certificate);
  if (status < 0) return identity::Rejection{identity::TlsAlert::bad_certificate, gnutls_strerror(status)};
  peer.not_before = request.now - std::chrono::hours(1);
  peer.not_after = request.now + std::chrono::hours(24);
  return peer;
}

}  // namespace ravine::interop
