#include "services/bench_service.h"

#include <algorithm>
#include <array>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <utility>

namespace ravine::services {
namespace {

using session::AppError;

constexpr std::uint32_t kEcho = 0, kSink = 1, kSource = 2;
constexpr std::size_t kEchoSize = 64;         // bytes
constexpr std::size_t kChunk = 256 * 1024;    // bytes per reserve
constexpr std::size_t kBudget = 1024 * 1024;  // bytes per call, so that other streams get their turn
constexpr Duration kProgressPeriod = 250ms;
constexpr Duration kPhaseGrace = 10s;  // for streams to open and echoes to come
constexpr std::uint8_t kFill = 0xa5;

// Fills the send buffer up to the budget. Returns bytes written.
std::uint64_t fill(session::Session& session, session::StreamId stream, std::uint64_t wanted) {
  std::uint64_t written = 0;
  while (written < wanted && written < kBudget) {
    const MutableBytes space = session.reserve(stream, std::min<std::uint64_t>(kChunk, wanted - written));
    if (space.empty()) break;
    std::fill(space.begin(), space.end(), kFill);
    session.commit(stream, space.size());
    written += space.size();
  }
  return written;
}

// The answering side of one bench stream.
class BenchStream final : public runtime::StreamHandler, public std::enable_shared_from_this<BenchStream> {
 public:
  BenchStream(std::uint32_t mode, std::uint64_t bytes, std::function<void()> on_end)
      : mode_(mode),
        left_(bytes == 0 ? kMaxBenchBytes : std::min(bytes, kMaxBenchBytes)),
        on_end_(std::move(on_end)) {}

  void begin(session::Session& session, session::StreamId stream) {
    self_ = shared_from_this();
    session.set_stream_context(stream, static_cast<runtime::StreamHandler*>(this));
    on_readable(session, stream);
    on_writable(session, stream);
  }
  void on_readable(session::Session& session, session::StreamId stream) override {
    while (true) {
      const ByteView view = session.peek(stream);
      if (view.empty()) break;
      const std::size_t size = mode_ == kEcho ? session.write(stream, view) : view.size();
      if (size == 0) return;  // on_writable continues
      session.consume(stream, size);
    }
    if (mode_ != kSource && session.is_finished(stream)) session.finish(stream);
  }
  void on_writable(session::Session& session, session::StreamId stream) override {
    if (mode_ == kEcho) return on_readable(session, stream);
    if (mode_ != kSource || finished_) return;
    while (left_ > 0) {
      const std::uint64_t written = fill(session, stream, left_);
      if (written == 0) return;
      left_ -= written;
    }
    finished_ = true;
    session.finish(stream);
  }
  void on_reset(session::Session& session, session::StreamId stream, AppError code) override {
    session.reset(stream, code);
  }
  void on_stopped(session::Session& session, session::StreamId stream, AppError code) override {
    finished_ = true;
    session.reset(stream, code);
    session.stop(stream, code);
  }
  void on_closed(session::Session*, session::StreamId, AppError) override {
    const auto keep = std::exchange(self_, nullptr);
    if (const auto call = std::exchange(on_end_, nullptr)) call();
  }

 private:
  std::uint32_t mode_;
  std::uint64_t left_;
  std::function<void()> on_end_;
  bool finished_ = false;
  std::shared_ptr<BenchStream> self_;  // while the session holds a plain pointer to us
};

double rate(std::uint64_t bytes, Duration elapsed) {
  if (elapsed.count() <= 0) return 0;
  return static_cast<double>(bytes) * 8e9 / static_cast<double>(elapsed.count());
}

}  // namespace

struct BenchService::Impl {
  std::map<session::SessionId, std::size_t> streams;
};

BenchService::BenchService(StreamRouter& router) : impl_(std::make_shared<Impl>()) {
  router.add_service(StreamRequest::BENCH,
                     [weak = std::weak_ptr(impl_)](std::shared_ptr<IncomingStream> stream) {
                       const auto impl = weak.lock();
                       if (!impl) return;
                       const StreamRequest& request = stream->request();
                       if (request.bench_mode() > kSource)
                         return stream->refuse(AppError::protocol, "no such bench mode");
                       std::size_t& count = impl->streams[stream->session_id()];
                       if (count >= kMaxBenchStreamsPerSession)
                         return stream->refuse(AppError::limit, "too many bench streams");
                       ++count;
                       const auto on_end = [weak, id = stream->session_id()] {
                         const auto live = weak.lock();
                         if (!live) return;
                         const auto found = live->streams.find(id);
                         if (found != live->streams.end() && --found->second == 0) live->streams.erase(found);
                       };
                       session::Session* session = stream->accept();
                       if (session == nullptr) return on_end();
                       std::make_shared<BenchStream>(request.bench_mode(), request.bench_bytes(), on_end)
                           ->begin(*session, stream->stream_id());
                     });
}

BenchService::~BenchService() = default;

// --- the measuring side

namespace {

class BenchRun final : public runtime::StreamHandler, public std::enable_shared_from_this<BenchRun> {
 public:
  BenchRun(StreamRouter& router, session::SessionId session, BenchOptions options,
           std::function<void(const BenchProgress&)> progress, std::function<void(Result<BenchResult>)> done)
      : router_(router),
        session_(session),
        options_(options),
        progress_(std::move(progress)),
        done_(std::move(done)),
        timer_(router.context().loop) {}

  void start() { open(kEcho); }
  void cancel() {
    done_ = nullptr;
    progress_ = nullptr;
    stop_stream();
    timer_.cancel();
    opening_.reset();
  }

  void on_readable(session::Session& session, session::StreamId stream) override {
    while (true) {
      const ByteView view = session.peek(stream);
      if (view.empty()) break;
      if (stream == stream_) bytes_ += view.size();
      session.consume(stream, view.size());
    }
    if (mode_ == kEcho && done_ && bytes_ >= kEchoSize) {
      bytes_ -= kEchoSize;
      samples_.push_back(now() - sent_at_);
      if (samples_.size() >= options_.echoes) return next_phase();
      send_echo(session);
    }
  }
  void on_writable(session::Session& session, session::StreamId stream) override {
    if (mode_ != kSink || stream != stream_) return;
    while (const std::uint64_t written = fill(session, stream, kBudget)) bytes_ += written;
  }
  void on_reset(session::Session&, session::StreamId stream, AppError code) override {
    if (stream == stream_) fail({to_kind(code), std::string(to_text(code))});
  }
  void on_stopped(session::Session&, session::StreamId stream, AppError code) override {
    if (stream == stream_) fail({to_kind(code), std::string(to_text(code))});
  }
  void on_closed(session::Session* session, session::StreamId stream, AppError) override {
    const auto keep = shared_from_this();
    holds_.erase(stream);
    if (stream != stream_) return;
    stream_ = -1;
    fail(session == nullptr ? Error{ErrorKind::unreachable, "the session ended"}
                            : Error{ErrorKind::closed, "the peer ended the measurement"});
  }

 private:
  Instant now() const { return router_.context().driver.now(); }
  session::Session* find() const { return router_.context().driver.endpoint().find(session_); }

  void open(std::uint32_t mode) {
    mode_ = mode;
    StreamRequest request;
    request.set_service(StreamRequest::BENCH);
    request.set_bench_mode(mode);
    opening_ = open_service(router_, session_, std::move(request), kPhaseGrace,
                            [weak = weak_from_this()](Result<OpenedStream> opened) {
                              if (const auto self = weak.lock()) self->begin(std::move(opened));
                            });
  }

  void begin(Result<OpenedStream> opened) {
    if (!done_) return;
    if (!opened) return fail(opened.error());
    session::Session* session = find();
    if (session == nullptr) return fail({ErrorKind::unreachable, "the session ended"});
    stream_ = opened->stream;
    holds_[stream_] = shared_from_this();
    bytes_ = 0;
    started_ = now();
    hand_over(*session, stream_, this);
    if (mode_ == kEcho) send_echo(*session);
    if (mode_ == kSink) on_writable(*session, stream_);
    tick();
  }

  void send_echo(session::Session& session) {
    std::array<std::uint8_t, kEchoSize> payload;
    payload.fill(kFill);
    sent_at_ = now();
    session.write(stream_, payload);
    router_.context().driver.touch();
  }

  std::uint64_t measured() const {
    const session::Session* session = find();
    if (mode_ != kSink || session == nullptr) return mode_ == kEcho ? samples_.size() * kEchoSize : bytes_;
    return bytes_ - std::min(bytes_, session->unacknowledged(stream_));
  }

  void tick() {
    timer_.expires_after(std::chrono::duration_cast<boost::asio::steady_timer::duration>(kProgressPeriod));
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self || !self->done_) return;
      self->router_.context().driver.enter();
      self->report();
      const Duration elapsed = self->now() - self->started_;
      const Duration limit = self->mode_ == kEcho   ? kPhaseGrace
                             : self->mode_ == kSink ? self->options_.upload
                                                    : self->options_.download;
      if (elapsed >= limit) return self->next_phase();
      self->tick();
    });
  }

  void report() const {
    if (!progress_) return;
    const Duration elapsed = now() - started_;
    static constexpr std::array<std::string_view, 3> kPhases{"latency", "upload", "download"};
    progress_({kPhases[mode_], elapsed, measured(), rate(measured(), elapsed)});
  }

  void next_phase() {
    const Duration elapsed = now() - started_;
    const std::uint64_t bytes = measured();
    timer_.cancel();
    stop_stream();
    if (mode_ == kEcho) {
      if (samples_.empty()) return fail({ErrorKind::timed_out, "no echo came back"});
      std::sort(samples_.begin(), samples_.end());
      result_.echoes = samples_.size();
      result_.latency_min = samples_.front();
      result_.latency_p50 = samples_[samples_.size() / 2];
      result_.latency_p99 = samples_[samples_.size() * 99 / 100];
      return open(kSink);
    }
    if (mode_ == kSink) {
      result_.upload_bytes = bytes;
      result_.upload_bits_per_second = rate(bytes, elapsed);
      return open(kSource);
    }
    result_.download_bytes = bytes;
    result_.download_bits_per_second = rate(bytes, elapsed);
    if (const auto done = std::exchange(done_, nullptr)) done(result_);
  }

  void stop_stream() {
    const session::StreamId stream = std::exchange(stream_, -1);
    if (stream < 0) return;
    router_.context().driver.enter();
    session::Session* session = find();
    if (session == nullptr) return;
    session->reset(stream, AppError::none);
    session->stop(stream, AppError::none);
    router_.context().driver.touch();
  }

  void fail(const Error& error) {
    const auto keep = shared_from_this();
    timer_.cancel();
    stop_stream();
    if (const auto done = std::exchange(done_, nullptr)) done(error);
  }

  StreamRouter& router_;
  session::SessionId session_;
  BenchOptions options_;
  std::function<void(const BenchProgress&)> progress_;
  std::function<void(Result<BenchResult>)> done_;
  boost::asio::steady_timer timer_;
  Pending opening_;
  std::uint32_t mode_ = kEcho;
  session::StreamId stream_ = -1;
  std::uint64_t bytes_ = 0;
  Instant started_, sent_at_;
  std::vector<Duration> samples_;
  BenchResult result_;
  std::map<session::StreamId, std::shared_ptr<BenchRun>> holds_;  // while sessions hold plain pointers to us
};

}  // namespace

Pending run_bench(StreamRouter& router, session::SessionId session, BenchOptions options,
                  std::function<void(const BenchProgress&)> progress,
                  std::function<void(Result<BenchResult>)> done) {
  auto run = std::make_shared<BenchRun>(router, session, options, std::move(progress), std::move(done));
  run->start();
  return Pending(run.get(), [run](void*) { run->cancel(); });
}

}  // namespace ravine::services
