// Exchanger: whole requests and whole responses over a CoapEndpoint. Block-wise transfer (RFC 7959) both ways
// as client and server, with Request-Tag (RFC 9175) where transfers could be mixed up and entity tags against
// mixed bodies; observation (RFC 7641) on both sides; a hook for a security layer. A machine by
// base/machine.h: it owns its endpoint, and its driver talks to it alone.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <variant>

#include "gateway/coap/block.h"
#include "gateway/coap/endpoint.h"
#include "gateway/coap/observe.h"

namespace ravine::gateway::coap {

using CallId = std::uint64_t;  // never 0

// What protects messages one by one (OSCORE). Bindings tie a response to its request; the layer hands them
// out (never 0) and drops them at forget(). An error of seal_* fails the exchange with its message.
class Protection {
 public:
  virtual ~Protection() = default;
  virtual std::size_t overhead_bytes() const = 0;  // that sealing may add at most
  virtual Result<Message> seal_request(const SocketAddress& to, const Message& request,
                                       std::uint64_t& binding) = 0;
  // nullopt: not genuine; the exchange goes on as if it had not come. `order` is the partial IV of a
  // notification.
  virtual std::optional<Message> open_response(std::uint64_t binding, const Message& response,
                                               std::optional<std::uint64_t>& order) = 0;
  struct Opened {
    Message message;            // the request; or, refused, the response to send as it is
    std::uint64_t binding = 0;  // 0: came in the clear, and its response goes in the clear
    bool refused = false;
    std::uint64_t security = 0;  // which context opened it, the same for all its requests; 0: none
  };
  virtual Opened open_request(Instant now, const SocketAddress& from, const Message& request) = 0;
  virtual Result<Message> seal_response(std::uint64_t binding, const Message& response) = 0;
  virtual void forget(std::uint64_t binding) = 0;
};

struct ExchangerOptions {
  EndpointOptions endpoint;
  std::uint8_t block_exponent = 6;  // largest block that we offer or ask for: 16 << exponent bytes
  std::size_t max_body = std::size_t{1} << 20;  // bytes of one body, either way; over it 4.13
  std::size_t held_bytes = std::size_t{4}
                           << 20;  // bodies half received, and bodies kept for their later blocks
  std::size_t held_bodies = 1024;  // in all, each kind
  std::size_t held_per_peer = 16;  // such bodies of one peer, each kind
  Duration hold = 247s;            // such a body is dropped when nobody asked or added for so long
  unsigned attempts = 3;           // times that a block may fail before a broken transfer is given up
  // All blocks of a body under one token, for servers that know a transfer by it (node-coap does, against
  // RFC 7959). Not with a security layer that does not bind responses to requests (RFC 9175 §4).
  bool one_token_per_body = false;
  std::size_t calls = 512;  // of ours at a time
  ObserverOptions observers;
};

struct CallOptions {
  bool confirmable = true;
  bool observe =
      false;  // GET and FETCH: register; CallAnswered comes again with each notification until cancel()
  std::uint8_t priority = 4;
  std::string replace_key;  // see RequestOptions
  std::uint64_t context = 0;
};

enum class CallFault : std::uint8_t {
  timed_out,
  reset,
  superseded,
  rejected,
  too_large,
  inconsistent,
  local
};
std::string_view to_text(CallFault fault);

struct CallAnswered {
  CallId call;
  std::uint64_t context;
  SocketAddress from;
  Message response;  // whole body, without block options
  bool final;        // false: an observation, more may come
};
struct CallFailed {
  CallId call;
  std::uint64_t context;
  CallFault fault;
  std::string detail;
};
struct Serve {
  RequestId id;
  SocketAddress from;
  Message request;  // whole body, without block options; Observe still there
  bool verified;
  bool secured;                // came through the security layer
  std::uint64_t security = 0;  // its context there, wherever the datagrams came from; 0: in the clear
};
using ExchangerEvent = std::variant<CallAnswered, CallFailed, Serve>;

struct CallProgress {
  std::size_t sent = 0, to_send = 0, received = 0;  // bytes of bodies
};

class Exchanger {
 public:
  // `random` and `protection` (null: none) outlive the machine.
  Exchanger(const ExchangerOptions& options, RandomSource& random, Protection* protection = nullptr);

  void handle_datagram(Instant now, const SocketAddress& from, ByteView bytes, bool multicast = false);
  void handle_timeout(Instant now);

  // Sends a request with a body of any size up to max_body. Type, id and token are set below.
  Result<CallId> call(Instant now, const SocketAddress& to, Message request, const CallOptions& how = {});
  // Nothing more is sent or reported for it. An observation ends at the other side with the reset that its
  // next notification draws.
  void cancel(CallId call);
  std::optional<CallProgress> progress(CallId call) const;

  // Answers Serve. The body may have any size up to max_body.
  Result<> respond(Instant now, RequestId request, Message response);
  void dismiss(Instant now, RequestId request);
  // Before respond: makes the asker of a request with Observe 0 an observer of `resource`.
  Result<ObserverId> accept_observer(Instant now, RequestId request, const std::string& resource);
  // Tells all observers of `resource`; a code that is no success ends their observation. A notification that
  // still waits is replaced.
  void notify(Instant now, const std::string& resource, const Message& response);
  const ObserverTable& observers() const { return observers_; }
  // Whether no notification of `resource` waits or is unconfirmed: what changes from now on is not merged
  // with what its observers have not seen.
  bool is_settled(const std::string& resource) const;

  std::optional<OutgoingDatagram> poll_transmit(Instant now) { return endpoint_.poll_transmit(now); }
  std::optional<ExchangerEvent> poll_event();
  Deadline next_deadline() const;

  CoapEndpoint& endpoint() { return endpoint_; }
  const CoapEndpoint& endpoint() const { return endpoint_; }
  // Bytes of bodies that are held for peers.
  std::size_t held_bytes() const { return held_bytes_; }

 private:
  struct Call {
    CallId id = 0;
    SocketAddress to;
    Message request;  // without body
    Bytes body;
    std::size_t sent = 0;   // bytes of the body that the peer has taken
    std::size_t piece = 0;  // bytes in the block under way
    std::uint8_t exponent = 6;
    bool receiving = false;  // blocks of the response
    BodyAssembler in{0};
    Message head;  // the response's first block, without body
    ExchangeId exchange = 0;
    std::uint64_t binding = 0;
    ExchangeId standing = 0;  // the observation's exchange, which stays open
    std::uint64_t standing_binding = 0;
    unsigned failures = 0, restarts = 0;
    Bytes token;  // of the whole body, with one_token_per_body
    ObserveFreshness freshness;
    CallOptions how;
  };
  struct Serving {
    SocketAddress from;
    std::string key;
    Code code = Code::empty;
    Bytes token;
    std::optional<Block> block1, block2;
    bool wants_observe = false;
    ObserverId observer = 0;
    Instant expires_at;
    Bytes body_tag;  // of the request's body, for a parked answer
    std::uint64_t binding = 0;
  };
  using HeldKey = std::pair<SocketAddress, std::string>;
  struct Upload {
    BodyAssembler body{0};
    std::size_t counted = 0;
    Instant expires_at;
  };
  struct Kept {  // a response whose later blocks may be asked for
    Message head;
    Bytes body;
    std::size_t counted = 0;
    // Non-empty: the answer to the request with this body tag was too large to send unproved.
    Bytes parked_for;
    Instant expires_at;
  };

  void drain(Instant now);
  void handle(Instant now, RequestReceived& event);
  void handle(Instant now, ResponseReceived& event);
  void handle(Instant now, ExchangeFailed& event);
  void handle(Instant now, SeparateOutcome& event);
  // Client.
  Call* find_by_exchange(ExchangeId exchange);
  bool send_step(Instant now, Call& call);
  Message next_message(Call& call) const;
  bool continue_upload(Instant now, Call& call, const Message& response);
  void handle_body(Instant now, Call& call, Message response);
  void restart(Instant now, Call& call, std::string_view why);
  void deliver(Call& call, Message response);
  void fail(Call& call, CallFault fault, std::string detail);
  void drop(CallId id);
  bool is_upload_ambiguous(const SocketAddress& to) const;
  std::size_t room_for_piece(const Message& message) const;
  // Server.
  bool take_upload(Instant now, RequestId id, Message& request, Serving& serving);
  bool answer_from_kept(Instant now, RequestId id, const Message& request, const Serving& serving);
  void send_response(Instant now, RequestId id, const Serving& serving, Message response);
  Message slice(const Serving& serving, const Message& head, ByteView body, std::size_t room) const;
  void refuse(Instant now, RequestId id, const Serving& serving, Code code,
              std::optional<std::uint32_t> size1);
  bool keep(const HeldKey& key, Kept kept);
  void notify_one(Instant now, Observer& observer, const std::shared_ptr<const Message>& response);
  void remove_observer(ObserverId id);
  std::size_t sealing_bytes(std::uint64_t binding) const;
  void expire_held(Instant now);
  bool make_room(std::size_t bytes);
  template <class Held>
  std::size_t count_of(const std::map<HeldKey, Held>& held, const SocketAddress& peer) const;

  ExchangerOptions options_;
  Protection* protection_;
  CoapEndpoint endpoint_;
  ObserverTable observers_;
  std::map<CallId, Call> calls_;
  std::map<ExchangeId, CallId> by_exchange_;
  std::map<RequestId, Serving> serving_;
  std::map<HeldKey, Upload> uploads_;
  std::map<HeldKey, Kept> kept_;
  std::map<ObserverId, std::shared_ptr<const Message>>
      latest_;  // to follow a confirmable notification that is under way
  std::size_t held_bytes_ = 0;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_tag_ = 0;
  bool broke_upload_ =
      false;  // a transfer was given up half-way: its blocks may linger, so later ones are tagged
  std::deque<ExchangerEvent> events_;
};

}  // namespace ravine::gateway::coap
