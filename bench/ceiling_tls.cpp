// Ceilings of TLS 1.3 over TCP by OpenSSL: one bulk stream, and mutual handshakes.
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <vector>

#include "bench/ceilings.h"
#include "bench/sockets.h"

namespace ravine::bench {

namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Context = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;
using Tls = std::unique_ptr<SSL, Deleter<SSL_free>>;
using TlsSession = std::unique_ptr<SSL_SESSION, Deleter<SSL_SESSION_free>>;

Error tls_error(std::string_view what) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  return {ErrorKind::internal, fmt::format("OpenSSL, {}: {}", what, text.data())};
}

// A throw-away authority and one leaf, Ed25519, as Ravine's own certificates are; both ends show the same
// leaf.
struct Credentials {
  Key authority_key, leaf_key;
  Certificate authority, leaf;
};

Certificate make_certificate(const char* name, EVP_PKEY* key, X509* issuer, EVP_PKEY* issuer_key,
                             long serial) {
  Certificate out(X509_new());
  X509_set_version(out.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(out.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(out.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(out.get()), 86400);
  X509_set_pubkey(out.get(), key);
  X509_NAME* subject = X509_get_subject_name(out.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name), -1,
                             -1, 0);
  X509_set_issuer_name(out.get(), issuer == nullptr ? subject : X509_get_subject_name(issuer));
  if (issuer == nullptr) {
    X509_EXTENSION* extension =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(out.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  return X509_sign(out.get(), issuer_key, nullptr) > 0 ? std::move(out) : nullptr;
}

Result<Credentials> make_credentials() {
  Credentials out;
  out.authority_key.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  out.leaf_key.reset(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (!out.authority_key || !out.leaf_key) return tls_error("making keys");
  out.authority = make_certificate("authority", out.authority_key.get(), nullptr, out.authority_key.get(), 1);
  if (!out.authority) return tls_error("signing the authority");
  out.leaf = make_certificate("leaf", out.leaf_key.get(), out.authority.get(), out.authority_key.get(), 2);
  if (!out.leaf) return tls_error("signing the leaf");
  return out;
}

Result<Context> make_context(const SSL_METHOD* method, const Credentials& credentials) {
  Context out(SSL_CTX_new(method));
  if (!out) return tls_error("making a context");
  SSL_CTX_set_min_proto_version(out.get(), TLS1_3_VERSION);
  X509_STORE_add_cert(SSL_CTX_get_cert_store(out.get()), credentials.authority.get());
  SSL_CTX_set_verify(out.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  const unsigned char session_context[] = "bench";
  if (SSL_CTX_set_ciphersuites(out.get(), "TLS_AES_128_GCM_SHA256") != 1 ||
      SSL_CTX_set1_groups_list(out.get(), "X25519") != 1 ||
      SSL_CTX_use_certificate(out.get(), credentials.leaf.get()) != 1 ||
      SSL_CTX_use_PrivateKey(out.get(), credentials.leaf_key.get()) != 1 ||
      SSL_CTX_set_session_id_context(out.get(), session_context, sizeof session_context) != 1) {
    return tls_error("configuring a context");
  }
  return out;
}

Tls make_tls(SSL_CTX* context, const Socket& socket) {
  Tls out(SSL_new(context));
  SSL_set_fd(out.get(), socket.fd());
  return out;
}

constexpr std::size_t kWrite = 64 * 1024;

Result<> serve_stream(SharedState& shared, SideState& mine, const Credentials& credentials) {
  Result<Context> context = make_context(TLS_server_method(), credentials);
  if (!context.ok()) return context.error();
  Result<Socket> listener = Socket::bound(SOCK_STREAM);
  if (!listener.ok()) return listener.error();
  mine.port = listener->port();
  mine.ready = true;
  const Socket socket = listener->accepted();
  const Tls tls = make_tls(context->get(), socket);
  if (SSL_accept(tls.get()) != 1) return tls_error("accepting");
  std::vector<std::uint8_t> buffer(kWrite);
  while (!shared.stop) {
    const int got = SSL_read(tls.get(), buffer.data(), static_cast<int>(buffer.size()));
    if (got <= 0) break;
    mine.bytes.fetch_add(static_cast<std::uint64_t>(got), std::memory_order_relaxed);
  }
  return {};
}

Result<> send_stream(SharedState& shared, SideState& mine, const Credentials& credentials) {
  Result<Context> context = make_context(TLS_client_method(), credentials);
  if (!context.ok()) return context.error();
  Result<Socket> socket = Socket::connected(SOCK_STREAM, shared.sides[0].port);
  if (!socket.ok()) return socket.error();
  const Tls tls = make_tls(context->get(), *socket);
  if (SSL_connect(tls.get()) != 1) return tls_error("connecting");
  mine.ready = true;
  const std::vector<std::uint8_t> buffer(kWrite, 0x5a);
  while (!shared.stop && SSL_write(tls.get(), buffer.data(), static_cast<int>(buffer.size())) > 0) {
    mine.bytes.fetch_add(buffer.size(), std::memory_order_relaxed);
  }
  return {};
}

Result<> accept_handshakes(SharedState& shared, SideState& mine, const Credentials& credentials,
                           bool resume) {
  Result<Context> context = make_context(TLS_server_method(), credentials);
  if (!context.ok()) return context.error();
  SSL_CTX_set_num_tickets(context->get(), resume ? 1 : 0);
  Result<Socket> listener = Socket::bound(SOCK_STREAM);
  if (!listener.ok()) return listener.error();
  listener->set_receive_timeout_ms(100);
  mine.port = listener->port();
  mine.ready = true;
  while (!shared.stop) {
    const Socket socket = listener->accepted();
    if (!socket.valid()) continue;
    const Tls tls = make_tls(context->get(), socket);
    if (SSL_accept(tls.get()) != 1) continue;
    // The byte tells the client that its certificate was accepted; the ticket goes out before it.
    SSL_write(tls.get(), "x", 1);
    SSL_shutdown(tls.get());
    mine.operations.fetch_add(1, std::memory_order_relaxed);
  }
  return {};
}

// One handshake up to the server's byte. Updates `session` for the next one when resuming.
bool handshake_once(SSL_CTX* context, std::uint16_t port, bool resume, TlsSession& session) {
  Result<Socket> socket = Socket::connected(SOCK_STREAM, port);
  if (!socket.ok()) return false;
  socket->set(IPPROTO_TCP, TCP_NODELAY, 1);
  const Tls tls = make_tls(context, *socket);
  if (resume && session) SSL_set_session(tls.get(), session.get());
  char byte = 0;
  if (SSL_connect(tls.get()) != 1 || SSL_read(tls.get(), &byte, 1) != 1) return false;
  if (resume) session.reset(SSL_get1_session(tls.get()));
  // A connection that ends without a shutdown would make its session useless.
  SSL_set_shutdown(tls.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  const linger abort_now{.l_onoff = 1, .l_linger = 0};  // no TIME_WAIT: ports would run out
  setsockopt(socket->fd(), SOL_SOCKET, SO_LINGER, &abort_now, sizeof abort_now);
  return true;
}

Result<> make_handshakes(SharedState& shared, SideState& mine, const Credentials& credentials, bool resume) {
  Result<Context> context = make_context(TLS_client_method(), credentials);
  if (!context.ok()) return context.error();
  SSL_CTX_set_session_cache_mode(context->get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  TlsSession session;
  mine.ready = true;
  while (!shared.stop) {
    if (handshake_once(context->get(), shared.sides[0].port, resume, session)) {
      mine.operations.fetch_add(1, std::memory_order_relaxed);
    } else if (++mine.failures > 1000 && mine.operations == 0) {
      return tls_error("every handshake failed");
    }
  }
  return {};
}

}  // namespace

Result<StreamCeiling> measure_tls_stream(double seconds) {
  const Result<Credentials> credentials = make_credentials();
  if (!credentials.ok()) return credentials.error();
  const Result<Window> window = measure_pair(
      {.name = "TLS over TCP", .warm_up = 0.3, .seconds = seconds},
      [&](SharedState& shared, SideState& mine) { return serve_stream(shared, mine, *credentials); },
      [&](SharedState& shared, SideState& mine) { return send_stream(shared, mine, *credentials); });
  if (!window.ok()) return window.error();
  const SideWindow &receiver = window->sides[0], &sender = window->sides[1];
  return StreamCeiling{
      .gigabits = receiver.bytes * 8e-9 / window->seconds,
      .send_ns_per_packet = sender.cpu_seconds * 1e9 * 1452 / std::max(sender.bytes, 1.0),
      .receive_ns_per_packet = receiver.cpu_seconds * 1e9 * 1452 / std::max(receiver.bytes, 1.0)};
}

Result<double> measure_tls_handshakes(double seconds, bool resume) {
  const Result<Credentials> credentials = make_credentials();
  if (!credentials.ok()) return credentials.error();
  const Result<Window> window = measure_pair(
      {.name = "TLS handshakes over TCP", .warm_up = 0.2, .seconds = seconds},
      [&](SharedState& shared, SideState& mine) {
        return accept_handshakes(shared, mine, *credentials, resume);
      },
      [&](SharedState& shared, SideState& mine) {
        return make_handshakes(shared, mine, *credentials, resume);
      });
  if (!window.ok()) return window.error();
  const SideWindow &server = window->sides[0], &client = window->sides[1];
  return client.operations / std::max(std::max(server.cpu_seconds, client.cpu_seconds), 1e-9);
}

}  // namespace ravine::bench
