// RequestReader and ResponseReader: bytes of a connection to HTTP/1.1 messages, one after the other, strictly
// (RFC 9112). Beast parses; what it lets pass and a gateway must not is checked here. No sockets, no clock.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/bytes.h"
#include "gateway/core/http.h"

namespace ravine::services::http {

std::string_view reason_phrase(std::uint16_t status);  // "Unknown Status" for codes that have none

struct ReadLimits {
  std::size_t max_target = 8192;  // bytes
  std::size_t max_head = std::size_t{24}
                         << 10;  // bytes of start line and fields; of a chunk's line, of trailers
  std::size_t max_body = std::size_t{4} << 20;  // bytes
};

// Why a message is not taken: the status that a client gets.
struct ReadFault {
  std::uint16_t status = 400;
  std::string reason;
};

struct RequestHead {
  bool keep_alive = true;  // the client's wish (RFC 9112 §9.3)
  bool expects_continue = false;
  bool http_1_0 = false;
  std::optional<std::uint64_t> content_length;
};

class RequestReader {
 public:
  explicit RequestReader(const ReadLimits& limits);
  RequestReader(RequestReader&&) noexcept;
  RequestReader& operator=(RequestReader&&) noexcept;
  ~RequestReader();

  enum class State : std::uint8_t {
    empty,   // no byte of a request yet
    head,    // within start line and fields
    body,    // head() is there
    done,    // take() it
    failed,  // fault() says why; takes nothing more
  };
  State state() const;
  // Reads at most one request; returns how many bytes it used, what is left comes again with more behind it.
  // Uses nothing when more is needed: the caller keeps at most max_head unused bytes and a chunk's line.
  std::size_t feed(ByteView bytes);
  const RequestHead& head() const;    // requires body or done
  const ReadFault& fault() const;     // requires failed
  std::size_t body_size() const;      // bytes held
  gateway::core::HttpRequest take();  // requires done; then empty

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class ResponseReader {
 public:
  explicit ResponseReader(const ReadLimits& limits);
  ResponseReader(ResponseReader&&) noexcept;
  ResponseReader& operator=(ResponseReader&&) noexcept;
  ~ResponseReader();

  // Before each response: whether it answers HEAD, and so has no body.
  void expect(bool head_request);
  enum class State : std::uint8_t { reading, done, malformed, too_large };
  State state() const;
  std::size_t feed(ByteView bytes);  // as RequestReader's; 1xx responses are skipped
  void feed_end();                   // the connection ended: done for a body without a length, else malformed
  bool keep_alive() const;           // requires done
  gateway::core::HttpResponse take();  // requires done

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::services::http
