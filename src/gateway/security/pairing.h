// Pairing of two gateways (`ravine gateway pair`): one text, carried by hand or as a QR code, gives both
// sides their keys with nothing on the air. Pure values.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/address.h"
#include "base/machine.h"
#include "gateway/security/keys.h"
#include "gateway/security/noise.h"

namespace ravine::gateway::security {

inline constexpr std::size_t kMaxPairingText = 512;  // characters, separators included

// What the code carries. Text form: "RVG1" ‖ base32 (upper case) of kind, role, secret, keys, address, 4
// bytes of checksum. Only letters and digits: QR's alphanumeric mode, one double click. Whoever reads it can
// be either side: each code is used once, by the role that it names.
struct Pairing {
  Role role = Role::near;  // of the side that is to enter this code
  GatewaySecret secret;    // pinned secret, or the psk when `remote_static` is there
  // With it, keys are made by Noise (IKpsk2) instead of from the secret alone: forward secrecy.
  std::optional<X25519Public> remote_static;
  std::optional<HostPort> address;  // of the side that made the code

  static Pairing make(Role role_of_reader, std::optional<HostPort> address, RandomSource& random);
  // Spaces, hyphens, line ends and case are ignored, and the look-alikes 0, 1, 8 mean O, I, B. Errors
  // (invalid_argument) tell "not a code", "bad character at N", "cut off" and "mistyped" apart.
  static Result<Pairing> parse(std::string_view text);
  std::string to_text() const;

  // Of the channel, when there is no remote_static.
  GatewaySecret channel_secret() const;
  // The psk of Noise handshakes between these two: also for a fresh start after one side lost its state.
  Secret<32> noise_psk() const;
  // Static keys that both sides know from the code, for KKpsk0 after lost state.
  StaticKey recovery_key(Role role) const;
};

}  // namespace ravine::gateway::security
