#include "host/deadline_timer.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>

#include "base/ensure.h"
#include "host/os_error.h"

namespace ravine::host {

struct DeadlineTimer::Impl : std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& loop, int timer, std::function<void()> call)
      : descriptor(loop, timer), on_due(std::move(call)) {}  // the descriptor owns the timer

  void wait() {
    descriptor.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                          [self = shared_from_this()](boost::system::error_code error) {
                            if (error || self->stopped) return;
                            self->handle_expiry();
                          });
  }

  void handle_expiry() {
    std::uint64_t expirations = 0;
    const bool fired = ::read(descriptor.native_handle(), &expirations, sizeof expirations) > 0;
    wait();
    if (!fired) return;
    armed = Instant::never();
    on_due();
  }

  boost::asio::posix::stream_descriptor descriptor;
  std::function<void()> on_due;
  Instant armed = Instant::never();  // what the kernel was told last
  bool stopped = false;
};

DeadlineTimer::DeadlineTimer() = default;

DeadlineTimer::~DeadlineTimer() {
  if (impl_ == nullptr) return;
  impl_->stopped = true;
  boost::system::error_code ignored;
  impl_->descriptor.close(ignored);
}

Result<std::unique_ptr<DeadlineTimer>> DeadlineTimer::make(boost::asio::io_context& loop,
                                                           std::function<void()> on_due) {
  const int timer = ::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  if (timer < 0) return os_error(errno, "make a timer");
  std::unique_ptr<DeadlineTimer> made(new DeadlineTimer);
  made->impl_ = std::make_shared<Impl>(loop, timer, std::move(on_due));
  made->impl_->wait();
  return made;
}

void DeadlineTimer::arm(Instant at) {
  if (at >= impl_->armed) return;
  impl_->armed = at;
  const std::uint64_t when = std::max<std::uint64_t>(at.nanoseconds, 1);  // zero would disarm
  itimerspec spec{};
  spec.it_value.tv_sec = static_cast<time_t>(when / 1'000'000'000u);
  spec.it_value.tv_nsec = static_cast<long>(when % 1'000'000'000u);
  ensure(::timerfd_settime(impl_->descriptor.native_handle(), TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
}

}  // namespace ravine::host
