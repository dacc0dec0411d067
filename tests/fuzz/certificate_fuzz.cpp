// Certificates and signing requests: what our strict parser takes is the one encoding of its value, and
// GnuTLS reads the same key, serial and dates from it.
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "fuzz/fuzz_input.h"
#include "identity/certificate.h"

using namespace ravine;
using fuzz::expect;

namespace {

bool inside(ByteView part, ByteView whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

void compare_with_gnutls(const identity::Certificate& ours) {
  gnutls_x509_crt_t theirs = nullptr;
  gnutls_x509_crt_init(&theirs);
  const gnutls_datum_t der{const_cast<unsigned char*>(ours.der.data()),
                           static_cast<unsigned>(ours.der.size())};
  if (gnutls_x509_crt_import(theirs, &der, GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS) {
    std::array<std::uint8_t, 64> serial;
    std::size_t size = serial.size();
    if (gnutls_x509_crt_get_serial(theirs, serial.data(), &size) == GNUTLS_E_SUCCESS) {
      expect(Bytes(serial.begin(), serial.begin() + static_cast<std::ptrdiff_t>(size)) == ours.serial);
    }
    std::array<std::uint8_t, 32> id;
    size = id.size();
    if (gnutls_x509_crt_get_key_id(theirs, GNUTLS_KEYID_USE_SHA256, id.data(), &size) == GNUTLS_E_SUCCESS) {
      expect(id == ours.id.bytes);
    }
    const std::int64_t begin = gnutls_x509_crt_get_activation_time(theirs);
    if (begin != -1) expect(begin == ours.not_before.seconds);  // -1: before 1970, for GnuTLS
    unsigned critical = 0;
    const int authority = gnutls_x509_crt_get_ca_status(theirs, &critical);
    if (authority >= 0) expect((authority > 0) == ours.is_ca);
  }
  gnutls_x509_crt_deinit(theirs);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(data, size);
  if (const auto parsed = identity::Certificate::parse(bytes); parsed.ok()) {
    expect(parsed->der == to_bytes(bytes) && size <= identity::kMaxCertificateSize);
    expect(inside(parsed->to_be_signed(), parsed->der) && inside(parsed->signature(), parsed->der));
    expect(parsed->serial.size() <= identity::kMaxSerialSize &&
           parsed->groups.size() <= identity::kMaxGroups);
    const auto again = identity::Certificate::parse_pem(parsed->to_pem());
    expect(again.ok() && again->size() == 1 && again->front().der == parsed->der);
    (void)parsed->describe();
    compare_with_gnutls(*parsed);
  }
  if (const auto request = identity::SigningRequest::parse(bytes); request.ok()) {
    const auto again = identity::SigningRequest::der_from_pem(identity::signing_request_to_pem(bytes));
    expect(again.ok() && *again == to_bytes(bytes));
  }
  (void)identity::Certificate::parse_pem(as_text(bytes)).ok();
  (void)identity::SigningRequest::der_from_pem(as_text(bytes)).ok();
  return 0;
}
