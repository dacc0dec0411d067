#include "services/exchange.h"

#include <utility>

namespace ravine::services {

using session::AppError;

void ExchangeStream::begin(session::Session& session, session::StreamId stream, Duration timeout) {
  session_ = session.id();
  stream_ = stream;
  self_ = shared_from_this();
  timer_.expires_after(std::chrono::duration_cast<boost::asio::steady_timer::duration>(timeout));
  timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (!error && self)
      self->abort(AppError::timed_out, {ErrorKind::timed_out, "the exchange took too long"});
  });
  hand_over(session, stream, this);
}

void ExchangeStream::send(session::Session& session, Bytes message) {
  ensure(!sending_);
  sending_ = true;
  unsent_ = std::move(message);
  on_writable(session, stream_);
  context_.driver.touch();
}

void ExchangeStream::on_writable(session::Session& session, session::StreamId) {
  if (!sending_) return;
  const std::size_t taken = session.write(stream_, unsent_);
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<std::ptrdiff_t>(taken));
  if (!unsent_.empty()) return;
  sending_ = false;
  session.finish(stream_);
}

void ExchangeStream::on_readable(session::Session& session, session::StreamId) {
  const auto keep = shared_from_this();
  while (true) {
    const ByteView view = session.peek(stream_);
    if (view.empty()) break;
    if (received_.size() + view.size() > limit_) {
      return abort(AppError::limit, {ErrorKind::limit_reached, "the message is too large"});
    }
    received_.insert(received_.end(), view.begin(), view.end());
    session.consume(stream_, view.size());
  }
  if (!session.is_finished(stream_)) return;
  if (const auto call = std::exchange(callbacks_.on_message, nullptr)) call(session, received_);
}

void ExchangeStream::on_reset(session::Session&, session::StreamId, AppError code) {
  abort(code, {to_kind(code), std::string(to_text(code))});
}
void ExchangeStream::on_stopped(session::Session&, session::StreamId, AppError code) {
  abort(code, {to_kind(code), std::string(to_text(code))});
}

void ExchangeStream::abort(AppError code, const Error& why) {
  const auto keep = shared_from_this();
  callbacks_.on_message = nullptr;
  if (self_) {
    context_.driver.enter();
    if (session::Session* session = context_.driver.endpoint().find(session_)) {
      session->reset(stream_, code);
      session->stop(stream_, code);
      context_.driver.touch();
    }
  }
  end(why);
}

void ExchangeStream::on_closed(session::Session* session, session::StreamId, AppError code) {
  const auto keep = std::exchange(self_, nullptr);
  if (session == nullptr && code == AppError::none) {
    return end(Error{ErrorKind::unreachable, "the session ended"});
  }
  // Both sides finished: closed. A session that was ended for a reason says it in the code.
  end(Error{session != nullptr ? ErrorKind::closed : to_kind(code), std::string(to_text(code))});
}

void ExchangeStream::end(const Error& why) {
  timer_.cancel();
  const auto callbacks = std::exchange(callbacks_, {});
  if (callbacks.on_end) callbacks.on_end(why);
}

}  // namespace ravine::services
