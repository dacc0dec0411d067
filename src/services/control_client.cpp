#include "services/control_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <utility>

#include "host/os_error.h"
#include "services/control_server.h"

namespace ravine::services {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxAnswer = 64u << 20;  // bytes of one line from the daemon
constexpr std::size_t kPipeChunk = 64 * 1024;

bool write_all(int descriptor, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = ::write(descriptor, data, size);
    if (sent > 0) {
      data += sent;
      size -= static_cast<std::size_t>(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait{descriptor, POLLOUT, 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

Error to_error(const json::object& error) {
  RpcError rpc;
  if (const json::value* code = error.if_contains("code"); code != nullptr && code->is_int64()) {
    rpc.code = static_cast<int>(code->as_int64());
  }
  if (const json::value* message = error.if_contains("message"); message != nullptr && message->is_string()) {
    rpc.message = std::string_view(message->as_string());
  }
  return services::to_error(rpc);
}

}  // namespace

ControlClient::ControlClient(ControlClient&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), buffer_(std::move(other.buffer_)) {}

ControlClient& ControlClient::operator=(ControlClient&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(buffer_, other.buffer_);
  return *this;
}

ControlClient::~ControlClient() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<ControlClient> ControlClient::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error{ErrorKind::invalid_argument, fmt::format("control socket path '{}' is too long", path)};
  }
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ControlClient client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (client.descriptor_ < 0) return host::os_error(errno, "socket");
  if (::connect(client.descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) {
      return Error{ErrorKind::unreachable,
                   fmt::format("no node answers at {}: start one with 'ravine up'", path)};
    }
    if (errno == EACCES) {
      return Error{ErrorKind::refused,
                   fmt::format("the control socket {} belongs to another user: use sudo", path)};
    }
    return host::os_error(errno, fmt::format("cannot connect to {}", path));
  }
  return client;
}

Result<std::string> ControlClient::read_line(std::chrono::steady_clock::time_point until) {
  while (true) {
    const std::size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    if (buffer_.size() > kMaxAnswer) return Error{ErrorKind::internal, "the node's answer is too large"};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd wait{descriptor_, POLLIN, 0};
    const int ready =
        left.count() <= 0 ? 0 : ::poll(&wait, 1, static_cast<int>(std::min<long>(left.count(), 1000000)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Error{ErrorKind::timed_out, "the node did not answer in time"};
    char chunk[16384];
    const ssize_t got = ::recv(descriptor_, chunk, sizeof chunk, 0);
    if (got == 0) return Error{ErrorKind::closed, "the node closed the control connection"};
    if (got < 0 && errno != EINTR) return host::os_error(errno, "control connection");
    if (got > 0) buffer_.append(chunk, static_cast<std::size_t>(got));
  }
}

Result<json::value> ControlClient::call(std::string_view method, json::object params, Duration limit,
                                        const Notify& notify) {
  const std::int64_t id = ++next_id_;
  const std::string line =
      json::serialize(json::object{
          {"jsonrpc", "2.0"}, {"id", id}, {"method", json::string(method)}, {"params", std::move(params)}}) +
      "\n";
  std::size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t step = ::send(descriptor_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (step < 0 && errno == EINTR) continue;
    if (step < 0) return host::os_error(errno, "control connection");
    sent += static_cast<std::size_t>(step);
  }
  const auto until = std::chrono::steady_clock::now() + limit;
  while (true) {
    auto answer = read_line(until);
    if (!answer) return answer.error();
    boost::system::error_code error;
    json::value value = json::parse(*answer, error);
    if (error || !value.is_object()) return Error{ErrorKind::internal, "the node's answer is not JSON-RPC"};
    json::object& object = value.as_object();
    if (const json::value* name = object.if_contains("method"); name != nullptr && name->is_string()) {
      if (notify) notify(std::string_view(name->as_string()), object["params"]);
      continue;
    }
    if (const json::value* failure = object.if_contains("error");
        failure != nullptr && failure->is_object()) {
      return to_error(failure->as_object());
    }
    if (object["id"] != id) continue;
    return std::move(object["result"]);
  }
}

Result<> ControlClient::pipe(int input, int output) {
  if (!write_all(output, buffer_.data(), buffer_.size())) return host::os_error(errno, "write");
  buffer_.clear();
  std::string chunk(kPipeChunk, '\0');
  bool input_open = true;
  while (true) {
    pollfd waits[2] = {{descriptor_, POLLIN, 0}, {input_open ? input : -1, POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return host::os_error(errno, "poll");
    }
    if (waits[0].revents != 0) {
      const ssize_t got = ::recv(descriptor_, chunk.data(), chunk.size(), 0);
      if (got == 0) return {};
      if (got < 0 && errno != EINTR) return Error{ErrorKind::closed, "the connection was reset"};
      if (got > 0 && !write_all(output, chunk.data(), static_cast<std::size_t>(got))) {
        return host::os_error(errno, "write");
      }
    }
    if (waits[1].revents != 0) {
      const ssize_t got = ::read(input, chunk.data(), chunk.size());
      if (got > 0) {
        // A daemon that stopped reading ended the tunnel: what it still has to say is read above.
        if (!write_all(descriptor_, chunk.data(), static_cast<std::size_t>(got))) input_open = false;
      } else if (got == 0 || errno != EINTR) {
        ::shutdown(descriptor_, SHUT_WR);
        input_open = false;
      }
    }
  }
}

}  // namespace ravine::services
