#include "services/http/byte_stream.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace ravine::services::http {
namespace {

bool is_temporary(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

std::string last_tls_error() {
  char text[256] = "no reason given";
  const unsigned long code = ERR_get_error();
  if (code != 0) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return text;
}

// A BIO over our descriptor: OpenSSL's own would raise SIGPIPE on a connection that is gone.
int descriptor_of(BIO* bio) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
}

int bio_write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent =
      ::send(descriptor_of(bio), data, static_cast<std::size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && is_temporary(errno)) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t got = ::recv(descriptor_of(bio), data, static_cast<std::size_t>(size), MSG_DONTWAIT);
  if (got < 0 && is_temporary(errno)) BIO_set_retry_read(bio);
  if (got == 0) BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  return static_cast<int>(got);
}

long bio_control(BIO* bio, int command, long, void*) {
  if (command == BIO_CTRL_FLUSH) return 1;
  if (command == BIO_CTRL_EOF) return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
  return 0;
}

BIO_METHOD* bio_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "ravine socket");
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

}  // namespace

struct TlsContext::Impl {
  SSL_CTX* context = nullptr;
  bool verify = true;
};

TlsContext::TlsContext(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsContext::~TlsContext() {
  SSL_CTX_free(impl_->context);
}

Result<std::shared_ptr<TlsContext>> TlsContext::make(const TlsOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->context = SSL_CTX_new(TLS_client_method());
  ensure(impl->context != nullptr);
  impl->verify = options.verify;
  auto made = std::make_shared<TlsContext>(std::move(impl));
  SSL_CTX* context = made->impl_->context;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  constexpr unsigned char kProtocols[] = "\x08http/1.1";
  SSL_CTX_set_alpn_protos(context, kProtocols, sizeof kProtocols - 1);
  if (!options.verify) return made;
  const bool loaded = options.ca_file.empty()
                          ? SSL_CTX_set_default_verify_paths(context) == 1
                          : SSL_CTX_load_verify_file(context, options.ca_file.c_str()) == 1;
  if (!loaded) {
    return Error{ErrorKind::io,
                 fmt::format("cannot read certificate authorities from {}: {}; it must be a PEM file",
                             options.ca_file.empty() ? "the system" : options.ca_file, last_tls_error())};
  }
  return made;
}

struct ByteStream::Tls {
  explicit Tls(SSL_CTX* context) : ssl(SSL_new(context)) { ensure(ssl != nullptr); }
  Tls(const Tls&) = delete;
  Tls& operator=(const Tls&) = delete;
  ~Tls() { SSL_free(ssl); }
  SSL* ssl;
  bool failed = false;  // then OpenSSL allows no further call
};

ByteStream::ByteStream(Socket socket) : socket_(std::move(socket)) {}

ByteStream::ByteStream(Socket socket, const TlsContext& tls, const std::string& host)
    : socket_(std::move(socket)), tls_(std::make_unique<Tls>(tls.impl_->context)) {
  SSL* ssl = tls_->ssl;
  BIO* bio = BIO_new(bio_method());
  ensure(bio != nullptr);
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(socket_.native_handle())));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_connect_state(ssl);
  const bool is_address = IpAddress::parse(host).has_value();
  if (!is_address) SSL_set_tlsext_host_name(ssl, host.c_str());
  if (!tls.impl_->verify) return;
  X509_VERIFY_PARAM* parameters = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  const int named = is_address ? X509_VERIFY_PARAM_set1_ip_asc(parameters, host.c_str())
                               : X509_VERIFY_PARAM_set1_host(parameters, host.c_str(), host.size());
  // Without a name to check, any trusted certificate would do.
  if (named != 1) tls_->failed = true;
}

ByteStream::ByteStream(ByteStream&&) noexcept = default;
ByteStream& ByteStream::operator=(ByteStream&&) noexcept = default;
ByteStream::~ByteStream() = default;

ByteStream::Step ByteStream::fail(std::string what) {
  error_ = std::move(what);
  return {Outcome::failed};
}

ByteStream::Step ByteStream::judge(int result) {
  const int system_error = errno;
  switch (SSL_get_error(tls_->ssl, result)) {
    case SSL_ERROR_WANT_READ:
      return {Outcome::want_read};
    case SSL_ERROR_WANT_WRITE:
      return {Outcome::want_write};
    case SSL_ERROR_ZERO_RETURN:
      return {Outcome::ended};
    default:
      break;
  }
  tls_->failed = true;
  const long verified = SSL_get_verify_result(tls_->ssl);
  if (!SSL_is_init_finished(tls_->ssl) && verified != X509_V_OK) {
    ERR_clear_error();
    return fail(fmt::format("its certificate is not accepted: {}", X509_verify_cert_error_string(verified)));
  }
  if (ERR_peek_error() != 0) return fail("TLS: " + last_tls_error());
  return fail(result == 0 || system_error == 0
                  ? "the connection was closed"
                  : std::error_code(system_error, std::generic_category()).message());
}

ByteStream::Step ByteStream::handshake() {
  if (!tls_) return {};
  if (tls_->failed) return fail("its name cannot be checked");
  ERR_clear_error();
  const int result = SSL_do_handshake(tls_->ssl);
  return result == 1 ? Step{} : judge(result);
}

ByteStream::Step ByteStream::read(MutableBytes out) {
  if (tls_) {
    if (tls_->failed) return {Outcome::failed};
    ERR_clear_error();
    std::size_t got = 0;
    const int result = SSL_read_ex(tls_->ssl, out.data(), out.size(), &got);
    return result == 1 ? Step{Outcome::ok, got} : judge(result);
  }
  const ssize_t got = ::recv(socket_.native_handle(), out.data(), out.size(), MSG_DONTWAIT);
  if (got > 0) return {Outcome::ok, static_cast<std::size_t>(got)};
  if (got == 0) return {Outcome::ended};
  if (is_temporary(errno)) return {Outcome::want_read};
  return fail(std::error_code(errno, std::generic_category()).message());
}

ByteStream::Step ByteStream::write(ByteView bytes) {
  if (tls_) {
    if (tls_->failed) return {Outcome::failed};
    ERR_clear_error();
    std::size_t sent = 0;
    const int result = SSL_write_ex(tls_->ssl, bytes.data(), bytes.size(), &sent);
    return result == 1 ? Step{Outcome::ok, sent} : judge(result);
  }
  const ssize_t sent =
      ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0) return {Outcome::ok, static_cast<std::size_t>(sent)};
  if (is_temporary(errno)) return {Outcome::want_write};
  return fail(std::error_code(errno, std::generic_category()).message());
}

void ByteStream::end_writing() {
  if (!socket_.is_open()) return;
  if (tls_ && !tls_->failed && SSL_is_init_finished(tls_->ssl)) {
    SSL_shutdown(tls_->ssl);
    ERR_clear_error();
  }
  ::shutdown(socket_.native_handle(), SHUT_WR);
}

void ByteStream::reset() {
  reset_and_close(socket_);
}

}  // namespace ravine::services::http
