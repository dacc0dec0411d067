#include "base/ensure.h"

#include <cstdio>
#include <cstdlib>

namespace ravine {

void fail_ensure(std::source_location where) {
  std::fprintf(stderr, "ravine: broken guarantee at %s:%u in %s\n", where.file_name(), where.line(),
               where.function_name());
  std::abort();
}

}  // namespace ravine
