#include "gateway/model/message_coder.h"

#include <algorithm>

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
  encoder.encode(true, kModelled);
  predictor.begin(phase, hint, Predictor::Changes::undone);
  const std::size_t limit = text.size() + kStoredMark.size();
  walk_message(
      predictor, text, [&](bool bit, std::uint32_t one) { encoder.encode(bit, one); },
      [&] { return encoder.size() <= limit; });
  predictor.rollback();
  Bytes coded = encoder.finish();
  if (coded.size() <= limit) return coded;
  coded.assign(kStoredMark.begin(), kStoredMark.end());
  coded.insert(coded.end(), text.begin(), text.end());
  return coded;
}

std::optional<Bytes> MessageCoder::decode(ByteView coded, TextPhase phase, std::uint32_t hint,
                                          std::size_t limit) {
  RangeDecoder decoder(coded);
  if (!decoder.decode(kModelled)) {
    const bool marked = coded.size() >= kStoredMark.size() &&
                        std::equal(kStoredMark.begin(), kStoredMark.end(), coded.begin());
    if (!marked || coded.size() - kStoredMark.size() > limit) return std::nullopt;
    return to_bytes(coded.subspan(kStoredMark.size()));
  }
  Predictor predictor(*prior_, *overlay_);
  predictor.begin(phase, hint, Predictor::Changes::undone);
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
  predictor.begin(phase, hint, Predictor::Changes::kept);
  walk_message(predictor, text, [](bool, std::uint32_t) {});
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
