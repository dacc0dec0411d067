// ensure(condition): states what our own code guarantees; on in release; unreachable by remote bytes.
#pragma once

#include <source_location>

namespace ravine {

// Prints the broken condition's place to stderr and aborts.
[[noreturn]] void fail_ensure(std::source_location where);

inline void ensure(bool condition, std::source_location where = std::source_location::current()) {
  if (!condition) [[unlikely]]
    fail_ensure(where);
}

}  // namespace ravine
