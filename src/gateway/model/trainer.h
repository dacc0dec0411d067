// Trainer: makes a prior from messages. Counters are learned from all of them; weights and calibration from
// messages that the counters did not see (folds), since at run time no message was seen either.
#pragma once

#include <functional>
#include <vector>

#include "gateway/model/message_coder.h"
#include "gateway/model/training.h"

namespace ravine::gateway {

struct TrainingMessage {
  Bytes text;
  TextPhase phase = TextPhase::body;
  std::uint32_t hint = 0;
  std::uint32_t group = 0;   // messages of one conversation: kept in one fold, and coded as a stream
  bool stands_alone = true;  // code with an empty overlay; otherwise after the group's earlier messages
};

struct TrainerOptions {
  unsigned slot_bits = 21;
  unsigned folds = 4;
  unsigned rounds = 2;
  std::size_t dictionary_bytes = 192 * 1024;
  std::uint8_t least_units = 8;  // counters met in fewer conversations or families are not kept
};

class Trainer {
 public:
  explicit Trainer(TrainerOptions options) : options_(options) {}
  // `progress`: called before each step with its number and how many there are.
  Prior train(const std::vector<TrainingMessage>& messages, ByteView dictionary,
              const std::function<void(unsigned, unsigned)>& progress = nullptr) const;

 private:
  // The counters of all messages but those of fold `without`.
  void learn_counters(TrainingState& state, const std::vector<TrainingMessage>& messages,
                      unsigned without) const;
  TrainerOptions options_;
};

}  // namespace ravine::gateway
