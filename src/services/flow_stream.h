// One end of an open UDP flow: its stream, its number in the FlowTable, and its idle timer. Both the opener
// and the exposing peer use it. Internal to services.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <memory>

#include "services/flow.h"

namespace ravine::services {

class FlowStream final : public runtime::StreamHandler, public std::enable_shared_from_this<FlowStream> {
 public:
  FlowStream(ServiceContext& context, FlowTable& table, session::SessionId session, session::StreamId stream,
             FlowCallbacks callbacks);

  // Takes the flow's number; false when the session has too many. From then on it keeps itself until
  // on_closed; make it the stream's handler in the same turn.
  bool begin();
  void send(ByteView payload);
  // Ends the flow without on_end.
  void close(session::AppError code);

  void on_readable(session::Session& session, session::StreamId stream) override;
  void on_writable(session::Session&, session::StreamId) override {}
  void on_reset(session::Session& session, session::StreamId stream, session::AppError code) override;
  void on_stopped(session::Session& session, session::StreamId stream, session::AppError code) override;
  void on_closed(session::Session* session, session::StreamId stream, session::AppError code) override;

 private:
  void touch_idle();
  void arm_idle(Duration after);
  void end(session::AppError code, const Error* why);

  ServiceContext& context_;
  FlowTable& table_;
  session::SessionId session_;
  session::StreamId stream_;
  FlowCallbacks callbacks_;
  boost::asio::steady_timer idle_;
  Instant last_used_;
  bool open_ = false;
  std::shared_ptr<FlowStream> self_;  // while the session holds a plain pointer to us
};

}  // namespace ravine::services
