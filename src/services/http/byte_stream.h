// A connected stream socket, in the clear or under TLS 1.2 or later as a client (OpenSSL), without blocking.
// Who drives it waits for what a step wants. Thread rule: the loop's thread.
#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "services/http/upstream.h"
#include "services/socket.h"

namespace ravine::services::http {

// Whom a TLS client trusts. Shared by all connections to one server.
class TlsContext {
 public:
  // Errors: io (ca_file cannot be read, or holds no certificate).
  static Result<std::shared_ptr<TlsContext>> make(const TlsOptions& options);
  ~TlsContext();
  struct Impl;
  explicit TlsContext(std::unique_ptr<Impl> impl);

 private:
  friend class ByteStream;
  std::unique_ptr<Impl> impl_;
};

class ByteStream {
 public:
  explicit ByteStream(Socket socket);  // in the clear
  // TLS for `host`, a name or an address literal: SNI (names only), and the certificate must be for it.
  ByteStream(Socket socket, const TlsContext& tls, const std::string& host);
  ByteStream(ByteStream&&) noexcept;
  ByteStream& operator=(ByteStream&&) noexcept;
  ~ByteStream();

  enum class Outcome : std::uint8_t {
    ok,
    want_read,   // again when readable
    want_write,  // again when writable
    ended,       // the other side ended its half, under TLS with a close_notify
    failed,      // error() says why
  };
  struct Step {
    Outcome outcome = Outcome::ok;
    std::size_t bytes = 0;  // with ok; 0 from handshake()
  };
  Step handshake();  // before read and write; ok at once in the clear
  Step read(MutableBytes out);
  Step write(ByteView bytes);
  void end_writing();  // FIN; under TLS a close_notify first
  const std::string& error() const { return error_; }

  Socket& socket() { return socket_; }
  void reset();  // closes with RST

 private:
  struct Tls;
  Step fail(std::string what);
  Step judge(int result);  // of an OpenSSL call

  Socket socket_;
  std::unique_ptr<Tls> tls_;
  std::string error_;
};

}  // namespace ravine::services::http
