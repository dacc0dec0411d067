// LabelTable: the one map of a node from label to what it means here: a path of a session of ours, a
// forwarding entry, or an offer that waits for its first flight. Members choose labels, so the hash is keyed;
// first claim wins, and an occupied label is refused whoever asks. It checks nothing else: owners, sources
// and rates are Forwarder's and the endpoint's. Thread rule: the thread that drives the endpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/label.h"

namespace ravine::forward {

enum class TargetKind : std::uint8_t {
  none,     // unknown label
  local,    // index: session slot; path: PathId
  forward,  // index: entry of the Forwarder
  offer,    // index: offer of the endpoint
};

struct Target {
  TargetKind kind = TargetKind::none;
  std::uint8_t path = 0;
  std::uint32_t index = 0;
  friend bool operator==(const Target&, const Target&) = default;
};

// Open addressing with linear probing at a load of at most one half: 16 bytes a slot, so 100,000 labels take
// 4 MiB.
class LabelTable {
 public:
  // `seed` keys the hash: make it unpredictable. Claims beyond `max_labels` are refused.
  explicit LabelTable(std::uint64_t seed, std::size_t max_labels = std::size_t{1} << 21);

  // O(1); kind none when unknown.
  Target find(Label label) const {
    for (std::size_t at = home(label);; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.label == label.wire) return {slot.kind, slot.path, slot.index};
      if (slot.label == 0) return {};
    }
  }

  // False when the label is zero or occupied, or the table is full. May move the whole table: amortised O(1).
  bool claim(Label label, Target target);
  // Gives an occupied label another meaning; false when it is unknown.
  bool replace(Label label, Target target);
  // False when it was unknown.
  bool release(Label label);

  std::size_t size() const { return size_; }
  std::size_t memory_bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    std::uint64_t label = 0;  // 0: free
    std::uint32_t index = 0;
    TargetKind kind = TargetKind::none;
    std::uint8_t path = 0;
  };
  std::size_t home(Label label) const {
    // Two keyed multiply-and-fold rounds: without the keys a member cannot aim labels at one chain.
    const std::uint64_t once = fold(label.wire ^ key_[0], key_[1]);
    return static_cast<std::size_t>(fold(once ^ key_[2], key_[3])) & mask_;
  }
  static std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  std::size_t locate(Label label) const;  // slot of the label, or of the free slot that ends its chain
  void grow();

  std::vector<Slot> slots_;
  std::size_t mask_;
  std::size_t size_ = 0;
  std::size_t max_labels_;
  std::uint64_t key_[4];
};

}  // namespace ravine::forward
