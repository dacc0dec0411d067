// Noise handshakes (revision 34) with 25519_ChaChaPoly_SHA256: KKpsk0 and IKpsk2, whose first message carries
// the first request, and XX for pairing with a fingerprint that people compare. Sans-I/O, one object per
// handshake.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/machine.h"
#include "gateway/security/crypto.h"
#include "gateway/security/keys.h"

namespace ravine::gateway::security {

enum class NoisePattern : std::uint8_t { kk_psk0 = 1, ik_psk2 = 2, xx = 3 };
std::string_view protocol_name(NoisePattern pattern);

inline constexpr std::size_t kMaxNoiseMessage = 65535;  // bytes, Noise §3

struct StaticKey {
  X25519Private private_key;
  X25519Public public_key{};
  static StaticKey from_private(const X25519Private& key);
  static StaticKey random(RandomSource& random);
};

struct NoiseOptions {
  NoisePattern pattern = NoisePattern::kk_psk0;
  bool initiator = true;
  Bytes prologue;  // what both sides must agree on; the gateways' is kNoisePrologue
  StaticKey local;
  std::optional<X25519Public> remote;  // known before: KK both sides, IK the initiator
  std::optional<Secret<32>> psk;       // for the psk patterns
};
inline constexpr std::string_view kNoisePrologue = "ravine gateway 1";

// Two cipher states after the handshake, as Noise §5.2 Split() makes them.
struct NoiseKeys {
  Secret<32> initiator_to_responder;
  Secret<32> responder_to_initiator;
  Hash handshake_hash{};  // channel binding
  X25519Public remote{};
};

class NoiseHandshake {
 public:
  // Errors: invalid_argument when a key that the pattern needs is missing.
  static Result<NoiseHandshake> make(NoiseOptions options, RandomSource& random);

  bool my_turn() const;
  bool finished() const { return step_ == steps(); }
  std::size_t steps() const;  // messages in all: 2, 2, 3
  // Bytes that the next message adds to its payload.
  std::size_t next_overhead() const;

  // Errors: invalid_argument when it is not this side's turn or the payload is too large; unauthenticated
  // from a remote key of low order. After an error the handshake is over.
  Result<Bytes> write_message(ByteView payload);
  // The payload. What comes in the first message can be replayed by whoever recorded it: act on it only when
  // doing so twice is harmless, or when the sender has proved itself alive under the new keys. Errors:
  // unauthenticated, and the handshake stays where it was, so that a forged message stops nothing.
  Result<Bytes> read_message(ByteView message);

  // Requires finished().
  NoiseKeys keys() const;
  GatewaySecret gateway_secret() const;
  // The other side's static key, once it is known.
  const std::optional<X25519Public>& remote() const { return state_.remote; }
  // For XX, requires finished(): what both people read aloud. Equal only when nobody sits between.
  std::string fingerprint() const;

 private:
  struct State {
    Secret<32> chaining_key;
    Hash hash{};
    std::optional<Secret<32>> key;
    std::uint64_t counter = 0;
    std::optional<StaticKey> ephemeral;
    std::optional<X25519Public> remote;
    std::optional<X25519Public> remote_ephemeral;
  };
  NoiseHandshake(NoiseOptions options, RandomSource& random);
  static void mix_hash(State& state, ByteView data);
  static void mix_key(State& state, ByteView input);
  static void mix_key_and_hash(State& state, ByteView input);
  static Result<Bytes> encrypt_and_hash(State& state, ByteView plaintext);
  static Result<Bytes> decrypt_and_hash(State& state, ByteView sealed);
  Result<> mix_shared(State& state, std::string_view token) const;
  Result<> write_token(State& state, std::string_view token, ByteWriter& out) const;
  Result<> read_token(State& state, std::string_view token, ByteReader& in) const;
  bool uses_psk() const { return options_.pattern != NoisePattern::xx; }

  NoiseOptions options_;
  RandomSource* random_;
  State state_;
  std::size_t step_ = 0;
};

// Fingerprint of a static public key, in groups for people: 8 groups of 4 characters of base32.
std::string key_fingerprint(const X25519Public& key);

// Byte behind Escape::handshake: pattern and message index, so that a late message of another handshake is
// told apart.
struct HandshakeStep {
  NoisePattern pattern = NoisePattern::kk_psk0;
  std::uint8_t index = 0;  // 0-based message of the pattern

  std::uint8_t encode() const;
  static std::optional<HandshakeStep> decode(std::uint8_t byte);
};
// A handshake frame around a Noise message; parse_frame gives `body` = step byte ‖ message.
Bytes handshake_frame(HandshakeStep step, ByteView message);

}  // namespace ravine::gateway::security
