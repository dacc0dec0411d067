#include "gateway/model/predictor.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "base/ensure.h"
#include "gateway/model/logistic.h"
#include "gateway/model/slot_file.h"
#include "gateway/model/training.h"

namespace ravine::gateway {
namespace {

// Contexts that the overlay follows too: short orders for new words, fields for repeated values.
constexpr std::array<std::size_t, kOverlayContexts> kOverlaid{1, 2, 3, 4, 6, 7, 10, 15};

// Contexts that say something of a random token: its kind and length.
constexpr std::uint32_t kRandomContexts = (1u << 0) | (1u << 17) | (1u << 18);
constexpr std::uint32_t kOrderContexts = 0x7e, kStructureContexts = 0xdc00;
constexpr std::uint32_t kAllContexts = (1u << kContexts) - 1;

constexpr std::uint32_t kHistoryMask = (1u << Overlay::kHistoryBits) - 1;
constexpr std::uint32_t kDictionaryMinimum = 6;
constexpr std::uint32_t kLongest = 400;

constexpr int kLeastMiss = 650;  // of 65536: smaller errors teach weights nothing
constexpr int kAdaptRate = 10;
constexpr std::int16_t kHeaviest = 31000;
constexpr std::int64_t kMostFinal = 1 << 24;

void learn_map(std::uint16_t* at, bool bit, int shift) {
  const int target = bit ? 65535 : 0;
  *at = static_cast<std::uint16_t>(std::clamp(*at + ((target - *at) >> shift), 24, 65535 - 24));
}

constexpr std::array<int, 256> make_rates() {
  std::array<int, 256> rates{};
  for (int n = 0; n < 256; ++n) rates[static_cast<std::size_t>(n)] = 65536 * 2 / (2 * n + 3);
  return rates;
}
constexpr std::array<int, 256> kRates = make_rates();

inline Slot stepped(Slot slot, bool bit, std::uint8_t limit) {
  const int target = bit ? 65535 : 0;
  const int rate = kRates[slot.seen];
  const int moved = slot.one + static_cast<int>((static_cast<std::int64_t>(target - slot.one) * rate) >> 16);
  slot.one = static_cast<std::uint16_t>(std::clamp(moved, 16, 65519));
  if (slot.seen < limit) ++slot.seen;
  return slot;
}

}  // namespace

Overlay::Overlay(const Prior& prior) {
  std::copy(prior.weights.begin(), prior.weights.end(), weights.begin());
  std::copy(prior.final_weights.begin(), prior.final_weights.end(), final_weights.begin());
  for (std::size_t i = 0; i < apm.size(); ++i)
    std::copy(prior.apm[i].begin(), prior.apm[i].end(), apm[i].begin());
}

Predictor::Predictor(const Prior& prior, Overlay& overlay, TrainingState* training)
    : prior_(prior),
      overlay_(overlay),
      training_(training),
      counts_only_(training != nullptr && training->learn_slots) {}

template <class T>
void Predictor::write(T& target, T value) {
  static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4);
  if (noting_) note(&target, sizeof(T));
  target = value;
}

void Predictor::note(const void* at, std::uint32_t size) {
  Undo undo{static_cast<std::uint32_t>(static_cast<const std::uint8_t*>(at) -
                                       reinterpret_cast<const std::uint8_t*>(&overlay_)),
            size, 0};
  std::memcpy(&undo.old, at, size);
  journal_.push_back(undo);
  if (journal_.size() < kLongestJournal) return;
  before_ = std::make_unique<Overlay>(overlay_);
  undo_on(*before_);
  forget_notes();
}

void Predictor::note_weights(std::size_t set) {
  if (noted_sets_.test(set)) return;
  noted_sets_.set(set);
  sets_noted_.push_back(static_cast<std::uint16_t>(set));
  const auto first = overlay_.weights.begin() + static_cast<std::ptrdiff_t>(set * kInputs);
  old_weights_.insert(old_weights_.end(), first, first + kInputs);
}

void Predictor::undo_on(Overlay& overlay) const {
  auto* base = reinterpret_cast<std::uint8_t*>(&overlay);
  for (std::size_t i = journal_.size(); i-- > 0;) {
    const Undo& undo = journal_[i];
    if (undo.size == 2) {
      std::memcpy(base + undo.offset, &undo.old, 2);
    } else if (undo.size == 4) {
      std::memcpy(base + undo.offset, &undo.old, 4);
    } else {
      base[undo.offset] = static_cast<std::uint8_t>(undo.old);
    }
  }
  for (std::size_t i = 0; i < sets_noted_.size(); ++i)
    std::copy_n(&old_weights_[i * kInputs], kInputs, &overlay.weights[sets_noted_[i] * kInputs]);
}

void Predictor::forget_notes() {
  noting_ = false;
  journal_.clear();
  noted_sets_.reset();
  sets_noted_.clear();
  old_weights_.clear();
}

void Predictor::rollback() {
  if (before_ != nullptr) {
    overlay_ = *before_;
    before_ = nullptr;
  } else {
    ensure(noting_);
    undo_on(overlay_);
  }
  forget_notes();
}

void Predictor::begin(TextPhase phase, std::uint32_t hint, Changes changes) {
  before_ = nullptr;
  forget_notes();
  noting_ = changes == Changes::undone;
  context_.begin(phase, hint);
  partial_ = 1;
  bit_ = 0;
  matches_ = {};
  start_byte();
  predict();
}

std::uint8_t Predictor::byte_at(const MatchState& match) const {
  if (match.in_dictionary) return match.at < prior_.dictionary.size() ? prior_.dictionary[match.at] : 0;
  return overlay_.history[match.at & kHistoryMask];
}

// How many bytes before the match agree with the newest ones.
std::uint32_t Predictor::extend(const MatchState& match, std::uint32_t limit) const {
  std::uint32_t length = 0;
  while (length < limit && match.at > length + 1) {
    MatchState back = match;
    back.at = match.at - 1 - length;
    if (byte_at(back) != overlay_.history[(overlay_.end - 1 - length) & kHistoryMask]) break;
    ++length;
  }
  return length;
}

void Predictor::find_matches() {
  const auto newest = static_cast<std::uint8_t>(context_.last_byte());
  const std::uint32_t end = overlay_.end;
  for (std::size_t m = 0; m < kMatches; ++m) {
    MatchState& match = matches_[m];
    if (match.at == 0) continue;
    if (byte_at(match) == newest) {
      if (match.length < kLongest) ++match.length;
    } else {
      match.length = 0;
      if (++match.misses > 8) match.at = 0;
    }
    if (match.at != 0) ++match.at;
    const bool gone = match.in_dictionary ? match.at >= prior_.dictionary.size()
                                          : match.at >= end || end - match.at > kHistoryMask;
    if (gone) match.at = 0;
  }
  const std::uint64_t h = context_.history();
  const auto long_hash =
      mix_hash(static_cast<std::uint32_t>(h), static_cast<std::uint32_t>(h >> 32) & 0xffff);
  std::uint32_t& long_at = overlay_.long_index[long_hash & ((1u << Overlay::kIndexBits) - 1)];
  std::uint32_t& token_at = overlay_.token_index[context_.token_hash() & ((1u << Overlay::kIndexBits) - 1)];
  const auto adopt = [&](MatchState& match, std::uint32_t at, bool dictionary, std::uint32_t minimum) {
    if (at == 0 || (!dictionary && (at >= end || end - at > kHistoryMask))) return;
    MatchState found{.at = at, .in_dictionary = dictionary};
    found.length = extend(found, 32);
    if (found.length >= minimum) match = found;
  };
  if (matches_[0].length < 16) {
    MatchState found;
    adopt(found, long_at, false, 5);
    if (found.length > matches_[0].length) matches_[0] = found;
  }
  if (matches_[1].length == 0 && context_.token_length() > 0) adopt(matches_[1], token_at, false, 2);
  if (matches_[2].length == 0 && !prior_.dictionary_index.empty()) {
    adopt(matches_[2], prior_.dictionary_index[long_hash & (prior_.dictionary_index.size() - 1)], true,
          kDictionaryMinimum);
  }
  write(long_at, end);
  write(token_at, end);
  if (context_.at_value_start()) {
    // The last value of the same field is the likeliest one where nothing longer matches.
    std::uint32_t& key_at =
        overlay_.key_index[mix_hash(context_.key_hash(), context_.place()) & ((1u << Overlay::kKeyBits) - 1)];
    if (matches_[1].length == 0 && key_at != 0 && key_at < end && end - key_at < kHistoryMask) {
      matches_[1] = {.at = key_at};
    }
    write(key_at, end);
  }
}

void Predictor::start_byte() {
  context_.hashes(hashes_);
  random_ = context_.random_token();
  alive_ = random_ ? kRandomContexts : kAllContexts;
  for (std::size_t i = 0; i < kContexts; ++i)
    hashes_[i] = mix_hash(hashes_[i], static_cast<std::uint32_t>(i + 1));
  for (MatchState& match : matches_) match.expected = match.at != 0 ? byte_at(match) : 0;
  start_nibble();
}

void Predictor::start_nibble() {
  const std::size_t mask = (std::size_t{1} << (prior_.slot_bits - 4)) - 1;
  if (bit_ == 0) {
    lines_ = hashes_;
  } else {
    for (std::size_t i = 0; i < kContexts; ++i) lines_[i] = mix_hash(hashes_[i], partial_);
  }
  const Slot* slots = prior_.slots.data();
  for (std::uint32_t rest = alive_; rest != 0; rest &= rest - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(rest));
    const Slot* line = slots + ((lines_[i] & mask) << 4);
    __builtin_prefetch(line);
    __builtin_prefetch(slots + ((line - slots) ^ 16));
  }
}

unsigned Predictor::node() const {
  return bit_ < 4 ? partial_ : (partial_ & ((1u << (bit_ - 4)) - 1)) | (1u << (bit_ - 4));
}

Predictor::Found Predictor::add_static_inputs() {
  const std::size_t mask = (std::size_t{1} << (prior_.slot_bits - 4)) - 1;
  const std::uint8_t* bins = map_bins().data();
  const Slot* slots = prior_.slots.data();
  const Prior::MixInput* mix_inputs = prior_.slot_inputs.data();
  const unsigned at_node = node();
  std::fill_n(inputs_.begin(), 2 * kContexts, std::int16_t{0});
  if (training_ != nullptr) {
    static_slots_.fill(nullptr);
    static_cells_.fill(kNoCell);
  }
  std::uint32_t known = 0;
  for (std::uint32_t rest = alive_; rest != 0; rest &= rest - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(rest));
    const std::size_t index = slot_index(lines_[i], at_node, mask);
    const std::uint8_t check = check_of(lines_[i], at_node);
    // One branch that is hard to foresee, not two.
    const bool here = slots[index].check == check, beside = slots[index ^ 16].check == check;
    if (!(here | beside)) continue;
    const Slot* slot = slots + (index ^ (here ? 0u : 16u));
    known |= 1u << i;
    const std::size_t cell = map_cell(i, *slot, bins);
    inputs_[2 * i] = mix_inputs[cell].stretched;
    inputs_[2 * i + 1] = mix_inputs[cell].linear;
    if (training_ == nullptr) continue;
    static_slots_[i] = slot;
    static_cells_[i] = static_cast<std::uint32_t>(cell);
  }
  // What a context does not know, it knows no continuation of; only the table that is being filled may.
  if (!counts_only_) alive_ = known;
  return {static_cast<unsigned>(std::popcount(known & kOrderContexts)),
          static_cast<unsigned>(std::popcount(known & kStructureContexts))};
}

void Predictor::add_overlay_inputs() {
  constexpr std::size_t kMask = (std::size_t{1} << (Overlay::kSlotBits - 4)) - 1;
  const std::uint8_t* bins = map_bins().data();
  const unsigned at_node = node();
  std::int16_t* inputs = &inputs_[kOverlayInput];
  if (random_) {
    std::fill_n(inputs, kOverlayContexts, std::int16_t{0});
    overlay_cells_.fill(kNoCell);
    return;
  }
  for (std::size_t i = 0; i < kOverlayContexts; ++i) {
    const std::uint32_t line = lines_[kOverlaid[i]];
    const std::uint8_t check = check_of(line, at_node);
    std::size_t index = slot_index(line * 0x2545F491u, at_node, kMask);
    const Slot* slot = &overlay_.slots[index];
    if (slot->check != check || slot->seen == 0) {
      const Slot* other = &overlay_.slots[index ^ 16];
      if ((other->check == check && other->seen != 0) || other->seen < slot->seen) index ^= 16;
      slot = &overlay_.slots[index];
    }
    overlay_slots_[i] = static_cast<std::uint32_t>(index);
    if (slot->check != check || slot->seen == 0) {
      overlay_cells_[i] = kNoCell;
      inputs[i] = 0;
      continue;
    }
    const std::size_t cell = map_cell(i, *slot, bins);
    overlay_cells_[i] = static_cast<std::uint32_t>(cell);
    inputs[i] = prior_.overlay_inputs[cell].stretched;
  }
}

void Predictor::add_match_inputs() {
  std::int16_t* inputs = &inputs_[kMatchInput];
  for (std::size_t m = 0; m < kMatches; ++m) {
    MatchState& match = matches_[m];
    match.cell = kNoCell;
    inputs[m] = 0;
    if (match.at == 0 || ((match.expected | 0x100u) >> (8 - bit_)) != partial_) continue;
    match.cell = static_cast<std::uint32_t>((m * kMatchClasses + match_class(match.length)) * 16 +
                                            context_.place() * 2 + (match.misses > 0 ? 1 : 0));
    const int sure = stretch(prior_.match_map[match.cell]);
    inputs[m] = static_cast<std::int16_t>(((match.expected >> (7 - bit_)) & 1) != 0 ? sure : -sure);
  }
}

void Predictor::choose_sets(Found found) {
  // Random tokens have weights of their own, in the sets of a place that hardly occurs.
  const unsigned place = random_ ? ContextTracker::after_end : context_.place();
  const MatchState& match = matches_[0].length >= matches_[2].length ? matches_[0] : matches_[2];
  const bool alive = match.at != 0 && ((match.expected | 0x100u) >> (8 - bit_)) == partial_;
  const unsigned reach = !alive ? 0 : match.length < 8 ? 1 : match.length < 24 ? 2 : 3;
  const std::uint32_t run = random_ ? 12 + std::min<std::uint32_t>((context_.token_length() - 6) / 12, 3)
                                    : std::min<std::uint32_t>(context_.token_length(), 11);
  // Bits of structure, keys, texts and random tokens have weights of their own.
  const unsigned sort = random_                        ? 3
                        : place == ContextTracker::key ? 1
                        : place == ContextTracker::structure || place == ContextTracker::number_value ||
                                place == ContextTracker::raw
                            ? 0
                            : 2;
  const unsigned step = bit_ == 0 ? 0 : bit_ < 4 ? 1 : 2;
  sets_ = {(place * 8 + bit_) * 4 + reach,
           partial_ * 4 + sort,
           (random_ ? 0u : context_.last_byte()) * 3 + step,
           (random_ ? 7u * 8 : std::min(found.orders, 7u) * 8 + std::min(found.structures, 7u)) * 8 + bit_,
           (run * 32 + context_.alphabet()) * 2 + (bit_ < 3 ? 0u : 1u),
           mix_hash(context_.last_key(), place) & 511u};
  for (std::size_t s = 0; s < kSelectors; ++s) sets_[s] += kSetStarts[s];
  final_set_ = ((place * 8 + bit_) * 4 + reach) * kSelectors;
  match_hint_ = alive ? 1 + reach * 2 + ((match.expected >> (7 - bit_)) & 1) : 0;
}

void Predictor::mix() {
  // A trainer moves the prior's weights alone.
  const bool trains = training_ != nullptr;
  const std::int16_t* all = trains ? prior_.weights.data() : overlay_.weights.data();
  std::int64_t sum = 0;
  for (std::size_t s = 0; s < kSelectors; ++s) {
    const std::int16_t* weights = &all[sets_[s] * kInputs];
    std::uint32_t sum_of_set = 0;  // wraps where a model file of a stranger makes it
    for (std::size_t k = 0; k < kInputs; ++k)
      sum_of_set += static_cast<std::uint32_t>(inputs_[k] * weights[k]);
    const auto dot = static_cast<std::int32_t>(sum_of_set);
    outputs_[s] = std::clamp(dot >> kWeightOneBits, -kStretchLimit, kStretchLimit);
    sum += static_cast<std::int64_t>(outputs_[s]) * overlay_.final_weights[final_set_ + s];
  }
  mixed_ = static_cast<int>(std::clamp<std::int64_t>(sum >> 16, -kStretchLimit, kStretchLimit));
}

void Predictor::predict() {
  const Found found = add_static_inputs();
  if (counts_only_) return;
  add_overlay_inputs();
  add_match_inputs();
  inputs_[kConstantInput] = 256;
  choose_sets(found);
  mix();
  probability_ = static_cast<std::uint32_t>(refine(squash(mixed_)));
}

int Predictor::refine(int probability) {
  const auto history = static_cast<std::uint32_t>(context_.history());
  const std::array<std::uint32_t, 2> sets{
      mix_hash(partial_ | (context_.last_byte() << 8), context_.place()) & (kApmSets - 1),
      mix_hash(partial_ | (history & 0xffff) << 8, match_hint_) & (kApmSets - 1)};
  const int at = mixed_ + 2816;  // 0 … 5632: 32 bins of 176
  const int bin = at / 176, weight = at % 176;
  int refined = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    std::uint16_t* cells = &overlay_.apm[i][sets[i] * kApmBins + static_cast<std::size_t>(bin)];
    apm_at_[i] = cells + (weight > 88 ? 1 : 0);
    refined += (cells[0] * (176 - weight) + cells[bin < 32 ? 1 : 0] * weight) / 176;
  }
  // Calibration by the last bytes is noise where they say nothing.
  return std::clamp(random_ ? probability : (probability * 2 + refined) / 4, 8, 65528);
}

void Predictor::update_slots(bool bit) {
  const unsigned at_node = node();
  for (std::size_t i = 0; i < kOverlayContexts; ++i) {
    Slot& slot = overlay_.slots[overlay_slots_[i]];
    const std::uint8_t check = check_of(lines_[kOverlaid[i]], at_node);
    Slot next = slot.check == check && slot.seen != 0 ? slot : Slot{32768, 0, check};
    write(slot, stepped(next, bit, 30));
  }
}

void Predictor::train_counters(bool bit) {
  const unsigned at_node = node();
  std::vector<Slot>& slots = training_->prior.slots;
  const std::size_t mask = (std::size_t{1} << (prior_.slot_bits - 4)) - 1;
  for (std::size_t i = 0; i < kContexts; ++i) {
    if ((alive_ >> i & 1) == 0) continue;
    Slot* slot = const_cast<Slot*>(static_slots_[i]);
    if (slot == nullptr) {
      const std::size_t index = slot_index(lines_[i], at_node, mask);
      slot = slots[index].seen <= slots[index ^ 16].seen ? &slots[index] : &slots[index ^ 16];
      *slot = Slot{32768, 0, check_of(lines_[i], at_node)};
      training_->last_unit[static_cast<std::size_t>(slot - slots.data())] = 0;
    }
    const bool first = training_->first_in_unit(static_cast<std::size_t>(slot - slots.data()));
    *slot = stepped(*slot, bit, first ? 255 : slot->seen);
  }
}

void Predictor::update_weights(bool bit) {
  const int error = ((bit ? 65535 : 0) - squash(mixed_));
  for (std::size_t s = 0; s < kSelectors; ++s) {
    std::int32_t& weight = overlay_.final_weights[final_set_ + s];
    const std::int64_t moved = weight + ((static_cast<std::int64_t>(outputs_[s]) * error) >> 17);
    write(weight, static_cast<std::int32_t>(std::clamp<std::int64_t>(moved, -kMostFinal, kMostFinal)));
  }
  if (training_ != nullptr) {
    if (training_->learn_mixing) train_mixing(bit);
    return;
  }
  if (random_) return;
  // In 16 bits throughout, so that compilers find the vector instructions.
  alignas(32) std::array<std::int16_t, kInputs> scaled;
  for (std::size_t k = 0; k < kInputs; ++k) scaled[k] = static_cast<std::int16_t>(inputs_[k] * 8);
  for (std::size_t s = 0; s < kSelectors; ++s) {
    const int missed = (bit ? 65535 : 0) - squash(outputs_[s]);
    if (std::abs(missed) < kLeastMiss) continue;
    if (noting_) note_weights(sets_[s]);
    const auto step = static_cast<std::int16_t>(missed * kAdaptRate / 128);
    std::int16_t* weights = &overlay_.weights[sets_[s] * kInputs];
    for (std::size_t k = 0; k < kInputs; ++k) {
      const auto twice = static_cast<std::int16_t>((scaled[k] * step) >> 16);
      const auto moved = static_cast<std::int16_t>(weights[k] + ((twice + 1) >> 1));
      weights[k] = std::clamp<std::int16_t>(moved, -kHeaviest, kHeaviest);
    }
  }
}

void Predictor::train_mixing(bool bit) {
  Prior& prior = training_->prior;
  const auto learn = [&](std::vector<std::uint16_t>& map, std::vector<Prior::MixInput>& inputs,
                         std::uint32_t cell) {
    if (cell == kNoCell) return;
    learn_map(&map[cell], bit, 6);
    inputs[cell] = mix_input(map[cell]);
  };
  for (const std::uint32_t cell : static_cells_) learn(prior.slot_map, prior.slot_inputs, cell);
  for (const std::uint32_t cell : overlay_cells_) learn(prior.overlay_map, prior.overlay_inputs, cell);
  for (const MatchState& match : matches_) {
    if (match.cell == kNoCell) continue;
    learn_map(&prior.match_map[match.cell], bit == (((match.expected >> (7 - bit_)) & 1) != 0), 6);
  }
  for (std::size_t s = 0; s < kSelectors; ++s) {
    const std::int64_t step = (bit ? 65535 : 0) - squash(outputs_[s]);
    std::int32_t* exact = &training_->weights[sets_[s] * kInputs];
    std::int16_t* rounded = &training_->prior.weights[sets_[s] * kInputs];
    constexpr int kMore = kTrainedOneBits - kWeightOneBits;
    constexpr std::int64_t kMost = std::int64_t{kHeaviest} << kMore;
    for (std::size_t k = 0; k < kInputs; ++k) {
      if (inputs_[k] == 0) continue;
      const std::int64_t moved = exact[k] + ((inputs_[k] * step * training_->rate) >> 14);
      exact[k] = static_cast<std::int32_t>(std::clamp(moved, -kMost, kMost));
      rounded[k] = static_cast<std::int16_t>(exact[k] >> kMore);
    }
  }
}

void Predictor::update(bool bit) {
  if (counts_only_) {
    train_counters(bit);
  } else {
    update_weights(bit);
    if (!random_) update_slots(bit);
    for (std::uint16_t* cell : apm_at_) {
      if (random_) break;
      write(*cell, static_cast<std::uint16_t>(*cell + (((bit ? 65535 : 0) - *cell) >> 6)));
    }
  }
  partial_ = (partial_ << 1) | (bit ? 1u : 0u);
  ++bit_;
  if (bit_ == 8) {
    const auto byte = static_cast<std::uint8_t>(partial_ & 0xff);
    write(overlay_.history[overlay_.end & kHistoryMask], byte);
    write(overlay_.end, overlay_.end + 1);
    context_.update(byte);
    partial_ = 1;
    bit_ = 0;
    if (!counts_only_) find_matches();
    start_byte();
  } else if (bit_ == 4) {
    start_nibble();
  }
  predict();
}

}  // namespace ravine::gateway
