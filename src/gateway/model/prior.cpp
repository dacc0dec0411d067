#include "gateway/model/prior.h"

#include <zstd.h>

#include <algorithm>

#include "gateway/model/logistic.h"

namespace ravine::gateway {
namespace {

constexpr std::uint32_t kMagic = 0x52764d31;  // "RvM1": format 1 of the model file
constexpr std::size_t kMaxUnpacked = 24u << 20;
constexpr unsigned kMaxSlotBits = 22;
constexpr unsigned kDictionaryIndexBits = 16;

// One table as bytes, little-endian, the low bytes of all cells first: that packs better.
template <class T>
void put_table(ByteWriter& out, const std::vector<T>& table) {
  for (std::size_t byte = 0; byte < sizeof(T); ++byte) {
    for (const T& cell : table) {
      out.write_u8(static_cast<std::uint8_t>(static_cast<std::make_unsigned_t<T>>(cell) >> (8 * byte)));
    }
  }
}

template <class T>
void take_table(ByteReader& in, std::vector<T>& table) {
  std::vector<std::make_unsigned_t<T>> cells(table.size(), 0);
  for (std::size_t byte = 0; byte < sizeof(T); ++byte) {
    const ByteView bytes = in.read_view(table.size());
    if (!in.ok()) return;
    for (std::size_t i = 0; i < table.size(); ++i) {
      cells[i] = static_cast<std::make_unsigned_t<T>>(
          cells[i] |
          static_cast<std::make_unsigned_t<T>>(static_cast<std::make_unsigned_t<T>>(bytes[i]) << (8 * byte)));
    }
  }
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<T>(cells[i]);
}

template <class Tables, class Visit>
void visit_tables(Tables& prior, Visit visit) {
  for (auto& table : prior.weights) visit(table);
  visit(prior.slot_map);
  visit(prior.overlay_map);
  visit(prior.match_map);
  visit(prior.final_weights);
  for (auto& table : prior.apm) visit(table);
}

void put_slots(ByteWriter& out, const std::vector<Slot>& slots) {
  std::vector<std::uint8_t> occupied((slots.size() + 7) / 8);
  std::vector<std::uint16_t> ones;
  std::vector<std::uint8_t> seen, checks;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].seen == 0) continue;
    occupied[i / 8] = static_cast<std::uint8_t>(occupied[i / 8] | (1u << (i % 8)));
    ones.push_back(slots[i].one);
    seen.push_back(slots[i].seen);
    checks.push_back(slots[i].check);
  }
  out.write_u32(static_cast<std::uint32_t>(ones.size()));
  out.write(occupied);
  put_table(out, ones);
  out.write(seen);
  out.write(checks);
}

bool take_slots(ByteReader& in, std::vector<Slot>& slots) {
  const std::size_t count = in.read_u32();
  const ByteView occupied = in.read_view((slots.size() + 7) / 8);
  if (!in.ok() || count > slots.size()) return false;
  std::vector<std::uint16_t> ones(count);
  take_table(in, ones);
  const ByteView seen = in.read_view(count), checks = in.read_view(count);
  if (!in.ok()) return false;
  std::size_t next = 0;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if ((occupied[i / 8] >> (i % 8) & 1) == 0) continue;
    if (next == count) return false;
    slots[i] = {ones[next], seen[next], checks[next]};
    ++next;
  }
  return next == count;
}

}  // namespace

const std::array<std::uint8_t, 4096>& map_bins() {
  static const std::array<std::uint8_t, 4096> bins = [] {
    std::array<std::uint8_t, 4096> made{};
    for (std::size_t i = 0; i < made.size(); ++i) {
      const int x = stretch(static_cast<int>(i) * 16 + 8) + kStretchLimit;  // 0 … 2 × kStretchLimit
      made[i] = static_cast<std::uint8_t>(x * static_cast<int>(kMapBins) / (2 * kStretchLimit + 1));
    }
    return made;
  }();
  return bins;
}

Prior::MixInput mix_input(std::uint16_t probability) {
  return {static_cast<std::int16_t>(stretch(probability)),
          static_cast<std::int16_t>((probability - 32768) >> 5)};
}

void Prior::bake() {
  const auto derive = [](const std::vector<std::uint16_t>& map, std::vector<MixInput>& inputs) {
    inputs.resize(map.size());
    for (std::size_t i = 0; i < map.size(); ++i) inputs[i] = mix_input(map[i]);
  };
  derive(slot_map, slot_inputs);
  derive(overlay_map, overlay_inputs);
}

std::size_t match_class(std::uint32_t length) {
  if (length < 16) return length;
  if (length < 32) return 16 + (length - 16) / 4;
  return length < 64 ? 20 + (length - 32) / 8 : length < 400 ? 24 + (length - 64) / 56 : 31;
}

Prior::Prior(unsigned bits) : slot_bits(bits), slots(std::size_t{1} << bits) {
  for (std::size_t s = 0; s < kSelectors; ++s) {
    weights[s].assign(kSelectorSets[s] * kInputs, 0);
    for (std::size_t i = 0; i < weights[s].size(); ++i) {
      const std::size_t input = i % kInputs;
      if (input + 1 < kInputs && input % 2 == 0) weights[s][i] = input < 2 * kContexts ? 900 : 700;
    }
  }
  const auto identity_maps = [](std::vector<std::uint16_t>& map, std::size_t count) {
    map.resize(count * kSeenClasses * kMapBins);
    for (std::size_t i = 0; i < map.size(); ++i) {
      const int middle =
          (2 * static_cast<int>(i % kMapBins) + 1) * kStretchLimit / static_cast<int>(kMapBins);
      map[i] = static_cast<std::uint16_t>(std::clamp(squash(middle - kStretchLimit), 64, 65472));
    }
  };
  identity_maps(slot_map, kContexts);
  identity_maps(overlay_map, kOverlayContexts);
  match_map.assign(kMatches * kMatchClasses * 16, 60000);
  final_weights.assign(64 * kSelectors, 65536 / static_cast<int>(kSelectors));
  for (auto& table : apm) {
    table.resize(kApmSets * kApmBins);
    for (std::size_t i = 0; i < table.size(); ++i) {
      table[i] = static_cast<std::uint16_t>(squash((static_cast<int>(i % kApmBins) - 16) * 176));
    }
  }
  bake();
}

void Prior::set_dictionary(ByteView text) {
  dictionary = to_bytes(text);
  dictionary_index.assign(dictionary.empty() ? 0 : std::size_t{1} << kDictionaryIndexBits, 0);
  std::uint64_t history = 0;
  for (std::size_t i = 0; i < dictionary.size(); ++i) {
    history = (history << 8) | dictionary[i];
    const auto hash =
        mix_hash(static_cast<std::uint32_t>(history), static_cast<std::uint32_t>(history >> 32) & 0xffff);
    if (i >= 6) dictionary_index[hash & (dictionary_index.size() - 1)] = static_cast<std::uint32_t>(i + 1);
  }
}

Bytes Prior::encode() const {
  ByteWriter body;
  body.write_u8(static_cast<std::uint8_t>(slot_bits));
  put_slots(body, slots);
  visit_tables(*this, [&](const auto& table) { put_table(body, table); });
  body.write_u32(static_cast<std::uint32_t>(dictionary.size()));
  body.write(dictionary);
  ByteWriter file;
  file.write_u32(kMagic);
  file.write_u32(static_cast<std::uint32_t>(body.size()));
  Bytes packed(ZSTD_compressBound(body.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), body.view().data(), body.size(), 19));
  file.write(packed);
  return file.take();
}

Result<Prior> Prior::decode(ByteView file) {
  const auto bad = [](const char* why) {
    return Error{ErrorKind::invalid_argument, std::string("not a usable model file: ") + why};
  };
  ByteReader head(file);
  if (head.read_u32() != kMagic) return bad("it does not start with a model's mark");
  const std::size_t size = head.read_u32();
  if (!head.ok() || size > kMaxUnpacked) return bad("its size is beyond the limit of 24 MiB");
  Bytes body(size);
  if (ZSTD_decompress(body.data(), body.size(), head.rest().data(), head.rest().size()) != size)
    return bad("it is damaged");
  ByteReader in(body);
  const unsigned bits = in.read_u8();
  if (bits < 10 || bits > kMaxSlotBits) return bad("its table size is not supported");
  Prior prior(bits);
  if (!take_slots(in, prior.slots)) return bad("its counters are damaged");
  visit_tables(prior, [&](auto& table) { take_table(in, table); });
  const ByteView text = in.read_view(in.read_u32());
  if (!in.ok() || in.remaining() != 0) return bad("it is cut off");
  prior.set_dictionary(text);
  prior.bake();
  return prior;
}

}  // namespace ravine::gateway
