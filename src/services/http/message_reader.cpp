// The only file that compiles Beast.
#include "services/http/message_reader.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/vector_body.hpp>
#include <utility>

#include "base/ensure.h"
#include "services/http/http_text.h"

namespace ravine::services::http {
namespace {

namespace beast = boost::beast::http;
using gateway::core::Headers;
using Body = beast::vector_body<std::uint8_t>;
using boost::system::error_code;

constexpr std::size_t kMaxFields = 128;
// The shortest end of a chunked body, "0", CRLF, CRLF. Beast asserts that it is given so much at a time.
constexpr std::size_t kMinChunked = 5;
constexpr unsigned kMaxInterim = 16;  // 1xx responses before the final one

// Looks for the end of a head in bytes that come in pieces, and for what Beast accepts and we do not: bare
// line ends, folded lines (RFC 9112 §2.2, §5.2), NUL. Every byte is looked at once.
class HeadScan {
 public:
  enum class Outcome : std::uint8_t { need_more, found, malformed, too_many };

  Outcome scan(ByteView bytes) {
    for (; at_ < bytes.size(); ++at_) {
      const std::uint8_t c = bytes[at_];
      if (after_return_ != (c == '\n') || c == 0) return Outcome::malformed;
      after_return_ = c == '\r';
      if (c == '\n') {
        if (line_bytes_ == 0) return ++at_, Outcome::found;
        if (++lines_ > kMaxFields + 1) return Outcome::too_many;
        line_bytes_ = 0;
      } else if (c != '\r') {
        if (line_bytes_++ == 0 && (c == ' ' || c == '\t')) return Outcome::malformed;
      }
    }
    return Outcome::need_more;
  }
  std::size_t size() const { return at_; }
  bool in_first_line() const { return lines_ == 0; }
  void reset() { *this = HeadScan(); }

 private:
  std::size_t at_ = 0, lines_ = 0, line_bytes_ = 0;
  bool after_return_ = false;
};

template <bool IsRequest>
Headers copy_fields(const beast::parser<IsRequest, Body>& parser) {
  Headers headers;
  for (const auto& field : parser.get()) headers.emplace_back(field.name_string(), field.value());
  return headers;
}

std::size_t count(const Headers& headers, std::string_view name) {
  return static_cast<std::size_t>(std::count_if(headers.begin(), headers.end(), [name](const auto& header) {
    return equals_ignoring_case(header.first, name);
  }));
}

// Of the start of a chunk's line or of trailers, which Beast would wait for an end of.
bool has_bare_line_end(ByteView bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] == '\n' && (i == 0 || bytes[i - 1] != '\r')) return true;
  return false;
}

boost::asio::const_buffer as_buffer(ByteView bytes) {
  return {bytes.data(), bytes.size()};
}

}  // namespace

std::string_view reason_phrase(std::uint16_t status) {
  const auto text = beast::obsolete_reason(beast::int_to_status(status));
  return {text.data(), text.size()};
}

struct RequestReader::Impl {
  using Parser = beast::request_parser<Body>;

  explicit Impl(const ReadLimits& given) : limits(given) {}

  ReadLimits limits;
  State state = State::empty;
  HeadScan scan;
  std::optional<Parser> parser;
  RequestHead head;
  gateway::core::HttpRequest request;
  ReadFault fault;

  void fail(std::uint16_t status, std::string reason) {
    state = State::failed;
    fault = {status, std::move(reason)};
    parser.reset();
  }

  void fail(const error_code& error) {
    if (error == beast::error::body_limit) return fail(413, "the body is too large");
    fail(400, "malformed: " + error.message());
  }

  std::size_t feed_head(ByteView bytes) {
    // An empty line in front of a request is skipped (RFC 9112 §2.2).
    std::size_t skipped = 0;
    while (state == State::empty && bytes.size() - skipped >= 2 && bytes[skipped] == '\r' &&
           bytes[skipped + 1] == '\n')
      skipped += 2;
    bytes = bytes.subspan(skipped);
    if (bytes.empty() || (state == State::empty && bytes.size() == 1 && bytes[0] == '\r')) return skipped;
    state = State::head;
    if (!is_token(as_text(bytes.first(1)))) {
      fail(400, "no HTTP request");
      return skipped;
    }
    const auto outcome = scan.scan(bytes.first(std::min(bytes.size(), limits.max_head)));
    switch (outcome) {
      case HeadScan::Outcome::need_more:
        if (bytes.size() >= limits.max_head)
          fail(scan.in_first_line() ? 414 : 431, "the request's head is too large");
        return skipped;
      case HeadScan::Outcome::malformed:
        fail(400, "malformed: a bare line end, a folded line or a NUL");
        return skipped;
      case HeadScan::Outcome::too_many:
        fail(431, "too many fields");
        return skipped;
      case HeadScan::Outcome::found:
        parse_head(bytes.first(scan.size()));
        return skipped + (state == State::failed ? 0 : scan.size());
    }
    return skipped;
  }

  void parse_head(ByteView bytes) {
    parser.emplace();
    parser->eager(false);
    parser->header_limit(static_cast<std::uint32_t>(limits.max_head + 1));
    parser->body_limit(limits.max_body);
    error_code error;
    while (!parser->is_header_done() && !error) bytes = bytes.subspan(parser->put(as_buffer(bytes), error));
    if (error) return fail(error);
    const auto& message = parser->get();
    request.method = message.method_string();
    request.target = message.target();
    request.headers = copy_fields(*parser);
    head = {};
    head.http_1_0 = message.version() == 10;
    head.keep_alive = message.keep_alive();
    check_framing();
    if (state != State::failed) check_host();
    if (state != State::failed) check_target();
    if (state == State::failed) return;
    parser->eager(true);
    state = State::body;
    if (parser->is_done()) finish();
  }

  // RFC 9112 §6: one framing, spelled in one way.
  void check_framing() {
    const std::size_t lengths = count(request.headers, "content-length");
    const std::size_t codings = count(request.headers, "transfer-encoding");
    if (lengths + codings > 1) return fail(400, "the body's length is given twice");
    if (lengths == 1) {
      const std::string_view length = gateway::core::header_value(request.headers, "content-length");
      if (length.size() > 18 || length.find_first_not_of("0123456789") != std::string_view::npos)
        return fail(400, "Content-Length is no number");
      head.content_length = std::stoull(std::string(length));
    }
    if (codings == 1) {
      const std::string_view coding = gateway::core::header_value(request.headers, "transfer-encoding");
      if (!equals_ignoring_case(coding, "chunked"))
        return fail(400, "a Transfer-Encoding other than chunked");
      if (head.http_1_0) return fail(400, "Transfer-Encoding in HTTP/1.0");
    }
    const std::string_view expect = gateway::core::header_value(request.headers, "expect");
    if (expect.empty() || head.http_1_0) return;
    if (!equals_ignoring_case(expect, "100-continue")) return fail(417, "only 100-continue can be expected");
    head.expects_continue = codings == 1 || head.content_length.value_or(0) > 0;
  }

  void check_host() {
    const std::size_t hosts = count(request.headers, "host");
    if (hosts > 1) return fail(400, "more than one Host");
    if (hosts == 0 && !head.http_1_0) return fail(400, "no Host");
    const std::string_view host = gateway::core::header_value(request.headers, "host");
    if (!host.empty() && !is_authority(host)) fail(400, "Host is no name with an optional port");
  }

  void check_target() {
    if (request.method == "CONNECT") return fail(501, "CONNECT: this is no tunnel");
    if (request.target.size() > limits.max_target) return fail(414, "the target is too long");
    if (request.target == "*" && request.method == "OPTIONS") return;
    if (is_origin_form(request.target)) return;
    auto url = parse_url(request.target);
    if (!url) return fail(400, "the target is neither in origin nor in absolute form");
    // RFC 9112 §3.2.2 and §3.2.4.
    const bool whole_server = request.method == "OPTIONS" && !url->has_path && url->target == "/";
    request.target = whole_server ? "*" : std::move(url->target);
    const auto host = std::find_if(request.headers.begin(), request.headers.end(), [](const auto& header) {
      return equals_ignoring_case(header.first, "host");
    });
    if (host != request.headers.end()) {
      host->second = std::move(url->authority);
    } else {
      request.headers.emplace(request.headers.begin(), "Host", std::move(url->authority));
    }
  }

  std::size_t feed_body(ByteView bytes) {
    if (bytes.size() < (parser->chunked() ? kMinChunked : 1)) return 0;
    error_code error;
    const std::size_t used = parser->put(as_buffer(bytes), error);
    if (error && error != beast::error::need_more) {
      fail(error);
    } else if (parser->is_done()) {
      finish();
    } else if (bytes.size() - used > limits.max_head || has_bare_line_end(bytes.subspan(used))) {
      fail(400, "malformed: a chunk's line or trailers without end");
    }
    return used;
  }

  void finish() {
    request.body = std::move(parser->get().body());
    parser.reset();
    state = State::done;
  }
};

RequestReader::RequestReader(const ReadLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestReader::RequestReader(RequestReader&&) noexcept = default;
RequestReader& RequestReader::operator=(RequestReader&&) noexcept = default;
RequestReader::~RequestReader() = default;

RequestReader::State RequestReader::state() const {
  return impl_->state;
}

std::size_t RequestReader::feed(ByteView bytes) {
  switch (impl_->state) {
    case State::empty:
    case State::head:
      return impl_->feed_head(bytes);
    case State::body:
      return impl_->feed_body(bytes);
    case State::done:
    case State::failed:
      break;
  }
  return 0;
}

const RequestHead& RequestReader::head() const {
  ensure(impl_->state == State::body || impl_->state == State::done);
  return impl_->head;
}

const ReadFault& RequestReader::fault() const {
  ensure(impl_->state == State::failed);
  return impl_->fault;
}

std::size_t RequestReader::body_size() const {
  return impl_->parser ? impl_->parser->get().body().size() : impl_->request.body.size();
}

gateway::core::HttpRequest RequestReader::take() {
  ensure(impl_->state == State::done);
  impl_->state = State::empty;
  impl_->scan.reset();
  return std::exchange(impl_->request, {});
}

struct ResponseReader::Impl {
  using Parser = beast::response_parser<Body>;

  explicit Impl(const ReadLimits& given) : limits(given) {}

  ReadLimits limits;
  State state = State::reading;
  HeadScan scan;
  std::optional<Parser> parser;  // from the head's end on
  bool head_request = false;
  bool keep_alive = false;
  unsigned interim = 0;
  gateway::core::HttpResponse response;

  void fail(const error_code& error) {
    const bool large = error == beast::error::body_limit || error == beast::error::header_limit ||
                       error == beast::error::buffer_overflow;
    state = large ? State::too_large : State::malformed;
  }

  std::size_t feed_head(ByteView bytes) {
    const auto outcome = scan.scan(bytes.first(std::min(bytes.size(), limits.max_head)));
    if (outcome == HeadScan::Outcome::need_more) {
      if (bytes.size() >= limits.max_head) state = State::too_large;
      return 0;
    }
    if (outcome != HeadScan::Outcome::found) {
      state = outcome == HeadScan::Outcome::too_many ? State::too_large : State::malformed;
      return 0;
    }
    const std::size_t size = scan.size();
    scan.reset();
    parse_head(bytes.first(size));
    return size;
  }

  void parse_head(ByteView bytes) {
    parser.emplace();
    parser->eager(false);
    parser->skip(head_request);
    parser->header_limit(static_cast<std::uint32_t>(limits.max_head + 1));
    parser->body_limit(limits.max_body);
    error_code error;
    while (!parser->is_header_done() && !error) bytes = bytes.subspan(parser->put(as_buffer(bytes), error));
    if (error) return fail(error);
    response.status = static_cast<std::uint16_t>(parser->get().result_int());
    if (response.status < 200) {
      // Nobody asked for another protocol (RFC 9110 §15.2.2).
      if (response.status < 100 || response.status == 101 || ++interim > kMaxInterim)
        state = State::malformed;
      parser.reset();
      return;
    }
    response.headers = copy_fields(*parser);
    keep_alive = parser->keep_alive();
    const std::string_view coding = gateway::core::header_value(response.headers, "transfer-encoding");
    if (response.status > 599 || (!coding.empty() && !equals_ignoring_case(coding, "chunked"))) {
      state = State::malformed;
      return;
    }
    parser->eager(true);
    if (parser->is_done()) finish();
  }

  std::size_t feed_body(ByteView bytes) {
    if (bytes.size() < (parser->chunked() ? kMinChunked : 1)) return 0;
    error_code error;
    const std::size_t used = parser->put(as_buffer(bytes), error);
    if (error && error != beast::error::need_more) {
      fail(error);
    } else if (parser->is_done()) {
      finish();
    } else if (bytes.size() - used > limits.max_head || has_bare_line_end(bytes.subspan(used))) {
      state = State::malformed;
    }
    return used;
  }

  void finish() {
    response.body = std::move(parser->get().body());
    state = State::done;
  }
};

ResponseReader::ResponseReader(const ReadLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
ResponseReader::ResponseReader(ResponseReader&&) noexcept = default;
ResponseReader& ResponseReader::operator=(ResponseReader&&) noexcept = default;
ResponseReader::~ResponseReader() = default;

void ResponseReader::expect(bool head_request) {
  impl_ = std::make_unique<Impl>(impl_->limits);
  impl_->head_request = head_request;
}

ResponseReader::State ResponseReader::state() const {
  return impl_->state;
}

std::size_t ResponseReader::feed(ByteView bytes) {
  std::size_t used = 0;
  while (impl_->state == State::reading) {
    const ByteView rest = bytes.subspan(used);
    const std::size_t now = impl_->parser ? impl_->feed_body(rest) : impl_->feed_head(rest);
    used += now;
    if (now == 0) break;
  }
  return used;
}

void ResponseReader::feed_end() {
  if (impl_->state != State::reading) return;
  if (!impl_->parser) {
    impl_->state = State::malformed;
    return;
  }
  error_code error;
  impl_->parser->put_eof(error);
  if (error) {
    impl_->state = State::malformed;
  } else {
    impl_->finish();
  }
}

bool ResponseReader::keep_alive() const {
  return impl_->keep_alive;
}

gateway::core::HttpResponse ResponseReader::take() {
  ensure(impl_->state == State::done);
  impl_->parser.reset();
  return std::exchange(impl_->response, {});
}

}  // namespace ravine::services::http
