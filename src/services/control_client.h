// ControlClient: the command line's end of the control socket. Blocking, one call at a time. Ignore SIGPIPE
// in the process that calls pipe().
#pragma once

#include <boost/json/value.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "base/time.h"

namespace ravine::services {

class ControlClient {
 public:
  ControlClient(ControlClient&& other) noexcept;
  ControlClient& operator=(ControlClient&& other) noexcept;
  ~ControlClient();

  // unreachable when no daemon answers at `path` (the message says how to start one), refused when it is not
  // ours.
  static Result<ControlClient> connect(const std::string& path);

  using Notify = std::function<void(std::string_view method, const boost::json::value& params)>;
  // The call's result; timed_out after `limit`. Notifications that come before it go to `notify`.
  Result<boost::json::value> call(std::string_view method, boost::json::object params, Duration limit = 10s,
                                  const Notify& notify = {});
  // Copies stdin → daemon and daemon → stdout until both ended (after a successful "connect" call).
  // Half-closes.
  Result<> pipe(int input, int output);

 private:
  explicit ControlClient(int descriptor) : descriptor_(descriptor) {}
  Result<std::string> read_line(std::chrono::steady_clock::time_point until);
  int descriptor_ = -1;
  std::int64_t next_id_ = 0;
  std::string buffer_;
};

}  // namespace ravine::services
