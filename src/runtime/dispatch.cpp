// The endpoint's events become calls to stream handlers and session observers.
#include "runtime/driver_impl.h"

namespace ravine::runtime {

using session::AppError;
using session::Event;
using session::EventKind;
using session::Session;

// By index: an observer may add or remove observers while it is called.
template <class Call>
void Driver::Impl::each_observer(const Call& call) {
  for (std::size_t i = 0; i < observers.size(); ++i)
    if (observers[i] != nullptr) call(*observers[i]);
}

namespace {

// A superseded session is closing and yet serves its streams to their end.
bool is_over(const Session* session) {
  return session == nullptr || (session->is_closing() && !session->is_established());
}

}  // namespace

void Driver::Impl::dispatch_event(const Event& event) {
  if (event.kind == EventKind::session_closed) return dispatch_closed(event);
  Session* const found = endpoint.find(event.session);
  if (event.kind == EventKind::stream_closed) {
    if (event.context == nullptr) return;
    const bool session_over = is_over(found);
    static_cast<StreamHandler*>(event.context)
        ->on_closed(session_over ? nullptr : found, event.stream, static_cast<AppError>(event.code));
    return;
  }
  // Events that were queued before their session ended say nothing new.
  if (is_over(found)) return;
  if (event.stream >= 0) {
    dispatch_stream(event, *found);
  } else {
    dispatch_session(event, *found);
  }
}

void Driver::Impl::dispatch_stream(const Event& event, Session& session) {
  if (event.kind == EventKind::stream_opened) return offer_stream(event, session);
  auto* const handler = static_cast<StreamHandler*>(event.context);
  if (handler == nullptr) return;
  switch (event.kind) {
    case EventKind::stream_readable:
      return handler->on_readable(session, event.stream);
    case EventKind::stream_writable:
      return handler->on_writable(session, event.stream);
    case EventKind::stream_reset:
      return handler->on_reset(session, event.stream, static_cast<AppError>(event.code));
    case EventKind::stream_stopped:
      return handler->on_stopped(session, event.stream, static_cast<AppError>(event.code));
    default:
      return;
  }
}

void Driver::Impl::offer_stream(const Event& event, Session& session) {
  for (std::size_t i = 0; i < observers.size(); ++i)
    if (observers[i] != nullptr && observers[i]->on_stream_opened(session, event.stream)) return;
  session.stop(event.stream, AppError::refused);
  session.reset(event.stream, AppError::refused);
}

void Driver::Impl::dispatch_session(const Event& event, Session& session) {
  switch (event.kind) {
    case EventKind::session_established:
      return each_observer([&](SessionObserver& observer) { observer.on_established(session); });
    case EventKind::path_changed:
      return each_observer([&](SessionObserver& observer) { observer.on_path_changed(session); });
    case EventKind::path_state:
      return each_observer([&](SessionObserver& observer) {
        observer.on_path_state(session, static_cast<session::PathId>(event.code));
      });
    case EventKind::streams_available:
      return each_observer([&](SessionObserver& observer) { observer.on_streams_available(session); });
    case EventKind::datagram_readable:
      return each_observer([&](SessionObserver& observer) { observer.on_datagrams(session); });
    case EventKind::datagram_writable:
      return each_observer([&](SessionObserver& observer) { observer.on_datagrams_writable(session); });
    case EventKind::control_received:
      return each_observer([&](SessionObserver& observer) { observer.on_control(session); });
    case EventKind::local_addresses_stale:
      return each_observer([&](SessionObserver& observer) { observer.on_addresses_stale(session); });
    default:
      return;
  }
}

void Driver::Impl::dispatch_closed(const Event& event) {
  session::SessionInfo info;
  if (const Session* const session = endpoint.find(event.session)) info = session->info();
  info.id = event.session;
  session::CloseReason reason;
  if (const auto* known = endpoint.close_reason(event.session)) reason = *known;
  each_observer([&](SessionObserver& observer) { observer.on_closed(event.session, info, reason); });
}

}  // namespace ravine::runtime
