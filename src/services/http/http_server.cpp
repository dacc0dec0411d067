#include "services/http/http_server.h"

#include <boost/asio/post.hpp>
#include <unordered_map>
#include <utility>

#include "host/clock.h"
#include "services/http/byte_stream.h"
#include "services/http/http_text.h"
#include "services/http/lazy_timer.h"
#include "services/http/message_reader.h"

namespace ravine::services::http {
namespace {

using gateway::core::HttpRequest;
using gateway::core::HttpResponse;

constexpr std::size_t kReadSize = std::size_t{64} << 10;    // bytes of one read
constexpr std::size_t kMaxEarly = std::size_t{64} << 10;    // bytes of further requests held while one waits
constexpr std::size_t kMaxDrained = std::size_t{16} << 20;  // bytes thrown away after a refusal
constexpr Duration kLinger = 2s;                            // for the client to read a last response
constexpr unsigned kStepsPerTurn = 64;                      // then other connections come first
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

struct HttpServer::Impl : std::enable_shared_from_this<Impl> {
  class Connection;

  Impl(boost::asio::io_context& io, HttpServerOptions given, OnRequest request, OnGone gone, Log sink)
      : loop(io),
        options(std::move(given)),
        on_request(std::move(request)),
        on_gone(std::move(gone)),
        log(sink),
        scratch(kReadSize) {}

  Result<std::vector<SocketAddress>> listen();
  void take(Socket socket);
  bool make_room();
  void close_listeners();
  void count_refusal(std::uint16_t status);

  boost::asio::io_context& loop;
  HttpServerOptions options;
  OnRequest on_request;
  OnGone on_gone;
  Log log;
  Bytes scratch;
  std::vector<std::shared_ptr<Socket>> listeners;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections;
  std::unordered_map<HttpId, Connection*> requests;
  HttpId last_id = 0;
  std::size_t buffered = 0;  // bytes of bodies, both ways
  bool stopping = false;
  Counters counters;
};

// One client. Reads a request, hands it over, writes its response, then reads the next: what a client sends
// ahead waits, so responses are in order by themselves.
class HttpServer::Impl::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Impl& server, Socket socket)
      : server_(server),
        stream_(std::move(socket)),
        reader_({server.options.max_target, server.options.max_head, server.options.max_body}),
        timer_(server.loop, [this] { expire(); }) {
    timer_.set(server_.options.idle_timeout);
  }

  void run() {
    if (running_) return;
    const auto keep = shared_from_this();
    running_ = true;
    for (unsigned steps = 0; phase_ != Phase::closed; ++steps) {
      if (steps == kStepsPerTurn) {
        boost::asio::post(server_.loop, [keep] { keep->run(); });
        break;
      }
      if (!step()) {
        arm();
        break;
      }
    }
    running_ = false;
  }

  void respond(HttpResponse response) {
    server_.requests.erase(id_);
    --server_.counters.waiting;
    ++server_.counters.responses;
    keep_alive_ = keep_alive_ && !server_.stopping;
    start_writing(std::move(response));
    run();
  }

  void end() {
    if (phase_ == Phase::closed) return;
    const auto keep = shared_from_this();
    if (phase_ == Phase::waiting) {
      server_.requests.erase(id_);
      --server_.counters.waiting;
    }
    phase_ = Phase::closed;
    charge(0);
    timer_.clear();
    boost::system::error_code ignored;
    stream_.socket().close(ignored);
    if (server_.connections.erase(this) > 0) --server_.counters.active;
  }

  // No request has begun: may be closed without anybody's loss.
  bool is_idle() const {
    return phase_ == Phase::lingering || (phase_ == Phase::reading && in_.size() == in_at_ &&
                                          reader_.state() == RequestReader::State::empty);
  }
  auto due() const { return timer_.due(); }

 private:
  enum class Phase : std::uint8_t { reading, waiting, writing, lingering, closed };

  // False when nothing more can be done before the socket is ready.
  bool step() {
    switch (phase_) {
      case Phase::reading:
        return read_request();
      case Phase::waiting:
        return watch();
      case Phase::writing:
        return write();
      case Phase::lingering:
        return drain();
      case Phase::closed:
        break;
    }
    return false;
  }

  void arm() {
    const bool reads = phase_ == Phase::reading || phase_ == Phase::lingering ||
                       (phase_ == Phase::waiting && in_.size() - in_at_ < kMaxEarly);
    if (reads) wait(Socket::wait_read, read_armed_);
    if (phase_ == Phase::writing) wait(Socket::wait_write, write_armed_);
  }

  void wait(Socket::wait_type what, bool& armed) {
    if (armed) return;
    armed = true;
    stream_.socket().async_wait(what, [weak = weak_from_this(), what](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!self || error) return;
      (what == Socket::wait_read ? self->read_armed_ : self->write_armed_) = false;
      self->run();
    });
  }

  // What the server holds for this connection counts against its limit.
  void charge(std::size_t bytes) {
    server_.buffered = server_.buffered - charged_ + bytes;
    charged_ = bytes;
  }

  bool receive() {
    const auto step = stream_.read(server_.scratch);
    if (step.outcome == ByteStream::Outcome::want_read) return false;
    if (step.outcome != ByteStream::Outcome::ok) {
      leave();
      return true;
    }
    server_.counters.bytes_in += step.bytes;
    if (in_at_ > 0) {
      in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(in_at_));
      in_at_ = 0;
    }
    in_.insert(in_.end(), server_.scratch.begin(),
               server_.scratch.begin() + static_cast<std::ptrdiff_t>(step.bytes));
    return true;
  }

  void leave() {
    const bool waited = phase_ == Phase::waiting;
    end();
    if (!waited) return;
    ++server_.counters.gone;
    if (server_.on_gone) server_.on_gone(id_);
  }

  bool read_request() {
    const auto before = reader_.state();
    const std::size_t used = reader_.feed(ByteView(in_).subspan(in_at_));
    in_at_ += used;
    if (in_at_ == in_.size()) {
      in_.clear();
      in_at_ = 0;
    }
    const auto state = reader_.state();
    if (before == RequestReader::State::empty && state != before) timer_.set(server_.options.head_timeout);
    switch (state) {
      case RequestReader::State::failed:
        refuse(reader_.fault().status, reader_.fault().reason);
        return true;
      case RequestReader::State::body:
        if (before != state) take_head();
        if (phase_ == Phase::reading && reader_.body_size() > charged_) charge(reader_.body_size());
        if (phase_ == Phase::reading && server_.buffered > server_.options.max_buffered) refuse_overload();
        break;
      case RequestReader::State::done:
        if (server_.buffered > server_.options.max_buffered) {
          refuse_overload();
        } else {
          hand_over();
        }
        return true;
      default:
        break;
    }
    return phase_ != Phase::reading || used > 0 || receive();
  }

  void take_head() {
    const RequestHead& head = reader_.head();
    timer_.set(server_.options.body_timeout);
    charge(static_cast<std::size_t>(head.content_length.value_or(0)));
    if (server_.buffered > server_.options.max_buffered) return refuse_overload();
    if (!head.expects_continue || in_at_ < in_.size()) return;
    const auto step = stream_.write(as_bytes(kContinue));
    if (step.outcome != ByteStream::Outcome::ok || step.bytes != kContinue.size()) return end();
    server_.counters.bytes_out += step.bytes;
  }

  void hand_over() {
    keep_alive_ = reader_.head().keep_alive;
    http_1_0_ = reader_.head().http_1_0;
    HttpRequest request = reader_.take();
    to_head_ = request.method == "HEAD";
    charge(request.body.size());
    phase_ = Phase::waiting;
    timer_.clear();
    id_ = ++server_.last_id;
    server_.requests.emplace(id_, this);
    ++server_.counters.requests;
    ++server_.counters.waiting;
    server_.on_request(id_, std::move(request));
  }

  // Reads ahead, so that a client that leaves is noticed.
  bool watch() { return in_.size() - in_at_ < kMaxEarly && receive(); }

  void start_writing(HttpResponse response) {
    out_ = write_response(std::move(response), {.to_head = to_head_,
                                                .http_1_0 = http_1_0_,
                                                .keep_alive = keep_alive_,
                                                .server = server_.options.name,
                                                .now = host::system_time()});
    charge(out_.size());
    phase_ = Phase::writing;
    timer_.set(server_.options.write_timeout);
  }

  bool write() {
    while (!out_.done()) {
      const auto step = stream_.write(out_.next());
      if (step.outcome == ByteStream::Outcome::want_write) return false;
      if (step.outcome != ByteStream::Outcome::ok) {
        end();
        return true;
      }
      out_.sent += step.bytes;
      server_.counters.bytes_out += step.bytes;
      timer_.set(server_.options.write_timeout);
    }
    charge(0);
    out_ = {};
    if (keep_alive_ && !server_.stopping) {
      phase_ = Phase::reading;
      timer_.set(server_.options.idle_timeout);
    } else {
      linger();
    }
    return true;
  }

  void refuse_overload() { refuse(503, "too many bodies are held already: try again later"); }

  // The connection ends after it: what follows cannot be told apart from the body that was not read.
  void refuse(std::uint16_t status, const std::string& reason) {
    server_.count_refusal(status);
    server_.log.debug("refused with {}: {}", status, reason);
    keep_alive_ = to_head_ = false;
    start_writing({status, {{"Content-Type", "text/plain"}}, to_bytes(as_bytes(reason + "\n"))});
  }

  // A close with unread bytes is a reset, which may destroy the response (RFC 9112 §9.6).
  void linger() {
    phase_ = Phase::lingering;
    in_ = {};
    in_at_ = 0;
    stream_.end_writing();
    timer_.set(kLinger);
  }

  bool drain() {
    const auto step = stream_.read(server_.scratch);
    if (step.outcome == ByteStream::Outcome::want_read) return false;
    drained_ += step.bytes;
    if (step.outcome != ByteStream::Outcome::ok || drained_ > kMaxDrained) end();
    return true;
  }

  void expire() {
    const auto keep = shared_from_this();
    if (phase_ == Phase::reading && !is_idle()) {
      refuse(408, "the request did not arrive in time");
      return run();
    }
    if (phase_ == Phase::writing) {
      ++server_.counters.timed_out;
      stream_.reset();
    }
    end();
  }

  Impl& server_;
  ByteStream stream_;
  RequestReader reader_;
  LazyTimer timer_;
  Phase phase_ = Phase::reading;
  bool running_ = false, read_armed_ = false, write_armed_ = false;
  Bytes in_;
  std::size_t in_at_ = 0;  // up to where `in_` is read
  std::size_t charged_ = 0, drained_ = 0;
  HttpId id_ = 0;
  bool keep_alive_ = false, http_1_0_ = false, to_head_ = false;
  Outgoing out_;
};

Result<std::vector<SocketAddress>> HttpServer::Impl::listen() {
  if (options.listen.empty())
    return Error{ErrorKind::invalid_argument, "the HTTP server has no address to listen on"};
  std::vector<SocketAddress> bound;
  for (const SocketAddress& address : options.listen) {
    auto listener = listen_tcp(loop, address);
    if (!listener) {
      close_listeners();
      return listener.error().with_context("HTTP server");
    }
    listeners.push_back(std::make_shared<Socket>(std::move(*listener)));
    bound.push_back(local_address(*listeners.back()));
  }
  for (const auto& listener : listeners) {
    accept_loop(loop, listener, [weak = weak_from_this()](Socket socket) {
      if (const auto self = weak.lock()) self->take(std::move(socket));
    });
  }
  return bound;
}

void HttpServer::Impl::take(Socket socket) {
  ++counters.accepted;
  if (connections.size() >= options.max_connections && !make_room()) {
    ++counters.over_limit;
    return reset_and_close(socket);
  }
  set_no_delay(socket);
  auto connection = std::make_shared<Connection>(*this, std::move(socket));
  connections.emplace(connection.get(), connection);
  ++counters.active;
  connection->run();
}

bool HttpServer::Impl::make_room() {
  Connection* longest = nullptr;
  for (const auto& [connection, owner] : connections) {
    if (connection->is_idle() && (longest == nullptr || connection->due() < longest->due()))
      longest = connection;
  }
  if (longest == nullptr) return false;
  longest->end();
  return true;
}

void HttpServer::Impl::close_listeners() {
  boost::system::error_code ignored;
  for (const auto& listener : listeners) listener->close(ignored);
  listeners.clear();
}

void HttpServer::Impl::count_refusal(std::uint16_t status) {
  switch (status) {
    case 408:
      ++counters.timed_out;
      break;
    case 413:
    case 414:
    case 431:
      ++counters.too_large;
      break;
    case 417:
    case 501:
      ++counters.unsupported;
      break;
    case 503:
      ++counters.overloaded;
      break;
    default:
      ++counters.malformed;
  }
}

HttpServer::HttpServer(boost::asio::io_context& loop, HttpServerOptions options, OnRequest on_request,
                       OnGone on_gone, Log log)
    : impl_(
          std::make_shared<Impl>(loop, std::move(options), std::move(on_request), std::move(on_gone), log)) {}

HttpServer::~HttpServer() {
  impl_->close_listeners();
  impl_->on_gone = nullptr;
  while (!impl_->connections.empty()) impl_->connections.begin()->first->end();
}

Result<std::vector<SocketAddress>> HttpServer::start() {
  return impl_->listen();
}

void HttpServer::stop() {
  impl_->stopping = true;
  impl_->close_listeners();
  std::vector<std::shared_ptr<Impl::Connection>> idle;
  for (const auto& [connection, owner] : impl_->connections)
    if (connection->is_idle()) idle.push_back(owner);
  for (const auto& connection : idle) connection->end();
}

void HttpServer::respond(HttpId id, HttpResponse response) {
  const auto found = impl_->requests.find(id);
  if (found != impl_->requests.end()) found->second->respond(std::move(response));
}

const HttpServer::Counters& HttpServer::counters() const {
  return impl_->counters;
}

}  // namespace ravine::services::http
