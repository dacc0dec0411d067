#include "services/lab/https_meter.h"

#include <fmt/format.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <thread>

#include "host/os_error.h"

namespace ravine::services {
namespace {

constexpr int kSegment = 1448;  // payload on Ethernet, with timestamps
// IPv4 and TCP with timestamps; a SYN has 8 bytes of options more.
constexpr std::uint64_t kHeaders = 52, kSynExtra = 8;

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using Tls = std::unique_ptr<SSL, Freed<SSL_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;

struct Descriptor {
  int value = -1;
  Descriptor() = default;
  explicit Descriptor(int opened) : value(opened) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

Error tls_error(std::string_view what) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  return {ErrorKind::internal, fmt::format("{}: {}", what, text.data())};
}

// A certificate of the size that public servers have: P-256, two names.
Result<Context> server_context() {
  Key key(EVP_EC_gen("P-256"));
  Certificate certificate(X509_new());
  if (!key || !certificate) return tls_error("cannot make a TLS key");
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 86400);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* name = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("homeserver.example"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  if (X509_sign(certificate.get(), key.get(), EVP_sha256()) == 0) return tls_error("cannot sign");
  Context context(SSL_CTX_new(TLS_server_method()));
  if (!context || SSL_CTX_use_certificate(context.get(), certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1)
    return tls_error("cannot set TLS up");
  SSL_CTX_set_num_tickets(context.get(), 1);
  return context;
}

bool limit_segment(int descriptor) {
  const int size = kSegment + 12;  // the option counts the timestamps in
  const timeval patience{.tv_sec = 10, .tv_usec = 0};
  const int yes = 1;
  return ::setsockopt(descriptor, IPPROTO_TCP, TCP_MAXSEG, &size, sizeof size) == 0 &&
         ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0 &&
         ::setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0;
}

struct Wire {
  std::uint64_t up = 0, down = 0;
};
// What the connection has cost so far, as seen by the client's kernel.
Wire wire_of(int descriptor) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
  return {info.tcpi_bytes_sent + info.tcpi_segs_out * kHeaders + kSynExtra,
          info.tcpi_bytes_received + info.tcpi_segs_in * kHeaders + kSynExtra};
}

bool write_all(SSL* tls, std::string_view text) {
  return SSL_write(tls, text.data(), static_cast<int>(text.size())) == static_cast<int>(text.size());
}

// One message: head, then as many bytes as Content-Length says.
bool read_message(SSL* tls, std::string& rest) {
  std::array<char, 16384> buffer;
  for (;;) {
    const std::size_t head = rest.find("\r\n\r\n");
    if (head != std::string::npos) {
      constexpr std::string_view kLength = "Content-Length: ";
      std::size_t length = 0;
      if (const std::size_t at = rest.find(kLength); at < head)
        std::from_chars(rest.data() + at + kLength.size(), rest.data() + head, length);
      if (rest.size() >= head + 4 + length) {
        rest.erase(0, head + 4 + length);
        return true;
      }
    }
    const int got = SSL_read(tls, buffer.data(), static_cast<int>(buffer.size()));
    if (got <= 0) return false;
    rest.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

void add_headers(std::string& out, const gateway::core::Headers& headers, const Bytes& body, bool length) {
  for (const auto& [name, value] : headers) out += fmt::format("{}: {}\r\n", name, value);
  if (length) out += fmt::format("Content-Length: {}\r\n", body.size());
  out += "\r\n";
  out += as_text(body);
}
std::string request_bytes(const lab::Exchange& exchange) {
  const auto request = lab::request_of(exchange, "homeserver.example");
  std::string out = fmt::format("{} {} HTTP/1.1\r\n", request.method, request.target);
  add_headers(out, request.headers, request.body, exchange.request.has_value());
  return out;
}
std::string response_bytes(const lab::Exchange& exchange) {
  const auto response = lab::response_of(exchange);
  std::string out = fmt::format("HTTP/1.1 {} OK\r\n", response.status);
  add_headers(out, response.headers, response.body, true);
  return out;
}

// Answers the trace in its order on one connection.
void serve(int listener, SSL_CTX* context, const lab::Trace& trace) {
  const Descriptor client(::accept(listener, nullptr, nullptr));
  if (client.value < 0 || !limit_segment(client.value)) return;
  const Tls tls(SSL_new(context));
  if (!tls || SSL_set_fd(tls.get(), client.value) != 1 || SSL_accept(tls.get()) != 1) return;
  std::string rest;
  for (const lab::Exchange& exchange : trace) {
    if (!read_message(tls.get(), rest) || !write_all(tls.get(), response_bytes(exchange))) return;
  }
  std::array<char, 16> end;
  (void)SSL_read(tls.get(), end.data(), static_cast<int>(end.size()));
}

Result<HttpsFigures> ask(int descriptor, const lab::Trace& trace) {
  Context context(SSL_CTX_new(TLS_client_method()));
  const Tls tls(context ? SSL_new(context.get()) : nullptr);
  if (!tls || SSL_set_fd(tls.get(), descriptor) != 1) return tls_error("cannot set TLS up");
  SSL_set_tlsext_host_name(tls.get(), "homeserver.example");
  if (SSL_connect(tls.get()) != 1) return tls_error("the TLS handshake on loopback failed");
  HttpsFigures figures;
  Wire before = wire_of(descriptor);
  figures.handshake_up = before.up;
  figures.handshake_down = before.down;
  std::string rest;
  for (const lab::Exchange& exchange : trace) {
    if (!write_all(tls.get(), request_bytes(exchange)) || !read_message(tls.get(), rest))
      return tls_error("an exchange over HTTPS failed");
    const Wire now = wire_of(descriptor);
    figures.exchanges.push_back({exchange.kind, 1, now.up - before.up, now.down - before.down});
    before = now;
  }
  return figures;
}

}  // namespace

std::uint64_t HttpsFigures::ip_bytes() const {
  std::uint64_t sum = handshake_up + handshake_down;
  for (const Part& part : exchanges) sum += part.up_bytes + part.down_bytes;
  return sum;
}

Result<HttpsFigures> measure_https(const lab::Trace& trace) {
  auto context = server_context();
  if (!context) return context.error();
  const Descriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Descriptor client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (listener.value < 0 || client.value < 0 || !limit_segment(listener.value) ||
      !limit_segment(client.value) || ::bind(listener.value, raw, size) != 0 ||
      ::listen(listener.value, 1) != 0 || ::getsockname(listener.value, raw, &size) != 0)
    return host::os_error(errno, "cannot open a TCP port on loopback");
  std::thread server([&] { serve(listener.value, context->get(), trace); });
  Result<HttpsFigures> figures = Error{ErrorKind::io, "cannot connect on loopback"};
  if (::connect(client.value, raw, size) == 0) figures = ask(client.value, trace);
  // Ends the server's read, or its accept.
  ::shutdown(client.value, SHUT_RDWR);
  ::shutdown(listener.value, SHUT_RDWR);
  server.join();
  return figures;
}

}  // namespace ravine::services
