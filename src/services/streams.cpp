#include "services/streams.h"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

namespace ravine::services {
namespace {

using session::AppError;

template <class Message>
Bytes encode_any(const Message& message) {
  ByteWriter out;
  const std::string body = message.SerializeAsString();
  out.write_varint(body.size());
  out.write(as_bytes(body));
  return out.take();
}

Bytes make_reply(AppError code, std::string_view message) {
  StreamReply reply;
  reply.set_status(static_cast<std::uint32_t>(code));
  if (!message.empty()) reply.set_message(std::string(message.substr(0, kMaxReplyMessage)));
  return encode_head(reply);
}

// What the other side said, made fit for a log line.
std::string printable(std::string_view text) {
  std::string clean(text.substr(0, kMaxReplyMessage));
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return clean;
}

}  // namespace

Bytes encode_head(const StreamRequest& message) {
  return encode_any(message);
}
Bytes encode_head(const StreamReply& message) {
  return encode_any(message);
}

std::size_t HeadReader::wanted() const {
  if (total_ != 0) return total_ - bytes_.size();
  if (bytes_.empty()) return 1;
  return (std::size_t{1} << (bytes_[0] >> 6)) - bytes_.size();
}

HeadOutcome HeadReader::feed(ByteView bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  if (total_ == 0) {
    if (wanted() != 0) return HeadOutcome::need_more;
    ByteReader reader(bytes_);
    const std::uint64_t size = reader.read_varint();
    if (size > kMaxStreamHead) return HeadOutcome::malformed;
    start_ = bytes_.size();
    total_ = start_ + static_cast<std::size_t>(size);
  }
  return wanted() == 0 ? HeadOutcome::ready : HeadOutcome::need_more;
}

HeadOutcome HeadReader::read(session::Session& session, session::StreamId stream) {
  while (true) {
    const ByteView view = session.peek(stream);
    if (view.empty()) return session.is_finished(stream) ? HeadOutcome::malformed : HeadOutcome::need_more;
    const ByteView part = view.first(std::min(view.size(), wanted()));
    const std::size_t size = part.size();
    const HeadOutcome outcome = feed(part);
    session.consume(stream, size);
    if (outcome != HeadOutcome::need_more) return outcome;
  }
}

void hand_over(session::Session& session, session::StreamId stream, runtime::StreamHandler* handler) {
  session.set_stream_context(stream, handler);
  if (!session.peek(stream).empty() || session.is_finished(stream)) handler->on_readable(session, stream);
}

// --- acceptor

class StreamRouter::Incoming final : public IncomingStream,
                                     public runtime::StreamHandler,
                                     public std::enable_shared_from_this<Incoming> {
 public:
  Incoming(StreamRouter& router, session::SessionId session, session::StreamId stream)
      : router_(router), session_(session), stream_(stream), timer_(router.context_.loop) {}

  void start(session::Session& session) {
    self_ = shared_from_this();
    session.set_stream_context(stream_, static_cast<runtime::StreamHandler*>(this));
    timer_.expires_after(kStreamHeadTimeout);
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self || self->state_ != State::reading) return;
      ++self->router_.counters_.timed_out;
      self->refuse(AppError::timed_out, "no request arrived in time");
    });
    on_readable(session, stream_);
  }

  const StreamRequest& request() const override { return request_; }
  session::SessionId session_id() const override { return session_; }
  session::StreamId stream_id() const override { return stream_; }
  session::Session* session() override {
    return is_open() ? router_.context_.driver.endpoint().find(session_) : nullptr;
  }
  bool is_open() const override { return state_ == State::reading || state_ == State::asked; }
  void on_gone(std::function<void()> call) override { gone_ = std::move(call); }

  session::Session* accept() override {
    runtime::Driver& driver = router_.context_.driver;
    driver.enter();
    session::Session* live = session();
    if (live == nullptr || live->is_closing()) return nullptr;  // on_closed is under way and needs us
    ++router_.counters_.accepted;
    leave(State::accepted);
    live->set_stream_context(stream_, nullptr);
    const auto keep = std::exchange(self_, nullptr);
    live->write(stream_, make_reply(AppError::none, {}));
    driver.touch();
    return live;
  }

  void refuse(AppError code, std::string_view message) override {
    runtime::Driver& driver = router_.context_.driver;
    driver.enter();
    session::Session* live = session();
    if (live == nullptr) return;
    ++router_.counters_.refused;
    leave(State::refused);
    live->write(stream_, make_reply(code, message));
    live->finish(stream_);
    live->stop(stream_, code);
    driver.touch();
  }

  void on_readable(session::Session& session, session::StreamId) override {
    if (state_ != State::reading) return;
    switch (head_.read(session, stream_)) {
      case HeadOutcome::need_more:
        return;
      case HeadOutcome::malformed:
        return reject_malformed();
      case HeadOutcome::ready:
        break;
    }
    const ByteView body = head_.body();
    if (!request_.ParseFromArray(body.data(), static_cast<int>(body.size()))) return reject_malformed();
    dispatch();
  }
  void on_writable(session::Session&, session::StreamId) override {}
  void on_reset(session::Session& session, session::StreamId, AppError code) override {
    if (is_open()) session.reset(stream_, code);
    depart();
  }
  void on_stopped(session::Session& session, session::StreamId, AppError code) override {
    session.reset(stream_, code);
    session.stop(stream_, code);
    depart();
  }
  void on_closed(session::Session*, session::StreamId, AppError) override {
    const auto keep = std::exchange(self_, nullptr);
    depart();
  }

 private:
  enum class State : std::uint8_t { reading, asked, accepted, refused, gone };

  void reject_malformed() {
    ++router_.counters_.malformed;
    refuse(AppError::protocol, "malformed request");
  }

  void dispatch() {
    state_ = State::asked;
    timer_.cancel();
    const auto number = static_cast<std::size_t>(request_.service());
    if (request_.service() < 0 || number >= router_.services_.size() || !router_.services_[number]) {
      refuse(AppError::not_found, "this node has no such service");
      return;
    }
    // A service that forgets its stream must not leave the opener waiting.
    const auto keep = shared_from_this();
    router_.services_[number](std::shared_ptr<IncomingStream>(this, [keep](IncomingStream*) {
      if (keep->is_open()) keep->refuse(AppError::internal, "the service gave no answer");
    }));
  }

  void depart() {
    if (!is_open()) return;
    const auto call = std::exchange(gone_, nullptr);
    leave(State::gone);
    if (call) call();
  }
  void leave(State state) {
    state_ = state;
    timer_.cancel();
    gone_ = nullptr;
  }

  StreamRouter& router_;
  session::SessionId session_;
  session::StreamId stream_;
  boost::asio::steady_timer timer_;
  State state_ = State::reading;
  HeadReader head_;
  StreamRequest request_;
  std::function<void()> gone_;
  std::shared_ptr<Incoming> self_;  // while the session holds a plain pointer to us
};

StreamRouter::StreamRouter(ServiceContext context) : context_(std::move(context)) {
  context_.driver.add_observer(this);
}
StreamRouter::~StreamRouter() {
  context_.driver.remove_observer(this);
}

void StreamRouter::add_service(StreamRequest::Service service, Service handler) {
  const auto number = static_cast<std::size_t>(service);
  ensure(number < services_.size());
  services_[number] = std::move(handler);
}

bool StreamRouter::on_stream_opened(session::Session& session, session::StreamId stream) {
  constexpr session::StreamId kUnidirectionalBit = 2;  // RFC 9000 §2.1
  if (session.info().alpn != session::kAlpn || (stream & kUnidirectionalBit) != 0) return false;
  ++counters_.opened;
  std::make_shared<Incoming>(*this, session.id(), stream)->start(session);
  return true;
}

void StreamRouter::wait_for_streams(session::SessionId session, std::function<void()> retry) {
  waiting_[session].push_back(std::move(retry));
}

void StreamRouter::on_streams_available(session::Session& session) {
  const auto found = waiting_.find(session.id());
  if (found == waiting_.end()) return;
  const auto calls = std::exchange(found->second, {});
  waiting_.erase(found);
  for (const auto& call : calls) call();
}

void StreamRouter::on_closed(session::SessionId id, const session::SessionInfo&,
                             const session::CloseReason&) {
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return;
  const auto calls = std::exchange(found->second, {});
  waiting_.erase(found);
  for (const auto& call : calls) call();  // they find the session gone and say so
}

// --- opener

namespace {

constexpr Duration kLeastDoubt = 300ms;   // a few lost packets are no silence
constexpr Duration kLeastLimit = 2800ms;  // with what else it takes below the 3 s of a SOCKS client
constexpr Duration kRecheck = 10ms;

class Opening final : public runtime::StreamHandler, public std::enable_shared_from_this<Opening> {
 public:
  Opening(StreamRouter& router, session::SessionId session, StreamRequest request, OpenDone done,
          std::function<void()> on_doubt)
      : router_(router),
        session_(session),
        request_(std::move(request)),
        done_(std::move(done)),
        on_doubt_(std::move(on_doubt)),
        timer_(router.context().loop),
        silence_(router.context().loop) {}

  void start(Duration timeout) {
    timer_.expires_after(timeout);
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!error && self)
        self->abandon(Error{ErrorKind::timed_out, "the peer did not answer the request in time"});
    });
    started_ = router_.context().driver.now();
    wait_silence(kLeastDoubt);
    open();
  }

  void cancel() {
    done_ = nullptr;
    abandon({});
  }

  void on_readable(session::Session& session, session::StreamId) override {
    if (!done_) return;
    switch (head_.read(session, stream_)) {
      case HeadOutcome::need_more:
        return;
      case HeadOutcome::malformed:
        return abandon(Error{ErrorKind::internal, "the peer's reply is malformed"});
      case HeadOutcome::ready:
        break;
    }
    StreamReply reply;
    const ByteView body = head_.body();
    if (!reply.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
      return abandon(Error{ErrorKind::internal, "the peer's reply is malformed"});
    }
    if (reply.status() != 0) {
      const auto code = static_cast<AppError>(reply.status());
      std::string text(to_text(code));
      if (!reply.message().empty()) text += ": " + printable(reply.message());
      return abandon(Error{to_kind(code), std::move(text)});
    }
    timer_.cancel();
    silence_.cancel();
    session.set_stream_context(stream_, nullptr);
    const auto keep = std::exchange(self_, nullptr);
    const auto done = std::exchange(done_, nullptr);
    done(OpenedStream{session_, std::exchange(stream_, -1)});  // no longer ours to cancel
  }
  void on_writable(session::Session& session, session::StreamId) override { write_head(session); }
  void on_reset(session::Session&, session::StreamId, AppError code) override {
    abandon(Error{to_kind(code), std::string(to_text(code))});
  }
  void on_stopped(session::Session&, session::StreamId, AppError) override {}  // its reply or reset says why
  void on_closed(session::Session* session, session::StreamId, AppError code) override {
    const auto keep = std::exchange(self_, nullptr);
    stream_ = -1;
    abandon(session == nullptr ? Error{ErrorKind::unreachable, "the session ended"}
                               : Error{to_kind(code), std::string(to_text(code))});
  }

 private:
  void open() {
    if (!done_) return;
    session::Session* session = router_.context().driver.endpoint().find(session_);
    if (session == nullptr || session->is_closing()) {
      return abandon(Error{ErrorKind::unreachable, "the session ended"});
    }
    const auto stream =
        session->open_stream(session::StreamKind::bidirectional, static_cast<runtime::StreamHandler*>(this));
    if (!stream) {
      if (stream.error().kind != ErrorKind::limit_reached) return abandon(stream.error());
      router_.wait_for_streams(session_, [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->open();
      });
      return;
    }
    stream_ = *stream;
    self_ = shared_from_this();
    if (request_.service() == StreamRequest::UDP) request_.set_flow(static_cast<std::uint64_t>(stream_));
    unsent_ = encode_head(request_);
    write_head(*session);
    router_.context().driver.touch();
  }

  void wait_silence(Duration wait) {
    silence_.expires_after(std::chrono::duration_cast<boost::asio::steady_timer::duration>(wait));
    silence_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (!error && self) self->check_silence();
    });
  }

  // A peer may take its time to reach its target, but not to acknowledge the request: then it is gone, and
  // its session will find out later.
  void check_silence() {
    const Instant now = router_.context().driver.enter();
    session::Session* session = router_.context().driver.endpoint().find(session_);
    if (!done_ || session == nullptr) return;
    if (stream_ >= 0 && unsent_.empty() && session->unacknowledged(stream_) == 0) return;
    const Instant heard = std::max(started_, last_heard(*session));
    const Duration limit = silence_limit(session->smoothed_rtt());
    const Duration doubt = silence_doubt(session->smoothed_rtt());
    if (now >= heard + limit) {
      return abandon(Error{ErrorKind::unreachable, "the peer is offline: its session is silent"});
    }
    const auto keep = shared_from_this();
    if (now >= heard + doubt) {
      if (const auto call = std::exchange(on_doubt_, nullptr)) call();
      if (!done_) return;
    }
    const Instant next = on_doubt_ ? heard + doubt : heard + limit;
    wait_silence(std::max<Duration>(next - now, kRecheck));
  }

  void write_head(session::Session& session) {
    const std::size_t taken = session.write(stream_, unsent_);
    unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<std::ptrdiff_t>(taken));
  }

  // Ends the stream, if there is one, and says why, if somebody still listens.
  void abandon(Error why) {
    const auto keep = shared_from_this();
    timer_.cancel();
    silence_.cancel();
    if (stream_ >= 0) {
      router_.context().driver.enter();
      if (session::Session* session = router_.context().driver.endpoint().find(session_)) {
        session->reset(stream_, AppError::none);
        session->stop(stream_, AppError::none);
        router_.context().driver.touch();
      }
    }
    if (const auto done = std::exchange(done_, nullptr)) done(std::move(why));
  }

  StreamRouter& router_;
  session::SessionId session_;
  session::StreamId stream_ = -1;
  StreamRequest request_;
  Bytes unsent_;
  OpenDone done_;
  std::function<void()> on_doubt_;  // null: told
  boost::asio::steady_timer timer_, silence_;
  Instant started_;
  HeadReader head_;
  std::shared_ptr<Opening> self_;  // while the session holds a plain pointer to us
};

}  // namespace

Duration silence_doubt(Duration smoothed_rtt) {
  return std::max<Duration>(kLeastDoubt, smoothed_rtt * 2);
}
Duration silence_limit(Duration smoothed_rtt) {
  return std::max<Duration>(kLeastLimit, smoothed_rtt * 3);
}

Instant last_heard(const session::Session& session) {
  Instant last;
  for (const session::PathInfo& path : session.paths()) last = std::max(last, path.last_received);
  return last;
}

Pending open_service(StreamRouter& router, session::SessionId session, StreamRequest request,
                     Duration timeout, OpenDone done, std::function<void()> on_doubt) {
  auto opening =
      std::make_shared<Opening>(router, session, std::move(request), std::move(done), std::move(on_doubt));
  boost::asio::post(router.context().loop, [weak = std::weak_ptr(opening), &router, timeout] {
    const auto self = weak.lock();
    if (!self) return;
    router.context().driver.enter();
    self->start(timeout);
  });
  return Pending(opening.get(), [opening](void*) { opening->cancel(); });
}

}  // namespace ravine::services
