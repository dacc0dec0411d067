#include "services/gateway/line_transport.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace ravine::services {
namespace {

constexpr std::size_t kMaxOutput = 64u << 10;  // bytes that wait for a line that does not take them
constexpr Duration kReopen = 2s;

class LineTransport final : public Transport {
 public:
  LineTransport(boost::asio::io_context& loop, Log log, LineOptions options)
      : state_(std::make_shared<State>(loop, log, std::move(options), counters_)) {}
  ~LineTransport() override { stop(); }

  Result<> start(OnDatagram on_datagram) override {
    state_->on_datagram = std::move(on_datagram);
    state_->running = true;
    return state_->open();
  }
  void stop() override { state_->stop(); }
  void send(const SocketAddress&, ByteView datagram) override { state_->send(datagram); }
  std::uint32_t overhead_bytes(const SocketAddress&) const override { return state_->options.overhead_bytes; }
  std::size_t max_frame() const override { return state_->options.max_frame; }
  bool is_point_to_point() const override { return state_->options.point_to_point; }
  std::string describe() const override {
    return state_->options.name + (state_->line.in ? "" : " (closed)");
  }
  std::string fault() const override { return state_->fault; }

 private:
  struct State : std::enable_shared_from_this<State> {
    State(boost::asio::io_context& loop, Log given, LineOptions wanted, TransportCounters& counted)
        : log(given), options(std::move(wanted)), counters(counted), timer(loop), reader(options.max_frame) {}

    // The first attempt's error is told when it comes at once.
    Result<> open() {
      auto inside = std::make_shared<std::optional<Error>>();
      auto handle =
          options.open([weak = weak_from_this(), inside, done = false](Result<Line> opened) mutable {
            const auto self = weak.lock();
            if (!self || !self->running || std::exchange(done, true)) return;
            if (opened) return self->begin(std::move(*opened));
            if (self->fault.empty())
              self->log.warning("{}: {}; trying again", self->options.name, opened.error().message);
            self->fault = opened.error().message;
            *inside = opened.error();
            self->retry();
          });
      if (running && !line.in) pending = std::move(handle);
      if (*inside && !options.reopen) return **inside;
      return {};
    }

    void retry() {
      if (!options.reopen || !running) return;
      timer.expires_after(kReopen);
      timer.async_wait([weak = weak_from_this()](boost::system::error_code error) {
        const auto self = weak.lock();
        if (error || !self || !self->running) return;
        (void)self->open().ok();
      });
    }

    void begin(Line opened) {
      line = std::move(opened);
      fault.clear();
      reader.reset();
      output.clear();
      writing = false;
      const Bytes first = std::move(line.first);
      if (!first.empty()) take(first);
      if (line.in) wait_readable();
    }

    void stop() {
      running = false;
      timer.cancel();
      pending.reset();
      close();
      on_datagram = nullptr;
    }

    void close() {
      boost::system::error_code ignored;
      const Line ended = std::exchange(line, {});
      if (ended.in) ended.in->close(ignored);
      if (ended.out && ended.out != ended.in) ended.out->close(ignored);
    }

    void end() {
      if (!line.in) return;
      close();
      fault = "the line has ended";
      log.debug("{}: {}", options.name, fault);
      if (options.reopen) return retry();
      if (options.on_end) options.on_end();
    }

    void take(ByteView bytes) {
      const std::uint64_t before = reader.garbage();
      const auto self = shared_from_this();
      reader.feed(bytes, [this](ByteView datagram) {
        if (!running) return;
        ++counters.datagrams_in;
        counters.bytes_in += datagram.size();
        // A copy: the callback may stop this transport.
        const OnDatagram call = on_datagram;
        if (call) call(only_peer(), datagram);
      });
      if (running) counters.garbage_in += reader.garbage() - before;
    }

    void wait_readable() {
      line.in->async_wait(
          Socket::wait_read, [weak = weak_from_this(), socket = line.in](boost::system::error_code error) {
            const auto self = weak.lock();
            if (error || !self || self->line.in != socket) return;
            std::array<std::uint8_t, 4096> block{};
            const ssize_t got = ::read(socket->native_handle(), block.data(), block.size());
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
              return self->end();
            if (got > 0) self->take(ByteView(block).first(static_cast<std::size_t>(got)));
            if (self->line.in == socket) self->wait_readable();
          });
    }

    void send(ByteView datagram) {
      const Bytes frame = encode_line_frame(datagram);
      if (!line.out || output.size() + frame.size() > kMaxOutput) {
        ++counters.send_failures;
        return;
      }
      ++counters.datagrams_out;
      counters.bytes_out += datagram.size();
      output.insert(output.end(), frame.begin(), frame.end());
      if (!writing) write();
    }

    void write() {
      while (!output.empty()) {
        const ssize_t sent = ::write(line.out->native_handle(), output.data(), output.size());
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return wait_writable();
        if (sent < 0) return output.clear();  // the reading side notices the end
        output.erase(output.begin(), output.begin() + sent);
      }
    }

    void wait_writable() {
      writing = true;
      line.out->async_wait(Socket::wait_write,
                           [weak = weak_from_this(), socket = line.out](boost::system::error_code error) {
                             const auto self = weak.lock();
                             if (error || !self || self->line.out != socket) return;
                             self->writing = false;
                             self->write();
                           });
    }

    Log log;
    LineOptions options;
    TransportCounters& counters;
    boost::asio::steady_timer timer;
    LineReader reader;
    OnDatagram on_datagram;
    std::shared_ptr<void> pending;
    Line line;
    std::string fault;  // why it is not open
    Bytes output;
    bool running = false, writing = false;
  };
  std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<Transport> make_line_transport(boost::asio::io_context& loop, Log log, LineOptions options) {
  return std::make_unique<LineTransport>(loop, log, std::move(options));
}

}  // namespace ravine::services
