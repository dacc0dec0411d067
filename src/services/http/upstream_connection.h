// UpstreamConnection: one kept connection of an UpstreamClient and the exchange that it carries. Looks the
// server up, connects, does TLS, then one exchange after the other. The client decides what happens next.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "services/http/byte_stream.h"
#include "services/http/http_text.h"
#include "services/http/lazy_timer.h"
#include "services/http/message_reader.h"
#include "services/http/upstream.h"

namespace ravine::services::http {

class UpstreamConnection;

// One request until its outcome.
struct UpstreamExchange {
  UpstreamId id = 0;
  Outgoing out;
  bool to_head = false, idempotent = false, long_poll = false;
  bool retried = false;
  UpstreamClient::Done done;
  std::unique_ptr<LazyTimer> timer;
  UpstreamConnection* connection = nullptr;  // none: it waits for one
};
using ExchangePointer = std::shared_ptr<UpstreamExchange>;

// What connections of one client share. They never outlive it.
struct UpstreamPlace {
  boost::asio::io_context& loop;
  std::string host;
  std::uint16_t port = 0;
  std::shared_ptr<TlsContext> tls;  // none: in the clear
  Resolver resolve;
  ReadLimits limits;
  Duration connect_timeout{0}, keep_timeout{0};
  Bytes scratch;  // for reading
  UpstreamClient::Counters counters;
};

// How an exchange that a connection carried ended.
struct ExchangeFailure {
  UpstreamError error = UpstreamError::malformed;
  std::string reason;
  bool connected = true;
  bool may_retry = false;  // a kept connection turned out to be closed, without harm done
};

// Each call ends the connection's hold on the exchange, and may come from within begin() or start().
class UpstreamOwner {
 public:
  virtual ~UpstreamOwner() = default;
  virtual void on_response(UpstreamConnection& connection, const ExchangePointer& exchange,
                           gateway::core::HttpResponse response) = 0;
  virtual void on_failure(const ExchangePointer& exchange, ExchangeFailure failure) = 0;
  virtual void on_closed(UpstreamConnection& connection) = 0;  // before on_failure
};

class UpstreamConnection : public std::enable_shared_from_this<UpstreamConnection> {
 public:
  UpstreamConnection(UpstreamPlace& place, UpstreamOwner& owner, bool long_poll);

  void start(ExchangePointer exchange);  // connects for it
  void begin(ExchangePointer exchange);  // requires is_idle()
  void end();                            // closes; drops its exchange without a call
  bool is_idle() const { return phase_ == Phase::idle; }
  bool for_polls() const { return long_poll_; }

 private:
  enum class Phase : std::uint8_t { connecting, handshaking, busy, idle, closed };

  void look_up();
  void connect(std::vector<SocketAddress> remotes);
  void handle_connected(Result<Socket> socket);
  void run();
  bool shake();
  bool exchange();
  bool send();
  bool receive();
  void note_end(const std::string& reason);
  void complete();
  void fail(UpstreamError error, std::string reason);
  void wait(Socket::wait_type what, bool& armed);

  UpstreamPlace& place_;
  UpstreamOwner& owner_;
  const bool long_poll_;
  Phase phase_ = Phase::connecting;
  LazyTimer timer_;
  std::shared_ptr<PendingConnect> connecting_;
  std::optional<ByteStream> stream_;
  ResponseReader reader_;
  ExchangePointer exchange_;
  Bytes in_;  // not understood yet
  std::size_t uses_ = 0;
  bool got_bytes_ = false, write_failed_ = false;
  bool wants_write_ = false, read_armed_ = false, write_armed_ = false;
};

}  // namespace ravine::services::http
