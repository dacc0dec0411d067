// Label: the first 8 bytes of a QUIC connection ID on the wire, one per path and direction; the key of
// forwarding.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ravine {

inline constexpr std::size_t kLabelSize = 8;
inline constexpr std::size_t kConnectionIdSize = 12;  // label ‖ 4 random bytes

// Held in wire byte order, so that loading and storing are plain copies. Zero is never issued.
struct Label {
  std::uint64_t wire = 0;

  static Label load(const std::uint8_t* p) {
    Label label;
    std::memcpy(&label.wire, p, kLabelSize);
    return label;
  }
  void store(std::uint8_t* p) const { std::memcpy(p, &wire, kLabelSize); }
  bool is_none() const { return wire == 0; }
  friend auto operator<=>(const Label&, const Label&) = default;
};

}  // namespace ravine
