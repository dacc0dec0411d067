#include "gateway/link/state_ladder.h"

#include "base/ensure.h"

namespace ravine::gateway::link {
namespace {

// Not against forgers (frames are authentic): tells states apart after lost memory.
std::uint64_t fold(std::uint64_t digest, ByteView bytes) {
  digest ^= bytes.size() + 0x9e3779b97f4a7c15u;
  for (const std::uint8_t byte : bytes) digest = (digest ^ byte) * 0x100000001b3u;
  digest ^= digest >> 32;
  return digest * 0xd6e8feb86659fd93u;
}

std::uint64_t fold(std::uint64_t digest, const Unit& unit) {
  for (const Exchange& exchange : unit) digest = fold(fold(digest, exchange.request), exchange.response);
  return digest;
}

}  // namespace

StateLadder::StateLadder(std::unique_ptr<coder::Coder> coder, Bytes push_request)
    : push_request_(std::move(push_request)), base_coder_(std::move(coder)) {
  reset(0);
}

void StateLadder::reset(std::uint64_t epoch) {
  base_coder_->reset();
  tip_coder_.reset();
  scratch_.reset();
  rungs_.clear();
  base_ = 0;
  half_ = false;
  const coder::CoderId id = base_coder_->id();
  base_digest_ = fold(epoch * 0x9e3779b97f4a7c15u, id);
}

coder::MessageContext StateLadder::response_context(const Exchange& exchange) const {
  return {coder::Direction::response, exchange.request.empty() ? push_request_ : exchange.request};
}

void StateLadder::commit(coder::Coder& coder, const Unit& unit, bool requests, bool responses) const {
  if (requests) {
    for (const Exchange& exchange : unit)
      if (!exchange.request.empty()) coder.commit(exchange.request, {});
  }
  if (responses) {
    for (const Exchange& exchange : unit) coder.commit(exchange.response, response_context(exchange));
  }
}

coder::Coder& StateLadder::at(std::uint64_t state) {
  ensure(reaches(state) && !half_);
  if (state == base_) return *base_coder_;
  if (state == tip()) return *tip_coder_;
  scratch_ = base_coder_->clone();
  for (std::uint64_t n = base_; n < state; ++n) commit(*scratch_, rungs_[n - base_].unit, true, true);
  return *scratch_;
}

coder::Coder& StateLadder::with_requests(std::uint64_t state, const Unit& unit, bool extend) {
  ensure(reaches(state) && !half_);
  if (extend && state == tip()) {
    if (!tip_coder_) tip_coder_ = base_coder_->clone();
    commit(*tip_coder_, unit, true, false);
    half_ = true;
    return *tip_coder_;
  }
  coder::Coder& from = at(state);
  if (&from != scratch_.get()) scratch_ = from.clone();
  commit(*scratch_, unit, true, false);
  return *scratch_;
}

void StateLadder::append(Unit unit) {
  if (!tip_coder_) tip_coder_ = base_coder_->clone();
  commit(*tip_coder_, unit, !half_, true);
  half_ = false;
  scratch_.reset();
  const std::uint64_t digest = fold(rungs_.empty() ? base_digest_ : rungs_.back().digest, unit);
  rungs_.push_back({std::move(unit), digest});
}

void StateLadder::trim(std::uint64_t state) {
  ensure(!half_);
  if (state <= base_ || state > tip()) return;
  if (state == tip()) {
    base_coder_ = std::move(tip_coder_);
    base_digest_ = rungs_.back().digest;
    rungs_.clear();
    base_ = state;
    return;
  }
  for (; base_ < state; ++base_) {
    commit(*base_coder_, rungs_.front().unit, true, true);
    base_digest_ = rungs_.front().digest;
    rungs_.pop_front();
  }
}

std::uint16_t StateLadder::check(std::uint64_t state) const {
  ensure(reaches(state));
  const std::uint64_t digest = state == base_ ? base_digest_ : rungs_[state - base_ - 1].digest;
  return static_cast<std::uint16_t>(digest >> 48);
}

}  // namespace ravine::gateway::link
