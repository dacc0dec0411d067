// uframes: the gateways' own encoding, one authenticated frame per datagram with a header of one byte. Byte 0
// holds a kind in its two high bits and the low six bits of a number. Kind 01 is CoAP's version, so that both
// share a port. Layout byte by byte: docs/protocol-gateway-security.md. This file parses and names frames;
// channel.h seals them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "gateway/security/crypto.h"

namespace ravine::gateway::security {

// Two high bits of byte 0.
enum class FrameKind : std::uint8_t {
  escape = 0,   // low bits: an Escape
  coap = 1,     // a CoAP message of RFC 7252, plain or OSCORE: not ours
  message = 2,  // low bits: of the sender's own number
  answer = 3,   // low bits: of the number of the other side's message that this answers
};

// Low six bits of byte 0 of an escape.
enum class Escape : std::uint8_t {
  connection_id = 1,  // kConnectionIdBytes of ID, then a frame
  handshake = 2,      // a HandshakeStep, then a Noise message
  long_message = 3,   // QUIC varint of the whole number, then ciphertext
  long_answer = 4,    // likewise
  fragment = 5,       // then a message frame (short or long) whose plaintext is a fragment
  rekey = 6,          // then a message, fragment or answer frame whose plaintext begins with kRekeyNonceBytes
};

inline constexpr std::size_t kConnectionIdBytes = 3;
inline constexpr std::size_t kRekeyNonceBytes = 8;
inline constexpr std::size_t kFragmentIndexLimit = 8192;  // fragments of one message

using ConnectionId = std::array<std::uint8_t, kConnectionIdBytes>;

// A frame's parts before anything is known to be authentic. Views into the datagram.
struct FrameView {
  FrameKind kind = FrameKind::escape;
  bool handshake = false;  // `body` begins with the HandshakeStep; no other field but `connection` is meant
  bool fragment = false;
  bool rekey = false;
  std::optional<ConnectionId> connection;  // a hint which context to try; not authenticated
  std::uint8_t low_bits = 0;               // of a short frame
  std::optional<std::uint64_t> number;     // of a long frame
  ByteView aad;                            // header bytes from the first flag on, without a connection ID
  ByteView body;                           // ciphertext ‖ tag, or the handshake message
};

// nullopt when it is no frame of ours (a CoAP message too): nothing to answer.
std::optional<FrameView> parse_frame(ByteView datagram);
FrameKind frame_kind(std::uint8_t byte0);

// `frame` behind an ID, for a receiver that may not know this source address.
Bytes with_connection_id(const ConnectionId& id, ByteView frame);

// First bytes of a fragment's plaintext: varint(index·2 + last). Fragments of one message take consecutive
// numbers, so number − index names the message.
struct FragmentHeader {
  std::uint32_t index = 0;
  bool last = false;
};
// nullopt when malformed; `rest` is the part.
std::optional<FragmentHeader> decode_fragment(ByteView plaintext, ByteView& rest);
Bytes encode_fragment(FragmentHeader header, ByteView part);

// The whole number with these low six bits that is nearest to `expected`, and its two neighbours 64 away,
// nearest first; those below 0 are left out.
std::vector<std::uint64_t> number_candidates(std::uint8_t low_bits, std::uint64_t expected);

// How much protection frames carry. Anything but full() is for links between two points that nobody else can
// reach, and says so in `status`.
class UframeProtection {
 public:
  // The caller states that the link has two ends only. Made where the user's option is read, nowhere else.
  struct PointToPoint {
    explicit PointToPoint(std::string_view why_it_is_safe) : reason(why_it_is_safe) {}
    std::string_view reason;  // static text for status
  };
  static UframeProtection full() { return {kTagSize, true}; }
  static UframeProtection short_tag(PointToPoint) { return {4, true}; }
  static UframeProtection none(PointToPoint) { return {0, false}; }

  std::size_t tag_size() const { return tag_size_; }
  bool encrypted() const { return encrypted_; }
  std::string_view to_text() const;  // for status
  friend bool operator==(const UframeProtection&, const UframeProtection&) = default;

 private:
  UframeProtection(std::size_t tag_size, bool encrypted) : tag_size_(tag_size), encrypted_(encrypted) {}
  std::size_t tag_size_;
  bool encrypted_;
};

}  // namespace ravine::gateway::security
