// CoapEndpoint: the message and request/response layers of RFC 7252 as one machine (base/machine.h):
// confirmable and other messages, deduplication, separate responses, size-aware retransmission, pacing, RFC
// 7967, Echo of RFC 9175 against amplification. Bodies over one message are exchanger.h's work; security
// layers sit above it and give it protected messages. One thread drives it.
//
// Inputs:   handle_datagram, handle_timeout, request, respond, send_separate, cancel, confirm, ….
// Outputs:  poll_transmit until nullopt, then poll_event until nullopt, then next_deadline.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <variant>

#include "base/machine.h"
#include "gateway/coap/message.h"
#include "gateway/coap/peer_table.h"
#include "gateway/coap/reply_cache.h"
#include "gateway/coap/send_queue.h"

namespace ravine::gateway::coap {

using ExchangeId = std::uint64_t;  // of ours; never 0
using RequestId = std::uint64_t;   // of a peer's request; never 0

// Transmission parameters, RFC 7252 §4.8.
struct Timing {
  RtoOptions rto{.initial = 2s};
  double random_factor = 1.5;
  unsigned max_retransmit = 4;
  unsigned nstart = 1;
  Duration ack_delay =
      500ms;  // an answer that takes longer is sent separately, after an empty acknowledgement
  Duration max_latency = 100s;
  Duration response_timeout =
      247s;  // after the acknowledgement of a request, or the departure of one that has none
  double probing_bytes_per_s = 1;

  Duration exchange_lifetime() const;  // RFC 7252 §4.8.2, computed from the above
  Duration non_lifetime() const;
};
// For a link that nothing is known of but that it is thin: the first timer 30 s, no empty acknowledgements in
// a hurry.
Timing thin_link_timing(double rate_bps, std::uint32_t overhead_bytes);

struct EndpointOptions {
  Timing timing;
  PacerOptions pacer{.overhead_bytes = 28};
  SendQueueLimits queue;
  ReplyCacheLimits replies;
  std::size_t exchanges = 1024;  // of ours at a time
  std::size_t pending_requests = 1024;
  std::size_t peers = 4096;
  std::size_t token_length = 4;  // bytes, 1–8; RFC 7252 §5.3.1 wants 32 random bits without a security layer
  std::size_t max_message = 1152;  // bytes of one datagram that we make, RFC 7252 §4.6
  unsigned amplification = 3;  // bytes out per byte in to unverified addresses; 0: no limit (a private link)
  bool proxying = false;       // whether Proxy-Uri and Proxy-Scheme reach the owner, else 5.05
  // With a security layer: message IDs prove nothing, so an empty acknowledgement or reset does not end an
  // exchange of ours, and a response does when the owner says confirm().
  bool authenticated = false;
};

struct RequestOptions {
  bool confirmable = true;
  bool keep_open = false;  // more responses follow the first (RFC 7641), until cancel()
  bool expects_response =
      true;  // false with No-Response 26: the exchange is over when it left or is acknowledged
  std::uint8_t priority = 4;
  std::string replace_key;          // supersedes a request to the same peer that still waits with this key
  std::size_t expected_bytes = 16;  // a likely response's size, for the timer
  std::uint64_t context = 0;        // handed back in events
  Bytes token;                      // empty: random; else one that no exchange with this peer uses now
};

struct SeparateOptions {
  bool confirmable = true;
  bool watch = true;  // not confirmable: whether a reset in answer is still recognised for a while
  std::uint8_t priority = 4;
  std::string replace_key;
  std::uint64_t context = 0;
};

enum class FailReason : std::uint8_t {
  timed_out,   // all copies sent, or no response in response_timeout
  reset,       // the peer does not want it
  superseded,  // another request took its place in the queue
  rejected,    // the response has critical options that nobody understands
};
std::string_view to_text(FailReason reason);

struct RequestReceived {
  RequestId id;
  SocketAddress from;
  Message request;
  bool verified;  // the source address has proved itself
};
struct ResponseReceived {
  ExchangeId exchange;
  std::uint64_t context;
  SocketAddress from;
  Message response;
};
struct ExchangeFailed {
  ExchangeId exchange;
  std::uint64_t context;
  FailReason reason;
};
// The end of a message of send_separate that was confirmable, or that the peer answered with a reset.
struct SeparateOutcome {
  ExchangeId id;
  std::uint64_t context;
  SocketAddress to;
  bool delivered;
  bool reset;
};
using Event = std::variant<RequestReceived, ResponseReceived, ExchangeFailed, SeparateOutcome>;

struct OutgoingDatagram {
  SocketAddress to;
  Bytes bytes;
};

struct EndpointCounters {
  std::uint64_t datagrams_in = 0, datagrams_out = 0, bytes_in = 0, bytes_out = 0;
  std::uint64_t retransmissions = 0, duplicates = 0, malformed = 0, resets_sent = 0;
  std::uint64_t dropped_amplification = 0, dropped_multicast = 0, dropped_full = 0, challenged = 0;
};

class CoapEndpoint {
 public:
  // `random` outlives the endpoint.
  CoapEndpoint(const EndpointOptions& options, RandomSource& random);

  // `multicast`: the datagram came to a group address; it is never answered, so it is dropped.
  void handle_datagram(Instant now, const SocketAddress& from, ByteView bytes, bool multicast = false);
  void handle_timeout(Instant now);

  // Sends `message` (type, id and token are set here). Errors: too large for one datagram, too many at a
  // time.
  Result<ExchangeId> request(Instant now, const SocketAddress& to, Message message,
                             const RequestOptions& how = {});
  // No more copies, no more events of it; a later response to it is answered with a reset.
  void cancel(ExchangeId exchange);
  // With `authenticated`: the response was genuine, so the exchange is over (or stays open for more).
  void confirm(Instant now, ExchangeId exchange);

  // Answers a request: in the acknowledgement when it is not out yet, else separately. Honours No-Response.
  // The bytes are kept for copies of the request. Errors: the request is unknown or answered.
  Result<> respond(Instant now, RequestId request, Message response);
  // Ends a request without a response; a confirmable one is acknowledged.
  void dismiss(Instant now, RequestId request);
  // Answers 4.01 with an Echo value, which the asker is to send back with its request (RFC 9175 §2.3).
  void demand_proof(Instant now, RequestId request);
  Bytes token_of(ExchangeId exchange) const;  // empty when it is over
  // Whether no copy of a message of ours has left yet.
  bool is_waiting(ExchangeId exchange) const;
  // Largest response in bytes that may go to the asker now (amplification, max_message).
  std::size_t room_for_response(Instant now, RequestId request);

  // A response that belongs to no pending request: notifications of RFC 7641. The token is the caller's.
  Result<ExchangeId> send_separate(Instant now, const SocketAddress& to, Message message,
                                   const SeparateOptions& how);
  void mark_verified(Instant now, const SocketAddress& address);  // a security layer authenticated it

  std::optional<OutgoingDatagram> poll_transmit(Instant now);
  std::optional<Event> poll_event();
  Deadline next_deadline() const;

  void set_rate(double bits_per_second) { queue_.pacer().set_rate(bits_per_second); }
  const EndpointCounters& counters() const { return counters_; }
  const EndpointOptions& options() const { return options_; }
  const SendQueue& queue() const { return queue_; }
  const RtoEstimator* rto_of(const SocketAddress& address);

 private:
  enum class Stage : std::uint8_t { queued, in_flight, acknowledged };
  // A message of ours that expects something: a request, or a confirmable response.
  struct Outbound {
    ExchangeId id = 0;
    SocketAddress to;
    Message message;
    Bytes datagram;
    bool is_request = true;
    bool counted = false;   // in Peer::outstanding
    bool answered = false;  // keep_open: the first response came
    RequestOptions how;
    Stage stage = Stage::queued;
    QueueItemId item = 0;  // waiting copy; 0: none
    unsigned copies = 0;   // that left
    unsigned echoes = 0;   // Echo challenges answered
    double jitter = 1;
    std::size_t response_bytes = 0;  // of the latest response
    Instant first_left;
    Instant timer = Instant::never();
  };
  struct Pending {  // a peer's request that is not answered
    SocketAddress from;
    Bytes token;
    std::uint16_t message_id = 0;
    Code code = Code::empty;
    bool confirmable = false;
    bool acknowledged = false;
    std::uint8_t no_response = 0;
    Instant ack_at = Instant::never();
    Instant expires_at;
  };

  void handle_message(Instant now, const SocketAddress& from, Message message, std::size_t size);
  void handle_request(Instant now, const SocketAddress& from, Message message);
  void handle_response(Instant now, const SocketAddress& from, Message message, std::size_t size);
  void handle_empty(Instant now, const SocketAddress& from, const Message& message, std::size_t size);
  bool handle_copy(Instant now, const SocketAddress& from, const Message& message);
  bool refuse_early(Instant now, const SocketAddress& from, Message& message);
  void accept_response(Instant now, Outbound& outbound, Message message, std::size_t size);
  bool answer_echo(Instant now, Outbound& outbound, const Message& response);
  void acknowledge(Instant now, Outbound& outbound, std::size_t received);
  void send_empty(Instant now, const SocketAddress& to, MessageType type, std::uint16_t id, bool remember);
  void answer_at_once(Instant now, const SocketAddress& from, const Message& request, Code code,
                      std::string_view reason);
  void challenge(Instant now, const SocketAddress& to, Message& response);

  Outbound* find_by_token(const SocketAddress& from, const Bytes& token);
  Outbound* find_by_id(const SocketAddress& from, std::uint16_t id);
  Result<ExchangeId> launch(Instant now, Outbound outbound);
  Result<> enqueue(Instant now, Outbound& outbound);
  void set_timer(Outbound& outbound, Instant at);
  void finish(ExchangeId id);
  void fail(ExchangeId id, FailReason reason);
  void handle_departure(Instant now, Outbound& outbound);
  void handle_timer(Instant now, ExchangeId id);
  bool admit(Instant now, const QueueItem& item);
  std::size_t window_of(const Peer& peer, std::size_t bytes) const;
  void release_slot(Outbound& outbound);
  QueueItemId post(Instant now, const SocketAddress& to, Bytes bytes);
  void erase_pending(RequestId id);
  void respond_separately(Instant now, const Pending& pending, Message response);

  EndpointOptions options_;
  RandomSource& random_;
  PeerTable peers_;
  SendQueue queue_;
  ReplyCache replies_;
  std::map<ExchangeId, Outbound> outbound_;
  std::map<std::pair<SocketAddress, std::uint16_t>, ExchangeId> by_message_id_;
  std::map<std::pair<SocketAddress, Bytes>, ExchangeId> by_token_;
  std::set<std::pair<Instant, ExchangeId>> timers_;
  std::map<RequestId, Pending> pending_;
  std::set<std::pair<Instant, RequestId>> ack_timers_;
  std::deque<Event> events_;
  Instant wake_ =
      Instant::never();  // when poll_transmit may have more, as far as it knew when it last had none
  std::uint64_t next_id_ = 1;
  EndpointCounters counters_;
};

}  // namespace ravine::gateway::coap
