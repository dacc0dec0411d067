// StateLadder: the coder states that may be named on the link. State n is what is left by the first n units
// of an epoch; a unit is what one downward message carried, with the requests that it answers. Keeps the
// oldest state that may still be named, the newest, and the texts between. Pure.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "gateway/coder/coder.h"

namespace ravine::gateway::link {

struct Exchange {
  Bytes request;   // empty for a push
  Bytes response;  // text
};
using Unit = std::vector<Exchange>;

class StateLadder {
 public:
  // `push_request`: context of pushes.
  StateLadder(std::unique_ptr<coder::Coder> coder, Bytes push_request);

  void reset(std::uint64_t epoch);
  // Another coder, in the state before the first message, from here on; reset() must follow.
  void use(std::unique_ptr<coder::Coder> coder) { base_coder_ = std::move(coder); }
  const coder::Coder& coder() const { return *base_coder_; }
  std::uint64_t base() const { return base_; }
  std::uint64_t tip() const { return base_ + rungs_.size(); }
  bool reaches(std::uint64_t state) const { return state >= base_ && state <= tip(); }

  // The coder in `state`; valid until the next call. Requires reaches(state). Not to be committed to.
  coder::Coder& at(std::uint64_t state);
  // The coder in `state` after the unit's requests. With `extend` it may be the tip itself, half way to the
  // next unit: then append() or reset() must follow.
  coder::Coder& with_requests(std::uint64_t state, const Unit& unit, bool extend);
  void append(Unit unit);
  // `state` is the oldest that will be named from here on.
  void trim(std::uint64_t state);
  // 16 bits that tell this state from others: epoch, number and every committed byte. Requires reaches.
  std::uint16_t check(std::uint64_t state) const;

  coder::MessageContext response_context(const Exchange& exchange) const;

 private:
  struct Rung {
    Unit unit;
    std::uint64_t digest = 0;  // after it
  };
  void commit(coder::Coder& coder, const Unit& unit, bool requests, bool responses) const;

  Bytes push_request_;
  std::unique_ptr<coder::Coder> base_coder_;
  std::unique_ptr<coder::Coder> tip_coder_;  // null: the tip is the base
  std::unique_ptr<coder::Coder> scratch_;
  std::uint64_t base_ = 0;
  std::uint64_t base_digest_ = 0;
  std::deque<Rung> rungs_;
  bool half_ = false;  // the tip has the next unit's requests
};

}  // namespace ravine::gateway::link
