#include "gateway/coap/block.h"

#include <algorithm>

namespace ravine::gateway::coap {

Bytes Block::encode() const {
  return encode_uint((static_cast<std::uint64_t>(number) << 4) | (more ? 8u : 0u) | exponent);
}

std::optional<Block> decode_block(ByteView value) {
  if (value.size() > 3) return std::nullopt;
  const std::uint64_t whole = *decode_uint(value);
  Block block;
  block.number = static_cast<std::uint32_t>(whole >> 4);
  block.more = (whole & 8) != 0;
  block.exponent = static_cast<std::uint8_t>(whole & 7);
  return block.exponent == 7 ? std::nullopt : std::optional(block);
}

std::optional<Block> block_of(const Message& message, std::uint16_t number, bool& malformed) {
  malformed = false;
  const Option* option = message.find(number);
  if (option == nullptr) return std::nullopt;
  const std::optional<Block> block = decode_block(option->value);
  malformed = !block;
  return block;
}

std::optional<std::uint8_t> exponent_for(std::size_t room, std::uint8_t limit) {
  if (room < 16) return std::nullopt;
  std::uint8_t exponent = std::min<std::uint8_t>(limit, 6);
  while (exponent > 0 && (std::size_t{16} << exponent) > room) --exponent;
  return exponent;
}

BodyAssembler::Outcome BodyAssembler::add(const Block& block, ByteView piece) {
  const bool full = piece.size() == block.size();
  if (piece.size() > block.size() || (block.more && !full)) return Outcome::malformed;
  if (block.number == 0) body_.clear();
  const std::size_t offset = block.offset();
  if (offset > body_.size()) return Outcome::gap;
  if (offset + piece.size() > limit_) return Outcome::too_large;
  if (offset < body_.size()) {
    const bool same =
        offset + piece.size() <= body_.size() &&
        std::equal(piece.begin(), piece.end(), body_.begin() + static_cast<std::ptrdiff_t>(offset));
    return same && block.more ? Outcome::repeated : Outcome::gap;
  }
  body_.insert(body_.end(), piece.begin(), piece.end());
  return block.more ? Outcome::more : Outcome::complete;
}

Bytes entity_tag_of(ByteView body) {
  std::uint64_t hash =
      0xcbf29ce484222325;  // FNV-1a, 64 bits, folded; no attacker gains by a collision of his own body
  for (const std::uint8_t byte : body) hash = (hash ^ byte) * 0x100000001b3;
  const auto folded = static_cast<std::uint32_t>(hash ^ (hash >> 32));
  Bytes tag(4);
  store_big_endian(tag.data(), folded);
  return tag;
}

std::string transfer_key(const Message& request) {
  Message key;
  key.code = request.code;
  for (const Option& option : request.options) {
    const bool piece = option.number == kBlock1 || option.number == kBlock2 || option.number == kObserve ||
                       option.number == kEcho || option.number == kSize1 || option.number == kSize2;
    const bool outside = !is_unsafe_to_forward(option.number) && is_no_cache_key(option.number);
    if (!piece && !outside) key.options.push_back(option);
  }
  ByteWriter out;
  out.write_u8(static_cast<std::uint8_t>(request.code));
  encode_options(out, key.options);
  return std::string(as_text(out.view()));
}

}  // namespace ravine::gateway::coap
