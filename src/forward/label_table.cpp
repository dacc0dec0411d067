#include "forward/label_table.h"

#include "base/machine.h"

namespace ravine::forward {
namespace {
constexpr std::size_t kInitialSlots = 64;
}

LabelTable::LabelTable(std::uint64_t seed, std::size_t max_labels)
    : slots_(kInitialSlots), mask_(kInitialSlots - 1), max_labels_(max_labels) {
  SeededRandom random(seed);
  for (std::uint64_t& key : key_) key = random.next_u64() | 1;
}

std::size_t LabelTable::locate(Label label) const {
  std::size_t at = home(label);
  while (slots_[at].label != 0 && slots_[at].label != label.wire) at = (at + 1) & mask_;
  return at;
}

bool LabelTable::claim(Label label, Target target) {
  if (label.is_none() || target.kind == TargetKind::none || size_ >= max_labels_) return false;
  if (slots_[locate(label)].label != 0) return false;
  if ((size_ + 1) * 2 > slots_.size()) grow();
  slots_[locate(label)] = {label.wire, target.index, target.kind, target.path};
  ++size_;
  return true;
}

bool LabelTable::replace(Label label, Target target) {
  if (label.is_none() || target.kind == TargetKind::none) return false;
  Slot& slot = slots_[locate(label)];
  if (slot.label == 0) return false;
  slot = {label.wire, target.index, target.kind, target.path};
  return true;
}

bool LabelTable::release(Label label) {
  if (label.is_none()) return false;
  std::size_t hole = locate(label);
  if (slots_[hole].label == 0) return false;
  // Close the gap, so that chains stay unbroken without tombstones.
  for (std::size_t at = (hole + 1) & mask_; slots_[at].label != 0; at = (at + 1) & mask_) {
    const std::size_t wanted = home(Label{slots_[at].label});
    if (((at - wanted) & mask_) >= ((at - hole) & mask_)) {
      slots_[hole] = slots_[at];
      hole = at;
    }
  }
  slots_[hole] = {};
  --size_;
  return true;
}

void LabelTable::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  mask_ = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.label != 0) slots_[locate(Label{slot.label})] = slot;
  }
}

}  // namespace ravine::forward
