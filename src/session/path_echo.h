// Path echo: small authenticated packets below QUIC, on the labels of one path. They keep spare paths warm,
// measure them, prove addresses, and find one-way death and MTU black holes. To a forwarder an echo is a
// short-header packet; its connection ID suffix ff ff ff ff is never issued. This file is the codec; PathSet
// decides when to send. Bytes: docs/protocol.md, "Path echo".
#pragma once

#include <array>
#include <optional>

#include "base/bytes.h"
#include "base/label.h"
#include "session/types.h"

namespace ravine::session {

inline constexpr std::uint32_t kEchoSuffix = 0xffffffff;
inline constexpr std::size_t kMinEchoSize = 47;  // bytes: head 13, nonce 8, body 10, tag 16
inline constexpr std::size_t kMaxEchoSize = 9216;

enum class EchoType : std::uint8_t {
  request = 1,  // value: unused; padded to the size that is tested
  answer = 2,   // value: nonce of the request; never larger than it
  move = 3,     // acceptor to dialler: migrate to `path`; value: MoveReason
};

enum class MoveReason : std::uint8_t { requested = 0, dead = 1, black_hole = 2 };

struct Echo {
  EchoType type = EchoType::request;
  PathId path = 0;
  std::uint64_t nonce = 0;  // the sender's: never used twice with one key
  std::uint64_t value = 0;
};

// True for short-header packets that carry the echo suffix; decode() then decides.
bool is_echo(ByteView packet);

class EchoCodec {
 public:
  // `key_material` comes from the TLS exporter, equal on both ends; each direction has its own half.
  EchoCodec(const std::array<std::uint8_t, 32>& key_material, Role role);

  // Writes one echo of exactly `size` bytes. Requires kMinEchoSize ≤ size ≤ out.size().
  bool encode(Label label, const Echo& echo, std::size_t size, MutableBytes out) const;
  // nullopt when forged, damaged, or replayed (a nonce seen before, or 64 or more behind the newest).
  std::optional<Echo> decode(ByteView packet);

 private:
  std::array<std::uint8_t, 16> send_key_{}, receive_key_{};
  std::uint64_t newest_ = 0;
  std::uint64_t seen_ = 0;  // bit i: newest_ - i arrived
};

}  // namespace ravine::session
