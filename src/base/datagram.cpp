#include "base/datagram.h"

#include "base/ensure.h"

namespace ravine {

std::uint16_t TransmitBatch::intern(const Route& route) {
  // Packets come in runs of one route, so the newest entries are the likely ones.
  for (std::size_t i = routes_.size(); i-- > 0;) {
    if (routes_[i] == route) return static_cast<std::uint16_t>(i);
    if (routes_.size() - i > 8) break;
  }
  ensure(routes_.size() < UINT16_MAX);
  routes_.push_back(route);
  return static_cast<std::uint16_t>(routes_.size() - 1);
}

void TransmitBatch::commit(std::size_t size, const Route& route, std::uint8_t ecn) {
  ensure(size > 0 && used_ + size <= storage_.size());
  packets_.push_back({storage_.data() + used_, static_cast<std::uint32_t>(size), intern(route), ecn});
  used_ += size;
}

void TransmitBatch::add_view(ByteView packet, const Route& route, std::uint8_t ecn) {
  packets_.push_back({packet.data(), static_cast<std::uint32_t>(packet.size()), intern(route), ecn});
}

void TransmitBatch::clear() {
  used_ = 0;
  packets_.clear();
  routes_.clear();
}

}  // namespace ravine
