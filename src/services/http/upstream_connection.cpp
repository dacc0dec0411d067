#include "services/http/upstream_connection.h"

#include <fmt/format.h>

#include <utility>

namespace ravine::services::http {

UpstreamConnection::UpstreamConnection(UpstreamPlace& place, UpstreamOwner& owner, bool long_poll)
    : place_(place),
      owner_(owner),
      long_poll_(long_poll),
      timer_(place.loop,
             [this] {
               if (phase_ == Phase::idle) return end();
               fail(UpstreamError::unreachable, "no connection in time");
             }),
      reader_(place.limits) {}

void UpstreamConnection::start(ExchangePointer exchange) {
  exchange->connection = this;
  exchange_ = std::move(exchange);
  ++place_.counters.connects;
  timer_.set(place_.connect_timeout);
  look_up();
}

void UpstreamConnection::look_up() {
  if (const auto literal = IpAddress::parse(place_.host)) return connect({{*literal, place_.port}});
  place_.resolve(place_.host, [weak = weak_from_this()](Addresses found) {
    const auto self = weak.lock();
    if (!self || self->phase_ != Phase::connecting) return;
    if (!found) return self->fail(UpstreamError::unreachable, found.error().message);
    std::vector<SocketAddress> remotes;
    for (const IpAddress& address : *found) remotes.push_back({address, self->place_.port});
    self->connect(std::move(remotes));
  });
}

void UpstreamConnection::connect(std::vector<SocketAddress> remotes) {
  connecting_ = connect_tcp(place_.loop, std::move(remotes), place_.connect_timeout,
                            [weak = weak_from_this()](Result<Socket> socket) {
                              if (const auto self = weak.lock()) self->handle_connected(std::move(socket));
                            });
}

void UpstreamConnection::handle_connected(Result<Socket> socket) {
  const auto keep = shared_from_this();
  if (phase_ != Phase::connecting) return;
  connecting_.reset();
  if (!socket) return fail(UpstreamError::unreachable, socket.error().message);
  if (place_.tls) {
    stream_.emplace(std::move(*socket), *place_.tls, place_.host);
  } else {
    stream_.emplace(std::move(*socket));
  }
  phase_ = Phase::handshaking;
  run();
}

void UpstreamConnection::begin(ExchangePointer exchange) {
  const auto keep = shared_from_this();
  ensure(phase_ == Phase::idle || phase_ == Phase::handshaking);
  exchange->connection = this;
  reader_.expect(exchange->to_head);
  exchange_ = std::move(exchange);
  got_bytes_ = write_failed_ = false;
  ++uses_;
  timer_.clear();
  phase_ = Phase::busy;
  run();
}

void UpstreamConnection::end() {
  if (phase_ == Phase::closed) return;
  const auto keep = shared_from_this();
  phase_ = Phase::closed;
  timer_.clear();
  connecting_.reset();
  if (exchange_) std::exchange(exchange_, nullptr)->connection = nullptr;
  if (stream_) {
    stream_->end_writing();
    boost::system::error_code ignored;
    stream_->socket().close(ignored);
  }
  owner_.on_closed(*this);
}

void UpstreamConnection::run() {
  const auto keep = shared_from_this();
  wants_write_ = false;
  bool more = true;
  while (more) {
    switch (phase_) {
      case Phase::handshaking:
        more = shake();
        break;
      case Phase::busy:
        more = exchange();
        break;
      case Phase::idle:  // whatever comes now belongs to no request
        if (stream_->read(place_.scratch).outcome != ByteStream::Outcome::want_read) return end();
        more = false;
        break;
      default:
        return;
    }
  }
  wait(Socket::wait_read, read_armed_);
  if (wants_write_) wait(Socket::wait_write, write_armed_);
}

void UpstreamConnection::wait(Socket::wait_type what, bool& armed) {
  if (armed) return;
  armed = true;
  stream_->socket().async_wait(what, [weak = weak_from_this(), what](boost::system::error_code error) {
    const auto self = weak.lock();
    if (!self || error) return;
    (what == Socket::wait_read ? self->read_armed_ : self->write_armed_) = false;
    self->run();
  });
}

bool UpstreamConnection::shake() {
  const auto step = stream_->handshake();
  switch (step.outcome) {
    case ByteStream::Outcome::ok:
      begin(std::exchange(exchange_, nullptr));
      return false;  // begin() has run
    case ByteStream::Outcome::want_write:
      wants_write_ = true;
      return false;
    case ByteStream::Outcome::want_read:
      return false;
    default:
      fail(UpstreamError::unreachable, stream_->error());
      return true;
  }
}

bool UpstreamConnection::exchange() {
  if (!exchange_->out.done() && !write_failed_) write_failed_ = !send();
  return receive();
}

// False when the other side takes nothing more; it may have answered before.
bool UpstreamConnection::send() {
  Outgoing& out = exchange_->out;
  while (!out.done()) {
    const auto step = stream_->write(out.next());
    if (step.outcome == ByteStream::Outcome::want_write) wants_write_ = true;
    if (step.outcome == ByteStream::Outcome::want_write || step.outcome == ByteStream::Outcome::want_read)
      return true;
    if (step.outcome != ByteStream::Outcome::ok) return false;
    out.sent += step.bytes;
    place_.counters.bytes_out += step.bytes;
  }
  return true;
}

bool UpstreamConnection::receive() {
  const auto step = stream_->read(place_.scratch);
  if (step.outcome == ByteStream::Outcome::want_write) wants_write_ = true;
  if (step.outcome == ByteStream::Outcome::want_read || step.outcome == ByteStream::Outcome::want_write) {
    if (!write_failed_ || step.outcome == ByteStream::Outcome::want_write) return false;
    note_end("the server closed the connection");
    return true;
  }
  if (step.outcome != ByteStream::Outcome::ok) {
    if (step.outcome == ByteStream::Outcome::ended) reader_.feed_end();
    if (reader_.state() == ResponseReader::State::done) {
      complete();
    } else {
      note_end(step.outcome == ByteStream::Outcome::ended ? "the server closed the connection"
                                                          : stream_->error());
    }
    return true;
  }
  got_bytes_ = true;
  place_.counters.bytes_in += step.bytes;
  ByteView fresh = ByteView(place_.scratch).first(step.bytes);
  if (!in_.empty()) {
    in_.insert(in_.end(), fresh.begin(), fresh.end());
    fresh = in_;
  }
  const std::size_t used = reader_.feed(fresh);
  in_ = to_bytes(fresh.subspan(used));
  switch (reader_.state()) {
    case ResponseReader::State::done:
      complete();
      break;
    case ResponseReader::State::too_large:
      fail(UpstreamError::too_large, "the response is over the limit");
      break;
    case ResponseReader::State::malformed:
      fail(UpstreamError::malformed, "the response is no HTTP/1.1");
      break;
    case ResponseReader::State::reading:
      break;
  }
  return true;
}

// The connection ended without a whole response. Before the first byte of it, and on a connection that had
// been kept, that most likely means that the server's patience ended just as the request left.
void UpstreamConnection::note_end(const std::string& reason) {
  const bool stale = uses_ > 1 && !got_bytes_ && !exchange_->retried;
  const bool harmless = exchange_->idempotent || exchange_->out.sent == 0;
  const ExchangePointer exchange = exchange_;
  end();
  owner_.on_failure(exchange, {.error = UpstreamError::malformed,
                               .reason = reason + " before the response was complete",
                               .may_retry = stale && harmless});
}

void UpstreamConnection::complete() {
  const ExchangePointer exchange = std::exchange(exchange_, nullptr);
  exchange->connection = nullptr;
  auto response = reader_.take();
  if (reader_.keep_alive() && in_.empty() && exchange->out.done()) {
    phase_ = Phase::idle;
    timer_.set(place_.keep_timeout);
  } else {
    end();
  }
  owner_.on_response(*this, exchange, std::move(response));
}

void UpstreamConnection::fail(UpstreamError error, std::string reason) {
  const auto keep = shared_from_this();
  const bool connected = phase_ == Phase::busy;
  const ExchangePointer exchange = exchange_;
  end();
  if (exchange) owner_.on_failure(exchange, {error, std::move(reason), connected});
}

}  // namespace ravine::services::http
