// Name resolution without blocking the loop: the system's resolver in a thread of its own.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "base/time.h"

namespace ravine::host {

class Resolver {
 public:
  static constexpr std::size_t kMaxPending = 256;

  explicit Resolver(boost::asio::io_context& loop);
  ~Resolver();  // no call comes after it

  using OnResolved = std::function<void(Result<std::vector<SocketAddress>>)>;
  // Addresses of `host`, in the system's order of preference (RFC 6724), each with `port`. Literal addresses
  // are not looked up. The call comes from the loop, never from inside resolve(). Errors: not_found,
  // timed_out (after `timeout`), limit_reached (more than kMaxPending at work), invalid_argument (empty, or
  // longer than 253 bytes).
  void resolve(const std::string& host, std::uint16_t port, OnResolved on_resolved, Duration timeout = 5s);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::host
