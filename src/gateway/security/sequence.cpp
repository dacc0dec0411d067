#include "gateway/security/sequence.h"

#include <algorithm>

namespace ravine::gateway::security {

std::uint64_t NumberBlock::take() {
  ensure(!exhausted() && !needs_reservation());
  return next_++;
}

void NumberBlock::skip_to(std::uint64_t number) {
  next_ = std::min(std::max(next_, number), end_);
  // So that the next take() reserves from here.
  if (next_ > limit_) limit_ = next_;
}

ReplayWindow::Verdict ReplayWindow::judge(std::uint64_t number) const {
  if (!any_ || number > highest_) return Verdict::fresh;
  const std::uint64_t back = highest_ - number;
  if (back >= kSpan) return Verdict::stale;
  return bit(back) ? Verdict::duplicate : Verdict::fresh;
}

void ReplayWindow::accept(std::uint64_t number) {
  if (!any_) {
    any_ = true;
    highest_ = number;
    seen_ = {1, 0};
    return;
  }
  if (number <= highest_) {
    const std::uint64_t back = highest_ - number;
    if (back < kSpan) seen_[back / 64] |= std::uint64_t{1} << (back % 64);
    return;
  }
  const std::uint64_t ahead = number - highest_;
  highest_ = number;
  if (ahead >= kSpan) {
    seen_ = {0, 0};
  } else if (ahead >= 64) {
    seen_ = {0, seen_[0] << (ahead - 64)};
  } else {
    seen_[1] = (seen_[1] << ahead) | (seen_[0] >> (64 - ahead));
    seen_[0] <<= ahead;
  }
  seen_[0] |= 1;
}

void ReplayWindow::start_after(std::uint64_t number) {
  any_ = true;
  highest_ = number;
  seen_ = {~std::uint64_t{0}, ~std::uint64_t{0}};
}

}  // namespace ravine::gateway::security
