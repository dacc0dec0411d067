// Local stream and datagram sockets as owned descriptors: open, listen, connect, wait for readiness. Reading
// and writing are the non-blocking calls of the caller. No name look-ups. Thread rule: the loop's thread.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "base/time.h"

namespace ravine::services {

using Socket = boost::asio::posix::stream_descriptor;

// already_exists when the port is taken. `port` 0: any free one.
Result<Socket> listen_tcp(boost::asio::io_context& loop, const SocketAddress& address);
Result<Socket> bind_udp(boost::asio::io_context& loop, const SocketAddress& address);
// A socket that takes datagrams from `remote` alone.
Result<Socket> connect_udp(boost::asio::io_context& loop, const SocketAddress& remote);
SocketAddress local_address(const Socket& socket);
SocketAddress remote_address(const Socket& socket);
// Takes over a connected descriptor and makes it non-blocking.
Socket adopt(boost::asio::io_context& loop, int descriptor);

// Accepts one waiting connection: nullopt when there is none, limit_reached when out of descriptors.
std::optional<Result<Socket>> accept_one(boost::asio::io_context& loop, Socket& listener);

// Takes every waiting connection until the listener is closed. Pauses 100 ms when descriptors run out.
void accept_loop(boost::asio::io_context& loop, std::shared_ptr<Socket> listener,
                 std::function<void(Socket client)> on_client);

// Connects to the first of `remotes` that answers, one after the other, `limit` for all. Calls back once:
// closed when the port is closed, timed_out, unreachable otherwise. Destroying the handle cancels.
class PendingConnect;
using ConnectDone = std::function<void(Result<Socket>)>;
std::shared_ptr<PendingConnect> connect_tcp(boost::asio::io_context& loop, std::vector<SocketAddress> remotes,
                                            Duration limit, ConnectDone done);

// What the kernel said about the last asynchronous failure (SO_ERROR), 0 when nothing.
int take_socket_error(const Socket& socket);
// Close that sends RST instead of FIN (TCP); plain close elsewhere.
void reset_and_close(Socket& socket);
void set_no_delay(const Socket& socket);

}  // namespace ravine::services
