// Making certificates and signing requests; parsing is in certificate_parser.cpp.
#include "identity/certificate.h"

#include <fmt/format.h>

#include <algorithm>

#include "identity/der.h"
#include "identity/fuse_name.h"
#include "identity/oids.h"
#include "identity/pem.h"

namespace ravine::identity {
namespace {

using der::kSequence;

Bytes make_name(std::string_view common_name) {
  const Bytes attribute =
      der::value(kSequence, {der::oid(oids::kCommonName), der::text(der::kUtf8String, common_name)});
  return der::value(kSequence, {der::value(der::kSet, {attribute})});
}

Bytes ed25519_algorithm() {
  return der::value(kSequence, {der::oid(oids::kEd25519)});
}

// First 20 bytes of the key's hash (RFC 7093 §2 method 1).
Bytes key_id(const PublicKey& key) {
  return to_bytes(key.id().view().first(20));
}

Bytes extension(ByteView id, bool critical, const Bytes& content) {
  return der::value(kSequence,
                    {der::oid(id), critical ? der::boolean(true) : Bytes{}, der::octet_string(content)});
}

Bytes alternative_names(const CertificateTemplate& wanted) {
  Bytes names;
  const auto add = [&](std::uint8_t number, ByteView content) {
    const Bytes name = der::value(der::context(number), content);
    names.insert(names.end(), name.begin(), name.end());
  };
  if (!wanted.is_ca && is_valid_node_name(wanted.common_name)) add(2, as_bytes(wanted.common_name + ".fuse"));
  if (wanted.overlay) add(7, {wanted.overlay->data(), wanted.overlay->size()});
  for (const std::string& group : wanted.groups) add(6, as_bytes("ravine:group:" + group));
  if (wanted.network) add(6, as_bytes("ravine:network:" + wanted.network->to_text()));
  return names;
}

Bytes make_extensions(const CertificateTemplate& wanted) {
  Bytes constraints;
  if (wanted.is_ca) {
    constraints = der::boolean(true);
    if (wanted.path_length) constraints = der::join({constraints, der::small_integer(*wanted.path_length)});
  }
  // keyCertSign and cRLSign, or digitalSignature.
  const std::uint8_t usage = wanted.is_ca ? 0x06 : 0x80;
  Bytes list = der::join({
      extension(oids::kBasicConstraints, true, der::value(kSequence, ByteView(constraints))),
      extension(oids::kKeyUsage, true, der::bit_string(ByteView(&usage, 1), wanted.is_ca ? 1 : 7)),
      extension(oids::kSubjectKeyId, false, der::octet_string(key_id(wanted.key))),
  });
  const PublicKey& issuer = wanted.issuer.empty() ? wanted.key : wanted.issuer_key;
  const Bytes authority = der::value(kSequence, {der::value(der::context(0), ByteView(key_id(issuer)))});
  list = der::join({list, extension(oids::kAuthorityKeyId, false, authority)});
  const Bytes names = alternative_names(wanted);
  if (!names.empty())
    list = der::join({list, extension(oids::kSubjectAltName, false, der::value(kSequence, ByteView(names)))});
  return der::value(der::context_constructed(3), {der::value(kSequence, ByteView(list))});
}

}  // namespace

std::string Certificate::to_pem() const {
  return encode_pem("CERTIFICATE", der);
}

ByteView Certificate::to_be_signed() const {
  return ByteView(der).subspan(tbs_begin_, tbs_size_);
}

ByteView Certificate::signature() const {
  return ByteView(der).subspan(signature_begin_, kSignatureSize);
}

bool Certificate::is_signed_by(const PublicKey& issuer_key) const {
  return issuer_key.verify(to_be_signed(), signature());
}

std::string Certificate::describe() const {
  return fmt::format("\"{}\" ({}, serial {})", common_name, id.to_text(), serial_to_text(serial));
}

std::string to_pem(std::span<const Certificate> chain) {
  std::string text;
  for (const Certificate& certificate : chain) text += certificate.to_pem();
  return text;
}

std::vector<Bytes> to_der(std::span<const Certificate> chain) {
  std::vector<Bytes> list;
  for (const Certificate& certificate : chain) list.push_back(certificate.der);
  return list;
}

Certificate sign_certificate(const CertificateTemplate& wanted, const PrivateKey& signer) {
  const Bytes subject = make_name(wanted.common_name);
  const Bytes version = der::value(der::context_constructed(0), {der::small_integer(2)});
  const Bytes tbs = der::value(
      kSequence, {version, der::value(der::kInteger, ByteView(wanted.serial)), ed25519_algorithm(),
                  wanted.issuer.empty() ? subject : wanted.issuer,
                  der::value(kSequence, {der::time(wanted.not_before), der::time(wanted.not_after)}), subject,
                  wanted.key.spki(), make_extensions(wanted)});
  const Bytes whole = der::value(kSequence, {tbs, ed25519_algorithm(), der::bit_string(signer.sign(tbs))});
  Result<Certificate> certificate = Certificate::parse(whole);
  ensure(certificate.ok());
  return std::move(*certificate);
}

Bytes make_serial(RandomSource& random) {
  Bytes serial(16);
  random.fill(serial);
  serial[0] = static_cast<std::uint8_t>((serial[0] & 0x3f) | 0x40);
  return serial;
}

std::string serial_to_text(ByteView serial) {
  return encode_hex(serial);
}

Bytes make_signing_request(const PrivateKey& key, std::string_view common_name) {
  const Bytes info =
      der::value(kSequence, {der::small_integer(0), make_name(common_name), key.public_key().spki(),
                             der::value(der::context_constructed(0), ByteView{})});
  return der::value(kSequence, {info, ed25519_algorithm(), der::bit_string(key.sign(info))});
}

std::string signing_request_to_pem(ByteView der) {
  return encode_pem("CERTIFICATE REQUEST", der);
}

Result<LocalIdentity> make_local_identity(const PrivateKey& key, std::span<const Certificate> chain) {
  if (chain.empty() || chain.size() > kMaxChain)
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("certificate chain: {} certificates, expected 1 to {}", chain.size(), kMaxChain)};
  if (chain.front().id != key.id())
    return Error{
        ErrorKind::invalid_argument,
        fmt::format(
            "the first certificate is of key {}, but the private key is {}; are the files of one node?",
            chain.front().id.to_text(), key.id().to_text())};
  return LocalIdentity{key.id(), to_der(chain), key.pkcs8()};
}

Certificate make_pinned_certificate(const PrivateKey& key, std::string_view name, UnixTime now,
                                    RandomSource& random) {
  CertificateTemplate wanted;
  wanted.key = key.public_key();
  wanted.serial = make_serial(random);
  wanted.common_name = name.empty() ? key.id().to_text() : std::string(name);
  wanted.not_before = now;
  wanted.not_after = der::kNoExpiry;
  return sign_certificate(wanted, key);
}

Result<std::vector<Certificate>> rotate_pinned_key(const PrivateKey& old_key,
                                                   std::span<const Certificate> old_chain,
                                                   const PrivateKey& new_key, UnixTime now,
                                                   RandomSource& random) {
  if (old_chain.empty() || old_chain.front().id != old_key.id())
    return Error{ErrorKind::invalid_argument,
                 "key rotation: the chain does not start with the old key's certificate"};
  const Certificate& old_leaf = old_chain.front();
  CertificateTemplate wanted;
  wanted.key = new_key.public_key();
  wanted.serial = make_serial(random);
  wanted.common_name = old_leaf.name.empty() ? new_key.id().to_text() : old_leaf.name;
  wanted.issuer = old_leaf.subject;
  wanted.issuer_key = old_leaf.key;
  wanted.not_before = now;
  wanted.not_after = der::kNoExpiry;
  std::vector<Certificate> chain{sign_certificate(wanted, old_key)};
  for (const Certificate& link : old_chain)
    if (chain.size() < kMaxChain) chain.push_back(link);
  return chain;
}

}  // namespace ravine::identity
