// Route netlink: dumps and notifications. For the .cpp files of host alone.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>

#include "base/bytes.h"
#include "base/result.h"

namespace ravine::host {

class NetlinkSocket {
 public:
  // `groups`: RTMGRP_* bits to hear; 0 for dumps alone.
  static Result<NetlinkSocket> open(std::uint32_t groups);
  NetlinkSocket(NetlinkSocket&& other) noexcept;
  NetlinkSocket& operator=(NetlinkSocket&&) = delete;
  ~NetlinkSocket();

  using OnMessage = std::function<void(const nlmsghdr&)>;
  // Asks for all objects of one RTM_GET* type and waits for them (at most two seconds).
  Result<> dump(std::uint16_t type, const OnMessage& on_message);
  // Takes the notifications that wait. False when some were lost because too many came at once.
  bool drain(const OnMessage& on_message);
  int descriptor() const { return descriptor_; }
  int release();  // the caller closes it

 private:
  explicit NetlinkSocket(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace ravine::host
