#include "services/flow.h"

#include <utility>

#include "services/flow_stream.h"
#include "services/peer_service.h"

namespace ravine::services {

using session::AppError;
using DatagramOutcome = session::Connection::DatagramOutcome;

FlowTable::FlowTable(runtime::Driver& driver) : driver_(driver) {
  driver_.add_observer(this);
}
FlowTable::~FlowTable() {
  driver_.remove_observer(this);
}

bool FlowTable::add(session::SessionId session, std::uint64_t flow, Receive receive) {
  auto& flows = flows_[session];
  if (flows.size() >= kMaxFlowsPerSession) return false;
  if (!flows.emplace(flow, std::make_shared<Receive>(std::move(receive))).second) return false;
  ++counters_.opened;
  ++counters_.active;
  return true;
}

void FlowTable::remove(session::SessionId session, std::uint64_t flow) {
  const auto found = flows_.find(session);
  if (found == flows_.end() || found->second.erase(flow) == 0) return;
  --counters_.active;
  if (found->second.empty()) flows_.erase(found);
}

void FlowTable::send(session::Session& session, std::uint64_t flow, ByteView payload) {
  ByteWriter out;
  out.write_varint(flow);
  out.write(payload);
  switch (session.send_datagram(out.view())) {
    case DatagramOutcome::queued:
      ++counters_.sent;
      break;
    case DatagramOutcome::too_large:
      ++counters_.too_large;
      break;
    case DatagramOutcome::queue_full:
    case DatagramOutcome::unsupported:
      ++counters_.queue_full;
      break;
  }
}

void FlowTable::on_datagrams(session::Session& session) {
  while (const auto datagram = session.peek_datagram()) {
    ByteReader reader(*datagram);
    const std::uint64_t flow = reader.read_varint();
    const auto flows = reader.ok() ? flows_.find(session.id()) : flows_.end();
    if (flows == flows_.end()) {
      ++counters_.unknown;
    } else if (const auto found = flows->second.find(flow); found == flows->second.end()) {
      ++counters_.unknown;
    } else {
      ++counters_.received;
      const std::shared_ptr<Receive> receive = found->second;  // the flow may end inside
      (*receive)(reader.rest());
    }
    session.pop_datagram();
  }
}

void FlowTable::on_closed(session::SessionId id, const session::SessionInfo&, const session::CloseReason&) {
  const auto found = flows_.find(id);
  if (found == flows_.end()) return;
  counters_.active -= found->second.size();
  flows_.erase(found);
}

// --- one end

FlowStream::FlowStream(ServiceContext& context, FlowTable& table, session::SessionId session,
                       session::StreamId stream, FlowCallbacks callbacks)
    : context_(context),
      table_(table),
      session_(session),
      stream_(stream),
      callbacks_(std::move(callbacks)),
      idle_(context.loop) {}

bool FlowStream::begin() {
  const auto receive = [weak = weak_from_this()](ByteView payload) {
    const auto self = weak.lock();
    if (!self || !self->open_) return;
    self->touch_idle();
    if (self->callbacks_.on_receive) self->callbacks_.on_receive(payload);
  };
  if (!table_.add(session_, static_cast<std::uint64_t>(stream_), receive)) return false;
  open_ = true;
  self_ = shared_from_this();
  touch_idle();
  arm_idle(kFlowIdle);
  return true;
}

void FlowStream::send(ByteView payload) {
  if (!open_) return;
  context_.driver.enter();
  touch_idle();
  session::Session* session = context_.driver.endpoint().find(session_);
  if (session == nullptr) return;
  table_.send(*session, static_cast<std::uint64_t>(stream_), payload);
  context_.driver.touch();
}

void FlowStream::close(AppError code) {
  end(code, nullptr);
}

void FlowStream::touch_idle() {
  last_used_ = context_.driver.now();
}

void FlowStream::arm_idle(Duration after) {
  idle_.expires_after(std::chrono::duration_cast<boost::asio::steady_timer::duration>(after));
  idle_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
    const auto self = weak.lock();
    if (error || !self || !self->open_) return;
    const Duration idle = self->context_.driver.enter() - self->last_used_;
    if (idle < kFlowIdle) return self->arm_idle(kFlowIdle - idle);
    const Error why{ErrorKind::timed_out, "the flow was idle"};
    self->end(AppError::none, &why);
  });
}

void FlowStream::end(AppError code, const Error* why) {
  if (!open_) return;
  const auto keep = shared_from_this();
  open_ = false;
  idle_.cancel();
  table_.remove(session_, static_cast<std::uint64_t>(stream_));
  context_.driver.enter();
  if (session::Session* session = context_.driver.endpoint().find(session_); session != nullptr && self_) {
    session->reset(stream_, code);
    session->stop(stream_, code);
    context_.driver.touch();
  }
  const auto callbacks = std::exchange(callbacks_, {});
  if (why != nullptr && callbacks.on_end) callbacks.on_end(*why);
}

void FlowStream::on_readable(session::Session& session, session::StreamId stream) {
  // Nothing but FIN is expected; bytes are dropped.
  while (!session.peek(stream).empty()) session.consume(stream, session.peek(stream).size());
  if (!session.is_finished(stream)) return;
  const Error why{ErrorKind::closed, "the other side ended the flow"};
  end(AppError::none, &why);
}

void FlowStream::on_reset(session::Session&, session::StreamId, AppError code) {
  const Error why{to_kind(code), std::string(to_text(code))};
  end(code, &why);
}

void FlowStream::on_stopped(session::Session&, session::StreamId, AppError code) {
  const Error why{to_kind(code), std::string(to_text(code))};
  end(code, &why);
}

void FlowStream::on_closed(session::Session*, session::StreamId, AppError code) {
  const auto keep = std::exchange(self_, nullptr);
  const Error why{ErrorKind::unreachable, std::string(to_text(code))};
  end(code, &why);
}

// --- the opener's handle

namespace {

class Outgoing final : public OutgoingFlow {
 public:
  struct State {
    FlowCallbacks callbacks;
    Pending opening;
    std::shared_ptr<FlowStream> stream;
    std::vector<Bytes> backlog;
    bool ended = false;
  };

  Outgoing(StreamRouter& router, PeerConnector& connector, FlowTable& table, std::string_view host,
           std::uint16_t port, FlowCallbacks callbacks)
      : state_(std::make_shared<State>()) {
    state_->callbacks = std::move(callbacks);
    StreamRequest request;
    request.set_service(StreamRequest::UDP);
    request.set_port(port);
    state_->opening =
        open_peer_service(router, connector, host, std::move(request), 15s,
                          [&router, &table, weak = std::weak_ptr(state_)](Result<OpenedStream> opened) {
                            if (const auto state = weak.lock()) carry(router, table, state, opened);
                          });
  }

  ~Outgoing() override {
    state_->ended = true;
    if (state_->stream) state_->stream->close(AppError::none);
  }

  void send(ByteView payload) override {
    if (state_->ended) return;
    if (state_->stream) return state_->stream->send(payload);
    if (state_->backlog.size() < kFlowBacklog) state_->backlog.push_back(to_bytes(payload));
  }

 private:
  static void end(State& state, const Error& why) {
    if (std::exchange(state.ended, true)) return;
    const auto callbacks = std::exchange(state.callbacks, {});
    if (callbacks.on_end) callbacks.on_end(why);
  }

  static void carry(StreamRouter& router, FlowTable& table, const std::shared_ptr<State>& state,
                    const Result<OpenedStream>& opened) {
    if (!opened) return end(*state, opened.error());
    session::Session* session = router.context().driver.endpoint().find(opened->session);
    if (session == nullptr) return end(*state, Error{ErrorKind::unreachable, "the session ended"});
    FlowCallbacks callbacks;
    callbacks.on_receive = [weak = std::weak_ptr(state)](ByteView payload) {
      const auto live = weak.lock();
      if (live && !live->ended && live->callbacks.on_receive) live->callbacks.on_receive(payload);
    };
    callbacks.on_end = [weak = std::weak_ptr(state)](const Error& why) {
      if (const auto live = weak.lock()) end(*live, why);
    };
    state->stream = std::make_shared<FlowStream>(router.context(), table, opened->session, opened->stream,
                                                 std::move(callbacks));
    if (!state->stream->begin()) {
      session->reset(opened->stream, AppError::limit);
      session->stop(opened->stream, AppError::limit);
      return end(*state, Error{ErrorKind::limit_reached, "too many flows with this peer"});
    }
    hand_over(*session, opened->stream, state->stream.get());
    for (const Bytes& payload : std::exchange(state->backlog, {})) state->stream->send(payload);
  }

  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<OutgoingFlow> open_flow(StreamRouter& router, PeerConnector& connector, FlowTable& table,
                                        std::string_view host, std::uint16_t port, FlowCallbacks callbacks) {
  return std::make_unique<Outgoing>(router, connector, table, host, port, std::move(callbacks));
}

}  // namespace ravine::services
