// Network interfaces and addresses of this machine, and a watch that tells when they or the routes change.
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

struct InterfaceAddress {
  IpAddress address;               // scoped when link-local
  std::uint8_t prefix_length = 0;  // bits
  std::uint32_t interface_index = 0;
  std::string interface_name;
  std::uint32_t mtu = 0;  // bytes of an IP packet
  bool running = false;   // administratively up and with carrier
  bool loopback = false;
  bool point_to_point = false;
  bool temporary = false;      // RFC 8981 privacy address
  bool deprecated = false;     // may be used by what uses it already
  bool tentative = false;      // not usable yet: duplicate address detection
  bool default_route = false;  // an IP default route of this family leaves through the interface

  // Whether a peer elsewhere may be told of it: running, not loopback, neither tentative nor multicast.
  bool is_usable() const;
  friend bool operator==(const InterfaceAddress&, const InterfaceAddress&) = default;
};

// All addresses of all interfaces, in the kernel's order. A blocking call of about 100 µs.
Result<std::vector<InterfaceAddress>> list_interface_addresses();

// Index of an interface by name; 0 when there is none.
std::uint32_t interface_index(const std::string& name);

// Reports the addresses after each change of addresses, link states or unicast routes of the main table.
// Changes come in bursts, so it waits until kQuiet without a further one, but no longer than kLongest.
class InterfaceWatch {
 public:
  static constexpr Duration kQuiet = 40ms;
  static constexpr Duration kLongest = 250ms;
  using OnChange = std::function<void(const std::vector<InterfaceAddress>&)>;

  // Error: io, when the kernel has no route netlink for us.
  static Result<std::unique_ptr<InterfaceWatch>> start(boost::asio::io_context& loop, OnChange on_change);
  ~InterfaceWatch();  // no call comes after it

 private:
  InterfaceWatch();
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace ravine::host
