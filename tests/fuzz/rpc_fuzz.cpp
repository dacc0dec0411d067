// The control socket's framing and JSON-RPC, through the server itself: whatever a local client writes, each
// line gets at most one answer that is JSON, and the next client is served.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/json/parse.hpp>

#include "fuzz/fuzz_network.h"
#include "services/control_server.h"

using namespace ravine;
using fuzz::expect;

namespace {

class Fixture {
 public:
  Fixture() : driver_(loop_, driver_options(), random_, clock_, Log()) {
    char folder[] = "/tmp/ravine-fuzz-XXXXXX";
    expect(mkdtemp(folder) != nullptr);
    folder_ = folder;
    path_ = folder_ + "/control";
    const services::ServiceContext context{loop_, driver_, Log(), {}};
    server_ = std::make_unique<services::ControlServer>(context, path_);
    server_->add_method("echo", [](const boost::json::object& params, services::RpcReply reply) {
      reply.result(boost::json::object(params));
    });
    expect(server_->start().ok());
  }
  ~Fixture() {
    server_->stop();
    server_.reset();
    rmdir(folder_.c_str());
  }

  // Writes `bytes` and hangs up the writing half; returns what the server said.
  std::string talk(ByteView bytes) {
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    expect(connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    std::string answer;
    std::size_t sent = 0;
    bool open = true;
    for (int idle = 0; open && idle < 50;) {
      if (sent < bytes.size()) {
        const ssize_t done = send(client, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (done > 0) sent += static_cast<std::size_t>(done);
        if (sent == bytes.size()) shutdown(client, SHUT_WR);
      }
      if (bytes.empty() && idle == 0) shutdown(client, SHUT_WR);
      loop_.restart();
      idle = loop_.poll() == 0 ? idle + 1 : 1;
      char buffer[4096];
      const ssize_t got = recv(client, buffer, sizeof buffer, 0);
      if (got > 0) answer.append(buffer, static_cast<std::size_t>(got));
      open = got != 0 && !(got < 0 && errno == ECONNRESET);
    }
    close(client);
    loop_.restart();
    loop_.poll();
    return answer;
  }

 private:
  static runtime::DriverOptions driver_options() {
    runtime::DriverOptions options;
    options.endpoint.static_secret.resize(32);
    return options;
  }
  boost::asio::io_context loop_{1};
  SeededRandom random_{9};
  fuzz::FixedClock clock_;
  runtime::Driver driver_;
  std::string folder_, path_;
  std::unique_ptr<services::ControlServer> server_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Fixture fixture;
  const ByteView bytes(data, size);
  const std::string answers = fixture.talk(bytes);
  const auto lines = static_cast<std::size_t>(std::count(data, data + size, '\n'));
  expect(static_cast<std::size_t>(std::count(answers.begin(), answers.end(), '\n')) <= lines + 1);
  for (std::size_t at = 0; at < answers.size();) {
    const std::size_t end = std::min(answers.find('\n', at), answers.size());
    boost::system::error_code error;
    boost::json::parse(std::string_view(answers).substr(at, end - at), error);
    expect(!error);
    at = end + 1;
  }
  const std::string alive =
      fixture.talk(as_bytes("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":{\"a\":7}}\n"));
  expect(alive.find("\"a\":7") != std::string::npos);
  return 0;
}
