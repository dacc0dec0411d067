// MessageCoder: whole messages to few bytes and back, with the model of predictor.h. Lossless for any bytes.
// After each byte where the message may end stands one bit that says whether it does: after complete JSON,
// and after every byte of text that is not JSON.
#pragma once

#include <memory>
#include <optional>

#include "gateway/model/predictor.h"

namespace ravine::gateway {

class MessageCoder {
 public:
  explicit MessageCoder(std::shared_ptr<const Prior> prior);
  MessageCoder(const MessageCoder& other);  // shares the prior, has its own state
  MessageCoder(MessageCoder&&) noexcept = default;

  // `hint`: the route of the request when `text` is its response, else 0.
  // Codes against the committed messages; changes nothing.
  Bytes encode(ByteView text, TextPhase phase, std::uint32_t hint);
  // nullopt: more than `limit` bytes of text, or bytes that no encoder made.
  std::optional<Bytes> decode(ByteView coded, TextPhase phase, std::uint32_t hint, std::size_t limit);
  // Moves the state on by one message. Both ends commit the same messages in the same order.
  void commit(ByteView text, TextPhase phase, std::uint32_t hint);
  void reset();  // as new: the prior alone

  // The route that a request's start line leaves, as the hint for its response.
  static std::uint32_t route_of(ByteView request);
  std::size_t memory_bytes() const { return sizeof(Overlay); }

 private:
  friend class Trainer;
  std::shared_ptr<const Prior> prior_;
  std::unique_ptr<Overlay> overlay_;
};

}  // namespace ravine::gateway
