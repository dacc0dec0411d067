// Certificates for the tests of this folder: an Ed25519 CA and leaves, made in memory by GnuTLS, and a verify
// policy that trusts one CA and refuses chosen peers.
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>

#include "base/ensure.h"
#include "identity/verify.h"

namespace ravine::session::test {

inline constexpr std::int64_t kTestTime = 1'800'000'000;  // seconds; certificates live a day on either side

inline Bytes take_datum(gnutls_datum_t& datum) {
  Bytes bytes(datum.data, datum.data + datum.size);
  gnutls_free(datum.data);
  return bytes;
}

inline identity::PeerId peer_id_of(gnutls_x509_crt_t certificate) {
  identity::PeerId id;
  std::size_t size = id.bytes.size();
  ensure(gnutls_x509_crt_get_key_id(certificate, GNUTLS_KEYID_USE_SHA256, id.bytes.data(), &size) == 0);
  return id;
}

class TestAuthority {
 public:
  explicit TestAuthority(const char* name) {
    gnutls_x509_privkey_init(&key_);
    ensure(gnutls_x509_privkey_generate(key_, GNUTLS_PK_EDDSA_ED25519, 0, 0) == 0);
    // GnuTLS compares issuer names of parsed certificates alone.
    gnutls_x509_crt_t made = make(key_, name, true);
    gnutls_datum_t der{};
    ensure(gnutls_x509_crt_export2(made, GNUTLS_X509_FMT_DER, &der) == 0);
    gnutls_x509_crt_deinit(made);
    gnutls_x509_crt_init(&certificate_);
    ensure(gnutls_x509_crt_import(certificate_, &der, GNUTLS_X509_FMT_DER) == 0);
    gnutls_free(der.data);
  }
  ~TestAuthority() {
    gnutls_x509_crt_deinit(certificate_);
    gnutls_x509_privkey_deinit(key_);
  }
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  identity::LocalIdentity issue(const char* name) const {
    gnutls_x509_privkey_t key = nullptr;
    gnutls_x509_privkey_init(&key);
    ensure(gnutls_x509_privkey_generate(key, GNUTLS_PK_EDDSA_ED25519, 0, 0) == 0);
    gnutls_x509_crt_t leaf = make(key, name, false);
    identity::LocalIdentity made;
    made.id = peer_id_of(leaf);
    gnutls_datum_t der{}, pkcs8{};
    ensure(gnutls_x509_crt_export2(leaf, GNUTLS_X509_FMT_DER, &der) == 0);
    made.chain.push_back(take_datum(der));
    ensure(gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_DER, nullptr, GNUTLS_PKCS_PLAIN, &pkcs8) ==
           0);
    made.private_key = take_datum(pkcs8);
    gnutls_x509_crt_deinit(leaf);
    gnutls_x509_privkey_deinit(key);
    return made;
  }
  gnutls_x509_crt_t certificate() const { return certificate_; }

 private:
  gnutls_x509_crt_t make(gnutls_x509_privkey_t key, const char* name, bool authority) const {
    gnutls_x509_crt_t made = nullptr;
    gnutls_x509_crt_init(&made);
    gnutls_x509_crt_set_version(made, 3);
    std::array<std::uint8_t, 8> serial;
    gnutls_rnd(GNUTLS_RND_NONCE, serial.data(), serial.size());
    serial[0] &= 0x7f;
    gnutls_x509_crt_set_serial(made, serial.data(), serial.size());
    gnutls_x509_crt_set_activation_time(made, kTestTime - 86400);
    gnutls_x509_crt_set_expiration_time(made, kTestTime + 86400);
    gnutls_x509_crt_set_dn_by_oid(made, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                  static_cast<unsigned>(std::string(name).size()));
    gnutls_x509_crt_set_key(made, key);
    gnutls_x509_crt_set_basic_constraints(made, authority ? 1 : 0, -1);
    gnutls_x509_crt_t issuer = authority ? made : certificate_;
    ensure(gnutls_x509_crt_sign2(made, issuer, key_, GNUTLS_DIG_SHA512, 0) == 0);
    return made;
  }
  gnutls_x509_privkey_t key_ = nullptr;
  gnutls_x509_crt_t certificate_ = nullptr;
};

// Accepts leaves signed by `authority`, unless their ID is in `revoked`, or another peer was expected.
class TestPolicy final : public identity::VerifyPolicy {
 public:
  explicit TestPolicy(const TestAuthority& authority) : authority_(authority) {}

  identity::VerifyOutcome verify(const identity::VerifyRequest& request) const override {
    ++calls;
    if (request.chain.empty()) {
      return identity::Rejection{identity::TlsAlert::certificate_required, "no certificate"};
    }
    gnutls_x509_crt_t leaf = nullptr;
    gnutls_x509_crt_init(&leaf);
    const Bytes& der = request.chain.front();
    const gnutls_datum_t datum{const_cast<std::uint8_t*>(der.data()), static_cast<unsigned>(der.size())};
    const bool readable = gnutls_x509_crt_import(leaf, &datum, GNUTLS_X509_FMT_DER) == 0;
    unsigned status = 1;
    gnutls_x509_crt_t authority = authority_.certificate();
    if (readable) {
      gnutls_x509_crt_verify(leaf, &authority, 1, GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status);
    }
    identity::VerifiedPeer peer;
    if (readable) peer.id = peer_id_of(leaf);
    gnutls_x509_crt_deinit(leaf);
    if (status != 0)
      return identity::Rejection{identity::TlsAlert::unknown_ca, "signed by another authority"};
    if (revoked.contains(peer.id)) {
      return identity::Rejection{identity::TlsAlert::certificate_revoked, "the certificate is revoked"};
    }
    if (request.expected && *request.expected != peer.id) {
      return identity::Rejection{identity::TlsAlert::certificate_unknown, "not the peer that was dialled"};
    }
    return peer;
  }

  mutable int calls = 0;
  std::set<identity::PeerId> revoked;

 private:
  const TestAuthority& authority_;
};

class TestClock final : public WallClock {
 public:
  UnixTime unix_time() const override { return {kTestTime}; }
};

}  // namespace ravine::session::test
