// ThinLink: exchanges (a request of the near gateway and its response) and pushes (of the far gateway) over a
// slow, lossy pipe that reorders, as uframes. Codes texts when they leave, so that what waits can be replaced
// or withdrawn; repeats byte for byte what is not answered; runs once what may not run twice, also across
// restarts. Frames: docs/protocol-gateway-link.md.
//
// Sans-I/O (base/machine.h). Per turn: one input, then poll_transmit until empty, then poll_event until
// empty, then arm next_deadline. One thread. Nothing is sent while nothing is to be said.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/address.h"
#include "base/machine.h"
#include "gateway/coap/rto.h"
#include "gateway/coder/coder.h"
#include "gateway/link/journal.h"
#include "gateway/security/channel.h"

namespace ravine::gateway::link {

using RequestId = std::uint64_t;  // of one process; never 0
using PushId = std::uint64_t;

// `text` is what coders see; `tail` goes as it is and is never remembered by a coder: secrets, binary bodies.
struct Message {
  Bytes text;
  Bytes tail;
  friend bool operator==(const Message&, const Message&) = default;
};

struct RequestOptions {
  std::uint8_t priority = 4;  // 0 leaves first
  // Waiting with the same key: the newer takes the place of the older, which ends as `replaced`.
  std::string replace_key;
  bool one_way = false;              // no response is wanted: sent once, never repeated; ends as `sent`
  bool may_merge = true;             // may share a datagram with others that wait
  std::uint64_t token = 0;           // the caller's, journalled with it: comes back after a restart
  std::size_t expected_bytes = 256;  // of the first frame of the answer, for the timer
  Duration linger{0};                // may wait so long for company in a datagram
  // Then it ends as `timed_out`; one that runs once and has left goes on, unseen, until it is answered.
  Duration patience = 600s;
  // Journalled in its place: what a later process sends when both ends may have forgotten what they told each
  // other. Absent: the message itself.
  std::optional<Message> after_restart;
};

struct PushOptions {
  std::uint8_t priority = 5;
  std::string replace_key;
};

enum class RequestEnd : std::uint8_t { answered, sent, replaced, cancelled, timed_out, failed };
std::string_view to_text(RequestEnd end);

struct RequestEnded {
  RequestId id = 0;
  RequestEnd end = RequestEnd::answered;
  Message response;            // when answered
  std::uint64_t identity = 0;  // as the far side knew it; 0 when it never left
  // Bytes of plaintext that it took, its share of a batch, and repetitions.
  std::size_t bytes_out = 0, bytes_in = 0;
  unsigned copies = 0;
};
struct RequestArrived {  // far side: answer it with respond()
  RequestId id = 0;
  Message request;
  bool one_way = false;  // no answer is wanted
  // Names this request for ever among those of this pairing: the same when it comes again after a restart.
  std::uint64_t identity = 0;
  // Handed out before by a process that did not survive: whether it ran is not known. Only for requests that
  // run once.
  bool maybe_ran = false;
};
struct PushArrived {
  Message push;
};
struct PushDelivered {
  PushId id = 0;
};
struct TransferProgress {
  bool incoming = false;
  std::uint64_t transfer = 0;
  std::size_t bytes = 0;  // acknowledged or received so far
  std::size_t total = 0;  // 0 while unknown
};
struct PeerMoved {
  SocketAddress address;
};
// The other side may have lost its memory: what it was told before (tokens, subscriptions) it may not know.
// Far side: it has, and pushes that had not arrived are gone.
struct PeerForgot {};
using Event = std::variant<RequestEnded, RequestArrived, PushArrived, PushDelivered, TransferProgress,
                           PeerMoved, PeerForgot>;

struct LinkOptions {
  double rate_bps = 0;                // of the link, each way; 0: learned, unpaced
  std::uint32_t overhead_bytes = 28;  // per datagram below us: 28 UDP/IPv4, 48 UDP/IPv6, 1 on a pipe
  std::size_t max_frame = 1200;       // bytes of a datagram; larger messages go in fragments
  std::size_t max_message = std::size_t{8} << 20;  // text and tail of one message
  std::size_t max_text = std::size_t{256} << 10;   // text of one message, or of those of one datagram
  std::size_t max_buffered = std::size_t{16} << 20;
  std::size_t max_requests = 1024;    // waiting or under way
  std::size_t max_in_flight = 16;     // frames that wait for an answer (1 … 32)
  coap::RtoOptions rto;               // rate and overhead are taken from above
  std::optional<Duration> ack_delay;  // how long an acknowledgement waits for company; default by rate
  Duration wait_after = 10s;          // far: says "under way" when a response takes longer
  bool name_connection = false;       // prefix repetitions with the connection ID (one far, many near)
  // Far: code against messages that are not yet known to have arrived. Saves bytes; after a loss the ones
  // behind it wait for its repetition. Pauses by itself when frames get lost.
  bool speculate = true;
  // Whether the request with this text may not run twice: it is journalled at both ends. Pure; the same at
  // both ends. Absent: all may.
  std::function<bool(ByteView request_text)> runs_once;
  Bytes push_request;  // text of the request that pushes seem to answer: the coder's context, equal at both
  // The response that both sides expect for a request's text: it travels as an empty answer. Pure; the same
  // at both ends.
  std::function<std::optional<Bytes>(ByteView request_text)> expected_response;
};

struct LinkStats {
  std::uint64_t frames_out = 0, frames_in = 0;
  std::uint64_t bytes_out = 0, bytes_in = 0;  // of datagrams, without overhead
  std::uint64_t copies_out = 0;               // retransmissions among frames_out
  std::uint64_t duplicates_in = 0;
  std::uint64_t dropped_in = 0;  // malformed, forged, of another context
  std::uint64_t acks_out = 0;    // frames that carried nothing else
  std::uint64_t resyncs = 0;     // coder states given up
  std::uint64_t text_bytes_out = 0, coded_bytes_out = 0;
  std::uint64_t text_bytes_in = 0;
};

struct LinkTransmit {
  SocketAddress to;
  Bytes bytes;
};

using Coders = std::vector<std::unique_ptr<coder::Coder>>;

class ThinLink {
 public:
  // `journal` and what the channel uses outlive the link. Requests found in the journal go on by themselves
  // on the near side (they end with RequestEnded, id as restored_requests() says).
  // `coders`, the best one first: each epoch takes the near side's first one that the far side has too. Texts
  // as they are is always the last of them. At most 8.
  ThinLink(LinkOptions options, security::SecureChannel channel, Coders coders, Journal& journal,
           SocketAddress peer);
  ThinLink(LinkOptions options, security::SecureChannel channel, std::unique_ptr<coder::Coder> coder,
           Journal& journal, SocketAddress peer);
  ThinLink(ThinLink&&) noexcept;
  ThinLink& operator=(ThinLink&&) noexcept;
  ~ThinLink();

  // Near side. Errors: limit_reached (too many or too large), what the journal said.
  Result<RequestId> request(Instant now, Message message, RequestOptions options);
  // Takes it back when it still waits; else its answer is dropped when it comes.
  void cancel(Instant now, RequestId id);
  struct Restored {
    RequestId id = 0;
    std::uint64_t token = 0;
    std::uint64_t identity = 0;
    Message message;
  };
  // Journalled requests of the process before.
  std::vector<Restored> restored_requests() const;
  // Responses that the process before had, of the last journalled requests with a token: whoever asked may
  // not have got them.
  struct RestoredResponse {
    std::uint64_t token = 0, identity = 0;
    Message response;
  };
  std::vector<RestoredResponse> restored_responses() const;

  // The request under way that the far side knows by this identity.
  std::optional<RequestId> find_identity(std::uint64_t identity) const;

  // Far side. Ignored when `id` is not open. Requires a text of at most max_text.
  void respond(Instant now, RequestId id, Message response);
  // Whether a response of so many bytes can be kept until it is acknowledged; small ones always can.
  bool has_room(std::size_t bytes) const;
  Result<PushId> push(Instant now, Message message, PushOptions options);
  bool cancel_push(PushId id);  // only while it waits

  void handle_datagram(Instant now, const SocketAddress& source, ByteView datagram);
  void handle_timeout(Instant now);
  std::optional<LinkTransmit> poll_transmit(Instant now);
  std::optional<Event> poll_event();
  Deadline next_deadline() const;

  // The other side's new address, when this side learned it by other means (resolver, mesh).
  void set_peer(const SocketAddress& peer);
  const SocketAddress& peer() const;
  // Nothing waits, nothing is under way.
  bool is_idle() const;
  std::size_t waiting() const;  // messages that have not left
  std::size_t in_flight() const;
  const LinkStats& stats() const;
  std::string_view coder_name() const;              // of the epoch
  std::vector<TransferProgress> transfers() const;  // under way
  const coap::RtoEstimator& rto() const;
  security::SecureChannel& channel();
  const security::SecureChannel& channel() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::gateway::link
