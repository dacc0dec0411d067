// A UDP flow to a peer's exposed port, through the node's control socket: its method "flow" turns the
// connection into a line of frames (cobs.h). The node does the dialling; this side needs no proxy, and the
// node checks who asks by the socket's credentials.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>

#include "host/os_error.h"
#include "services/control_server.h"
#include "services/gateway/line_transport.h"

namespace ravine::services {
namespace {

namespace json = boost::json;

constexpr std::uint32_t kSessionOverhead = 64;  // of IP, UDP, QUIC's short header, datagram frame and tag
constexpr Duration kAnswerLimit = 30s;          // for the node to reach the peer

// One attempt: connects, asks, reads the answer's line.
class FlowRequest : public std::enable_shared_from_this<FlowRequest> {
 public:
  FlowRequest(boost::asio::io_context& loop, LineOpened done)
      : loop_(loop), timer_(loop), done_(std::move(done)) {}

  void start(const SessionTransportOptions& options) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (options.control_path.empty() || options.control_path.size() >= sizeof address.sun_path)
      return finish(Error{ErrorKind::invalid_argument, "the node's control socket has no usable path"});
    options.control_path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return finish(host::os_error(errno, "no socket"));
    if (::connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ::close(descriptor);
      return finish(
          Error{ErrorKind::unreachable,
                fmt::format("no node answers at {}; start it with \"ravine up\"", options.control_path)});
    }
    socket_ = std::make_shared<Socket>(adopt(loop_, descriptor));
    const std::string request =
        json::serialize(
            json::object{{"jsonrpc", "2.0"},
                         {"id", 1},
                         {"method", "flow"},
                         {"params", json::object{{"host", options.host}, {"port", options.port}}}}) +
        "\n";
    if (::send(descriptor, request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size()))
      return finish(Error{ErrorKind::io, "the node's control socket takes nothing"});
    timer_.expires_after(kAnswerLimit);
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!error && self) self->finish(Error{ErrorKind::timed_out, "the node did not answer in time"});
    });
    wait();
  }

 private:
  void wait() {
    socket_->async_wait(Socket::wait_read, [weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!error && self && self->done_) self->read();
    });
  }

  void read() {
    std::uint8_t block[4096];
    const ssize_t got = ::recv(socket_->native_handle(), block, sizeof block, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return wait();
    if (got <= 0) return finish(Error{ErrorKind::closed, "the node closed its control socket"});
    buffer_.append(reinterpret_cast<const char*>(block), static_cast<std::size_t>(got));
    const std::size_t end = buffer_.find('\n');
    if (end == std::string::npos) {
      if (buffer_.size() > kMaxControlRequest)
        return finish(Error{ErrorKind::invalid_argument, "the node answers too much"});
      return wait();
    }
    boost::system::error_code fault;
    const json::value answer = json::parse(std::string_view(buffer_).substr(0, end), fault);
    const json::object* object = answer.if_object();
    if (fault || object == nullptr)
      return finish(Error{ErrorKind::invalid_argument, "the node's answer is no JSON"});
    if (const json::value* refusal = object->if_contains("error")) {
      const json::object* parts = refusal->if_object();
      const json::value* message = parts != nullptr ? parts->if_contains("message") : nullptr;
      return finish(Error{ErrorKind::unreachable, message != nullptr && message->is_string()
                                                      ? std::string(message->get_string())
                                                      : std::string("the node refused the flow")});
    }
    Line line{socket_, socket_, to_bytes(as_bytes(std::string_view(buffer_).substr(end + 1)))};
    finish(std::move(line));
  }

  void finish(Result<Line> outcome) {
    timer_.cancel();
    if (const LineOpened done = std::exchange(done_, nullptr)) done(std::move(outcome));
  }

  boost::asio::io_context& loop_;
  boost::asio::steady_timer timer_;
  std::shared_ptr<Socket> socket_;
  std::string buffer_;
  LineOpened done_;
};

}  // namespace

std::unique_ptr<Transport> make_session_transport(boost::asio::io_context& loop, Log log,
                                                  SessionTransportOptions options) {
  LineOptions line;
  line.max_frame = options.max_frame;
  line.overhead_bytes = kSessionOverhead;
  line.point_to_point = false;
  line.name = fmt::format("session {}:{}", options.host, options.port);
  line.open = [&loop, options](LineOpened done) -> std::shared_ptr<void> {
    auto request = std::make_shared<FlowRequest>(loop, std::move(done));
    request->start(options);
    return request;
  };
  return make_line_transport(loop, log, std::move(line));
}

}  // namespace ravine::services
