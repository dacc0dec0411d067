#include "services/control_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <map>
#include <set>
#include <utility>

#include "host/os_error.h"

namespace ravine::services {
namespace {

namespace json = boost::json;

constexpr int kParseError = -32700, kInvalidRequest = -32600, kMethodNotFound = -32601,
              kInvalidParams = -32602;
constexpr int kFirstOwnCode = -32000;           // minus ErrorKind
constexpr std::size_t kMaxOutput = 16u << 20;   // bytes waiting for a client that does not read
constexpr std::size_t kMaxCallsPerClient = 64;  // not answered yet

json::object to_json(const RpcError& error) {
  json::object out{{"code", error.code}, {"message", error.message}};
  if (!error.data.is_null()) out["data"] = error.data;
  return out;
}

}  // namespace

RpcError to_rpc_error(const Error& error) {
  return {kFirstOwnCode - static_cast<int>(error.kind), error.message,
          json::object{{"kind", json::string(to_text(error.kind))}}};
}

Error to_error(const RpcError& error) {
  const int kind = kFirstOwnCode - error.code;
  if (kind >= 0 && kind <= static_cast<int>(ErrorKind::internal)) {
    return {static_cast<ErrorKind>(kind), error.message};
  }
  if (error.code == kInvalidParams) return {ErrorKind::invalid_argument, error.message};
  if (error.code == kMethodNotFound) return {ErrorKind::unsupported, error.message};
  return {ErrorKind::internal, error.message};
}

struct ControlServer::Impl : std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& given, runtime::Driver* of_node, Log to, std::string socket_path)
      : loop(given), driver(of_node), path(std::move(socket_path)), log(to.named("control")) {}

  boost::asio::io_context& loop;
  runtime::Driver* driver;  // null without a node
  std::string path;
  Log log;
  std::map<std::string, Method, std::less<>> methods;
  std::shared_ptr<Socket> listener;
  std::set<std::shared_ptr<ControlConnection>> clients;
  Counters counters;

  void take(Socket socket);
  Result<> prepare_directory() const;
  Result<> remove_stale() const;
};

// One client. Lines in, calls out; answers in the order in which they are ready.
class ControlConnection : public std::enable_shared_from_this<ControlConnection> {
 public:
  ControlConnection(ControlServer::Impl& server, Socket socket)
      : server_(server), socket_(std::move(socket)) {}

  void wait_readable() {
    if (reading_ || upgrade_) return;
    reading_ = true;
    socket_.async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self) return;
      self->reading_ = false;
      self->read();
    });
  }
  void send(const json::object& message);
  void upgrade(std::function<void(Socket, Bytes)> take) {
    upgrade_ = std::move(take);
    flush();
  }
  void close();
  void call_ended(RpcReply::Call* call) { calls_.erase(call); }

 private:
  void read();
  void handle_line(std::string_view line);
  void dispatch(json::object& request);
  void reject(json::value id, int code, std::string message);
  void flush();

  ControlServer::Impl& server_;
  Socket socket_;
  std::string input_, output_;
  bool reading_ = false, writing_ = false, closed_ = false;
  std::function<void(Socket, Bytes)> upgrade_;
  std::set<RpcReply::Call*> calls_;
};

struct RpcReply::Call {
  std::weak_ptr<ControlConnection> client;
  json::value id;
  bool is_notification = false, answered = false;
  std::function<void()> abandoned;

  ~Call() {
    if (!answered) finish({{"error", to_json({-32603, "the method gave no answer", nullptr})}});
    if (const auto live = client.lock()) live->call_ended(this);
  }
  std::shared_ptr<ControlConnection> finish(json::object message) {
    if (std::exchange(answered, true)) return nullptr;
    abandoned = nullptr;
    const auto live = client.lock();
    if (!live) return nullptr;
    live->call_ended(this);
    if (is_notification) return live;
    message["jsonrpc"] = "2.0";
    message["id"] = id;
    live->send(message);
    return live;
  }
  void abandon() {
    answered = true;
    if (const auto call = std::exchange(abandoned, nullptr)) call();
  }
};

void RpcReply::result(json::value value) const {
  call_->finish({{"result", std::move(value)}});
}
void RpcReply::error(RpcError error) const {
  call_->finish({{"error", to_json(error)}});
}
void RpcReply::error(const Error& error) const {
  this->error(to_rpc_error(error));
}
void RpcReply::notify(std::string_view name, json::value value) const {
  const auto live = call_->answered ? nullptr : call_->client.lock();
  if (live) live->send({{"jsonrpc", "2.0"}, {"method", json::string(name)}, {"params", std::move(value)}});
}
void RpcReply::upgrade(json::value value, std::function<void(Socket, Bytes)> take) const {
  if (const auto live = call_->finish({{"result", std::move(value)}})) live->upgrade(std::move(take));
}
void RpcReply::on_abandoned(std::function<void()> call) const {
  if (!call_->answered) call_->abandoned = std::move(call);
}

void ControlConnection::send(const json::object& message) {
  if (closed_) return;
  if (output_.size() > kMaxOutput) return close();
  output_ += json::serialize(message);
  output_ += '\n';
  flush();
}

void ControlConnection::flush() {
  const auto keep = shared_from_this();
  while (!output_.empty() && !closed_) {
    const ssize_t sent =
        ::send(socket_.native_handle(), output_.data(), output_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      output_.erase(0, static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (std::exchange(writing_, true)) return;
      socket_.async_wait(Socket::wait_write, [weak = weak_from_this()](boost::system::error_code error) {
        const auto self = weak.lock();
        if (error || !self) return;
        self->writing_ = false;
        self->flush();
      });
      return;
    } else if (errno != EINTR) {
      return close();
    }
  }
  if (!upgrade_ || closed_) return;
  const auto take = std::exchange(upgrade_, nullptr);
  closed_ = true;
  boost::system::error_code ignored;
  socket_.cancel(ignored);
  server_.clients.erase(keep);
  for (RpcReply::Call* call : std::exchange(calls_, {})) call->abandon();
  take(std::move(socket_), to_bytes(as_bytes(input_)));
}

void ControlConnection::close() {
  if (std::exchange(closed_, true)) return;
  const auto keep = shared_from_this();
  boost::system::error_code ignored;
  socket_.close(ignored);
  server_.clients.erase(keep);
  for (RpcReply::Call* call : std::exchange(calls_, {})) call->abandon();
}

void ControlConnection::read() {
  const auto keep = shared_from_this();
  char chunk[16384];
  const ssize_t got = ::recv(socket_.native_handle(), chunk, sizeof chunk, MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) return close();
  if (got > 0) input_.append(chunk, static_cast<std::size_t>(got));
  std::size_t start = 0;
  while (!closed_ && !upgrade_) {
    const std::size_t end = input_.find('\n', start);
    if (end == std::string::npos) break;
    const std::string line = input_.substr(start, end - start);
    start = end + 1;
    if (line.size() > kMaxControlRequest) {
      reject(nullptr, kInvalidRequest, "the request is larger than 1 MiB");
      return close();
    }
    // What follows an upgrading request belongs to its pipe, so the line leaves the buffer first.
    input_.erase(0, start);
    start = 0;
    if (!line.empty()) handle_line(line);
  }
  if (closed_) return;
  if (input_.size() > kMaxControlRequest && !upgrade_) {
    reject(nullptr, kInvalidRequest, "the request is larger than 1 MiB");
    return close();
  }
  wait_readable();
}

void ControlConnection::reject(json::value id, int code, std::string message) {
  ++server_.counters.errors;
  send({{"jsonrpc", "2.0"}, {"id", std::move(id)}, {"error", to_json({code, std::move(message), nullptr})}});
}

void ControlConnection::handle_line(std::string_view line) {
  boost::system::error_code error;
  json::parse_options options;
  options.max_depth = kMaxControlDepth;
  json::value value = json::parse(line, error, {}, options);
  if (error) return reject(nullptr, kParseError, "the request is not JSON: " + error.message());
  if (!value.is_object()) return reject(nullptr, kInvalidRequest, "the request is no JSON object");
  dispatch(value.as_object());
}

void ControlConnection::dispatch(json::object& request) {
  const json::value* version = request.if_contains("jsonrpc");
  const json::value* method = request.if_contains("method");
  const json::value* id = request.if_contains("id");
  const bool good_id = id == nullptr || id->is_string() || id->is_number() || id->is_null();
  if (version == nullptr || *version != "2.0" || method == nullptr || !method->is_string() || !good_id) {
    return reject(nullptr, kInvalidRequest, "a request has jsonrpc \"2.0\", a method and an id");
  }
  const json::value call_id = id == nullptr ? json::value(nullptr) : *id;
  const auto found = server_.methods.find(std::string_view(method->as_string()));
  if (found == server_.methods.end()) {
    if (id == nullptr) return;
    return reject(call_id, kMethodNotFound,
                  fmt::format("no method '{}'", std::string_view(method->as_string()).substr(0, 64)));
  }
  const json::object none;
  const json::value* params = request.if_contains("params");
  if (params != nullptr && !params->is_object()) {
    return reject(call_id, kInvalidParams, "params is an object of named parameters");
  }
  if (calls_.size() >= kMaxCallsPerClient) {
    return reject(call_id, kFirstOwnCode - static_cast<int>(ErrorKind::limit_reached),
                  "too many calls at once");
  }
  ++server_.counters.calls;
  auto call = std::make_shared<RpcReply::Call>();
  call->client = weak_from_this();
  call->id = call_id;
  call->is_notification = id == nullptr;
  calls_.insert(call.get());
  if (server_.driver != nullptr) server_.driver->enter();
  found->second(params == nullptr ? none : params->as_object(), RpcReply(std::move(call)));
}

void ControlServer::Impl::take(Socket socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  const bool known = ::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
  if (!known || (peer.uid != 0 && peer.uid != ::geteuid())) {
    ++counters.denied;
    log.warning("refused a control client of uid {}: only root and uid {} may", peer.uid, ::geteuid());
    return;
  }
  if (clients.size() >= kMaxControlClients) return;
  ++counters.clients;
  auto client = std::make_shared<ControlConnection>(*this, std::move(socket));
  clients.insert(client);
  client->wait_readable();
}

Result<> ControlServer::Impl::prepare_directory() const {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return {};
  const std::string directory = path.substr(0, slash);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return host::os_error(errno, fmt::format("cannot make the directory {}", directory));
  }
  struct stat status{};
  if (::stat(directory.c_str(), &status) != 0) return host::os_error(errno, directory);
  const bool ours = status.st_uid == ::geteuid() || status.st_uid == 0;
  if (!S_ISDIR(status.st_mode) || !ours || (status.st_mode & 022) != 0) {
    return Error{ErrorKind::refused, fmt::format("{} must be a directory that only this user can write to: "
                                                 "chmod 700 it, or choose another control socket",
                                                 directory)};
  }
  return {};
}

Result<> ControlServer::Impl::remove_stale() const {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) {
    return Error{ErrorKind::already_exists, fmt::format("{} exists and is no socket: remove it", path)};
  }
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return host::os_error(errno, "a socket to probe " + path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const bool alive =
      ::connect(probe, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN;
  ::close(probe);
  if (alive) {
    return Error{ErrorKind::already_exists,
                 fmt::format("a node already answers at {}: 'ravine down' stops it", path)};
  }
  ::unlink(path.c_str());
  return {};
}

ControlServer::ControlServer(ServiceContext context, std::string path)
    : impl_(std::make_shared<Impl>(context.loop, &context.driver, context.log, std::move(path))) {}

ControlServer::ControlServer(boost::asio::io_context& loop, Log log, std::string path)
    : impl_(std::make_shared<Impl>(loop, nullptr, log, std::move(path))) {}

ControlServer::~ControlServer() {
  stop();
}

void ControlServer::add_method(std::string name, Method method) {
  impl_->methods.insert_or_assign(std::move(name), std::move(method));
}

Result<> ControlServer::start() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (impl_->path.empty() || impl_->path.size() >= sizeof address.sun_path) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("the control socket's path '{}' must have 1 to {} bytes", impl_->path,
                             sizeof address.sun_path - 1)};
  }
  impl_->path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (auto prepared = impl_->prepare_directory(); !prepared) return prepared;
  if (auto removed = impl_->remove_stale(); !removed) return removed;
  Socket listener = adopt(impl_->loop, ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const mode_t before = ::umask(0177);  // the file must not be open to others for an instant
  const int bound = ::bind(listener.native_handle(), reinterpret_cast<sockaddr*>(&address), sizeof address);
  const int error = errno;
  ::umask(before);
  if (bound != 0) return host::os_error(error, fmt::format("cannot bind the control socket {}", impl_->path));
  if (::listen(listener.native_handle(), 64) != 0)
    return host::os_error(errno, "listen on the control socket");
  impl_->listener = std::make_shared<Socket>(std::move(listener));
  accept_loop(impl_->loop, impl_->listener, [weak = std::weak_ptr(impl_)](Socket socket) {
    if (const auto impl = weak.lock()) impl->take(std::move(socket));
  });
  return {};
}

void ControlServer::stop() {
  if (!impl_->listener) return;
  boost::system::error_code ignored;
  impl_->listener->close(ignored);
  impl_->listener.reset();
  ::unlink(impl_->path.c_str());
  for (const auto& client : std::set(impl_->clients)) client->close();
}

const ControlServer::Counters& ControlServer::counters() const {
  return impl_->counters;
}

}  // namespace ravine::services
