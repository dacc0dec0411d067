// Pieces of bodies (RFC 7959): the Block1 and Block2 values, a body put together from pieces within limits,
// and the entity tag by which a server's piece is known to be of the same body. Pure.
#pragma once

#include <optional>
#include <string>

#include "gateway/coap/message.h"

namespace ravine::gateway::coap {

struct Block {
  std::uint32_t number = 0;  // at most 2^20 − 1
  bool more = false;
  std::uint8_t exponent = 6;  // SZX: size is 16 << exponent; 0–6

  std::size_t size() const { return std::size_t{16} << exponent; }
  std::size_t offset() const { return number * size(); }
  Bytes encode() const;
  friend bool operator==(const Block&, const Block&) = default;
};
inline constexpr std::uint32_t kMaxBlockNumber = (1u << 20) - 1;
// nullopt for SZX 7 (reserved, RFC 7959 §2.2) and for values over 3 bytes.
std::optional<Block> decode_block(ByteView value);
// nullopt when the option is missing; `malformed` is set when it is there and wrong.
std::optional<Block> block_of(const Message& message, std::uint16_t number, bool& malformed);

// Largest SZX at most `limit` whose block fits in `room` bytes; nullopt below 16 bytes.
std::optional<std::uint8_t> exponent_for(std::size_t room, std::uint8_t limit);

// A body that is put together in order.
class BodyAssembler {
 public:
  explicit BodyAssembler(std::size_t limit_bytes) : limit_(limit_bytes) {}

  enum class Outcome : std::uint8_t {
    more,       // taken, more to come
    complete,   // every byte is there
    repeated,   // had it already
    gap,        // blocks before it are missing: 4.08
    too_large,  // over the limit: 4.13
    malformed,  // a block that is not the last is not full, or too full
  };
  // Block 0 begins anew.
  Outcome add(const Block& block, ByteView piece);
  std::size_t size() const { return body_.size(); }
  Bytes take() { return std::move(body_); }

 private:
  std::size_t limit_;
  Bytes body_;
};

// Four bytes that depend on every byte of the body: a server that gives them lets a broken transfer be taken
// up later.
Bytes entity_tag_of(ByteView body);

// What must be equal for two requests to be pieces of one: method, every option that is part of the cache
// key, and Request-Tag (RFC 7959 §2.3, RFC 9175 §3.3).
std::string transfer_key(const Message& request);

}  // namespace ravine::gateway::coap
