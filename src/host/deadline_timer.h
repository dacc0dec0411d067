// A timer on the clock of Instant, exact to microseconds, that also fires right after a suspend.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

#include "base/result.h"
#include "base/time.h"

namespace ravine::host {

// Made for deadlines that mostly move away before they come, as loss timers do: moving one later costs
// nothing, at the price of one early call. So `on_due` says "look at the time", not "it is time", and the
// owner arms again from there.
class DeadlineTimer {
 public:
  static Result<std::unique_ptr<DeadlineTimer>> make(boost::asio::io_context& loop,
                                                     std::function<void()> on_due);
  ~DeadlineTimer();  // no call comes after it

  // Wants a call at `at` or earlier; a past time gives one at once, from the loop. never() wants none.
  void arm(Instant at);

 private:
  DeadlineTimer();
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::host
