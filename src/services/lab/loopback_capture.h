// LoopbackCapture: counts UDP datagrams of one port on the loopback interface as the kernel shows them to a
// packet socket. Needs CAP_NET_RAW. Thread rule: the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <memory>

#include "base/result.h"

namespace ravine::services {

class LoopbackCapture {
 public:
  struct Count {
    std::uint64_t packets = 0, ip_bytes = 0;
  };
  // `towards` and `from`: IPv4 UDP packets to the one port, and from the other. Errors: refused without the
  // right to capture, io.
  static Result<std::unique_ptr<LoopbackCapture>> start(boost::asio::io_context& loop, std::uint16_t towards,
                                                        std::uint16_t from);
  ~LoopbackCapture();
  Count towards() const;
  Count from() const;

 private:
  struct Impl;
  explicit LoopbackCapture(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::services
