// Coder: message texts to few bytes and back, against a state that both gateways share. One object holds one
// state: a pure function of the shared tables and the messages committed since reset(), in their order.
// Pure; one thread. What a state is numbered, when it moves and what happens after data loss: link/.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "gateway/model/prior.h"

namespace ravine::gateway::coder {

enum class Direction : std::uint8_t {
  request,
  response,
  body,  // a body without a head
};

// All that a coder may know of a message beside its state.
struct MessageContext {
  Direction direction = Direction::request;
  ByteView request;  // text of the request when the message is its response; empty otherwise
};

// Names an algorithm with all its tables; both ends must have the same.
using CoderId = std::array<std::uint8_t, 8>;

class Coder {
 public:
  virtual ~Coder() = default;

  // Changes nothing.
  virtual Bytes encode(ByteView text, const MessageContext& context) = 0;
  // nullopt: more than `limit` bytes of text, or bytes that no encoder made. Changes nothing.
  virtual std::optional<Bytes> decode(ByteView coded, const MessageContext& context, std::size_t limit) = 0;
  // Moves the state on by one message. Both ends commit the same messages in the same order.
  virtual void commit(ByteView text, const MessageContext& context) = 0;
  virtual void reset() = 0;  // the state before the first message
  virtual std::unique_ptr<Coder> clone() const = 0;

  virtual CoderId id() const = 0;
  virtual std::string_view name() const = 0;
};

// Texts as they are.
std::unique_ptr<Coder> make_none_coder();
// The context-mixing model. `id` names the prior: the first bytes of the SHA-256 of its file.
std::unique_ptr<Coder> make_model_coder(std::shared_ptr<const Prior> prior, const CoderId& id);
// Bodies in CBOR where the JSON comes back byte for byte. Keeps no state.
std::unique_ptr<Coder> make_cbor_coder();
// The same under raw deflate (RFC 1951) with a preset dictionary of at most 32 KiB. Keeps no state.
std::unique_ptr<Coder> make_cbor_deflate_coder(ByteView dictionary);
// Zstandard (RFC 8878) with `dictionary` as its earlier content. Keeps no state.
std::unique_ptr<Coder> make_zstd_coder(ByteView dictionary);

}  // namespace ravine::gateway::coder
