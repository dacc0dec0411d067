// The thin link's state, and the steps that its files share: thin_link.cpp (commands, timers), link_send.cpp
// (what leaves), link_joint.cpp (answers with a push), link_near.cpp and link_far.cpp (what arrives),
// link_transfer.cpp (fragments).
#pragma once

#include <deque>
#include <map>
#include <set>

#include "gateway/coap/send_queue.h"
#include "gateway/link/link_entries.h"
#include "gateway/link/record.h"
#include "gateway/link/state_ladder.h"
#include "gateway/link/thin_link.h"

namespace ravine::gateway::link {

using security::OpenedFrame;

// Units that may be unacknowledged. The near side names states by three low bits, which tell
// 2 · kUnitWindow states apart: it never names one more than kUnitWindow - 1 above the oldest under way.
inline constexpr std::uint64_t kUnitWindow = 4;
// Of an epoch's first units, those outside answers are named whole, so that none of an epoch before that is
// still under way can be taken for one of them.
inline constexpr std::uint64_t kSettled = 2 * kUnitWindow;
inline constexpr std::size_t kMaxRungs = 64;
inline constexpr std::size_t kTransferWindow = 32;  // parts under way
inline constexpr std::uint32_t kStatusEvery = 8;    // parts per status
inline constexpr std::size_t kMaxParts = 65536;     // of a transfer
inline constexpr std::size_t kPartHeader = 8;       // bytes of a fragment record, at most
inline constexpr std::size_t kMaxIncoming = 8;      // transfers
inline constexpr std::size_t kKeptResponses = 64;   // in the near side's journal
inline constexpr Duration kFullPause = 1s;          // when the queue has no room
inline constexpr Duration kProbe = 300s;            // a peer that said "wait" is asked again

// A request's name for ever: generation, number, place in its datagram. Never 0.
std::uint64_t identity_of(FrameNumber number, std::size_t index);

struct ThinLink::Impl : LinkEntries {
  Impl(LinkOptions given, security::SecureChannel secured, Coders made, Journal& durable,
       SocketAddress address);

  // thin_link.cpp
  bool near() const { return channel.role() == security::Role::near; }
  bool runs_once(ByteView text) const { return options.runs_once && options.runs_once(text); }
  Instant deadline_after(Instant now, std::size_t sent, std::size_t expected, unsigned copies) const;
  std::uint64_t enqueue(Instant now, Use use, std::uint64_t ref, std::uint8_t priority);
  bool unqueue(std::uint64_t item);  // false when it has left
  void end_request(RequestId id, RequestEnd end, Message response, bool overtook = false);
  bool overtakes(const CodedRecord& record) const {
    return !record.committed || record.unit > ladder.tip() + 1;
  }
  void drop_frame(std::uint64_t id);
  bool forget_push(std::uint64_t id);
  void handle_timeout(Instant now);
  Deadline next_deadline() const;
  void restore_journal();
  bool restore_response(std::uint64_t key, ByteReader in);
  bool journal_response(const Request& request, const Message& response);

  // link_send.cpp
  bool may_leave(const Item& item, Instant now) const;
  std::optional<LinkTransmit> poll_transmit(Instant now);
  std::optional<Bytes> depart(Instant now, Item item);
  std::optional<Bytes> depart_requests(Instant now, RequestId first);
  std::vector<RequestId> choose_company(Instant now, RequestId first, CodedRecord& record,
                                        coder::Coder& coder, std::size_t room);
  bool journal_departure(Request& request, std::uint64_t identity);
  std::optional<Bytes> depart_answer(Instant now, std::uint64_t group);
  std::optional<Bytes> answer_in_messages(Instant now, Group& group);
  std::optional<Bytes> depart_downward(Instant now, Unit unit, const Message& message, std::uint64_t push,
                                       std::uint64_t identity);
  std::optional<Bytes> depart_ack(Instant now);
  std::optional<Bytes> send_frame(Instant now, Frame frame, Bytes plaintext, std::uint8_t priority);
  std::uint64_t state_to_name(std::optional<std::uint64_t> request_state, bool commit) const;
  CodedRecord code_unit(const Unit& unit, std::optional<std::uint64_t> request_state, bool commit);
  std::uint64_t announceable() const;
  void note_told(std::uint64_t state);
  void note_copy(const Frame& frame);

  // link_near.cpp, link_far.cpp
  void handle_datagram(Instant now, const SocketAddress& source, ByteView datagram);
  void handle_opened(Instant now, OpenedFrame opened);
  void note_answered(Instant now, Frame& frame, std::size_t bytes);

  void begin_epoch(Instant now);
  void choose_coder(const ControlRecord& record);
  std::optional<std::size_t> find_coder(const CoderMark& mark) const;
  void use_coder(std::size_t index);
  void requeue(Instant now, const Frame& frame);
  std::uint64_t floor_identity() const;
  CodedRecord::Reset reset_record() const;
  void near_message(Instant now, OpenedFrame& opened);
  void near_record(Instant now, FrameNumber number, ByteView plaintext);
  void near_answer(Instant now, std::uint64_t frame, FrameNumber number, ByteView plaintext);
  void near_control(Instant now, const ControlRecord& record, std::uint64_t frame);
  // Texts of a record, or why not.
  enum class Decoding : std::uint8_t { done, later, broken };
  bool fill_expected(Exchange& exchange) const;
  Decoding decode_downward(const CodedRecord& record, Unit& unit);
  bool check_matches(const CodedRecord& record) const;
  void announce_when_full(Instant now);
  void take_unit(Instant now, std::uint64_t number, std::uint64_t state, Unit unit,
                 std::optional<Message> push);
  void near_broken(Instant now);
  struct Held {
    FrameNumber number;
    std::uint64_t frame = 0;  // request that it answers
    Bytes plaintext;
  };
  void hold(Held entry);
  void retry_held(Instant now);
  void trim_near();
  void ask_reset(Instant now);
  void schedule_ack(Instant now, FrameNumber number, std::uint64_t unit);

  void far_message(Instant now, OpenedFrame& opened);
  void far_duplicate(Instant now, const OpenedFrame& opened);
  void far_record(Instant now, FrameNumber number, ByteView plaintext);
  void far_requests(Instant now, FrameNumber number, CodedRecord& record, std::vector<Bytes> texts);
  bool admit_request(std::uint64_t identity, Bytes text, Bytes tail);
  void far_control(Instant now, const ControlRecord& record);
  bool accept_reset(Instant now, const CodedRecord::Reset& reset);
  void forget_pushes();
  void renumber(Instant now, FrameNumber first);
  void note_announced(std::uint64_t state);
  bool window_full() const { return ladder.tip() >= announced + kUnitWindow; }
  void watch_window(Instant now);
  void note_uplink(FrameNumber number);
  void release(std::uint64_t identity);
  void respond(Instant now, RequestId id, Message response, bool awaits_push);
  void answer_ready_groups(Instant now);
  void send_plain_answer(Instant now, Group& group, const ControlRecord& record);
  enum class Refused : std::uint8_t { recode, state, coder };
  void refuse_frame(Instant now, FrameNumber number, Refused why);
  std::vector<CoderMark> coder_marks() const;
  void add_group(Group group);
  void erase_group(std::map<std::uint64_t, Group>::iterator at);
  bool make_room(std::size_t more, std::size_t bytes);
  Duration resync_pause() const;
  void send_resync(Instant now, bool of_coder = false);

  // link_joint.cpp
  Push* joinable_push();
  bool waits_for_response(PushId push) const;
  void queue_pushes(Instant now, bool all);
  Group* lingering_group(Instant now);
  std::optional<Bytes> depart_joint(Group& group, Unit unit, bool expected);
  std::optional<Bytes> depart_push(Instant now, PushId id);

  // link_transfer.cpp
  std::uint64_t start_transfer(Bytes payload, std::uint64_t frame, std::uint64_t group,
                               std::uint8_t priority);
  std::optional<Bytes> depart_part(Instant now, std::uint64_t transfer);
  bool part_may_leave(const Outgoing& outgoing) const;
  void end_transfer(std::uint64_t transfer);
  void handle_status(Instant now, const StatusRecord& status, std::optional<NumberRef> answered);
  void handle_fragment(Instant now, FrameNumber number, bool answer, ByteView plaintext, bool fresh);
  void schedule_status(Instant now, Incoming& incoming, FrameNumber number, std::uint32_t index);
  std::optional<Bytes> depart_status(Instant now, const Item& item);
  bool receiving() const;
  std::uint32_t status_interval() const;
  void note_progress(Instant now, TransferProgress progress, const Frame* owner);

  LinkOptions options;
  security::SecureChannel channel;
  Coders coders;  // as they are before the first message
  std::size_t coder_in_use = 0;
  StateLadder ladder;
  Journal* journal;
  SocketAddress peer;
  coap::SendQueue queue;
  coap::RtoEstimator rto;
  LinkStats stats;
  std::deque<Event> events;
  std::map<std::uint64_t, Item> items;
  std::map<std::uint64_t, Frame> frames;
  std::map<FrameNumber, NumberRef> numbers;
  std::map<std::uint64_t, Outgoing> outgoing;
  std::map<std::uint64_t, Incoming> incoming;
  std::deque<std::uint64_t> finished_incoming;  // ids, so that late copies are told "all there"
  std::size_t buffered = 0;
  std::uint64_t next_id = 1;
  std::uint64_t next_transfer = 1;
  bool heard = false;

  // near
  std::map<RequestId, Request> requests;
  std::map<std::uint64_t, RequestId> by_identity;
  std::uint64_t next_journal_key = 1;
  std::uint64_t epoch = 0;  // 0: none
  bool epoch_confirmed = false, epoch_stale = false;
  std::uint64_t first_epoch = 0;   // of the near side's process
  std::uint64_t told = 0;          // newest state named upward
  std::uint64_t oldest_named = 0;  // no later message names an older one, but answers to what is under way
  std::vector<PendingAck> pending_acks;
  Instant ack_due = Instant::never();
  FrameNumber judged_from;  // told to the other side: where its numbers are judged again
  bool ack_asks_reset = false, ack_forced = false;
  std::uint64_t ack_item = 0;
  struct Early {
    std::uint64_t state = 0;
    Unit unit;
    std::optional<Message> push;
  };
  std::map<std::uint64_t, Early> early_units;  // by number
  std::deque<Held> held;
  bool retrying = false;
  std::deque<std::pair<FrameNumber, Bytes>> sent_acks;
  std::vector<Restored> restored;
  std::vector<RestoredResponse> restored_responses;
  std::deque<std::uint64_t> response_keys;  // journal entries of responses, oldest first

  // far
  std::map<std::uint64_t, Group> groups;
  std::map<FrameNumber, std::uint64_t> group_of;
  std::map<std::uint64_t, Executed> executed;
  std::map<RequestId, std::uint64_t> open;  // handed out → identity
  // Responses that an epoch before may have lost, of requests that may run twice, and when they were given:
  // later pushes wait for them, but not beyond owed_until.
  std::map<std::uint64_t, std::uint64_t> owed;
  Instant owed_until = Instant::never();
  std::deque<std::uint64_t> done;  // identities released lately
  std::map<PushId, Push> pushes;
  std::uint64_t announced = 0;
  std::uint64_t pushed_state = 0;   // pushes never go back below
  std::set<std::uint64_t> missing;  // upward numbers not seen
  std::uint64_t highest = 0;
  std::uint32_t highest_generation = 0;
  unsigned cautious = 0;  // messages to code against acknowledged states only
  Instant next_resync;
  Instant poke_at = Instant::never();  // the window is full: ask what has arrived
  unsigned pokes = 0;
};

}  // namespace ravine::gateway::link
