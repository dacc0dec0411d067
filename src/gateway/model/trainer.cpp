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
    if (message.stands_alone || message.group != group) {
      // The mixing that adapts at run time carries on through training, the rest of the overlay starts
      // afresh.
      fresh.final_weights = overlay->final_weights;
      fresh.apm = overlay->apm;
      *overlay = fresh;
      group = message.group;
    }
    Predictor predictor(state.prior, *overlay, &state);
    predictor.begin(message.phase, message.hint);
    walk_message(predictor, message.text, [](bool, std::uint32_t) {});
    predictor.commit();
  }
  if (!state.learn_mixing) return;
  std::copy(overlay->final_weights.begin(), overlay->final_weights.end(), state.prior.final_weights.begin());
  std::copy(overlay->apm.begin(), overlay->apm.end(), state.prior.apm[0].begin());
}

void clear_slots(Prior& prior) {
  prior.slots.assign(prior.slots.size(), Slot{});
}

}  // namespace

TrainingState::TrainingState(Prior& target) : prior(target) {
  for (std::size_t s = 0; s < kSelectors; ++s) {
    weights[s].resize(target.weights[s].size());
    for (std::size_t i = 0; i < weights[s].size(); ++i) weights[s][i] = target.weights[s][i] << 8;
  }
}

void TrainingState::publish() {
  for (std::size_t s = 0; s < kSelectors; ++s) {
    for (std::size_t i = 0; i < weights[s].size(); ++i) {
      prior.weights[s][i] = static_cast<std::int16_t>(weights[s][i] >> 8);
    }
  }
}

Prior Trainer::train(const std::vector<TrainingMessage>& messages, ByteView dictionary) const {
  Prior prior(options_.slot_bits);
  TrainingState state(prior);
  const auto prune = [&] {
    for (Slot& slot : prior.slots) {
      if (slot.seen < options_.least_seen) slot = {};
    }
  };
  for (unsigned round = 0; round < options_.rounds; ++round) {
    state.rate = round == 0 ? 14 : 5;
    for (unsigned fold = 0; fold < options_.folds; ++fold) {
      const auto held_out = [&](const TrainingMessage& m) { return m.group % options_.folds == fold; };
      clear_slots(prior);
      prior.set_dictionary({});
      state.learn_slots = true;
      state.learn_mixing = false;
      run_messages(state, messages, [&](const TrainingMessage& m) { return !held_out(m); });
      prune();
      prior.set_dictionary(dictionary);
      state.learn_slots = false;
      state.learn_mixing = true;
      run_messages(state, messages, held_out);
    }
  }
  clear_slots(prior);
  prior.set_dictionary({});
  state.learn_slots = true;
  state.learn_mixing = false;
  run_messages(state, messages, [](const TrainingMessage&) { return true; });
  prune();
  prior.set_dictionary(dictionary);
  state.publish();
  return prior;
}

}  // namespace ravine::gateway
