#include "bench/plain_quic.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "bench/harness.h"

namespace ravine::bench {

namespace {

constexpr std::size_t kPairs = 500;
constexpr std::size_t kIdSize = 12;
constexpr std::size_t kPacketSize = 1200;

void random_bytes(std::uint8_t* out, std::size_t size, const ngtcp2_rand_ctx*) {
  gnutls_rnd(GNUTLS_RND_NONCE, out, size);
}

int new_connection_id(ngtcp2_conn*, ngtcp2_cid* cid, std::uint8_t* token, std::size_t size, void*) {
  cid->datalen = size;
  gnutls_rnd(GNUTLS_RND_NONCE, cid->data, size);
  gnutls_rnd(GNUTLS_RND_NONCE, token, NGTCP2_STATELESS_RESET_TOKENLEN);
  return 0;
}

class Credentials {
 public:
  explicit Credentials(const identity::LocalIdentity& identity) {
    gnutls_certificate_allocate_credentials(&handle_);
    std::vector<gnutls_x509_crt_t> chain;
    for (const Bytes& der : identity.chain) {
      gnutls_x509_crt_t certificate = nullptr;
      gnutls_x509_crt_init(&certificate);
      const gnutls_datum_t datum = view(der);
      gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_DER);
      chain.push_back(certificate);
    }
    gnutls_x509_privkey_t key = nullptr;
    gnutls_x509_privkey_init(&key);
    const gnutls_datum_t datum = view(identity.private_key);
    gnutls_x509_privkey_import2(key, &datum, GNUTLS_X509_FMT_DER, nullptr, GNUTLS_PKCS_PLAIN);
    gnutls_certificate_set_x509_key(handle_, chain.data(), static_cast<int>(chain.size()), key);
    for (gnutls_x509_crt_t certificate : chain) gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
  }
  ~Credentials() { gnutls_certificate_free_credentials(handle_); }
  Credentials(const Credentials&) = delete;
  Credentials& operator=(const Credentials&) = delete;
  gnutls_certificate_credentials_t handle() const { return handle_; }

 private:
  static gnutls_datum_t view(const Bytes& bytes) {
    return {const_cast<unsigned char*>(bytes.data()), static_cast<unsigned>(bytes.size())};
  }
  gnutls_certificate_credentials_t handle_ = nullptr;
};

// One end of a connection. Stays where it is: ngtcp2 and GnuTLS point at it.
class End {
 public:
  End(bool server, const Credentials& credentials) : server_(server) {
    reference_.get_conn = [](ngtcp2_crypto_conn_ref* reference) {
      return static_cast<End*>(reference->user_data)->connection_;
    };
    reference_.user_data = this;
    gnutls_init(&tls_, server ? GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET : GNUTLS_CLIENT);
    gnutls_priority_set_direct(
        tls_, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519:-CIPHER-ALL:+AES-128-GCM", nullptr);
    gnutls_credentials_set(tls_, GNUTLS_CRD_CERTIFICATE, credentials.handle());
    static unsigned char protocol[] = "plain";
    const gnutls_datum_t alpn{protocol, 5};
    gnutls_alpn_set_protocols(tls_, &alpn, 1, GNUTLS_ALPN_MANDATORY);
    gnutls_session_set_ptr(tls_, &reference_);
    if (server) {
      ngtcp2_crypto_gnutls_configure_server_session(tls_);
      gnutls_certificate_server_set_request(tls_, GNUTLS_CERT_REQUIRE);
    } else {
      ngtcp2_crypto_gnutls_configure_client_session(tls_);
    }
  }
  ~End() {
    if (connection_ != nullptr) ngtcp2_conn_del(connection_);
    gnutls_deinit(tls_);
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  // `initial`: for a server, the header of the packet that it answers.
  bool start(std::uint64_t now, const ngtcp2_pkt_hd* initial) {
    ngtcp2_callbacks callbacks{};
    callbacks.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
    callbacks.encrypt = ngtcp2_crypto_encrypt_cb;
    callbacks.decrypt = ngtcp2_crypto_decrypt_cb;
    callbacks.hp_mask = ngtcp2_crypto_hp_mask_cb;
    callbacks.update_key = ngtcp2_crypto_update_key_cb;
    callbacks.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
    callbacks.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
    callbacks.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb;
    callbacks.version_negotiation = ngtcp2_crypto_version_negotiation_cb;
    callbacks.rand = random_bytes;
    callbacks.get_new_connection_id = new_connection_id;
    ngtcp2_settings settings;
    ngtcp2_settings_default(&settings);
    settings.initial_ts = now;
    ngtcp2_transport_params parameters;
    ngtcp2_transport_params_default(&parameters);
    parameters.initial_max_data = 1u << 20;
    parameters.initial_max_streams_bidi = 1024;
    parameters.active_connection_id_limit = 8;
    ngtcp2_cid own = make_id();
    int code = 0;
    if (server_) {
      callbacks.recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
      parameters.original_dcid = initial->dcid;
      parameters.original_dcid_present = 1;
      code = ngtcp2_conn_server_new(&connection_, &initial->scid, &own, path(), NGTCP2_PROTO_VER_V1,
                                    &callbacks, &settings, &parameters, nullptr, this);
    } else {
      callbacks.client_initial = ngtcp2_crypto_client_initial_cb;
      callbacks.recv_retry = ngtcp2_crypto_recv_retry_cb;
      const ngtcp2_cid theirs = make_id();
      code = ngtcp2_conn_client_new(&connection_, &theirs, &own, path(), NGTCP2_PROTO_VER_V1, &callbacks,
                                    &settings, &parameters, nullptr, this);
    }
    if (code != 0) return false;
    ngtcp2_conn_set_tls_native_handle(connection_, tls_);
    return true;
  }
  bool started() const { return connection_ != nullptr; }
  bool completed() const { return started() && ngtcp2_conn_get_handshake_completed(connection_) != 0; }
  bool read(std::uint64_t now, ByteView packet) {
    return ngtcp2_conn_read_pkt(connection_, path(), nullptr, packet.data(), packet.size(), now) == 0;
  }
  ByteView write(std::uint64_t now, MutableBytes space) {
    const ngtcp2_ssize written =
        ngtcp2_conn_write_pkt(connection_, nullptr, nullptr, space.data(), space.size(), now);
    return ByteView(space).first(written > 0 ? static_cast<std::size_t>(written) : 0);
  }

 private:
  static ngtcp2_cid make_id() {
    ngtcp2_cid out{};
    out.datalen = kIdSize;
    gnutls_rnd(GNUTLS_RND_NONCE, out.data, kIdSize);
    return out;
  }
  // All ends share one made-up path; nothing here looks at it.
  static const ngtcp2_path* path() {
    static ngtcp2_sockaddr_in address = [] {
      ngtcp2_sockaddr_in made{};
      made.sin_family = NGTCP2_AF_INET;
      return made;
    }();
    static const ngtcp2_path made = {{reinterpret_cast<ngtcp2_sockaddr*>(&address), sizeof address},
                                     {reinterpret_cast<ngtcp2_sockaddr*>(&address), sizeof address},
                                     nullptr};
    return &made;
  }
  bool server_;
  ngtcp2_crypto_conn_ref reference_{};
  gnutls_session_t tls_ = nullptr;
  ngtcp2_conn* connection_ = nullptr;
};

struct PairOfEnds {
  PairOfEnds(const Credentials& server_credentials, const Credentials& client_credentials)
      : server(true, server_credentials), client(false, client_credentials) {}
  End server, client;

  bool connect(std::uint64_t& now) {
    if (!client.start(now, nullptr)) return false;
    std::array<std::uint8_t, kPacketSize> space;
    for (int round = 0; round < 20; ++round) {
      for (ByteView packet = client.write(now, space); !packet.empty(); packet = client.write(now, space)) {
        ngtcp2_pkt_hd header;
        if (!server.started() &&
            (ngtcp2_accept(&header, packet.data(), packet.size()) != 0 || !server.start(now, &header))) {
          return false;
        }
        if (!server.read(now, packet)) return false;
      }
      for (ByteView packet = server.write(now, space); !packet.empty(); packet = server.write(now, space)) {
        if (!client.read(now, packet)) return false;
      }
      now += 1'000'000;
    }
    return client.completed() && server.completed();
  }
};

Result<> hold_connections(SharedState& shared, SideState& mine, const identity::LocalIdentity& server,
                          const identity::LocalIdentity& client) {
  const Credentials server_credentials(server), client_credentials(client);
  std::uint64_t now = 1'000'000'000;
  std::vector<std::unique_ptr<PairOfEnds>> pairs;
  pairs.push_back(std::make_unique<PairOfEnds>(server_credentials, client_credentials));
  if (!pairs.back()->connect(now)) return Error{ErrorKind::internal, "a bare ngtcp2 handshake failed"};
  mine.ready = true;
  while (shared.sides[1].failures == 0 && !shared.stop) usleep(1000);
  while (pairs.size() <= kPairs) {
    pairs.push_back(std::make_unique<PairOfEnds>(server_credentials, client_credentials));
    if (!pairs.back()->connect(now)) return Error{ErrorKind::internal, "a bare ngtcp2 handshake failed"};
  }
  mine.operations = kPairs;
  while (!shared.stop) usleep(1000);
  return {};
}

}  // namespace

Result<double> measure_plain_quic_memory(const identity::LocalIdentity& server,
                                         const identity::LocalIdentity& client) {
  SideGroup group;
  const auto body = [&](SharedState& shared, SideState& mine) {
    return hold_connections(shared, mine, server, client);
  };
  if (Result<> up = group.start("bare ngtcp2", kServerCore, body, std::chrono::seconds(10)); !up.ok()) {
    return up.error();
  }
  const Result<double> before = group.anonymous_memory(0);
  if (!before.ok()) return before;
  group.shared().sides[1].failures = 1;  // go
  const std::uint64_t until = now_nanoseconds() + 30'000'000'000;
  while (group.shared().sides[0].operations < kPairs) {
    if (Result<> alive = group.sleep(0.02); !alive.ok()) return alive.error();
    if (now_nanoseconds() > until)
      return Error{ErrorKind::timed_out, "bare ngtcp2 handshakes took over 30 s"};
  }
  const Result<double> after = group.anonymous_memory(0);
  if (!after.ok()) return after;
  return (*after - *before) / (2.0 * kPairs);
}

}  // namespace ravine::bench
