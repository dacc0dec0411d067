// ControlServer: JSON-RPC 2.0, one value per line, on a UNIX socket that only root and the daemon's own user
// can use (mode 0600 in a 0700 directory, and SO_PEERCRED). A method may turn its connection into a raw byte
// pipe.
#pragma once

#include <boost/json/value.hpp>
#include <functional>
#include <memory>
#include <string>

#include "services/context.h"
#include "services/socket.h"

namespace ravine::services {

inline constexpr std::size_t kMaxControlRequest = 1 << 20;  // bytes of a line
inline constexpr std::size_t kMaxControlDepth = 32;         // of nested JSON
inline constexpr std::size_t kMaxControlClients = 64;

// JSON-RPC 2.0 §5.1, and ours: -32000 - ErrorKind.
struct RpcError {
  int code = -32603;
  std::string message;
  boost::json::value data;
};
RpcError to_rpc_error(const Error& error);  // data = {"kind": "not_found"}
Error to_error(const RpcError& error);

// Answers one call, once; copies share the call. Dropping every copy answers with an internal error. Calls
// after the client left do nothing.
class RpcReply {
 public:
  void result(boost::json::value value) const;
  void error(RpcError error) const;
  void error(const Error& error) const;
  // An intermediate notification to this client: {"jsonrpc":"2.0","method":name,"params":value}.
  void notify(std::string_view name, boost::json::value value) const;
  // Sends `value` as the result, then gives the connection away: `take` receives the socket and bytes that
  // the client sent after its request. No further calls on this connection.
  void upgrade(boost::json::value value, std::function<void(Socket socket, Bytes first)> take) const;
  // Calls `call` when the client leaves before an answer (to stop a long job).
  void on_abandoned(std::function<void()> call) const;

  struct Call;
  explicit RpcReply(std::shared_ptr<Call> call) : call_(std::move(call)) {}

 private:
  std::shared_ptr<Call> call_;
};

class ControlConnection;

class ControlServer {
 public:
  using Method = std::function<void(const boost::json::object& params, RpcReply reply)>;

  ControlServer(ServiceContext context, std::string path);
  // For programs without a node.
  ControlServer(boost::asio::io_context& loop, Log log, std::string path);
  ~ControlServer();
  void add_method(std::string name, Method method);
  // Makes the directory (0700) when missing, removes a stale socket file. already_exists when a daemon
  // answers there; refused when the directory is writable by others.
  Result<> start();
  void stop();  // and removes the file

  struct Counters {
    std::uint64_t clients = 0, calls = 0, errors = 0, denied = 0;
  };
  const Counters& counters() const;

 private:
  friend class ControlConnection;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
