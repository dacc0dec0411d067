#include "session/packet_crypto.h"

#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include <new>

namespace ravine::session {
namespace {

PacketCrypto& crypto_of(void* user_data) {
  return *static_cast<PacketCrypto*>(user_data);
}

// ngtcp2 hands the cipher's handle back to callbacks that get no connection, so it says which algorithm is in
// use.
void* handle_of(AeadAlgorithm algorithm) {
  static constexpr std::uint8_t kHandles[2] = {0, 1};
  return const_cast<std::uint8_t*>(&kHandles[static_cast<std::size_t>(algorithm)]);
}
AeadAlgorithm algorithm_of(const void* handle) {
  return static_cast<AeadAlgorithm>(*static_cast<const std::uint8_t*>(handle));
}

ngtcp2_crypto_ctx make_context(AeadAlgorithm algorithm, std::uint64_t packets_per_key) {
  ngtcp2_crypto_ctx context{};
  context.aead.native_handle = handle_of(algorithm);
  context.aead.max_overhead = kTagSize;
  context.hp.native_handle = handle_of(algorithm);
  // RFC 9001 §6.6, appendix B: how many packets a key may protect, and how many forgeries it may see.
  const bool aes = algorithm == AeadAlgorithm::aes_128_gcm;
  context.max_encryption = packets_per_key;
  context.max_decryption_failure = aes ? std::uint64_t{1} << 52 : std::uint64_t{1} << 36;
  return context;
}

// Keys of one direction, owned until ngtcp2 takes them.
struct DirectionKeys {
  PacketKeys raw;
  std::unique_ptr<AeadKey> aead;
  std::unique_ptr<HeaderKey> header;

  bool derive(ProtectionBackend backend, AeadAlgorithm algorithm, ByteView secret) {
    if (!derive_packet_keys(raw, algorithm, secret)) return false;
    aead = std::make_unique<AeadKey>(backend, algorithm, raw.key.data());
    header = std::make_unique<HeaderKey>(backend, algorithm, raw.header.data());
    return true;
  }
  ngtcp2_crypto_aead_ctx aead_context() const { return {aead.get()}; }
  ngtcp2_crypto_cipher_ctx header_context() const { return {header.get()}; }
  void release() {
    (void)aead.release();
    (void)header.release();
  }
};

// The fixed key of Retry packets' integrity tags, RFC 9001 §5.8.
void set_retry_key(ngtcp2_conn* connection, ProtectionBackend backend) {
  static constexpr std::array<std::uint8_t, 16> kRetryKey = {0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a,
                                                             0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e};
  ngtcp2_crypto_aead aead{handle_of(AeadAlgorithm::aes_128_gcm), kTagSize};
  ngtcp2_crypto_aead_ctx context{new AeadKey(backend, AeadAlgorithm::aes_128_gcm, kRetryKey.data())};
  ngtcp2_conn_set_retry_aead(connection, &aead, &context);
}

int install_initial_keys(ngtcp2_conn* connection, const ngtcp2_cid& dcid, PacketCrypto& crypto) {
  const ProtectionBackend backend = crypto.backend;
  InitialSecrets secrets;
  if (!derive_initial_secrets(secrets, {dcid.data, dcid.datalen})) return NGTCP2_ERR_CALLBACK_FAILURE;
  const bool acceptor = ngtcp2_conn_is_server(connection) != 0;
  constexpr AeadAlgorithm algorithm = AeadAlgorithm::aes_128_gcm;
  DirectionKeys receive, transmit;
  if (!receive.derive(backend, algorithm, acceptor ? secrets.client : secrets.server) ||
      !transmit.derive(backend, algorithm, acceptor ? secrets.server : secrets.client)) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  receive.aead->opened = &crypto.opened;
  ngtcp2_crypto_ctx context = make_context(algorithm, 0);
  context.max_decryption_failure = 0;
  ngtcp2_conn_set_initial_crypto_ctx(connection, &context);
  const auto rx = receive.aead_context(), tx = transmit.aead_context();
  const auto rx_header = receive.header_context(), tx_header = transmit.header_context();
  if (ngtcp2_conn_install_initial_key(connection, &rx, receive.raw.iv.data(), &rx_header, &tx,
                                      transmit.raw.iv.data(), &tx_header, kNonceSize) != 0) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  receive.release();
  transmit.release();
  if (!acceptor && ngtcp2_conn_after_retry(connection) == 0) set_retry_key(connection, backend);
  return 0;
}

int install_direction(ngtcp2_conn* connection, PacketCrypto& crypto, ngtcp2_encryption_level level,
                      AeadAlgorithm algorithm, bool receives, ByteView secret) {
  DirectionKeys keys;
  if (!keys.derive(crypto.backend, algorithm, secret)) return -1;
  const auto aead = keys.aead_context();
  const auto header = keys.header_context();
  const std::uint8_t* iv = keys.raw.iv.data();
  int status = 0;
  if (receives) keys.aead->opened = &crypto.opened;
  if (level == NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE) {
    status = receives ? ngtcp2_conn_install_rx_handshake_key(connection, &aead, iv, kNonceSize, &header)
                      : ngtcp2_conn_install_tx_handshake_key(connection, &aead, iv, kNonceSize, &header);
  } else {
    if (receives) keys.aead->scanner = &crypto.scanner;
    status = receives ? ngtcp2_conn_install_rx_key(connection, secret.data(), secret.size(), &aead, iv,
                                                   kNonceSize, &header)
                      : ngtcp2_conn_install_tx_key(connection, secret.data(), secret.size(), &aead, iv,
                                                   kNonceSize, &header);
  }
  if (status != 0) return -1;
  keys.release();
  return 0;
}

int on_tls_secret(gnutls_session_t session, gnutls_record_encryption_level_t tls_level, const void* rx,
                  const void* tx, std::size_t size) {
  auto* reference = static_cast<ngtcp2_crypto_conn_ref*>(gnutls_session_get_ptr(session));
  ngtcp2_conn* connection = reference->get_conn(reference);
  PacketCrypto& crypto = crypto_of(reference->user_data);
  const auto level = ngtcp2_crypto_gnutls_from_gnutls_record_encryption_level(tls_level);
  if (level != NGTCP2_ENCRYPTION_LEVEL_HANDSHAKE && level != NGTCP2_ENCRYPTION_LEVEL_1RTT) return 0;
  AeadAlgorithm algorithm = AeadAlgorithm::aes_128_gcm;
  switch (gnutls_cipher_get(session)) {
    case GNUTLS_CIPHER_AES_128_GCM:
      break;
    case GNUTLS_CIPHER_CHACHA20_POLY1305:
      algorithm = AeadAlgorithm::chacha20_poly1305;
      break;
    default:
      return -1;
  }
  if (size != kSecretSize) return -1;
  if (ngtcp2_conn_get_crypto_ctx(connection)->aead.native_handle == nullptr) {
    const ngtcp2_crypto_ctx context = make_context(algorithm, crypto.packets_per_key);
    ngtcp2_conn_set_crypto_ctx(connection, &context);
  }
  for (const bool receives : {true, false}) {
    const void* secret = receives ? rx : tx;
    if (secret == nullptr) continue;
    const ByteView view{static_cast<const std::uint8_t*>(secret), size};
    if (install_direction(connection, crypto, level, algorithm, receives, view) != 0) return -1;
  }
  return 0;
}

int on_client_initial(ngtcp2_conn* connection, void* user_data) {
  const ngtcp2_cid* dcid = ngtcp2_conn_get_dcid(connection);
  if (install_initial_keys(connection, *dcid, crypto_of(user_data)) != 0) {
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  const int status =
      ngtcp2_crypto_read_write_crypto_data(connection, NGTCP2_ENCRYPTION_LEVEL_INITIAL, nullptr, 0);
  return status == 0 ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

int on_receive_client_initial(ngtcp2_conn* connection, const ngtcp2_cid* dcid, void* user_data) {
  return install_initial_keys(connection, *dcid, crypto_of(user_data));
}

int on_receive_retry(ngtcp2_conn* connection, const ngtcp2_pkt_hd* header, void* user_data) {
  return install_initial_keys(connection, header->scid, crypto_of(user_data));
}

// RFC 9001 §6.1: the next secret, key and IV of one direction; the header key stays.
AeadKey* next_key(std::uint8_t* secret, std::uint8_t* iv, const std::uint8_t* current, std::size_t size,
                  ProtectionBackend backend, AeadAlgorithm algorithm) {
  const MutableBytes next{secret, size};
  std::array<std::uint8_t, 32> key;
  if (!expand_label(next, {current, size}, "quic ku") ||
      !expand_label(MutableBytes(key).first(key_size(algorithm)), next, "quic key") ||
      !expand_label({iv, kNonceSize}, next, "quic iv")) {
    return nullptr;
  }
  auto* made = new AeadKey(backend, algorithm, key.data());
  wipe(key);
  return made;
}

int on_update_key(ngtcp2_conn* connection, std::uint8_t* rx_secret, std::uint8_t* tx_secret,
                  ngtcp2_crypto_aead_ctx* rx, std::uint8_t* rx_iv, ngtcp2_crypto_aead_ctx* tx,
                  std::uint8_t* tx_iv, const std::uint8_t* current_rx, const std::uint8_t* current_tx,
                  std::size_t size, void* user_data) {
  PacketCrypto& crypto = crypto_of(user_data);
  const AeadAlgorithm algorithm = algorithm_of(ngtcp2_conn_get_crypto_ctx(connection)->aead.native_handle);
  AeadKey* receive = next_key(rx_secret, rx_iv, current_rx, size, crypto.backend, algorithm);
  AeadKey* transmit = next_key(tx_secret, tx_iv, current_tx, size, crypto.backend, algorithm);
  if (receive == nullptr || transmit == nullptr) {
    delete receive;
    delete transmit;
    return NGTCP2_ERR_CALLBACK_FAILURE;
  }
  receive->scanner = &crypto.scanner;
  receive->opened = &crypto.opened;
  rx->native_handle = receive;
  tx->native_handle = transmit;
  return 0;
}

int on_encrypt(std::uint8_t* out, const ngtcp2_crypto_aead*, const ngtcp2_crypto_aead_ctx* context,
               const std::uint8_t* plain, std::size_t size, const std::uint8_t* nonce, std::size_t,
               const std::uint8_t* associated, std::size_t associated_size) {
  auto* key = static_cast<AeadKey*>(context->native_handle);
  return key->seal(out, {plain, size}, nonce, {associated, associated_size}) ? 0
                                                                             : NGTCP2_ERR_CALLBACK_FAILURE;
}

int on_decrypt(std::uint8_t* out, const ngtcp2_crypto_aead*, const ngtcp2_crypto_aead_ctx* context,
               const std::uint8_t* cipher, std::size_t size, const std::uint8_t* nonce, std::size_t,
               const std::uint8_t* associated, std::size_t associated_size) {
  auto* key = static_cast<AeadKey*>(context->native_handle);
  if (!key->open(out, {cipher, size}, nonce, {associated, associated_size})) return NGTCP2_ERR_DECRYPT;
  if (key->opened != nullptr) key->opened->note({associated, associated_size});
  if (key->scanner != nullptr) key->scanner->scan({out, size - kTagSize});
  return 0;
}

int on_header_mask(std::uint8_t* out, const ngtcp2_crypto_cipher*, const ngtcp2_crypto_cipher_ctx* context,
                   const std::uint8_t* sample) {
  return static_cast<HeaderKey*>(context->native_handle)->mask(out, sample) ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

void on_delete_aead(ngtcp2_conn*, ngtcp2_crypto_aead_ctx* context, void*) {
  delete static_cast<AeadKey*>(context->native_handle);
}

void on_delete_header_key(ngtcp2_conn*, ngtcp2_crypto_cipher_ctx* context, void*) {
  delete static_cast<HeaderKey*>(context->native_handle);
}

// Only version 1 is offered, so there is nothing to switch to.
int on_version_negotiation(ngtcp2_conn*, std::uint32_t, const ngtcp2_cid*, void*) {
  return NGTCP2_ERR_CALLBACK_FAILURE;
}

}  // namespace

void install_packet_crypto(ngtcp2_callbacks& callbacks) {
  callbacks.client_initial = on_client_initial;
  callbacks.recv_client_initial = on_receive_client_initial;
  callbacks.recv_retry = on_receive_retry;
  callbacks.update_key = on_update_key;
  callbacks.encrypt = on_encrypt;
  callbacks.decrypt = on_decrypt;
  callbacks.hp_mask = on_header_mask;
  callbacks.delete_crypto_aead_ctx = on_delete_aead;
  callbacks.delete_crypto_cipher_ctx = on_delete_header_key;
  callbacks.version_negotiation = on_version_negotiation;
}

void hook_tls_secrets(gnutls_session_t session) {
  gnutls_handshake_set_secret_function(session, on_tls_secret);
}

}  // namespace ravine::session
