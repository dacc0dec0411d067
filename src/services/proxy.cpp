#include "services/proxy.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <set>
#include <utility>

#include "services/http_protocol.h"
#include "services/target.h"
#include "services/udp_association.h"

namespace ravine::services {
namespace {

constexpr std::uint8_t kSocksVersion = 5;
constexpr std::size_t kMaxEarlyBytes = 64 * 1024;  // that a client sends before its tunnel is open

// RFC 1928 §6 for an error of ours.
SocksReply to_socks_reply(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::refused:
      return SocksReply::not_allowed;
    case ErrorKind::not_found:
    case ErrorKind::unreachable:
      return SocksReply::host_unreachable;
    case ErrorKind::closed:
      return SocksReply::connection_refused;
    case ErrorKind::timed_out:
      return SocksReply::ttl_expired;
    default:
      return SocksReply::general_failure;
  }
}

std::string to_http_answer(const Error& error) {
  switch (error.kind) {
    case ErrorKind::refused:
      return make_http_answer(403, "Forbidden", "text/plain", error.message + "\n");
    case ErrorKind::invalid_argument:
      return make_http_answer(400, "Bad Request", "text/plain", error.message + "\n");
    case ErrorKind::timed_out:
      return make_http_answer(504, "Gateway Timeout", "text/plain", error.message + "\n");
    default:
      return make_http_answer(502, "Bad Gateway", "text/plain", error.message + "\n");
  }
}

}  // namespace

struct ProxyServer::Impl : std::enable_shared_from_this<Impl> {
  class Client;
  Impl(Tunnels& all_tunnels, ProxyOptions given)
      : tunnels(all_tunnels), options(std::move(given)), log(all_tunnels.context().log.named("proxy")) {}

  Tunnels& tunnels;
  ProxyOptions options;
  Log log;
  std::shared_ptr<Socket> listener;
  std::set<std::shared_ptr<Client>> clients;
  Counters counters;

  void take(Socket socket);
};

// One client until its tunnel is open (then the pump has the socket) or its association ends.
class ProxyServer::Impl::Client : public std::enable_shared_from_this<Client> {
 public:
  Client(Impl& server, Socket socket)
      : server_(server),
        socket_(std::move(socket)),
        handshake_(server.options.credentials),
        timer_(server.tunnels.context().loop) {}

  void start() {
    timer_.expires_after(
        std::chrono::duration_cast<boost::asio::steady_timer::duration>(server_.options.handshake_timeout));
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self) return;
      ++self->server_.counters.timed_out;
      self->end();
    });
    wait();
  }

  void end() {
    timer_.cancel();
    boost::system::error_code ignored;
    if (socket_.is_open()) {
      ::shutdown(socket_.native_handle(), SHUT_WR);
      drain();  // unread bytes would turn the close into a reset that destroys our answer
      socket_.close(ignored);
    }
    opening_.reset();
    if (association_) association_->close();
    const auto keep = shared_from_this();
    if (server_.clients.erase(keep) > 0) --server_.counters.active;
  }

 private:
  enum class State : std::uint8_t { handshake, opening, associated };

  void drain() {
    std::uint8_t sink[4096];
    while (::recv(socket_.native_handle(), sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
  }

  void wait() {
    socket_.async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self || !self->socket_.is_open()) return;
      self->read();
    });
  }

  void read() {
    const auto keep = shared_from_this();
    std::uint8_t chunk[4096];
    const ssize_t got = ::recv(socket_.native_handle(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) return end();
    if (got > 0 && state_ != State::associated) {
      buffer_.insert(buffer_.end(), chunk, chunk + got);
      if (state_ == State::handshake && !advance()) return;
    }
    // While the tunnel opens, a bounded number of early bytes is read, so that a client that leaves is
    // noticed.
    if (socket_.is_open() && (state_ != State::opening || buffer_.size() < kMaxEarlyBytes)) wait();
  }

  // False when this client ended.
  bool advance() {
    if (buffer_.empty()) return true;
    return buffer_[0] == kSocksVersion || handshake_.state() != SocksHandshake::State::greeting
               ? advance_socks()
               : advance_http();
  }

  bool advance_socks() {
    Bytes out;
    const std::size_t used = handshake_.feed(buffer_, out);
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(used));
    if (!out.empty() && !send(out)) return false;
    if (handshake_.state() == SocksHandshake::State::failed) {
      ++server_.counters.malformed;
      end();
      return false;
    }
    if (handshake_.state() != SocksHandshake::State::done) return true;
    if (handshake_.request().command == SocksCommand::udp_associate) return associate();
    open(handshake_.request().host, handshake_.request().port);
    return true;
  }

  bool advance_http() {
    HttpParse parse = parse_http_head(buffer_);
    if (parse.outcome == HttpOutcome::need_more) return true;
    if (parse.outcome != HttpOutcome::ready) {
      ++server_.counters.malformed;
      const bool large = parse.outcome == HttpOutcome::too_large;
      return refuse_http(
          large ? make_http_answer(431, "Request Header Fields Too Large", "text/plain", "too large\n")
                : make_http_answer(400, "Bad Request", "text/plain", "malformed request\n"));
    }
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(parse.size));
    http_ = true;
    if (!server_.options.credentials.empty() && !is_authorised(parse.head)) {
      ++server_.counters.denied;
      return refuse_http(make_http_answer(407, "Proxy Authentication Required", "text/plain",
                                          "this proxy wants a user and a password\n",
                                          "Proxy-Authenticate: Basic realm=\"ravine\"\r\n"));
    }
    if (parse.head.method != "CONNECT") {
      ++server_.counters.malformed;
      return refuse_http(
          make_http_answer(405, "Method Not Allowed", "text/plain",
                           "this proxy speaks CONNECT and SOCKS5 only: use socks5h://, or for curl "
                           "--proxytunnel\n",
                           "Allow: CONNECT\r\n"));
    }
    const auto target = HostPort::parse(parse.head.target);  // RFC 9110 §9.3.6: host and port
    if (!target || target->host.empty()) {
      ++server_.counters.malformed;
      return refuse_http(
          make_http_answer(400, "Bad Request", "text/plain", "CONNECT wants HOST:PORT, and nothing else\n"));
    }
    open(target->host, target->port);
    return true;
  }

  bool is_authorised(const HttpHead& head) const {
    const std::string* value = head.field("proxy-authorization");
    const auto pair = value == nullptr ? std::nullopt : parse_basic(*value);
    return pair && is_accepted(server_.options.credentials, pair->first, pair->second);
  }

  bool refuse_http(const std::string& answer) {
    send(as_bytes(answer));
    end();
    return false;
  }

  void open(const std::string& host, std::uint16_t port) {
    ++server_.counters.connects;
    state_ = State::opening;
    is_overlay_host_ = check_overlay_host(host).ok();
    timer_.cancel();
    opening_ = server_.tunnels.open(host, port, [weak = weak_from_this()](Result<OpenedStream> opened) {
      if (const auto self = weak.lock()) self->opened(std::move(opened));
    });
  }

  void opened(Result<OpenedStream> result) {
    const auto keep = shared_from_this();
    ServiceContext& context = server_.tunnels.context();
    session::Session* session = result ? context.driver.endpoint().find(result->session) : nullptr;
    if (session == nullptr) {
      const Error error = result ? Error{ErrorKind::unreachable, "the session ended"} : result.error();
      ++(error.kind == ErrorKind::refused ? server_.counters.refused : server_.counters.failed);
      server_.log.info("a connection was not made ({}{}); details at debug level", to_text(error.kind),
                       is_overlay_host_ ? "" : ": only NAME.fuse and fdcc… addresses lead to peers");
      server_.log.debug("not connected: {}", error.message);
      send(http_ ? to_bytes(as_bytes(to_http_answer(error)))
                 : encode_socks_reply(to_socks_reply(error.kind), {}));
      return end();
    }
    constexpr std::string_view kEstablished = "HTTP/1.1 200 Connection established\r\n\r\n";
    const bool sent =
        http_ ? send(as_bytes(kEstablished)) : send(encode_socks_reply(SocksReply::succeeded, {}));
    if (!sent) {
      session->reset(result->stream, session::AppError::connection_reset);
      session->stop(result->stream, session::AppError::connection_reset);
      return;
    }
    set_no_delay(socket_);
    Socket socket = release_socket();
    start_pump(context, *session, result->stream, std::move(socket),
               {.first = std::move(buffer_), .counters = &server_.tunnels.pump_counters(), .on_end = {}});
    end();
  }

  // The pump's socket must not share our pending wait.
  Socket release_socket() {
    boost::system::error_code ignored;
    socket_.cancel(ignored);
    Socket socket = std::move(socket_);
    return socket;
  }

  bool associate() {
    ++server_.counters.associates;
    const SocketAddress here = local_address(socket_);
    const SocketAddress peer = remote_address(socket_);
    auto socket = bind_udp(server_.tunnels.context().loop, {here.ip, 0});
    if (!socket) {
      send(encode_socks_reply(SocksReply::general_failure, {}));
      end();
      return false;
    }
    const SocksRequest& request = handshake_.request();
    const auto announced = IpAddress::parse(request.host);
    const bool fixed_port = announced && *announced == peer.ip;
    association_ = std::make_shared<UdpAssociation>(
        server_.tunnels, std::move(*socket),
        SocketAddress{peer.ip, fixed_port ? request.port : std::uint16_t{0}});
    association_->start();
    state_ = State::associated;
    timer_.cancel();
    return send(encode_socks_reply(SocksReply::succeeded, association_->address()));
  }

  // Answers are small and the socket is fresh: what does not fit at once comes from a client that does not
  // read.
  bool send(ByteView bytes) {
    const ssize_t sent =
        ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(bytes.size())) return true;
    end();
    return false;
  }

  Impl& server_;
  Socket socket_;
  SocksHandshake handshake_;
  boost::asio::steady_timer timer_;
  bool is_overlay_host_ = true;
  State state_ = State::handshake;
  bool http_ = false;
  Bytes buffer_;
  Pending opening_;
  std::shared_ptr<UdpAssociation> association_;
};

void ProxyServer::Impl::take(Socket socket) {
  ++counters.accepted;
  if (clients.size() >= options.max_clients) {
    ++counters.over_limit;
    return reset_and_close(socket);
  }
  ++counters.active;
  auto client = std::make_shared<Client>(*this, std::move(socket));
  clients.insert(client);
  client->start();
}

ProxyServer::ProxyServer(Tunnels& tunnels, ProxyOptions options)
    : impl_(std::make_shared<Impl>(tunnels, std::move(options))) {}

ProxyServer::~ProxyServer() {
  stop();
  for (const auto& client : std::set(impl_->clients)) client->end();
}

Result<> ProxyServer::start() {
  const ProxyOptions& options = impl_->options;
  if (!options.listen.ip.is_loopback() && options.credentials.empty()) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("the proxy on {} would be open to others: listen on 127.0.0.1, or give it users",
                             options.listen.to_text())};
  }
  for (const Credential& credential : options.credentials) {
    if (credential.user.empty() || credential.user.size() > 255 || credential.password.empty() ||
        credential.password.size() > 255) {
      return Error{ErrorKind::invalid_argument, "a proxy user's name and password have 1 to 255 bytes"};
    }
  }
  auto listener = listen_tcp(impl_->tunnels.context().loop, options.listen);
  if (!listener) return listener.error().with_context("proxy");
  impl_->listener = std::make_shared<Socket>(std::move(*listener));
  accept_loop(impl_->tunnels.context().loop, impl_->listener, [weak = std::weak_ptr(impl_)](Socket socket) {
    if (const auto impl = weak.lock()) impl->take(std::move(socket));
  });
  return {};
}

void ProxyServer::stop() {
  if (!impl_->listener) return;
  boost::system::error_code ignored;
  impl_->listener->close(ignored);
  impl_->listener.reset();
}

SocketAddress ProxyServer::address() const {
  return impl_->listener ? local_address(*impl_->listener) : SocketAddress{};
}
const ProxyServer::Counters& ProxyServer::counters() const {
  return impl_->counters;
}

}  // namespace ravine::services
