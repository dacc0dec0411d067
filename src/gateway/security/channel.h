// SecureChannel: seals and opens the uframes of one pair of gateways, through restarts, lost frames, changed
// addresses and changes of key. Sans-I/O; driven by the thin link. Thread rule: one thread. Not copyable.
//
// Numbers. Every message takes a number of its own direction; an answer takes the number of the message it
// answers, so that it costs one byte of header and is bound to it. For each number at most one answer is ever
// sealed; where that cannot be known (after a restart) seal_answer says so, and the caller sends a message
// that names the number inside. A repeated frame is the same bytes again: callers keep what they sealed and
// never seal a repetition.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/machine.h"
#include "gateway/security/keys.h"
#include "gateway/security/sequence.h"
#include "gateway/security/uframe.h"

namespace ravine::gateway::security {

// A frame's name at both ends: numbers begin anew with each generation of keys.
struct FrameNumber {
  std::uint32_t generation = 0;
  std::uint64_t number = 0;
  friend auto operator<=>(const FrameNumber&, const FrameNumber&) = default;
};

struct SealedFrame {
  FrameNumber number;
  Bytes bytes;
};

enum class Freshness : std::uint8_t {
  fresh,      // first time that this number is seen
  duplicate,  // seen: answer from cached bytes
  // Authentic; this side lost the memory that could tell (restart), or it is older than the window. Treat it
  // as new only when a journal of acted-on numbers says so; else tell the sender to go on at
  // first_fresh_number().
  unknown,
};

struct OpenedFrame {
  FrameKind kind = FrameKind::message;  // message or answer
  FrameNumber number;                   // answer: of our message that it answers
  bool fragment = false;                // plaintext begins with a FragmentHeader
  Freshness freshness = Freshness::fresh;
  // Fresh, and newer than everything before it: the only frames whose source address is to be believed.
  bool newest = false;
  Bytes plaintext;
};

enum class FrameDrop : std::uint8_t {
  malformed,       // no frame of ours
  handshake,       // a handshake frame: for NoiseHandshake, not for a channel
  other_context,   // its connection ID is of another channel
  unknown_answer,  // answers what we never sent
  forged,          // no key and number of ours opens it
  limit_reached,   // this key may open no more: pair or shake hands anew
};
std::string_view to_text(FrameDrop drop);

class SecureChannel {
 public:
  struct Options {
    UframeProtection protection = UframeProtection::full();
    std::uint64_t max_sends = kMaxSends;  // per key; tests lower them
    std::uint64_t max_failed_opens = kMaxFailedOpens;
  };

  // A pair that has never exchanged a frame under `secret`: calling this twice with one secret would use
  // numbers twice, so it persists the first state before it returns. `store` and `random` outlive the
  // channel.
  static Result<SecureChannel> make(const GatewaySecret& secret, Role role, SequenceStore& store,
                                    RandomSource& random, Options options);
  // From what the store was given last. Errors: invalid_argument when the state is damaged or of a newer
  // version.
  static Result<SecureChannel> restore(ByteView state, SequenceStore& store, RandomSource& random,
                                       Options options);
  SecureChannel(SecureChannel&&) noexcept;
  SecureChannel& operator=(SecureChannel&&) noexcept;
  ~SecureChannel();

  // Errors: limit_reached when the key's numbers are used up and no rekey came through; invalid_argument for
  // a plaintext above kMaxPlaintext − 64; what the store said (nothing may be sent then).
  Result<SealedFrame> seal_message(ByteView plaintext);
  // As several frames of at most `max_frame` bytes each (at least 32), with consecutive numbers.
  Result<std::vector<SealedFrame>> seal_fragments(ByteView plaintext, std::size_t max_frame);
  // Whether seal_answer can answer that message: it was opened since the last start, is within the window,
  // and has no answer yet.
  bool can_answer(FrameNumber message) const;
  // Errors: already_exists unless can_answer(message): send the cached bytes, or a message.
  Result<SealedFrame> seal_answer(FrameNumber message, ByteView plaintext);

  std::expected<OpenedFrame, FrameDrop> open(ByteView datagram);

  // The other side is known to have opened this message of ours (an answer to it tells that by itself): short
  // headers stay possible while fewer than 64 numbers are ahead of the last known one.
  void note_received(FrameNumber message);
  // Goes on at `first`, as the other side asked after a restart; ignored when behind or more than 4096 ahead.
  void skip_to(FrameNumber first);
  // From here on the other side's messages are surely fresh; to be told to it when something was `unknown`.
  FrameNumber first_fresh_number() const;

  // Rekeying runs by itself on ordinary messages and answers, once half of a limit is used up or rekey()
  // asks.
  void rekey();
  bool rekey_running() const;
  std::uint32_t generation() const;
  FrameNumber next_number() const;
  // Bytes that the next message's header and tag add, rekey included.
  std::size_t message_overhead() const;
  std::size_t answer_overhead(FrameNumber message) const;
  const ConnectionId& connection_id() const;  // stays through rekeys
  // For CoAP between the same two, under the current generation. Keep one state per generation: restore when
  // there is one, make only when there is none.
  OscoreParameters oscore_parameters() const;
  Role role() const;
  const Options& options() const;
  std::uint64_t failed_opens() const;  // of the current generation

  Bytes encode() const;  // with secrets: file mode 0600

 private:
  struct Impl;
  explicit SecureChannel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ravine::gateway::security
