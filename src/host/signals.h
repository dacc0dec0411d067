// Signals as calls in the loop.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>

namespace ravine::host {

enum class Signal : std::uint8_t { interrupt, terminate, hang_up };  // SIGINT, SIGTERM, SIGHUP

// Takes the three signals over from their default action as long as it lives, and ignores SIGPIPE for good.
class SignalWatch {
 public:
  SignalWatch(boost::asio::io_context& loop, std::function<void(Signal)> on_signal);
  ~SignalWatch();  // no call comes after it

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::host
