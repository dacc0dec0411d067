// Journal: what the thin link must remember across a restart so that a request that may not run twice runs
// once. Host port: a small durable map. Both ends have one.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace ravine::gateway::link {

struct JournalEntry {
  std::uint64_t key = 0;
  Bytes record;
};

class Journal {
 public:
  virtual ~Journal() = default;
  // Puts `record` in the place of what `key` held. Durable when it returns; on an error the link refuses the
  // request rather than risk running it twice.
  virtual Result<> put(std::uint64_t key, ByteView record) = 0;
  // May become durable later: an entry that comes back after a crash does no harm.
  virtual void erase(std::uint64_t key) = 0;
  // Everything held, in any order; read once, at construction.
  virtual std::vector<JournalEntry> entries() const = 0;
};

}  // namespace ravine::gateway::link
