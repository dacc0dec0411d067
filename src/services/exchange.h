// One request and one response on a stream, each ended by FIN: the asking and the answering side. Used by
// join, pair and renew. Internal to services.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>

#include "services/streams.h"

namespace ravine::services {

// Writes bytes as the stream takes them, then finishes; gathers what arrives until FIN, up to a limit.
class ExchangeStream : public runtime::StreamHandler, public std::enable_shared_from_this<ExchangeStream> {
 public:
  // `on_message`: everything that arrived, once, after FIN. `on_end`: once, the stream is over: closed when
  // both sides finished, otherwise why not.
  struct Callbacks {
    std::function<void(session::Session& session, ByteView message)> on_message;
    std::function<void(const Error& why)> on_end;
  };
  ExchangeStream(ServiceContext& context, std::size_t limit, Callbacks callbacks)
      : context_(context), limit_(limit), callbacks_(std::move(callbacks)), timer_(context.loop) {}

  // Becomes the stream's handler; keeps itself until the stream is over. `timeout` for all.
  void begin(session::Session& session, session::StreamId stream, Duration timeout);
  void send(session::Session& session, Bytes message);  // once; then FIN
  void abort(session::AppError code, const Error& why);

  void on_readable(session::Session& session, session::StreamId stream) override;
  void on_writable(session::Session& session, session::StreamId stream) override;
  void on_reset(session::Session& session, session::StreamId stream, session::AppError code) override;
  void on_stopped(session::Session& session, session::StreamId stream, session::AppError code) override;
  void on_closed(session::Session* session, session::StreamId stream, session::AppError code) override;

 private:
  void end(const Error& why);
  ServiceContext& context_;
  std::size_t limit_;
  Callbacks callbacks_;
  boost::asio::steady_timer timer_;
  session::SessionId session_;
  session::StreamId stream_ = -1;
  Bytes received_, unsent_;
  bool sending_ = false;
  std::shared_ptr<ExchangeStream> self_;  // while the session holds a plain pointer to us
};

}  // namespace ravine::services
