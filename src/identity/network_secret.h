// The network's secret, which members get with their certificate, and the pseudonyms that derive from it: TLS
// server names by which diallers mean a network without naming it. They change every day (UTC).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "identity/crypto.h"
#include "identity/overlay.h"

namespace ravine::identity {

inline constexpr std::size_t kMaxSecretVersions =
    4;  // kept by a member: the newest and what late members still use

struct NetworkSecret {
  std::uint32_t version = 0;  // rises with every rotation
  Secret<32> secret;

  static NetworkSecret make(std::uint32_t version, RandomSource& random);
  // The server name of the UTC day that holds `day`: one DNS label of 26 characters [a-z2-7].
  std::string server_name(UnixTime day) const;
  // Key for another use of the secret, e.g. "discovery announcement".
  Secret<32> key_for(std::string_view purpose) const;
};

// All versions that a member knows, newest first.
class NetworkSecrets {
 public:
  bool empty() const { return secrets_.empty(); }
  const NetworkSecret& newest() const { return secrets_.front(); }  // requires !empty()
  const std::vector<NetworkSecret>& all() const { return secrets_; }
  // Returns whether it is new. Keeps kMaxSecretVersions; an older one than all kept is ignored when full.
  bool add(NetworkSecret secret);
  // What Endpoint's NetworkOptions::server_names wants: today's of the newest first, then yesterday's and
  // tomorrow's, then the older secrets' three each. Changes at midnight UTC.
  std::vector<std::string> server_names(UnixTime now) const;

  Bytes encode() const;  // state file; the caller wipes it
  static Result<NetworkSecrets> decode(ByteView encoded);

 private:
  std::vector<NetworkSecret> secrets_;
};

// A network without CA, founded by a pairing secret.
struct PinnedNetwork {
  NetworkHash network;   // prefix of overlay addresses
  NetworkSecret secret;  // version 1
  static PinnedNetwork derive_from(const Secret<16>& pairing_secret);
};

// Server name of a join or pair exchange, from the code's secret.
std::string join_server_name(const Secret<16>& code_secret);

}  // namespace ravine::identity
