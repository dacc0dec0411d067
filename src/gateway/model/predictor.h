// Predictor: the chance of the next bit of a message, from the shared prior and one client's overlay. The
// overlay is a pure function of the messages committed to it; coding a message changes it under a journal and
// takes that back.
#pragma once

#include <array>
#include <bitset>
#include <memory>
#include <vector>

#include "gateway/model/context.h"
#include "gateway/model/prior.h"

namespace ravine::gateway {

// What one client's committed messages left behind. Plain words only, so that the journal can undo any write.
struct Overlay {
  static constexpr unsigned kSlotBits = 15;
  static constexpr unsigned kHistoryBits = 16;
  static constexpr unsigned kIndexBits = 13;
  static constexpr unsigned kKeyBits = 11;

  explicit Overlay(const Prior& prior);

  std::array<Slot, 1u << kSlotBits> slots{};
  std::array<std::uint8_t, 1u << kHistoryBits> history{};
  std::array<std::uint32_t, 1u << kIndexBits> long_index{}, token_index{};
  std::array<std::uint32_t, 1u << kKeyBits> key_index{};
  std::uint32_t end = 1;  // history position of the next byte; counts on for ever, masked when used
  std::array<std::int16_t, kSets * kInputs> weights{};
  std::array<std::int32_t, kFinalSets * kSelectors> final_weights{};
  std::array<std::array<std::uint16_t, kApmSets * kApmBins>, 2> apm{};
};

struct TrainingState;  // trainer.cpp: full-precision weights; null when predicting

class Predictor {
 public:
  // Both outlive the predictor. With `training`, weights and maps of `prior` learn.
  Predictor(const Prior& prior, Overlay& overlay, TrainingState* training = nullptr);

  // Starts a message, whose changes to the overlay either stay or wait for rollback().
  enum class Changes : std::uint8_t { kept, undone };
  void begin(TextPhase phase, std::uint32_t hint, Changes changes);
  std::uint32_t one() const { return probability_; }  // chance in 1/65536 that the next bit is 1
  void update(bool bit);
  const ContextTracker& context() const { return context_; }
  void rollback();  // the overlay is as it was at begin(); requires Changes::undone

 private:
  struct MatchState {
    std::uint32_t at = 0;      // position of the predicted byte; 0: none
    std::uint32_t length = 0;  // bytes that agreed, saturating
    std::uint32_t misses = 0;
    bool in_dictionary = false;
    std::uint8_t expected = 0;
    std::uint32_t cell = UINT32_MAX;  // of the match map, when it spoke
  };
  template <class T>
  void write(T& target, T value);
  void note(const void* at, std::uint32_t size);
  void note_weights(std::size_t set);
  void undo_on(Overlay& overlay) const;
  void forget_notes();
  void start_byte();
  void start_nibble();
  void predict();
  void find_matches();
  unsigned node() const;
  struct Found {
    unsigned orders = 0, structures = 0;  // how many contexts of each sort knew the bit
  };
  Found add_static_inputs();
  void add_overlay_inputs();
  void add_match_inputs();
  void choose_sets(Found found);
  void mix();
  void update_slots(bool bit);
  void update_weights(bool bit);
  void train_mixing(bool bit);
  void train_counters(bool bit);
  std::uint8_t byte_at(const MatchState& match) const;
  std::uint32_t extend(const MatchState& match, std::uint32_t limit) const;
  int refine(int probability);

  const Prior& prior_;
  Overlay& overlay_;
  TrainingState* training_;
  bool counts_only_;  // the trainer fills the prior's counters, for which nothing is mixed
  ContextTracker context_;
  // What to put back: cells, and whole sets of weights, each at its first change. Longer messages than the
  // journal holds are taken back by a copy of the overlay.
  static constexpr std::size_t kLongestJournal = std::size_t{1} << 15;
  struct Undo {
    std::uint32_t offset, size, old;
  };
  bool noting_ = false;
  std::vector<Undo> journal_;
  std::bitset<kSets> noted_sets_;
  std::vector<std::uint16_t> sets_noted_;
  std::vector<std::int16_t> old_weights_;
  std::unique_ptr<Overlay> before_;

  unsigned partial_ = 1, bit_ = 0;  // bits of the current byte with a leading one; index of the next
  std::array<std::uint32_t, kContexts> hashes_{};
  std::array<std::uint32_t, kContexts> lines_{};
  std::uint32_t alive_ = 0;  // bit i: context i may know the next bit
  std::array<const Slot*, kContexts> static_slots_{};
  std::array<std::uint32_t, kOverlayContexts> overlay_slots_{};
  static constexpr std::uint32_t kNoCell = UINT32_MAX;
  std::array<std::uint32_t, kContexts> static_cells_{};
  std::array<std::uint32_t, kOverlayContexts> overlay_cells_{};
  std::array<MatchState, kMatches> matches_{};
  alignas(32) std::array<std::int16_t, kInputs> inputs_{};
  std::array<std::size_t, kSelectors> sets_{};  // among all kSets
  std::array<int, kSelectors> outputs_{};
  std::size_t final_set_ = 0;
  int mixed_ = 0;  // stretched, before refinement
  std::array<std::uint16_t*, 2> apm_at_{};
  std::uint32_t match_hint_ = 0;  // for calibration: what the best match expects
  bool random_ = false;           // of the context: most inputs are silent
  std::uint32_t probability_ = 32768;
};

}  // namespace ravine::gateway
