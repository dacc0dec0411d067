#include "host/random.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/ensure.h"

namespace ravine::host {
namespace {

void fill_from_kernel(MutableBytes out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    // Without entropy no key may be made. The call fails only where it does not exist (Linux before 3.17) or
    // is forbidden.
    ensure(got > 0);
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

}  // namespace

SystemRandom::~SystemRandom() {
  wipe(pool_);
}

void SystemRandom::fill(MutableBytes out) {
  if (out.size() > pool_.size() / 4) return fill_from_kernel(out);
  if (out.size() > pool_.size() - used_) {
    fill_from_kernel(pool_);
    used_ = 0;
  }
  const MutableBytes taken = MutableBytes(pool_).subspan(used_, out.size());
  std::copy(taken.begin(), taken.end(), out.begin());
  wipe(taken);
  used_ += out.size();
}

}  // namespace ravine::host
