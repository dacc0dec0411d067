#include "host/signals.h"

#include <boost/asio/signal_set.hpp>
#include <csignal>

namespace ravine::host {

struct SignalWatch::Impl : std::enable_shared_from_this<Impl> {
  Impl(boost::asio::io_context& loop, std::function<void(Signal)> call)
      : signals(loop, SIGINT, SIGTERM, SIGHUP), on_signal(std::move(call)) {}

  void wait() {
    signals.async_wait([self = shared_from_this()](boost::system::error_code error, int number) {
      if (error || self->stopped) return;
      self->wait();
      self->on_signal(number == SIGHUP   ? Signal::hang_up
                      : number == SIGINT ? Signal::interrupt
                                         : Signal::terminate);
    });
  }

  boost::asio::signal_set signals;
  std::function<void(Signal)> on_signal;
  bool stopped = false;
};

SignalWatch::SignalWatch(boost::asio::io_context& loop, std::function<void(Signal)> on_signal)
    : impl_(std::make_shared<Impl>(loop, std::move(on_signal))) {
  std::signal(SIGPIPE, SIG_IGN);
  impl_->wait();
}

SignalWatch::~SignalWatch() {
  impl_->stopped = true;
  boost::system::error_code ignored;
  impl_->signals.cancel(ignored);
}

}  // namespace ravine::host
