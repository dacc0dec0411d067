// A TLS server for one request, whose certificate is made on the spot: good, or wrong in one way.
#pragma once

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <filesystem>
#include <string>

#include "services/http/test_net.h"

namespace ravine::services::http::test {

class TestTls {
 public:
  // For web.example and 127.0.0.1. `unframed` and `truncated` have good certificates; their response has no
  // length, and the latter ends without a close_notify.
  enum class Kind : std::uint8_t { good, expired, self_signed, unframed, truncated };

  TestTls(boost::asio::io_context& loop, Kind kind) : kind_(kind), server_(loop) {
    authority_key_ = EVP_EC_gen("P-256");
    authority_ = make_certificate("authority", authority_key_, nullptr, authority_key_, true);
    key_ = EVP_EC_gen("P-256");
    certificate_ = kind == Kind::self_signed
                       ? make_certificate("web.example", key_, nullptr, key_, false)
                       : make_certificate("web.example", key_, authority_, authority_key_, false);
    char pattern[] = "/tmp/ravine-http-ca-XXXXXX";
    const int descriptor = ::mkstemp(pattern);
    path_ = pattern;
    FILE* file = ::fdopen(descriptor, "w");
    PEM_write_X509(file, authority_);
    ::fclose(file);
    context_ = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context_, certificate_);
    SSL_CTX_use_PrivateKey(context_, key_);
  }
  TestTls(const TestTls&) = delete;
  TestTls& operator=(const TestTls&) = delete;
  ~TestTls() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    X509_free(certificate_);
    X509_free(authority_);
    EVP_PKEY_free(key_);
    EVP_PKEY_free(authority_key_);
    std::filesystem::remove(path_);
  }

  SocketAddress address() const { return server_.address(); }
  const std::string& ca_file() const { return path_; }
  const std::string& server_name() const { return server_name_; }  // that the client asked for

  // Answers the next connection's request with "secret", and runs the loop until `over`.
  void serve(const std::function<bool()>& over) {
    RawPeer peer = server_.accept();
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, peer.socket().native_handle());
    SSL_set_accept_state(ssl_);
    std::string request;
    bool shaken = false, answered = false;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!over() && std::chrono::steady_clock::now() < end) {
      loop().restart();
      loop().run_one_for(std::chrono::milliseconds(1));
      if (!shaken && peer.socket().is_open()) shaken = SSL_do_handshake(ssl_) == 1;
      if (!shaken || answered) continue;
      char chunk[4096];
      const int got = SSL_read(ssl_, chunk, sizeof chunk);
      if (got > 0) request.append(chunk, static_cast<std::size_t>(got));
      if (request.find("\r\n\r\n") == std::string::npos) continue;
      const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
      if (name != nullptr) server_name_ = name;
      answer(peer);
      answered = true;
    }
    ERR_clear_error();
  }

 private:
  boost::asio::io_context& loop() { return server_.loop(); }

  void answer(RawPeer& peer) {
    const bool framed = kind_ != Kind::unframed && kind_ != Kind::truncated;
    const std::string text =
        std::string("HTTP/1.1 200 OK\r\n") + (framed ? "Content-Length: 6\r\n" : "") + "\r\nsecret";
    SSL_write(ssl_, text.data(), static_cast<int>(text.size()));
    if (kind_ == Kind::unframed) SSL_shutdown(ssl_);
    if (!framed) peer.close();
  }

  X509* make_certificate(const char* name, EVP_PKEY* key, X509* issuer, EVP_PKEY* issuer_key,
                         bool authority) {
    X509* made = X509_new();
    X509_set_version(made, 2);
    static long serial = 1;
    ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial);
    const bool expired = kind_ == Kind::expired && !authority;
    X509_gmtime_adj(X509_getm_notBefore(made), -7200);
    X509_gmtime_adj(X509_getm_notAfter(made), expired ? -3600 : 3600);
    X509_set_pubkey(made, key);
    X509_NAME* subject = X509_get_subject_name(made);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name), -1,
                               -1, 0);
    X509_set_issuer_name(made, issuer != nullptr ? X509_get_subject_name(issuer) : subject);
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer != nullptr ? issuer : made, made, nullptr, nullptr, 0);
    const auto extend = [&](int id, const char* value) {
      X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value);
      X509_add_ext(made, extension, -1);
      X509_EXTENSION_free(extension);
    };
    extend(NID_basic_constraints, authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!authority) extend(NID_subject_alt_name, "DNS:web.example,IP:127.0.0.1");
    X509_sign(made, issuer_key, EVP_sha256());
    return made;
  }

  Kind kind_;
  RawServer server_;
  EVP_PKEY* authority_key_ = nullptr;
  EVP_PKEY* key_ = nullptr;
  X509* authority_ = nullptr;
  X509* certificate_ = nullptr;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  std::string path_, server_name_;
};

}  // namespace ravine::services::http::test
