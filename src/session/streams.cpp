#include "session/streams.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/ensure.h"

namespace ravine::session {
namespace {

constexpr std::size_t kFirstSlabStreams = 2;  // an idle session has its control stream alone
constexpr std::size_t kSlabStreams = 16;

}  // namespace

Streams::Streams(Role role, const ConnectionLimits& limits, std::shared_ptr<BlockPool> pool)
    : role_(role), limits_(limits), pool_(std::move(pool)) {}

Streams::~Streams() {
  table_.for_each([this](Stream& stream) {
    stream.send.clear(*pool_);
    stream.receive.clear(*pool_);
  });
}

Stream* Streams::allocate(StreamId id) {
  if (free_ == nullptr) {
    const std::size_t count = slabs_.empty() ? kFirstSlabStreams : kSlabStreams;
    slabs_.push_back(std::make_unique<Stream[]>(count));
    for (std::size_t i = count; i-- > 0;) {
      Stream* stream = &slabs_.back()[i];
      stream->ready_next = free_;
      free_ = stream;
    }
  }
  Stream* stream = free_;
  free_ = stream->ready_next;
  *stream = Stream{};
  stream->id = id;
  stream->may_send = is_bidirectional(id) || is_ours(id);
  stream->receives = is_bidirectional(id) || !is_ours(id);
  table_.insert(stream);
  return stream;
}

void Streams::release(Stream* stream) {
  table_.erase(stream->id);
  stream->send.clear(*pool_);
  stream->receive.clear(*pool_);
  stream->ready_next = free_;
  free_ = stream;
}

Result<StreamId> Streams::open(StreamKind kind, void* context) {
  if (closed_) return Error{ErrorKind::closed, "cannot open a stream: the session is over"};
  StreamId id = -1;
  const int status = kind == StreamKind::bidirectional
                         ? ngtcp2_conn_open_bidi_stream(connection_, &id, nullptr)
                         : ngtcp2_conn_open_uni_stream(connection_, &id, nullptr);
  if (status == NGTCP2_ERR_STREAM_ID_BLOCKED) {
    wants_streams_ = true;
    return Error{ErrorKind::limit_reached,
                 "cannot open a stream: the peer's stream limit is used up; close streams or wait"};
  }
  if (status != 0) {
    return Error{ErrorKind::internal, fmt::format("cannot open a stream: {}", ngtcp2_strerror(status))};
  }
  Stream* stream = allocate(id);
  stream->context = context;
  ngtcp2_conn_set_stream_user_data(connection_, id, stream);
  return id;
}

Stream* Streams::find(StreamId id) const {
  return table_.find(id);
}

std::uint64_t Streams::send_room(const Stream& stream) const {
  const std::uint64_t held = stream.send.held();
  return held < limits_.send_buffer ? limits_.send_buffer - held : 0;
}

std::size_t Streams::write(StreamId id, ByteView data) {
  Stream* stream = find(id);
  if (stream == nullptr || !stream->may_send || closed_) return 0;
  const std::size_t taken = std::min<std::uint64_t>(data.size(), send_room(*stream));
  if (taken < data.size()) stream->wants_room = true;
  if (taken == 0) return 0;
  stream->send.write(*pool_, data.first(taken));
  make_ready(stream);
  return taken;
}

MutableBytes Streams::reserve(StreamId id, std::size_t wanted) {
  Stream* stream = find(id);
  if (stream == nullptr || !stream->may_send || closed_ || wanted == 0) return {};
  const std::size_t room = std::min<std::uint64_t>(wanted, send_room(*stream));
  if (room == 0) {
    stream->wants_room = true;
    return {};
  }
  return stream->send.reserve(*pool_, room);
}

void Streams::commit(StreamId id, std::size_t size) {
  Stream* stream = find(id);
  if (stream == nullptr || !stream->may_send || closed_ || size == 0) return;
  stream->send.commit(size);
  make_ready(stream);
}

void Streams::finish(StreamId id) {
  Stream* stream = find(id);
  if (stream == nullptr || !stream->may_send || closed_) return;
  stream->may_send = false;
  stream->fin_wanted = true;
  make_ready(stream);
}

void Streams::reset(StreamId id, AppError code) {
  Stream* stream = find(id);
  if (stream == nullptr || closed_ || stream->transport_closed || stream->send_dead) return;
  if (!is_bidirectional(id) && !is_ours(id)) return;
  kill_send(stream);
  ngtcp2_conn_shutdown_stream_write(connection_, 0, id, static_cast<std::uint64_t>(code));
}

void Streams::stop(StreamId id, AppError code) {
  Stream* stream = find(id);
  if (stream == nullptr || closed_ || !stream->receives) return;
  end_receive(stream);
  if (!stream->transport_closed) {
    ngtcp2_conn_shutdown_stream_read(connection_, 0, id, static_cast<std::uint64_t>(code));
  }
  finish_if_over(stream);
}

void Streams::set_priority(StreamId id, std::uint8_t urgency) {
  Stream* stream = find(id);
  if (stream == nullptr || urgency >= kUrgencies) return;
  const bool ready = stream->is_ready;
  make_unready(stream);
  stream->urgency = urgency;
  if (ready) make_ready(stream);
}

ByteView Streams::peek(StreamId id) const {
  Stream* stream = find(id);
  if (stream == nullptr) return {};
  if (stream->receive.empty()) stream->readable_told = false;
  return stream->receive.front();
}

void Streams::consume(StreamId id, std::size_t size) {
  Stream* stream = find(id);
  if (stream == nullptr) return;
  size = std::min<std::uint64_t>(size, stream->receive.size());
  stream->receive.consume(*pool_, size);
  if (stream->receive.empty()) stream->readable_told = false;
  unreturned_credit_ += size;
  stream->unreturned_credit += static_cast<std::uint32_t>(size);
  // An eighth of the smallest window at most is withheld, so that the peer never waits for it.
  const std::uint64_t step = std::min<std::uint64_t>(65536, limits_.initial_receive_window / 8);
  if (stream->unreturned_credit >= step && !stream->fin_received && !closed_ && !stream->transport_closed) {
    ngtcp2_conn_extend_max_stream_offset(connection_, id, stream->unreturned_credit);
    stream->unreturned_credit = 0;
  }
  if (stream->transport_closed) finish_if_over(stream);
}

bool Streams::is_finished(StreamId id) const {
  const Stream* stream = find(id);
  return stream != nullptr && stream->fin_received && stream->receive.empty();
}

void Streams::on_open(StreamId id) {
  Stream* stream = allocate(id);
  ngtcp2_conn_set_stream_user_data(connection_, id, stream);
  events_.push(EventKind::stream_opened, stream);
}

void Streams::tell_readable(Stream* stream) {
  if (stream->readable_told) return;
  stream->readable_told = true;
  events_.push(EventKind::stream_readable, stream);
}

void Streams::on_data(Stream* stream, ByteView data, bool fin) {
  if (stream == nullptr) return;
  if (!stream->receives) {
    unreturned_credit_ += data.size();
    return;
  }
  stream->receive.append(*pool_, data);
  stream->fin_received = stream->fin_received || fin;
  tell_readable(stream);
}

void Streams::on_acknowledged(Stream* stream, std::uint64_t offset) {
  if (stream == nullptr) return;
  stream->send.acknowledge(*pool_, offset);
  if (!stream->wants_room || !stream->may_send) return;
  // A quarter of the buffer at a time, so that a writer is woken for more than a packet's worth.
  if (send_room(*stream) < std::min<std::uint64_t>(limits_.send_buffer / 4, 256 * 1024)) return;
  stream->wants_room = false;
  events_.push(EventKind::stream_writable, stream);
}

// Bytes that nobody will read go back to the connection's credit at once.
void Streams::end_receive(Stream* stream) {
  unreturned_credit_ += stream->receive.size();
  stream->receive.clear(*pool_);
  stream->receives = false;
}

void Streams::on_reset(Stream* stream, std::uint64_t code) {
  if (stream == nullptr || !stream->receives) return;
  end_receive(stream);
  stream->fin_received = false;
  events_.push(EventKind::stream_reset, stream, code);
}

void Streams::on_stopped(StreamId id, std::uint64_t code) {
  Stream* stream = find(id);
  // After our own reset, or once everything arrived, the peer's wish changes nothing.
  if (stream == nullptr || stream->stopped_told || stream->send_dead || stream->closed_told) return;
  if (!is_bidirectional(id) && !is_ours(id)) return;
  if (stream->fin_sent && stream->send.held() == 0 && stream->transport_closed) return;
  stream->stopped_told = true;
  kill_send(stream);
  events_.push(EventKind::stream_stopped, stream, code);
}

void Streams::on_credit(Stream* stream) {
  if (stream == nullptr || !stream->is_blocked) return;
  stream->is_blocked = false;
  make_ready(stream);
}

void Streams::on_closed(Stream* stream) {
  if (stream == nullptr) return;
  make_unready(stream);
  stream->may_send = false;
  stream->transport_closed = true;
  stream->send.clear(*pool_);
  finish_if_over(stream);
}

void Streams::finish_if_over(Stream* stream, std::uint64_t code) {
  if (!stream->transport_closed || stream->closed_told) return;
  if (stream->receives && !stream->receive.empty()) return;
  stream->closed_told = true;
  ++over_;
  events_.push(EventKind::stream_closed, stream, code);
  const StreamId id = stream->id;
  if (closed_ || is_ours(id)) return;
  // Only now, with everything read, may the peer open another: so its limit bounds what it keeps here.
  if (is_bidirectional(id)) {
    ngtcp2_conn_extend_max_streams_bidi(connection_, 1);
  } else {
    ngtcp2_conn_extend_max_streams_uni(connection_, 1);
  }
}

void Streams::on_more_streams() {
  if (!wants_streams_) return;
  wants_streams_ = false;
  events_.push(EventKind::streams_available, nullptr);
}

Stream* Streams::first_ready() const {
  return ready_mask_ == 0 ? nullptr : ready_[static_cast<std::size_t>(std::countr_zero(ready_mask_))].head;
}

void Streams::make_ready(Stream* stream) {
  if (stream->is_ready || stream->is_blocked || stream->send_dead || stream->transport_closed) return;
  ReadyList& list = ready_[stream->urgency];
  stream->is_ready = true;
  stream->ready_previous = list.tail;
  stream->ready_next = nullptr;
  (list.tail == nullptr ? list.head : list.tail->ready_next) = stream;
  list.tail = stream;
  ready_mask_ |= 1u << stream->urgency;
}

void Streams::make_unready(Stream* stream) {
  if (!stream->is_ready) return;
  ReadyList& list = ready_[stream->urgency];
  (stream->ready_previous == nullptr ? list.head : stream->ready_previous->ready_next) = stream->ready_next;
  (stream->ready_next == nullptr ? list.tail : stream->ready_next->ready_previous) = stream->ready_previous;
  stream->is_ready = false;
  if (list.head == nullptr) ready_mask_ &= ~(1u << stream->urgency);
}

void Streams::sent(Stream* stream, std::size_t size, bool fin) {
  stream->send.mark_sent(size);
  stream->fin_sent = stream->fin_sent || fin;
  const bool more = stream->send.unsent() > 0 || (stream->fin_wanted && !stream->fin_sent);
  if (more && stream->ready_next == nullptr) return;  // alone in its list, or last: no turn to pass
  make_unready(stream);
  if (more) make_ready(stream);
}

void Streams::block(Stream* stream) {
  make_unready(stream);
  stream->is_blocked = true;
}

void Streams::kill_send(Stream* stream) {
  make_unready(stream);
  stream->may_send = false;
  stream->send_dead = true;
}

void Streams::return_credit() {
  if (unreturned_credit_ == 0) return;
  ngtcp2_conn_extend_max_offset(connection_, unreturned_credit_);
  unreturned_credit_ = 0;
}

void Streams::close_all(std::uint64_t code) {
  if (closed_) return;
  closed_ = true;
  ready_ = {};
  ready_mask_ = 0;
  table_.for_each([this, code](Stream& stream) {
    stream.is_ready = false;
    stream.may_send = false;
    stream.transport_closed = true;
    stream.receives = false;
    finish_if_over(&stream, code);
  });
}

bool Streams::has_unacknowledged_end() const {
  bool found = false;
  table_.for_each([&](const Stream& stream) {
    found |= stream.fin_wanted && !stream.send_dead && !stream.transport_closed &&
             (!stream.fin_sent || stream.send.held() > 0);
  });
  return found;
}

void Streams::forget(StreamId id) {
  Stream* stream = find(id);
  if (stream == nullptr || !stream->closed_told) return;
  --over_;
  release(stream);
}

std::optional<Event> Streams::poll_event() {
  if (events_.empty()) return std::nullopt;
  const EventQueue::Entry entry = events_.pop();
  Event event;
  event.kind = entry.kind;
  event.code = entry.code;
  if (entry.stream == nullptr) return event;
  event.stream = entry.stream->id;
  event.context = entry.stream->context;
  return event;
}

}  // namespace ravine::session
