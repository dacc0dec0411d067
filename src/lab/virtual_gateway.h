// VirtualGateway: both gateways, the emulated link between them and the clock that drives them, in virtual
// time: hours on a slow link pass in milliseconds. Either side can be killed and started again; what is
// durable stays. Clients and servers are the owner's. Pure; one thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "gateway/core/far_gateway.h"
#include "gateway/core/near_gateway.h"
#include "lab/emulated_link.h"

namespace ravine::lab {

namespace core = gateway::core;

struct VirtualOptions {
  LinkProfile link;
  std::uint64_t seed = 1;
  core::NearOptions near;
  core::FarOptions far;             // `matrix` and `alias_events` as the near side has them
  gateway::link::LinkOptions thin;  // rate and overhead as the emulated link has them
  std::function<gateway::link::Coders()> make_coders;  // in their first state, the best one first
};

class VirtualGateway {
 public:
  explicit VirtualGateway(VirtualOptions options);
  ~VirtualGateway();

  core::NearGateway& near() { return *near_; }
  core::FarGateway& far() { return *far_; }
  EmulatedLink& up() { return up_; }
  EmulatedLink& down() { return down_; }
  Instant now() const { return now_; }

  // Memory is gone, journal and keys are there.
  void restart_near();
  void restart_far();
  // The near side's datagrams come from another address from here on.
  void rebind_near(const SocketAddress& address) { near_address_ = address; }
  // The far side moves; the near side is told, as by its resolver.
  void move_far(const SocketAddress& address);

  // One event: the next arrival or timeout, if it is not later than `limit`. False: nothing was left.
  bool step(Instant limit);
  // Hands what the machines say to the link. After each command to near() or far().
  void flush();
  // Each datagram that is offered to the link.
  std::function<void(bool up, ByteView datagram)> on_datagram;

 private:
  struct Side;
  void deliver();

  VirtualOptions options_;
  SeededRandom random_;
  Instant now_{1'000'000'000};
  EmulatedLink up_, down_;
  SocketAddress near_address_, far_address_;
  std::unique_ptr<Side> near_side_, far_side_;
  std::optional<core::NearGateway> near_;
  std::optional<core::FarGateway> far_;
};

}  // namespace ravine::lab
