// Unpredictable bytes from the kernel.
#pragma once

#include <array>

#include "base/machine.h"

namespace ravine::host {

// Buffers 4 KiB of getrandom(2), so that a connection ID costs a copy and not a system call. Given bytes are
// wiped from the buffer. Not for use across fork(). One thread.
class SystemRandom final : public RandomSource {
 public:
  ~SystemRandom() override;
  void fill(MutableBytes out) override;

 private:
  std::array<std::uint8_t, 4096> pool_{};
  std::size_t used_ = sizeof pool_;
};

}  // namespace ravine::host
