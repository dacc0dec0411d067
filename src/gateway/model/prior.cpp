#include "gateway/model/prior.h"

#include <zstd.h>

#include <algorithm>

#include "gateway/model/logistic.h"
#include "gateway/model/slot_file.h"

namespace ravine::gateway {
namespace {

constexpr std::uint32_t kMagic = 0x52764d33;  // "RvM3": format 3 of the model file
constexpr unsigned kMinSlotBits = 10, kMaxSlotBits = 21;
constexpr std::size_t kMaxDictionary = std::size_t{1} << 20;
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
  visit(prior.weights);
  visit(prior.slot_map);
  visit(prior.overlay_map);
  visit(prior.match_map);
  visit(prior.final_weights);
  for (auto& table : prior.apm) visit(table);
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
  weights.assign(kSets * kInputs, 0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::size_t input = i % kInputs;
    const bool counter = input >= kOverlayInput ? input < kConstantInput : input % 2 == 0;
    if (counter) weights[i] = input < kOverlayInput ? 1800 : 1400;
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
  final_weights.assign(kFinalSets * kSelectors, 65536 / static_cast<int>(kSelectors));
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
  visit_tables(*this, [&](const auto& table) { put_table(body, table); });
  body.write(dictionary);
  Bytes packed(ZSTD_compressBound(body.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), body.view().data(), body.size(), 19));
  ByteWriter file;
  file.write_u32(kMagic);
  file.write_u8(static_cast<std::uint8_t>(slot_bits));
  file.write_u32(static_cast<std::uint32_t>(dictionary.size()));
  file.write_u32(static_cast<std::uint32_t>(packed.size()));
  file.write(packed);
  file.write(encode_slots(slots));
  return file.take();
}

std::size_t Prior::memory_bytes() const {
  const auto size = [](const auto& table) { return table.size() * sizeof(table[0]); };
  std::size_t bytes =
      size(slots) + size(slot_inputs) + size(overlay_inputs) + size(dictionary) + size(dictionary_index);
  visit_tables(*this, [&](const auto& table) { bytes += size(table); });
  return bytes;
}

Result<Prior> Prior::decode(ByteView file) {
  const auto bad = [](const char* why) {
    return Error{ErrorKind::invalid_argument, std::string("not a usable model file: ") + why};
  };
  ByteReader in(file);
  if (in.read_u32() != kMagic) return bad("it does not start with a model's mark");
  const unsigned bits = in.read_u8();
  const std::size_t text_size = in.read_u32();
  const ByteView packed = in.read_view(in.read_u32());
  if (!in.ok()) return bad("it is cut off");
  if (bits < kMinSlotBits || bits > kMaxSlotBits || text_size > kMaxDictionary)
    return bad("its tables are larger or smaller than supported");
  Prior prior(bits);
  std::size_t size = text_size;
  visit_tables(prior, [&](const auto& table) { size += table.size() * sizeof(table[0]); });
  Bytes body(size);
  if (ZSTD_decompress(body.data(), body.size(), packed.data(), packed.size()) != size)
    return bad("it is damaged");
  ByteReader tables(body);
  visit_tables(prior, [&](auto& table) { take_table(tables, table); });
  if (!decode_slots(in.rest(), prior.slots)) return bad("its counters are damaged");
  prior.set_dictionary(tables.rest());
  prior.bake();
  return prior;
}

}  // namespace ravine::gateway
