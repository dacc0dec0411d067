#include "gateway/model/slot_file.h"

#include <algorithm>
#include <bit>

#include "gateway/model/range_coder.h"

namespace ravine::gateway {
namespace {

constexpr std::size_t kPair = 32;  // slots that are searched for one nibble
constexpr unsigned kNodes = 16;    // 1 is the root of a nibble's tree, 2n and 2n+1 are the branches of n

// A chance that follows what it sees.
struct AdaptiveBit {
  std::uint16_t one = 32768;
  void learn(bool bit) {
    one = static_cast<std::uint16_t>(bit ? one + ((65535 - one) >> 5) : one - (one >> 5));
    one = std::clamp<std::uint16_t>(one, 64, 65472);
  }
};

// Codes bits in either direction with the same statements.
class Bits {
 public:
  Bits() = default;
  explicit Bits(ByteView coded) : decoder_(coded), decoding_(true) {}

  bool code(bool bit, AdaptiveBit& chance) {
    bit = code(bit, chance.one);
    chance.learn(bit);
    return bit;
  }
  unsigned code_raw(unsigned value, unsigned count) {
    unsigned out = 0;
    for (unsigned i = count; i-- > 0;) out = out << 1 | (code((value >> i & 1) != 0, 32768u) ? 1u : 0u);
    return out;
  }
  // `tree`: 1 << count chances.
  unsigned code_tree(unsigned value, unsigned count, AdaptiveBit* tree) {
    unsigned node = 1;
    for (unsigned i = count; i-- > 0;) node = node << 1 | (code((value >> i & 1) != 0, tree[node]) ? 1u : 0u);
    return node & ((1u << count) - 1);
  }
  Bytes finish() { return encoder_.finish(); }
  bool decoding() const { return decoding_; }
  bool cut_off() const { return decoding_ && decoder_.overrun() > 8; }

 private:
  bool code(bool bit, std::uint32_t one) {
    if (decoding_) return decoder_.decode(one);
    encoder_.encode(bit, one);
    return bit;
  }
  RangeEncoder encoder_;
  RangeDecoder decoder_{ByteView{}};
  bool decoding_ = false;
};

// The slots of a line pair that one context has in it.
struct Owner {
  unsigned turn = 0;                         // node ^ turn is the place within a line
  std::uint32_t key = 0;                     // what checks derive from
  std::array<std::uint8_t, kNodes> place{};  // of each node, within the pair
  std::uint32_t nodes = 0;                   // bit n: node n is there
};

struct Chances {
  std::array<AdaptiveBit, kPair + 1> more;
  std::array<AdaptiveBit, 3 * 17 * 3> present;  // level, class of the parent, sibling
  std::array<AdaptiveBit, 3> other_line;
  std::array<AdaptiveBit, 17 * 3 * kSeenClasses> seen;
  std::array<AdaptiveBit, kSeenClasses * 2 * kMapBins> bin;
};

// A value of each class and bin, for the way back.
struct Representatives {
  std::array<std::uint8_t, kSeenClasses> seen{};
  std::array<std::uint16_t, kMapBins> one{};
  Representatives() {
    for (unsigned n = 256; n-- > 0;) seen[kSeenClass[n]] = static_cast<std::uint8_t>(n);
    std::array<std::pair<unsigned, unsigned>, kMapBins> ranges;
    ranges.fill({4096, 0});
    for (unsigned i = 0; i < 4096; ++i) {
      auto& [first, last] = ranges[map_bins()[i]];
      first = std::min(first, i);
      last = i;
    }
    for (std::size_t b = 0; b < kMapBins; ++b) {
      if (ranges[b].first > ranges[b].second) continue;  // no chance falls there
      one[b] = static_cast<std::uint16_t>((ranges[b].first + ranges[b].second) / 2 * 16 + 8);
    }
  }
};

unsigned level_of(unsigned node) {
  return node < 4 ? 0 : node < 8 ? 1 : 2;
}

class Table {
 public:
  Table(std::vector<Slot>& slots, Bits& bits) : slots_(slots), bits_(bits) {}

  bool code() {
    for (std::size_t base = 0; base < slots_.size() && !bits_.cut_off(); base += kPair) {
      pair_ = &slots_[base];
      owners_.clear();
      if (!bits_.decoding()) find_owners();
      for (unsigned i = 0;; ++i) {
        if (!bits_.code(i < owners_.size(), chances_.more[std::min<unsigned>(i, kPair)])) break;
        if (i == kPair) return false;
        Owner owner = bits_.decoding() ? Owner{} : owners_[i];
        if (!code_owner(owner)) return false;
      }
    }
    return !bits_.cut_off();
  }

 private:
  // What `root` and its branches would be if it were the root of a context's tree.
  Owner owner_at(unsigned root, std::uint32_t free) const {
    Owner owner;
    owner.turn = (root & 15) ^ 1;
    owner.key = pair_[root].check ^ 37u;
    owner.place[1] = static_cast<std::uint8_t>(root);
    owner.nodes = 2;
    for (unsigned node = 2; node < kNodes; ++node) {
      if ((owner.nodes >> (node / 2) & 1) == 0) continue;
      const unsigned parent_line = owner.place[node / 2] & 16u;
      for (const unsigned line : {parent_line, parent_line ^ 16u}) {
        const unsigned at = line | (node ^ owner.turn);
        if ((free >> at & 1) == 0 || pair_[at].check != check_of(owner.key << 24, node)) continue;
        owner.place[node] = static_cast<std::uint8_t>(at);
        owner.nodes |= 1u << node;
        break;
      }
    }
    return owner;
  }

  // Shares the slots out: first to whom most can belong.
  void find_owners() {
    std::uint32_t free = 0;
    for (unsigned i = 0; i < kPair; ++i) free |= (pair_[i].seen != 0 ? 1u : 0u) << i;
    while (free != 0) {
      Owner best;
      for (unsigned i = 0; i < kPair; ++i) {
        if ((free >> i & 1) == 0) continue;
        const Owner owner = owner_at(i, free);
        if (std::popcount(owner.nodes) > std::popcount(best.nodes)) best = owner;
      }
      for (unsigned node = 1; node < kNodes; ++node)
        if ((best.nodes >> node & 1) != 0) free &= ~(1u << best.place[node]);
      owners_.push_back(best);
    }
  }

  bool code_owner(Owner& owner) {
    owner.turn = bits_.code_raw(owner.turn, 4);
    owner.key = bits_.code_raw(owner.key, 8);
    const unsigned line = bits_.code_raw(owner.place[1] >> 4, 1);
    std::array<unsigned, kNodes> classes{};
    if (!code_slot(owner, 1, line, 16, 0, classes)) return false;
    owner.nodes |= 2;
    for (unsigned node = 2; node < kNodes; ++node) {
      const unsigned parent = node / 2;
      if ((owner.nodes >> parent & 1) == 0) continue;
      const unsigned sibling = node % 2 == 0 ? 0 : (owner.nodes >> (node - 1) & 1) != 0 ? 1 : 2;
      AdaptiveBit& chance = chances_.present[(level_of(node) * 17 + classes[parent]) * 3 + sibling];
      if (!bits_.code((owner.nodes >> node & 1) != 0, chance)) continue;
      owner.nodes |= 1u << node;
      const unsigned parent_line = owner.place[parent] >> 4;
      const bool other =
          bits_.code((owner.place[node] >> 4) != parent_line, chances_.other_line[level_of(node)]);
      if (!code_slot(owner, node, parent_line ^ (other ? 1 : 0), classes[parent], sibling, classes))
        return false;
    }
    return true;
  }

  bool code_slot(Owner& owner, unsigned node, unsigned line, unsigned parent, unsigned sibling,
                 std::array<unsigned, kNodes>& classes) {
    const unsigned at = line << 4 | (node ^ owner.turn);
    owner.place[node] = static_cast<std::uint8_t>(at);
    Slot& slot = pair_[at];
    if (bits_.decoding() && slot.seen != 0) return false;  // two owners of one slot
    const unsigned seen =
        bits_.code_tree(kSeenClass[slot.seen], 4, &chances_.seen[(parent * 3 + sibling) * kSeenClasses]);
    if (seen == 0) return false;  // a free slot has no owner
    const unsigned branching = sibling == 1 ? 1 : 0;
    const unsigned bin =
        bits_.code_tree(map_bins()[slot.one >> 4], 6, &chances_.bin[(seen * 2 + branching) * kMapBins]);
    classes[node] = seen;
    if (!bits_.decoding()) return true;
    static const Representatives representatives;
    if (representatives.one[bin] == 0) return false;
    slot = {representatives.one[bin], representatives.seen[seen], check_of(owner.key << 24, node)};
    return true;
  }

  std::vector<Slot>& slots_;
  Bits& bits_;
  Slot* pair_ = nullptr;
  std::vector<Owner> owners_;
  Chances chances_;
};

}  // namespace

Bytes encode_slots(const std::vector<Slot>& slots) {
  Bits bits;
  std::vector<Slot> copy = slots;
  Table(copy, bits).code();
  return bits.finish();
}

bool decode_slots(ByteView coded, std::vector<Slot>& slots) {
  Bits bits(coded);
  slots.assign(slots.size(), Slot{});
  return Table(slots, bits).code();
}

}  // namespace ravine::gateway
