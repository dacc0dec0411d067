#include "identity/certificate.h"

#include <gtest/gtest.h>

#include "identity/der.h"
#include "identity/openssl_fixture.h"
#include "identity/pem.h"
#include "identity/test_network.h"

namespace ravine::identity {
namespace {

Certificate read_one(std::string_view pem) {
  return take(Certificate::parse_pem(pem)).front();
}
Bytes der_of(std::string_view pem) {
  return take(parse_pem_blocks(pem, 1)).front().der;
}

std::size_t find_bytes(ByteView haystack, ByteView needle) {
  const auto at = std::search(haystack.begin(), haystack.end(), needle.begin(), needle.end());
  return at == haystack.end() ? std::string::npos : static_cast<std::size_t>(at - haystack.begin());
}

TEST(Certificate, reads_what_openssl_made) {
  const Certificate leaf = read_one(fixture::kLeaf);
  EXPECT_EQ(leaf.name, "web");
  EXPECT_EQ(encode_hex(leaf.id.view()), fixture::kLeafHash);
  EXPECT_EQ(serial_to_text(leaf.serial), fixture::kLeafSerial);
  EXPECT_EQ(leaf.groups, (std::vector<std::string>{"ops", "web"}));
  EXPECT_EQ(leaf.not_before, fixture::kNotBefore);
  EXPECT_EQ(leaf.not_after, fixture::kNotBefore + std::chrono::days(30));
  EXPECT_FALSE(leaf.is_ca);
  EXPECT_TRUE(leaf.may_authenticate);
  const Certificate root = read_one(fixture::kRoot), intermediate = read_one(fixture::kIntermediate);
  EXPECT_EQ(leaf.overlay, overlay_address(NetworkHash{root.id.bytes}, leaf.id));
  EXPECT_TRUE(root.is_self_signed() && root.may_sign_certificates);
  EXPECT_EQ(intermediate.path_length, 0u);
  EXPECT_TRUE(leaf.is_signed_by(intermediate.key));
  EXPECT_FALSE(leaf.is_signed_by(root.key));
}

TEST(Certificate, survives_its_own_round_trip) {
  SeededRandom random(1);
  const PrivateKey key = PrivateKey::generate(random);
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(random);
  wanted.common_name = "web";
  wanted.not_before = kTestNow;
  wanted.not_after = der::kNoExpiry;
  wanted.groups = {"ops"};
  wanted.overlay = overlay_address(NetworkHash{}, key.id());
  wanted.network = NetworkHash{key.id().bytes};
  const Certificate made = sign_certificate(wanted, key);
  const Certificate read = read_one(made.to_pem());
  EXPECT_EQ(read.der, made.der);
  EXPECT_EQ(read.serial, wanted.serial);
  EXPECT_EQ(read.name, "web");
  EXPECT_EQ(read.groups, wanted.groups);
  EXPECT_EQ(read.overlay, wanted.overlay);
  EXPECT_EQ(read.network, wanted.network);
  EXPECT_EQ(read.not_before, wanted.not_before);
  EXPECT_EQ(read.not_after, wanted.not_after);
  EXPECT_TRUE(read.is_self_signed());
}

TEST(Certificate, refuses_other_algorithms_and_unknown_critical_extensions) {
  expect_error(Certificate::parse_pem(fixture::kEc), ErrorKind::invalid_argument, "Ed25519");
  expect_error(Certificate::parse_pem(fixture::kCritical), ErrorKind::invalid_argument,
               "unknown critical extension");
}

TEST(Certificate, refuses_what_is_not_a_certificate_file) {
  expect_error(Certificate::parse_pem(""), ErrorKind::invalid_argument, "no \"CERTIFICATE\"");
  expect_error(Certificate::parse_pem(fixture::kKey), ErrorKind::invalid_argument,
               "\"PRIVATE KEY\" PEM block");
  expect_error(Certificate::parse_pem(fixture::kLeaf.substr(0, 300)), ErrorKind::invalid_argument, "cut");
}

TEST(Certificate, truncated_or_extended_anywhere_is_refused) {
  const Bytes der = der_of(fixture::kLeaf);
  for (std::size_t size = 0; size < der.size(); ++size)
    EXPECT_FALSE(Certificate::parse(ByteView(der).first(size)).ok()) << size;
  Bytes longer = der;
  longer.push_back(0);
  EXPECT_FALSE(Certificate::parse(longer).ok());
  EXPECT_FALSE(Certificate::parse(Bytes(kMaxCertificateSize + 1, 0x30)).ok());
}

TEST(Certificate, a_changed_byte_is_refused_or_breaks_the_signature) {
  const Bytes der = der_of(fixture::kLeaf);
  const PublicKey issuer = read_one(fixture::kIntermediate).key;
  for (std::size_t i = 0; i < der.size(); ++i) {
    for (const unsigned change : {0x01u, 0x80u}) {
      Bytes changed = der;
      changed[i] = static_cast<std::uint8_t>(changed[i] ^ change);
      const auto certificate = Certificate::parse(changed);
      EXPECT_FALSE(certificate.ok() && certificate->is_signed_by(issuer)) << "byte " << i;
    }
  }
}

// Re-encodes the outer SEQUENCE's length in a longer form; content untouched, so its signature would still
// hold.
TEST(Certificate, refuses_a_second_encoding_of_the_same_certificate) {
  const Bytes der = der_of(fixture::kLeaf);
  ASSERT_EQ(der[1], 0x82);
  Bytes longer{0x30, 0x83, 0x00};
  longer.insert(longer.end(), der.begin() + 2, der.end());
  EXPECT_FALSE(Certificate::parse(longer).ok());
  // The signature's BIT STRING with a padded length: 03 41 00 … becomes 03 81 41 00 …
  const std::size_t bits = der.size() - 67;
  ASSERT_EQ(der[bits], 0x03);
  Bytes padded(der.begin(), der.begin() + static_cast<std::ptrdiff_t>(bits) + 1);
  padded.insert(padded.end(), {0x81});
  padded.insert(padded.end(), der.begin() + static_cast<std::ptrdiff_t>(bits) + 1, der.end());
  padded[3] = static_cast<std::uint8_t>(padded[3] + 1);
  EXPECT_FALSE(Certificate::parse(padded).ok());
  // An indefinite length.
  Bytes indefinite = der;
  indefinite[1] = 0x80;
  EXPECT_FALSE(Certificate::parse(indefinite).ok());
}

TEST(Certificate, refuses_malformed_der_elements) {
  const auto reads = [](Bytes bytes) { return der::Reader(bytes).read_integer(); };
  EXPECT_TRUE(reads({0x02, 0x02, 0x00, 0x01}).empty());  // padded
  EXPECT_TRUE(reads({0x02, 0x02, 0xff, 0x80}).empty());
  EXPECT_TRUE(reads({0x02, 0x00}).empty());
  EXPECT_EQ(reads({0x02, 0x02, 0x00, 0x80}).size(), 2u);
  const Bytes odd_true{0x01, 0x01, 0x01};
  der::Reader boolean(odd_true);
  boolean.read_boolean();
  EXPECT_FALSE(boolean.ok());
  const auto time = [](std::uint8_t tag, std::string_view text) {
    const Bytes bytes = der::text(tag, text);
    der::Reader reader(bytes);
    const UnixTime at = reader.read_time();
    return reader.ok() ? std::optional(at) : std::nullopt;
  };
  EXPECT_EQ(time(der::kUtcTime, "261120064500Z"), UnixTime{1795157100});
  EXPECT_EQ(time(der::kGeneralizedTime, "99991231235959Z"), der::kNoExpiry);
  EXPECT_FALSE(time(der::kGeneralizedTime, "20261120064500Z"));  // before 2050
  EXPECT_FALSE(time(der::kUtcTime, "2611200645Z"));
  EXPECT_FALSE(time(der::kUtcTime, "260230064500Z"));
  EXPECT_FALSE(time(der::kUtcTime, "261120064500+"));
  EXPECT_FALSE(time(der::kUtcTime, "26112006450aZ"));
}

TEST(Certificate, refuses_a_default_spelled_out) {
  const Bytes leaf = der_of(fixture::kLeaf);
  // basicConstraints: …30 0c 06 03 55 1d 13 01 01 ff 04 02 30 00; critical FALSE is the default and must be
  // left out.
  const Bytes marker{0x55, 0x1d, 0x13, 0x01, 0x01, 0xff};
  const std::size_t at = find_bytes(leaf, marker);
  ASSERT_NE(at, std::string::npos);
  Bytes changed = leaf;
  changed[at + 5] = 0x00;
  expect_error(Certificate::parse(changed), ErrorKind::invalid_argument, "default");
}

TEST(SigningRequest, reads_what_openssl_made_and_proves_possession) {
  const Bytes der = take(SigningRequest::der_from_pem(fixture::kRequest));
  const SigningRequest request = take(SigningRequest::parse(der));
  EXPECT_EQ(request.common_name, "web");
  EXPECT_EQ(encode_hex(request.key.id().view()), fixture::kLeafHash);
  Bytes forged = der;
  forged.back() ^= 1;
  expect_error(SigningRequest::parse(forged), ErrorKind::unauthenticated, "not by the key");
  for (std::size_t size = 0; size < der.size(); ++size)
    EXPECT_FALSE(SigningRequest::parse(ByteView(der).first(size)).ok());
}

TEST(SigningRequest, survives_its_own_round_trip) {
  SeededRandom random(1);
  const PrivateKey key = PrivateKey::generate(random);
  const Bytes der = make_signing_request(key, "laptop");
  const SigningRequest read =
      take(SigningRequest::parse(take(SigningRequest::der_from_pem(signing_request_to_pem(der)))));
  EXPECT_EQ(read.key, key.public_key());
  EXPECT_EQ(read.common_name, "laptop");
}

TEST(LocalIdentity, refuses_files_of_two_nodes) {
  SeededRandom random(1);
  const PrivateKey a = PrivateKey::generate(random), b = PrivateKey::generate(random);
  const std::vector<Certificate> chain{make_pinned_certificate(a, "a", kTestNow, random)};
  EXPECT_EQ(take(make_local_identity(a, chain)).id, a.id());
  expect_error(make_local_identity(b, chain), ErrorKind::invalid_argument, "files of one node");
  expect_error(make_local_identity(a, {}), ErrorKind::invalid_argument, "0 certificates");
}

}  // namespace
}  // namespace ravine::identity
