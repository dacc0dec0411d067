// LineTransport: frames over any connected stream of bytes, which is opened again when it ends. What pipes,
// serial lines, commands and Ravine sessions share. Internal to services/gateway.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>

#include "services/gateway/cobs.h"
#include "services/gateway/transport.h"
#include "services/socket.h"

namespace ravine::services {

// An open stream. `in` and `out` may be the same socket.
struct Line {
  std::shared_ptr<Socket> in, out;
  Bytes first;                     // read already
  std::shared_ptr<void> keeper{};  // lives as long as the line: the command at its other end
};
// Opens the stream and calls back once, also inline. Dropping the returned handle cancels.
using LineOpened = std::function<void(Result<Line>)>;
using LineOpener = std::function<std::shared_ptr<void>(LineOpened)>;

struct LineOptions {
  LineOpener open;
  bool reopen = true;
  std::function<void()> on_end;  // without reopen: it has ended for good
  std::size_t max_frame = 240;
  std::uint32_t overhead_bytes = kLineOverhead;
  bool point_to_point = true;
  std::string name;  // for people
};
std::unique_ptr<Transport> make_line_transport(boost::asio::io_context& loop, Log log, LineOptions options);

}  // namespace ravine::services
