#include "gateway/model/trainer.h"

#include "gateway/model/message_walk.h"

namespace ravine::gateway {
namespace {

void run_messages(TrainingState& state, const std::vector<TrainingMessage>& messages, auto wanted) {
  Overlay fresh(state.prior);
  auto overlay = std::make_unique<Overlay>(state.prior);
  std::uint32_t group = UINT32_MAX;
  for (const TrainingMessage& message : messages) {
    if (!wanted(message)) continue;
    const bool first = message.stands_alone || message.group != group;
    if (first && state.learn_mixing) {
      // The mixing that adapts at run time carries on through training, the rest of the overlay starts
      // afresh.
      fresh.final_weights = overlay->final_weights;
      fresh.apm = overlay->apm;
      *overlay = fresh;
    }
    group = message.group;
    state.unit = message.group + 1;
    Predictor predictor(state.prior, *overlay, &state);
    predictor.begin(message.phase, message.hint, Predictor::Changes::kept);
    walk_message(predictor, message.text, [](bool, std::uint32_t) {});
  }
  if (!state.learn_mixing) return;
  std::copy(overlay->final_weights.begin(), overlay->final_weights.end(), state.prior.final_weights.begin());
  for (std::size_t i = 0; i < overlay->apm.size(); ++i)
    std::copy(overlay->apm[i].begin(), overlay->apm[i].end(), state.prior.apm[i].begin());
}

// Moves the counters into a table of `bits`, those seen most first. What finds no room is lost.
std::vector<Slot> packed(const std::vector<Slot>& slots, unsigned bits, std::uint8_t least_units) {
  std::array<std::vector<std::uint32_t>, 256> by_seen;
  for (std::size_t i = 0; i < slots.size(); ++i)
    if (slots[i].seen >= least_units) by_seen[slots[i].seen].push_back(static_cast<std::uint32_t>(i));
  std::vector<Slot> table(std::size_t{1} << bits);
  for (std::size_t seen = by_seen.size(); seen-- > 1;) {
    for (const std::uint32_t from : by_seen[seen]) {
      const std::size_t at = from & (table.size() - 1);
      Slot& slot = table[at].seen == 0 ? table[at] : table[at ^ 16];
      if (slot.seen == 0) slot = slots[from];
    }
  }
  return table;
}

}  // namespace

TrainingState::TrainingState(Prior& target) : prior(target), weights(target.weights.size()) {
  for (std::size_t i = 0; i < weights.size(); ++i)
    weights[i] = target.weights[i] * (1 << (kTrainedOneBits - kWeightOneBits));
}

void TrainingState::publish() {
  // Steps of 1/512 are as good, and pack better.
  constexpr int kStep = kTrainedOneBits - 9;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const int rounded = (weights[i] + (1 << (kStep - 1))) >> kStep;
    prior.weights[i] = static_cast<std::int16_t>(rounded * (1 << (kWeightOneBits - 9)));
  }
}

void Trainer::learn_counters(TrainingState& state, const std::vector<TrainingMessage>& messages,
                             unsigned without) const {
  Prior& prior = state.prior;
  // Counters that will not be kept need room of their own, lest they displace others.
  prior.slot_bits = options_.slot_bits + 2;
  prior.slots.assign(std::size_t{1} << prior.slot_bits, Slot{});
  state.last_unit.assign(prior.slots.size(), 0);
  prior.set_dictionary({});
  state.learn_slots = true;
  state.learn_mixing = false;
  run_messages(state, messages,
               [&](const TrainingMessage& message) { return message.group % options_.folds != without; });
  prior.slots = packed(prior.slots, options_.slot_bits, options_.least_units);
  prior.slot_bits = options_.slot_bits;
}

Prior Trainer::train(const std::vector<TrainingMessage>& messages, ByteView dictionary,
                     const std::function<void(unsigned, unsigned)>& progress) const {
  Prior prior(options_.slot_bits);
  TrainingState state(prior);
  const unsigned steps = options_.rounds * options_.folds + 1;
  std::vector<std::vector<Slot>> counters(options_.folds);  // of all folds but one
  for (unsigned step = 0; step + 1 < steps; ++step) {
    if (progress) progress(step, steps);
    const unsigned fold = step % options_.folds;
    state.rate = step < options_.folds ? 6 : 2;
    if (step < options_.folds) {
      learn_counters(state, messages, fold);
      counters[fold] = prior.slots;
    } else {
      prior.slots = counters[fold];
    }
    prior.set_dictionary(dictionary);
    state.learn_slots = false;
    state.learn_mixing = true;
    run_messages(state, messages,
                 [&](const TrainingMessage& message) { return message.group % options_.folds == fold; });
  }
  if (progress) progress(steps - 1, steps);
  learn_counters(state, messages, options_.folds);
  prior.set_dictionary(dictionary);
  state.publish();
  return prior;
}

}  // namespace ravine::gateway
