// Streams: all streams of one connection. Tables, buffers, flow credit, readiness by priority, and the event
// queue. It tells ngtcp2 what the application did and the application what ngtcp2 did; it writes no packets.
// Driven by Connection: application calls, ngtcp2's callbacks (on_…), and the write loop (first_ready …).
// Thread rule: their connection's thread. RFC 9000 §2–4.
#pragma once

#include <ngtcp2/ngtcp2.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "session/connection.h"
#include "session/stream_buffers.h"

namespace ravine::session {

inline constexpr std::uint8_t kUrgencies = 8;
inline constexpr std::uint8_t kDefaultUrgency = 3;

struct Stream {
  StreamId id = -1;
  void* context = nullptr;
  SendBuffer send;
  ReceiveBuffer receive;
  Stream* ready_previous = nullptr;
  Stream* ready_next = nullptr;
  std::uint32_t unreturned_credit = 0;  // bytes consumed, not yet told to ngtcp2
  std::uint8_t urgency = kDefaultUrgency;

  bool may_send : 1 = false;   // our side is open: neither FIN, reset nor stopped
  bool send_dead : 1 = false;  // reset or stopped: nothing more is sent
  bool fin_wanted : 1 = false;
  bool fin_sent : 1 = false;
  bool is_ready : 1 = false;    // in a ready list
  bool is_blocked : 1 = false;  // by the peer's stream credit
  bool wants_room : 1 = false;  // write() took less than offered
  bool receives : 1 = false;    // the peer's side is open or unread
  bool fin_received : 1 = false;
  bool readable_told : 1 = false;
  bool stopped_told : 1 = false;
  bool transport_closed : 1 = false;  // ngtcp2 forgot it
  bool closed_told : 1 = false;
};

class EventQueue {
 public:
  struct Entry {
    Stream* stream = nullptr;  // null: an event of the connection
    std::uint64_t code = 0;
    EventKind kind = EventKind::session_closed;
  };
  void push(EventKind kind, Stream* stream, std::uint64_t code = 0);
  bool empty() const { return head_ == tail_; }
  Entry pop();  // requires !empty()

 private:
  std::vector<Entry> ring_;  // size is a power of two
  std::uint32_t head_ = 0, tail_ = 0;
};

// Stream ID → Stream, by open addressing. Grows, never shrinks: its size follows the limits on open streams.
class StreamTable {
 public:
  Stream* find(StreamId id) const;
  void insert(Stream* stream);  // requires that the ID is absent
  void erase(StreamId id);
  std::size_t size() const { return size_; }
  template <class F>
  void for_each(F&& f) const {
    for (Stream* stream : slots_) {
      if (stream != nullptr) f(*stream);
    }
  }

 private:
  std::size_t slot_of(StreamId id) const {
    return static_cast<std::size_t>((static_cast<std::uint64_t>(id) * 0x9e3779b97f4a7c15u) >> shift_);
  }
  void grow();
  std::vector<Stream*> slots_;
  std::size_t size_ = 0;
  unsigned shift_ = 64;
};

class Streams {
 public:
  Streams(Role role, const ConnectionLimits& limits, std::shared_ptr<BlockPool> pool);
  ~Streams();
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  void attach(ngtcp2_conn* connection) { connection_ = connection; }

  // --- application calls; meaning as in Connection
  Result<StreamId> open(StreamKind kind, void* context);
  Stream* find(StreamId id) const;
  std::size_t write(StreamId id, ByteView data);
  MutableBytes reserve(StreamId id, std::size_t wanted);
  void commit(StreamId id, std::size_t size);
  void finish(StreamId id);
  void reset(StreamId id, AppError code);
  void stop(StreamId id, AppError code);
  void set_priority(StreamId id, std::uint8_t urgency);
  ByteView peek(StreamId id) const;
  void consume(StreamId id, std::size_t size);
  bool is_finished(StreamId id) const;
  std::size_t open_count() const { return table_.size() - over_; }
  bool has_unacknowledged_end() const;  // a finished stream whose end, or data before it, may still be lost
  void forget(StreamId id);             // a stream that is over; another one stays

  // --- what ngtcp2 reports. `stream` is null for a stream that we do not hold.
  void on_open(StreamId id);
  void on_data(Stream* stream, ByteView data, bool fin);
  void on_acknowledged(Stream* stream, std::uint64_t offset);
  void on_reset(Stream* stream, std::uint64_t code);
  void on_stopped(StreamId id, std::uint64_t code);
  void on_credit(Stream* stream);  // the peer takes more on this stream
  void on_closed(Stream* stream);
  void on_more_streams();

  // --- the write loop
  Stream* first_ready() const;                            // most urgent; equal ones take turns
  void sent(Stream* stream, std::size_t size, bool fin);  // that went into a packet; passes the turn on
  void block(Stream* stream);                             // until on_credit()
  void kill_send(Stream* stream);                         // ngtcp2 takes no more on it
  void return_credit();                                   // tells ngtcp2 what was consumed on the connection

  // The connection is over: every stream ends with stream_closed and `code`; calls do nothing from now on.
  void close_all(std::uint64_t code);
  EventQueue& events() { return events_; }
  std::optional<Event> poll_event();

 private:
  Stream* allocate(StreamId id);
  void release(Stream* stream);
  bool is_ours(StreamId id) const { return (id & 1) == (role_ == Role::acceptor ? 1 : 0); }
  static bool is_bidirectional(StreamId id) { return (id & 2) == 0; }
  void make_ready(Stream* stream);
  void make_unready(Stream* stream);
  void tell_readable(Stream* stream);
  void end_receive(Stream* stream);
  void finish_if_over(Stream* stream, std::uint64_t code = 0);
  std::uint64_t send_room(const Stream& stream) const;

  struct ReadyList {
    Stream* head = nullptr;
    Stream* tail = nullptr;
  };
  Role role_;
  ConnectionLimits limits_;
  std::shared_ptr<BlockPool> pool_;
  ngtcp2_conn* connection_ = nullptr;
  StreamTable table_;
  std::size_t over_ = 0;  // streams whose stream_closed was pushed and that were not forgotten yet
  std::vector<std::unique_ptr<Stream[]>> slabs_;
  Stream* free_ = nullptr;  // linked by ready_next
  std::array<ReadyList, kUrgencies> ready_{};
  std::uint32_t ready_mask_ = 0;  // bit per non-empty list
  EventQueue events_;
  std::uint64_t unreturned_credit_ = 0;
  bool wants_streams_ = false;
  bool closed_ = false;
};

}  // namespace ravine::session
