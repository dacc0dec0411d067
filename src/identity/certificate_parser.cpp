// Strict parsing of certificates (RFC 5280, RFC 8410) and signing requests (RFC 2986).
#include <fmt/format.h>

#include <algorithm>

#include "identity/certificate.h"
#include "identity/der.h"
#include "identity/fuse_name.h"
#include "identity/oids.h"
#include "identity/pem.h"

namespace ravine::identity {
namespace {

constexpr std::size_t kMaxExtensions = 24, kMaxNameParts = 16, kMaxNameText = 64, kMaxAlternativeNames = 64;
constexpr std::size_t kMaxPemCertificates = 16;

bool equals(ByteView a, ByteView b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// Text for people and names: visible ASCII and UTF-8, no control characters.
bool is_clean_text(ByteView text) {
  return std::none_of(text.begin(), text.end(), [](std::uint8_t c) { return c < 0x20 || c == 0x7f; });
}

// A Name of single-valued RDNs; the last CN into `common_name`.
bool parse_name(ByteView name_body, std::string& common_name) {
  der::Reader name(name_body);
  std::size_t parts = 0;
  while (name.ok() && !name.at_end()) {
    if (++parts > kMaxNameParts) return false;
    der::Reader set = name.enter(der::kSet);
    der::Reader attribute = set.enter(der::kSequence);
    const ByteView type = attribute.expect(der::kOid).body;
    const der::Value text = attribute.read();
    if (!attribute.finished() || !set.finished() || type.empty()) return false;
    if (!equals(type, oids::kCommonName)) continue;
    const bool readable =
        text.tag == der::kUtf8String || text.tag == der::kPrintableString || text.tag == der::kIa5String;
    if (!readable || text.body.size() > kMaxNameText || !is_clean_text(text.body)) return false;
    common_name = as_text(text.body);
  }
  return name.ok();
}

bool is_ed25519_algorithm(ByteView body) {
  der::Reader algorithm(body);
  return equals(algorithm.expect(der::kOid).body, oids::kEd25519) && algorithm.finished();
}

}  // namespace

class CertificateParser {
 public:
  explicit CertificateParser(ByteView der) : input_(der) {}

  Result<Certificate> parse() {
    if (input_.size() > kMaxCertificateSize)
      return fail(fmt::format("it has {} bytes, more than {}", input_.size(), kMaxCertificateSize));
    out_.der = to_bytes(input_);
    der::Reader file(out_.der);
    der::Reader outer = file.enter(der::kSequence);
    const der::Value tbs = outer.expect(der::kSequence);
    const ByteView algorithm = outer.expect(der::kSequence).body;
    const ByteView signature = outer.read_bytes_of_bit_string();
    if (!outer.finished() || !file.finished()) return fail("not canonical DER, or bytes after its end");
    if (!is_ed25519_algorithm(algorithm) || signature.size() != kSignatureSize)
      return fail("not signed with Ed25519, the only algorithm that Ravine takes");
    out_.tbs_begin_ = offset(tbs.whole);
    out_.tbs_size_ = tbs.whole.size();
    out_.signature_begin_ = offset(signature);
    parse_body(tbs.body);
    if (!problem_.empty()) return fail(problem_);
    return std::move(out_);
  }

 private:
  static Error fail(std::string_view what) {
    return {ErrorKind::invalid_argument, fmt::format("certificate: {}", what)};
  }
  void refuse(std::string what) {
    if (problem_.empty()) problem_ = std::move(what);
  }
  std::size_t offset(ByteView view) const { return static_cast<std::size_t>(view.data() - out_.der.data()); }

  void parse_body(ByteView body) {
    der::Reader tbs(body);
    der::Reader version = tbs.enter(der::context_constructed(0));
    if (version.read_small_integer() != 2u || !version.finished()) return refuse("not version 3");
    const ByteView serial = tbs.read_integer();
    if (!tbs.ok() || serial.size() > kMaxSerialSize || serial[0] >= 0x80 ||
        (serial.size() == 1 && serial[0] == 0))
      return refuse("the serial number is not positive, minimal and of at most 20 bytes");
    out_.serial = to_bytes(serial);
    if (!is_ed25519_algorithm(tbs.expect(der::kSequence).body))
      return refuse("the inner algorithm is not Ed25519");
    const der::Value issuer = tbs.expect(der::kSequence);
    der::Reader validity = tbs.enter(der::kSequence);
    out_.not_before = validity.read_time();
    out_.not_after = validity.read_time();
    if (!validity.finished()) return refuse("its validity is not in the form of RFC 5280");
    const der::Value subject = tbs.expect(der::kSequence);
    std::string issuer_name;
    if (!parse_name(issuer.body, issuer_name) || !parse_name(subject.body, out_.common_name))
      return refuse("a name in it is malformed");
    out_.issuer = to_bytes(issuer.whole);
    out_.subject = to_bytes(subject.whole);
    const auto key = PublicKey::from_spki(tbs.expect(der::kSequence).whole);
    if (!key) return refuse("its key is not Ed25519, the only kind that Ravine takes");
    out_.key = *key;
    out_.id = key->id();
    if (is_valid_node_name(out_.common_name)) out_.name = out_.common_name;
    if (!tbs.at_end()) {
      der::Reader wrapper = tbs.enter(der::context_constructed(3));
      const der::Value list = wrapper.expect(der::kSequence);
      if (!wrapper.finished() || list.body.empty()) return refuse("its extensions are malformed");
      parse_extensions(list.body);
    }
    if (!tbs.finished()) return refuse("not canonical DER, or unknown fields");
    out_.may_sign_certificates = out_.is_ca && key_usage_signs_;
  }

  void parse_extensions(ByteView body) {
    der::Reader list(body);
    std::vector<ByteView> seen;
    while (list.ok() && !list.at_end() && problem_.empty()) {
      der::Reader extension = list.enter(der::kSequence);
      const ByteView id = extension.expect(der::kOid).body;
      bool critical = false;
      if (extension.next_is(der::kBoolean)) {
        critical = extension.read_boolean();
        if (!critical) return refuse("not canonical DER: a default is spelled out");  // X.690 §11.5
      }
      const ByteView content = extension.expect(der::kOctetString).body;
      if (!extension.finished()) return refuse("an extension is malformed");
      if (seen.size() == kMaxExtensions) return refuse("too many extensions");
      if (std::any_of(seen.begin(), seen.end(), [&](ByteView other) { return equals(other, id); }))
        return refuse("an extension is repeated");
      seen.push_back(id);
      if (!parse_extension(id, content) && critical)
        return refuse(fmt::format("unknown critical extension (OID bytes {})", encode_hex(id)));
    }
    if (!list.ok()) refuse("its extensions are malformed");
  }

  // False when the extension is unknown.
  bool parse_extension(ByteView id, ByteView content) {
    der::Reader reader(content);
    if (equals(id, oids::kBasicConstraints)) {
      parse_basic_constraints(reader);
    } else if (equals(id, oids::kKeyUsage)) {
      parse_key_usage(reader);
    } else if (equals(id, oids::kExtendedKeyUsage)) {
      parse_extended_key_usage(reader);
    } else if (equals(id, oids::kSubjectAltName)) {
      parse_alternative_names(reader);
    } else if (equals(id, oids::kSubjectKeyId)) {
      out_.subject_key_id = to_bytes(reader.expect(der::kOctetString).body);
    } else if (equals(id, oids::kAuthorityKeyId)) {
      der::Reader inside = reader.enter(der::kSequence);
      while (inside.ok() && !inside.at_end()) {
        const der::Value part = inside.read();
        if (part.tag == der::context(0)) out_.authority_key_id = to_bytes(part.body);
      }
      if (!inside.ok()) reader.fail();
    } else {
      return false;
    }
    if (!reader.finished()) refuse("a known extension is malformed or not canonical");
    return true;
  }

  void parse_basic_constraints(der::Reader& reader) {
    der::Reader inside = reader.enter(der::kSequence);
    if (inside.next_is(der::kBoolean)) {
      out_.is_ca = inside.read_boolean();
      if (!out_.is_ca) inside.fail();  // the default spelled out
    }
    if (out_.is_ca && inside.next_is(der::kInteger)) out_.path_length = inside.read_small_integer();
    if (!inside.finished()) reader.fail();
  }

  void parse_key_usage(der::Reader& reader) {
    const ByteView bits = reader.expect(der::kBitString).body;
    // X.690 §11.2.2: no trailing zero bits, so the last used bit is set.
    if (bits.size() < 2 || bits.size() > 3 || bits[0] > 7 || (bits.back() & ((1u << bits[0]) - 1)) != 0 ||
        (bits.back() >> bits[0] & 1u) == 0)
      return reader.fail();
    if ((bits[1] & 0x80) == 0) out_.may_authenticate = false;
    key_usage_signs_ = (bits[1] & 0x04) != 0;
  }

  void parse_extended_key_usage(der::Reader& reader) {
    der::Reader inside = reader.enter(der::kSequence);
    bool tls = false;
    while (inside.ok() && !inside.at_end()) {
      const ByteView purpose = inside.expect(der::kOid).body;
      tls = tls || equals(purpose, oids::kServerAuth) || equals(purpose, oids::kClientAuth) ||
            equals(purpose, oids::kAnyPurpose);
    }
    if (!inside.ok()) return reader.fail();
    if (!tls) out_.may_authenticate = false;
  }

  void parse_alternative_names(der::Reader& reader) {
    der::Reader names = reader.enter(der::kSequence);
    std::size_t count = 0;
    while (names.ok() && !names.at_end() && problem_.empty()) {
      if (++count > kMaxAlternativeNames) return refuse("too many alternative names");
      const der::Value name = names.read();
      const std::string_view text = as_text(name.body);
      if (name.tag == der::context(2)) {
        if (is_under_fuse(text) && (out_.name.empty() || text != out_.name + ".fuse"))
          return refuse(
              fmt::format("its DNS name is not its common name \"{}\" with .fuse", out_.common_name));
      } else if (name.tag == der::context(6)) {
        parse_uri(text);
      } else if (name.tag == der::context(7)) {
        parse_address(name.body);
      }
    }
    if (!names.ok()) reader.fail();
  }

  void parse_uri(std::string_view uri) {
    constexpr std::string_view kGroup = "ravine:group:", kNetwork = "ravine:network:", kAny = "ravine:";
    if (uri.starts_with(kGroup)) {
      const std::string_view group = uri.substr(kGroup.size());
      if (!is_valid_node_name(group)) return refuse("a group's name in it is not valid");
      if (out_.groups.size() == kMaxGroups) return refuse(fmt::format("more than {} groups", kMaxGroups));
      out_.groups.emplace_back(group);
    } else if (uri.starts_with(kNetwork)) {
      const auto network = NetworkHash::parse(uri.substr(kNetwork.size()));
      if (!network || out_.network) return refuse("its network hash is malformed or repeated");
      out_.network = network;
    } else if (uri.starts_with(kAny)) {
      refuse("it has an unknown \"ravine:\" name; a newer Ravine may know it");
    }
  }

  void parse_address(ByteView bytes) {
    if (bytes.size() != 16 || out_.overlay) return refuse("it names an IPv4 address or several addresses");
    std::array<std::uint8_t, 16> raw;
    std::copy(bytes.begin(), bytes.end(), raw.begin());
    out_.overlay = IpAddress::v6(raw);
  }

  ByteView input_;
  Certificate out_;
  std::string problem_;
  bool key_usage_signs_ = true;
};

Result<Certificate> Certificate::parse(ByteView der) {
  return CertificateParser(der).parse();
}

Result<std::vector<Certificate>> Certificate::parse_pem(std::string_view pem) {
  const Result<std::vector<PemBlock>> blocks = parse_pem_blocks(pem, kMaxPemCertificates);
  if (!blocks) return blocks.error().with_context("certificate");
  std::vector<Certificate> certificates;
  for (const PemBlock& block : *blocks) {
    if (block.label != "CERTIFICATE")
      return Error{ErrorKind::invalid_argument,
                   fmt::format("certificate: the file holds a \"{}\" PEM block, expected \"CERTIFICATE\"",
                               block.label)};
    Result<Certificate> certificate = parse(block.der);
    if (!certificate) return certificate.error();
    certificates.push_back(std::move(*certificate));
  }
  if (certificates.empty())
    return Error{ErrorKind::invalid_argument, "certificate: no \"CERTIFICATE\" PEM block in the file"};
  return certificates;
}

Result<SigningRequest> SigningRequest::parse(ByteView der) {
  const Error malformed{ErrorKind::invalid_argument,
                        "signing request: not canonical PKCS#10 DER of an Ed25519 key"};
  if (der.size() > kMaxCertificateSize) return malformed;
  der::Reader file(der);
  der::Reader outer = file.enter(der::kSequence);
  const der::Value info = outer.expect(der::kSequence);
  const ByteView algorithm = outer.expect(der::kSequence).body;
  const ByteView signature = outer.read_bytes_of_bit_string();
  if (!outer.finished() || !file.finished() || !is_ed25519_algorithm(algorithm)) return malformed;
  der::Reader body(info.body);
  SigningRequest request;
  if (body.read_small_integer() != 0u || !parse_name(body.expect(der::kSequence).body, request.common_name))
    return malformed;
  const auto key = PublicKey::from_spki(body.expect(der::kSequence).whole);
  const der::Value attributes = body.expect(der::context_constructed(0));
  der::Reader inside(attributes.body);
  while (inside.ok() && !inside.at_end()) inside.expect(der::kSequence);
  if (!key || !body.finished() || !inside.ok()) return malformed;
  request.key = *key;
  if (!key->verify(info.whole, signature))
    return Error{ErrorKind::unauthenticated,
                 "signing request: its signature is not by the key that it names"};
  return request;
}

Result<Bytes> SigningRequest::der_from_pem(std::string_view pem) {
  Result<std::vector<PemBlock>> blocks = parse_pem_blocks(pem, 4);
  if (!blocks) return blocks.error().with_context("signing request");
  for (PemBlock& block : *blocks)
    if (block.label == "CERTIFICATE REQUEST" || block.label == "NEW CERTIFICATE REQUEST")
      return std::move(block.der);
  return Error{ErrorKind::invalid_argument,
               "signing request: no \"CERTIFICATE REQUEST\" PEM block in the file"};
}

}  // namespace ravine::identity
