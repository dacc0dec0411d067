// The order in which a message's bits are coded: internal to this folder, shared by encoder, decoder and
// trainer.
#pragma once

#include <array>

#include "gateway/model/predictor.h"

namespace ravine::gateway {

// Bytes that a truthful coding may read past its end before the message is over: a long run of well predicted
// bytes fits in no byte at all.
inline constexpr std::size_t kDecoderSlack = 8;

// The first bit of a coding says that the model is used. A text that it cannot shorten stands after
// kStoredMark instead, which is a coding of the other bit.
inline constexpr std::uint32_t kModelled = 65520;  // chance in 1/65536
inline constexpr std::array<std::uint8_t, 2> kStoredMark{0xff, 0xff};

// Chance in 1/65536 that the message ends here. Any message may end anywhere, so that coding is lossless.
inline std::uint32_t end_chance(const ContextTracker& context, std::size_t position) {
  if (context.place() == ContextTracker::after_end) return 64500;
  if (position == 0) return 600;  // an empty body
  switch (context.place()) {
    case ContextTracker::raw:
      return 300;
    case ContextTracker::target:
    case ContextTracker::header:
      return 40;
    default:
      return 4;  // inside JSON: only broken JSON ends there
  }
}

// Ends early when `go_on()` says so after a byte.
template <class Sink, class GoOn>
void walk_message(Predictor& predictor, ByteView text, Sink sink, GoOn go_on) {
  for (std::size_t position = 0; go_on(); ++position) {
    const auto end = end_chance(predictor.context(), position);
    sink(position == text.size(), end);
    if (position == text.size()) return;
    for (int i = 7; i >= 0; --i) {
      const bool bit = ((text[position] >> i) & 1) != 0;
      sink(bit, predictor.one());
      predictor.update(bit);
    }
  }
}

template <class Sink>
void walk_message(Predictor& predictor, ByteView text, Sink sink) {
  walk_message(predictor, text, sink, [] { return true; });
}

}  // namespace ravine::gateway
