#include "gateway/model/message_coder.h"

#include "gateway/model/message_walk.h"
#include "gateway/model/range_coder.h"

namespace ravine::gateway {

MessageCoder::MessageCoder(std::shared_ptr<const Prior> prior)
    : prior_(std::move(prior)), overlay_(std::make_unique<Overlay>(*prior_)) {}

MessageCoder::MessageCoder(const MessageCoder& other)
    : prior_(other.prior_), overlay_(std::make_unique<Overlay>(*other.overlay_)) {}

void MessageCoder::reset() {
  overlay_ = std::make_unique<Overlay>(*prior_);
}

Bytes MessageCoder::encode(ByteView text, TextPhase phase, std::uint32_t hint) {
  Predictor predictor(*prior_, *overlay_);
  RangeEncoder encoder;
  predictor.begin(phase, hint);
  walk_message(predictor, text, [&](bool bit, std::uint32_t one) { encoder.encode(bit, one); });
  predictor.rollback();
  return encoder.finish();
}

std::optional<Bytes> MessageCoder::decode(ByteView coded, TextPhase phase, std::uint32_t hint,
                                          std::size_t limit) {
  Predictor predictor(*prior_, *overlay_);
  RangeDecoder decoder(coded);
  predictor.begin(phase, hint);
  Bytes text;
  bool good = true;
  for (;;) {
    if (decoder.decode(end_chance(predictor.context(), text.size()))) break;
    if (text.size() == limit || decoder.overrun() > 4 + kDecoderSlack) {
      good = false;
      break;
    }
    unsigned byte = 0;
    for (int i = 0; i < 8; ++i) {
      const bool bit = decoder.decode(predictor.one());
      predictor.update(bit);
      byte = (byte << 1) | (bit ? 1u : 0u);
    }
    text.push_back(static_cast<std::uint8_t>(byte));
  }
  predictor.rollback();
  if (!good) return std::nullopt;
  return text;
}

void MessageCoder::commit(ByteView text, TextPhase phase, std::uint32_t hint) {
  Predictor predictor(*prior_, *overlay_);
  predictor.begin(phase, hint);
  walk_message(predictor, text, [](bool, std::uint32_t) {});
  predictor.commit();
}

std::uint32_t MessageCoder::route_of(ByteView request) {
  ContextTracker tracker;
  tracker.begin(TextPhase::start_line, 0);
  for (std::uint8_t byte : request) {
    tracker.update(byte);
    if (byte == '\n') break;
  }
  return tracker.route();
}

}  // namespace ravine::gateway
