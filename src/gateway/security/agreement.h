// Agreement: makes the keys of a pairing by a Noise handshake when there are none, or when either side lost
// its state. The near side begins, the far side answers; what the near side's first message says (the
// connection ID of the channel that it has) tells the far side whether both still have the same. A recorded
// first message changes nothing: the far side uses new keys only after a frame under them. Sans-I/O
// (base/machine.h); one per pairing; one thread.
#pragma once

#include <memory>
#include <optional>

#include "base/machine.h"
#include "gateway/security/noise.h"
#include "gateway/security/pairing.h"
#include "gateway/security/uframe.h"

namespace ravine::gateway::security {

struct AgreementOptions {
  Role role = Role::near;
  Pairing pairing;
  // IKpsk2: the side that made the code has this private half of its `remote_static`; the side that entered
  // it a key of its own. Without it: KKpsk0 with the code's recovery keys.
  std::optional<X25519Private> local_static;
  double rate_bps = 0;  // of the link, for the pause between copies
};

class Agreement {
 public:
  Agreement(AgreementOptions options, RandomSource& random);

  // What the other side calls frames of this handshake; the same as long as the pairing.
  ConnectionId handshake_id() const;

  // Near side: asks, or goes on asking. `current`: of the channel in use, none when there is none.
  void begin(Instant now, std::optional<ConnectionId> current);
  void cancel() { handshake_.reset(); }
  bool is_running() const { return handshake_.has_value(); }
  std::optional<Bytes> poll_transmit(Instant now);
  Instant next_deadline() const;

  enum class Outcome : std::uint8_t {
    nothing,   // not ours, forged, late
    same,      // near: the other side has the same channel
    new_keys,  // near: use secret() from now on; far: use it after the first frame under it
    answered,  // far: both have the same channel; the reply says so
  };
  struct Handled {
    Outcome outcome = Outcome::nothing;
    std::optional<Bytes> reply;
    std::optional<GatewaySecret> secret;
  };
  // `frame`: of a handshake. `current` as in begin().
  Handled handle(Instant now, const FrameView& frame, std::optional<ConnectionId> current);

  std::uint64_t refused() const { return refused_; }  // handshake messages that opened with no key of ours

 private:
  Result<NoiseHandshake> make(NoisePattern pattern, bool initiator);
  Handled answer(const HandshakeStep& step, ByteView message, std::optional<ConnectionId> current);
  Handled finish(const HandshakeStep& step, ByteView message);

  AgreementOptions options_;
  RandomSource* random_;
  std::optional<NoiseHandshake> handshake_;  // near: under way
  NoisePattern pattern_ = NoisePattern::kk_psk0;
  Bytes first_;  // its first message, repeated byte for byte
  Instant next_;
  Duration pause_{0};
  std::uint64_t refused_ = 0;
};

}  // namespace ravine::gateway::security
