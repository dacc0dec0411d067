#include "identity/key.h"

#include <fmt/format.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>

#include "identity/der.h"
#include "identity/pem.h"

namespace ravine::identity {
namespace {

// RFC 8410 §4 and §7: the fixed bytes before the 32 of the key.
constexpr std::array<std::uint8_t, 12> kSpkiHead{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                                 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
constexpr std::array<std::uint8_t, 16> kPkcs8Head{0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                                  0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};
constexpr std::size_t kKeySize = 32;

// OWASP's figure of 2023 for PBKDF2-HMAC-SHA256.
constexpr unsigned kPassphraseRounds = 600'000;
constexpr std::array<std::uint8_t, 9> kOidPbes2{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d};
constexpr std::array<std::uint8_t, 9> kOidPbkdf2{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c};
constexpr std::array<std::uint8_t, 8> kOidHmacSha256{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09};
constexpr std::array<std::uint8_t, 9> kOidAes256Cbc{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a};

gnutls_datum_t datum(ByteView bytes) {
  return {const_cast<unsigned char*>(bytes.data()), static_cast<unsigned>(bytes.size())};
}

template <std::size_t N>
bool starts_with(ByteView bytes, const std::array<std::uint8_t, N>& head) {
  return bytes.size() >= N && std::equal(head.begin(), head.end(), bytes.begin());
}

// The seed of whatever PKCS#8 form GnuTLS can read.
Result<PrivateKey> import_pkcs8(ByteView der, std::string_view passphrase) {
  gnutls_x509_privkey_t key = nullptr;
  ensure(gnutls_x509_privkey_init(&key) == 0);
  const std::unique_ptr<std::remove_pointer_t<gnutls_x509_privkey_t>, decltype(&gnutls_x509_privkey_deinit)>
      owner(key, gnutls_x509_privkey_deinit);
  std::string text(passphrase);
  const gnutls_datum_t data = datum(der);
  const unsigned flags = passphrase.empty() ? GNUTLS_PKCS_PLAIN : 0;
  const int code = gnutls_x509_privkey_import_pkcs8(key, &data, GNUTLS_X509_FMT_DER, text.c_str(), flags);
  wipe({reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
  if (code < 0 && !passphrase.empty())
    return Error{ErrorKind::unauthenticated, "private key: the passphrase does not open it"};
  if (code < 0)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("private key: not PKCS#8 ({})", gnutls_strerror(code))};
  gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
  gnutls_datum_t x{}, y{}, k{};
  if (gnutls_x509_privkey_export_ecc_raw(key, &curve, &x, &y, &k) < 0 || curve != GNUTLS_ECC_CURVE_ED25519 ||
      k.size != kKeySize) {
    gnutls_free(x.data);
    gnutls_free(y.data);
    if (k.data != nullptr) wipe({k.data, k.size});
    gnutls_free(k.data);
    return Error{ErrorKind::invalid_argument,
                 "private key: not Ed25519; make one with `ravine id --request NAME` or `openssl genpkey "
                 "-algorithm ed25519`"};
  }
  const auto seed = Secret<32>::copy_of({k.data, k.size});
  wipe({k.data, k.size});
  gnutls_free(x.data);
  gnutls_free(y.data);
  gnutls_free(k.data);
  return PrivateKey::from_seed(seed);
}

}  // namespace

std::optional<PublicKey> PublicKey::from_spki(ByteView spki) {
  if (spki.size() != kSpkiHead.size() + kKeySize || !starts_with(spki, kSpkiHead)) return std::nullopt;
  std::array<std::uint8_t, kKeySize> raw;
  std::copy_n(spki.begin() + kSpkiHead.size(), kKeySize, raw.begin());
  return PublicKey(raw);
}

Bytes PublicKey::spki() const {
  Bytes bytes(kSpkiHead.size() + kKeySize);
  std::copy(kSpkiHead.begin(), kSpkiHead.end(), bytes.begin());
  std::copy(raw_.begin(), raw_.end(), bytes.begin() + kSpkiHead.size());
  return bytes;
}

PeerId PublicKey::id() const {
  return PeerId::of_spki(spki());
}

bool PublicKey::verify(ByteView message, ByteView signature) const {
  if (signature.size() != kSignatureSize) return false;
  gnutls_pubkey_t key = nullptr;
  if (gnutls_pubkey_init(&key) < 0) return false;
  const gnutls_datum_t x = datum(raw_), data = datum(message), sig = datum(signature);
  const bool good = gnutls_pubkey_import_ecc_raw(key, GNUTLS_ECC_CURVE_ED25519, &x, nullptr) == 0 &&
                    gnutls_pubkey_verify_data2(key, GNUTLS_SIGN_EDDSA_ED25519, 0, &data, &sig) >= 0;
  gnutls_pubkey_deinit(key);
  return good;
}

struct PrivateKey::Handle {
  gnutls_privkey_t key = nullptr;
  ~Handle() { gnutls_privkey_deinit(key); }
};

PrivateKey::PrivateKey() = default;
PrivateKey::PrivateKey(PrivateKey&&) noexcept = default;
PrivateKey& PrivateKey::operator=(PrivateKey&&) noexcept = default;
PrivateKey::~PrivateKey() = default;

PrivateKey PrivateKey::generate(RandomSource& random) {
  return from_seed(Secret<32>::random(random));
}

PrivateKey PrivateKey::from_seed(const Secret<32>& seed) {
  PrivateKey result;
  result.seed_ = seed;
  result.handle_ = std::make_unique<Handle>();
  ensure(gnutls_privkey_init(&result.handle_->key) == 0);
  Bytes der = result.pkcs8();
  const gnutls_datum_t data = datum(der);
  ensure(gnutls_privkey_import_x509_raw(result.handle_->key, &data, GNUTLS_X509_FMT_DER, nullptr, 0) == 0);
  wipe(der);
  gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
  gnutls_datum_t x{}, y{};
  ensure(gnutls_privkey_export_ecc_raw(result.handle_->key, &curve, &x, &y, nullptr) == 0 &&
         x.size == kKeySize);
  std::array<std::uint8_t, kKeySize> raw;
  std::copy_n(x.data, kKeySize, raw.begin());
  gnutls_free(x.data);
  gnutls_free(y.data);
  result.public_ = PublicKey(raw);
  return result;
}

PrivateKey PrivateKey::clone() const {
  return from_seed(seed_);
}

Result<PrivateKey> PrivateKey::from_pkcs8(ByteView der) {
  if (der.size() != kPkcs8Head.size() + kKeySize || !starts_with(der, kPkcs8Head))
    return Error{ErrorKind::invalid_argument, "private key: not the PKCS#8 form of an Ed25519 key"};
  return from_seed(Secret<32>::copy_of(der.subspan(kPkcs8Head.size())));
}

Result<PrivateKey> PrivateKey::from_pem(std::string_view pem, std::string_view passphrase) {
  Result<std::vector<PemBlock>> blocks = parse_pem_blocks(pem, 4);
  if (!blocks) return blocks.error().with_context("private key");
  std::optional<PemBlock> found;
  bool several = false;
  for (PemBlock& block : *blocks) {
    if (block.label != "PRIVATE KEY" && block.label != "ENCRYPTED PRIVATE KEY") continue;
    several = found.has_value();
    found = std::move(block);
  }
  if (!found || several)
    return Error{
        ErrorKind::invalid_argument,
        "private key: expected exactly one \"PRIVATE KEY\" or \"ENCRYPTED PRIVATE KEY\" PEM block (PKCS#8)"};
  const bool encrypted = found->label == "ENCRYPTED PRIVATE KEY";
  if (encrypted && passphrase.empty())
    return Error{ErrorKind::unauthenticated, "private key: it is encrypted and no passphrase was given"};
  Result<PrivateKey> key = !encrypted && found->der.size() == kPkcs8Head.size() + kKeySize
                               ? from_pkcs8(found->der)
                               : import_pkcs8(found->der, encrypted ? passphrase : std::string_view{});
  wipe(found->der);
  return key;
}

Bytes PrivateKey::pkcs8() const {
  Bytes der(kPkcs8Head.size() + kKeySize);
  std::copy(kPkcs8Head.begin(), kPkcs8Head.end(), der.begin());
  std::copy(seed_.view().begin(), seed_.view().end(), der.begin() + kPkcs8Head.size());
  return der;
}

std::string PrivateKey::to_pem() const {
  Bytes der = pkcs8();
  std::string pem = encode_pem("PRIVATE KEY", der);
  wipe(der);
  return pem;
}

Result<std::string> PrivateKey::to_encrypted_pem(std::string_view passphrase, RandomSource& random) const {
  if (passphrase.size() < kMinPassphrase)
    return Error{ErrorKind::invalid_argument,
                 fmt::format("private key: the passphrase has fewer than {} characters", kMinPassphrase)};
  std::array<std::uint8_t, 16> salt, iv;
  random.fill(salt);
  random.fill(iv);
  std::array<std::uint8_t, 32> key;
  const gnutls_datum_t password = datum(as_bytes(passphrase)), salt_data = datum(salt);
  ensure(gnutls_pbkdf2(GNUTLS_MAC_SHA256, &password, &salt_data, kPassphraseRounds, key.data(), key.size()) ==
         0);

  Bytes text = pkcs8();
  const auto padding = static_cast<std::uint8_t>(16 - text.size() % 16);  // RFC 8018 §B.2.5
  text.reserve(text.size() + padding);
  text.insert(text.end(), padding, padding);
  gnutls_cipher_hd_t cipher = nullptr;
  const gnutls_datum_t key_data = datum(key), iv_data = datum(iv);
  ensure(gnutls_cipher_init(&cipher, GNUTLS_CIPHER_AES_256_CBC, &key_data, &iv_data) == 0);
  ensure(gnutls_cipher_encrypt(cipher, text.data(), text.size()) == 0);
  gnutls_cipher_deinit(cipher);
  wipe(key);

  using der::kSequence;
  const Bytes prf = der::value(kSequence, {der::oid(kOidHmacSha256), Bytes{der::kNull, 0}});
  const Bytes kdf_parameters =
      der::value(kSequence, {der::octet_string(salt), der::small_integer(kPassphraseRounds), prf});
  const Bytes kdf = der::value(kSequence, {der::oid(kOidPbkdf2), kdf_parameters});
  const Bytes scheme = der::value(kSequence, {der::oid(kOidAes256Cbc), der::octet_string(iv)});
  const Bytes algorithm = der::value(kSequence, {der::oid(kOidPbes2), der::value(kSequence, {kdf, scheme})});
  return encode_pem("ENCRYPTED PRIVATE KEY", der::value(kSequence, {algorithm, der::octet_string(text)}));
}

std::array<std::uint8_t, kSignatureSize> PrivateKey::sign(ByteView message) const {
  const gnutls_datum_t data = datum(message);
  gnutls_datum_t signature{};
  ensure(gnutls_privkey_sign_data2(handle_->key, GNUTLS_SIGN_EDDSA_ED25519, 0, &data, &signature) == 0);
  ensure(signature.size == kSignatureSize);
  std::array<std::uint8_t, kSignatureSize> bytes;
  std::copy_n(signature.data, kSignatureSize, bytes.begin());
  gnutls_free(signature.data);
  return bytes;
}

bool is_encrypted_pem(std::string_view pem) {
  return pem.find("-----BEGIN ENCRYPTED PRIVATE KEY-----") != pem.npos;
}

}  // namespace ravine::identity
