// A deadline that mostly moves away before it comes: moving it later costs a comparison, not a timer.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "base/time.h"

namespace ravine::services::http {

class LazyTimer {
 public:
  LazyTimer(boost::asio::io_context& loop, std::function<void()> on_due)
      : state_(std::make_shared<State>(loop, std::move(on_due))) {}
  LazyTimer(const LazyTimer&) = delete;
  LazyTimer& operator=(const LazyTimer&) = delete;
  ~LazyTimer() {
    state_->on_due = nullptr;
    state_->timer.cancel();
  }

  // Calls once, `after` from now, in place of what was set before.
  void set(Duration after) {
    state_->due = Clock::now() + std::chrono::duration_cast<Clock::duration>(after);
    if (state_->due < state_->armed) arm(state_);
  }
  void clear() { state_->due = Clock::time_point::max(); }
  auto due() const { return state_->due; }  // for comparison among timers

 private:
  using Clock = std::chrono::steady_clock;
  struct State {
    State(boost::asio::io_context& loop, std::function<void()> call) : timer(loop), on_due(std::move(call)) {}
    boost::asio::steady_timer timer;
    std::function<void()> on_due;
    Clock::time_point due = Clock::time_point::max();
    Clock::time_point armed = Clock::time_point::max();
  };

  static void arm(const std::shared_ptr<State>& state) {
    state->armed = state->due;
    state->timer.expires_at(state->armed);
    state->timer.async_wait([weak = std::weak_ptr(state)](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self || !self->on_due) return;
      self->armed = Clock::time_point::max();
      if (self->due == Clock::time_point::max()) return;
      if (self->due > Clock::now()) return arm(self);
      self->due = Clock::time_point::max();
      const auto call = self->on_due;  // may destroy the timer
      call();
    });
  }

  std::shared_ptr<State> state_;
};

}  // namespace ravine::services::http
