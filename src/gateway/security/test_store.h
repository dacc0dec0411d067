// A SequenceStore for tests: what is durable survives restore(), and it can be made to fail.
#pragma once

#include "gateway/security/sequence.h"

namespace ravine::gateway::security {

class TestStore final : public SequenceStore {
 public:
  Result<> persist(ByteView state) override {
    if (failing) return Error{ErrorKind::io, "no space left on the device"};
    durable = to_bytes(state);
    ++writes;
    return {};
  }
  Bytes durable;
  int writes = 0;
  bool failing = false;
};

}  // namespace ravine::gateway::security
