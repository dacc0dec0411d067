#include "services/pump.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "services/streams.h"

namespace ravine::services {
namespace {

using session::AppError;

constexpr std::size_t kReadSize = 256 * 1024;     // bytes per read: amortises the call, fits L2
constexpr std::size_t kReadBudget = 1024 * 1024;  // bytes per wake, so that many pumps share a turn
constexpr std::size_t kWriteBudget = 4096 * 1024;

class Pump final : public StreamPump, public std::enable_shared_from_this<Pump> {
 public:
  Pump(ServiceContext& context, session::SessionId session, session::StreamId stream, Socket socket,
       PumpOptions options)
      : driver_(context.driver),
        session_(session),
        stream_(stream),
        socket_(std::move(socket)),
        options_(std::move(options)) {}

  void start(session::Session& session) {
    self_ = shared_from_this();
    if (options_.counters != nullptr) {
      ++options_.counters->started;
      ++options_.counters->active;
    }
    watch_errors();
    session.set_stream_context(stream_, static_cast<runtime::StreamHandler*>(this));
    read_socket(session);
    write_socket(session);
    driver_.touch();
  }

  void abort(AppError code) override {
    driver_.enter();
    fail(driver_.endpoint().find(session_), code);
    driver_.touch();
  }

  void on_readable(session::Session& session, session::StreamId) override {
    if (!waiting_to_write_) write_socket(session);
  }
  void on_writable(session::Session& session, session::StreamId) override {
    if (!waiting_to_read_) read_socket(session);
  }
  void on_reset(session::Session& session, session::StreamId, AppError) override {
    // What the peer sent before is lost with the stream's buffer, as it is with a TCP reset.
    fail(&session, AppError::connection_reset);
  }
  void on_stopped(session::Session& session, session::StreamId, AppError code) override {
    if (from_done_) {
      fail(&session, code);
      return;
    }
    // The peer wants no more of ours, but may still send: a reader that closed its receiving side alone.
    if (!to_done_) session.reset(stream_, code);
    to_done_ = true;
    options_.first.clear();
  }
  void on_closed(session::Session*, session::StreamId, AppError) override {
    const auto keep = std::exchange(self_, nullptr);
    if (!socket_.is_open()) return;
    // Both sides finishing would have closed the socket before: the session was lost.
    close_socket(true);
  }

 private:
  // --- socket → stream
  void read_socket(session::Session& session) {
    if (to_done_ || !socket_.is_open() || !write_first(session)) return;
    std::size_t budget = kReadBudget;
    while (true) {
      const MutableBytes space = session.reserve(stream_, kReadSize);
      if (space.empty()) return;  // on_writable continues
      const ssize_t got = ::recv(socket_.native_handle(), space.data(), space.size(), MSG_DONTWAIT);
      if (got > 0) {
        const auto size = static_cast<std::size_t>(got);
        session.commit(stream_, size);
        count_to(size);
        if (size < space.size()) break;  // most likely empty now: the wait says
        budget -= std::min(budget, size);
        if (budget == 0) break;
        continue;
      }
      if (got == 0) {
        session.finish(stream_);
        to_done_ = true;
        close_if_done();
        return;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      fail(&session, AppError::connection_reset);
      return;
    }
    wait_to_read();
  }

  void count_to(std::size_t size) {
    to_bytes_ += size;
    if (options_.counters != nullptr) options_.counters->to_stream_bytes += size;
  }

  // True when nothing of the first bytes is left.
  bool write_first(session::Session& session) {
    if (options_.first.empty()) return true;
    const std::size_t taken = session.write(stream_, options_.first);
    count_to(taken);
    options_.first.erase(options_.first.begin(), options_.first.begin() + static_cast<std::ptrdiff_t>(taken));
    return options_.first.empty();
  }

  void wait_to_read() {
    if (waiting_to_read_) return;
    waiting_to_read_ = true;
    socket_.async_wait(Socket::wait_read, [self = shared_from_this()](boost::system::error_code error) {
      self->waiting_to_read_ = false;
      if (error) return;
      self->in_turn(&Pump::read_socket);
    });
  }

  // --- stream → socket
  void write_socket(session::Session& session) {
    if (from_done_ || !socket_.is_open()) return;
    std::size_t budget = kWriteBudget;
    while (true) {
      const ByteView view = session.peek(stream_);
      if (view.empty()) {
        if (session.is_finished(stream_)) end_of_stream();
        return;  // on_readable continues
      }
      if (budget == 0) break;
      const ssize_t sent =
          ::send(socket_.native_handle(), view.data(), view.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent >= 0) {
        const auto size = static_cast<std::size_t>(sent);
        session.consume(stream_, size);
        from_bytes_ += size;
        if (options_.counters != nullptr) options_.counters->from_stream_bytes += size;
        budget -= std::min(budget, size);
        continue;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      fail(&session, AppError::connection_reset);
      return;
    }
    wait_to_write();
  }

  void end_of_stream() {
    from_done_ = true;
    ::shutdown(socket_.native_handle(), SHUT_WR);
    close_if_done();
  }

  void wait_to_write() {
    if (waiting_to_write_) return;
    waiting_to_write_ = true;
    socket_.async_wait(Socket::wait_write, [self = shared_from_this()](boost::system::error_code error) {
      self->waiting_to_write_ = false;
      if (error) return;
      self->in_turn(&Pump::write_socket);
    });
  }

  // --- both
  // A reset must be seen even while neither direction waits on the socket (both held back by flow control).
  void watch_errors() {
    socket_.async_wait(Socket::wait_error, [weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self || !self->socket_.is_open()) return;
      if (take_socket_error(self->socket_) != 0) {
        self->abort(AppError::connection_reset);
      }
    });
  }

  void in_turn(void (Pump::*step)(session::Session&)) {
    if (!socket_.is_open()) return;
    driver_.enter();
    session::Session* session = driver_.endpoint().find(session_);
    if (session == nullptr) return;
    (this->*step)(*session);
    driver_.touch();
  }

  void fail(session::Session* session, AppError code) {
    if (session != nullptr && self_) {
      if (!to_done_) session->reset(stream_, code);
      if (!from_done_) session->stop(stream_, code);
    }
    to_done_ = from_done_ = true;
    options_.first = {};
    if (!socket_.is_open()) return;
    if (options_.counters != nullptr) ++options_.counters->resets;
    close_socket(true);
  }

  void close_if_done() {
    if (to_done_ && from_done_ && socket_.is_open()) close_socket(false);
  }

  void close_socket(bool with_reset) {
    if (with_reset) {
      reset_and_close(socket_);
    } else {
      boost::system::error_code ignored;
      socket_.close(ignored);
    }
    if (options_.counters != nullptr) --options_.counters->active;
    if (const auto on_end = std::exchange(options_.on_end, nullptr)) on_end(to_bytes_, from_bytes_);
  }

  runtime::Driver& driver_;
  session::SessionId session_;
  session::StreamId stream_;
  Socket socket_;
  PumpOptions options_;
  std::shared_ptr<Pump> self_;  // until on_closed: the session holds a plain pointer to us
  bool to_done_ = false, from_done_ = false;
  bool waiting_to_read_ = false, waiting_to_write_ = false;
  std::uint64_t to_bytes_ = 0, from_bytes_ = 0;
};

}  // namespace

std::weak_ptr<StreamPump> start_pump(ServiceContext& context, session::Session& session,
                                     session::StreamId stream, Socket socket, PumpOptions options) {
  auto pump = std::make_shared<Pump>(context, session.id(), stream, std::move(socket), std::move(options));
  pump->start(session);
  return pump;
}

}  // namespace ravine::services
