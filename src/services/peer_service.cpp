#include "services/peer_service.h"

#include <optional>
#include <utility>

namespace ravine::services {
namespace {

using session::SessionId;

class PeerService final : public std::enable_shared_from_this<PeerService> {
 public:
  PeerService(StreamRouter& router, PeerConnector& connector, std::string_view host, StreamRequest request,
              Duration timeout, OpenDone done)
      : router_(router),
        connector_(connector),
        host_(host),
        request_(std::move(request)),
        timeout_(timeout),
        done_(std::move(done)) {}

  void connect() {
    connector_.connect(host_, [weak = weak_from_this()](Result<SessionId> session) {
      const auto self = weak.lock();
      if (!self || !self->done_) return;
      if (!session) return self->finish(session.error());
      self->ask(*session);
    });
  }

  void cancel() {
    done_ = nullptr;
    stream_.reset();
  }

 private:
  void ask(SessionId session) {
    session_ = session;
    stream_ = open_service(
        router_, session, request_, timeout_,
        [weak = weak_from_this()](Result<OpenedStream> stream) {
          if (const auto self = weak.lock()) self->take(std::move(stream));
        },
        [weak = weak_from_this()] {
          if (const auto self = weak.lock()) self->dial_anew();
        });
  }

  void take(Result<OpenedStream> stream) {
    if (stream.ok()) return finish(std::move(stream));
    session::Session* session = router_.context().driver.endpoint().find(session_);
    const bool ended = session == nullptr || session->is_closing();
    if (!ended || stream.error().kind != ErrorKind::unreachable) return finish(std::move(stream));
    // The session ended under the request: that says nothing about the peer yet.
    if (dialling_) {
      failure_ = stream.error();
    } else if (!std::exchange(asked_again_, true)) {
      connect();
    } else {
      finish(std::move(stream));
    }
  }

  void dial_anew() {
    if (std::exchange(asked_again_, true) || !done_) return;
    dialling_ = true;
    connector_.reconnect(host_, session_, [weak = weak_from_this()](Result<SessionId> session) {
      const auto self = weak.lock();
      if (!self || !self->done_) return;
      self->dialling_ = false;
      if (session.ok()) return self->ask(*session);
      if (self->failure_) self->finish(session.error());
    });
  }

  void finish(Result<OpenedStream> result) {
    if (const auto call = std::exchange(done_, nullptr)) call(std::move(result));
  }

  StreamRouter& router_;
  PeerConnector& connector_;
  std::string host_;
  StreamRequest request_;
  Duration timeout_;
  OpenDone done_;
  SessionId session_;
  Pending stream_;
  bool asked_again_ = false;
  bool dialling_ = false;         // a fresh session beside the silent one
  std::optional<Error> failure_;  // of the silent one, which ended meanwhile
};

}  // namespace

Pending open_peer_service(StreamRouter& router, PeerConnector& connector, std::string_view host,
                          StreamRequest request, Duration timeout, OpenDone done) {
  auto service =
      std::make_shared<PeerService>(router, connector, host, std::move(request), timeout, std::move(done));
  service->connect();
  return Pending(service.get(), [service](void*) { service->cancel(); });
}

}  // namespace ravine::services
