#include "lab/virtual_gateway.h"

#include <algorithm>

#include "base/ensure.h"
#include "gateway/core/matrix.h"

namespace ravine::lab {

namespace link = gateway::link;
namespace security = gateway::security;

namespace {

class MemoryJournal final : public link::Journal {
 public:
  Result<> put(std::uint64_t key, ByteView record) override {
    held_[key] = to_bytes(record);
    return {};
  }
  void erase(std::uint64_t key) override { held_.erase(key); }
  std::vector<link::JournalEntry> entries() const override {
    std::vector<link::JournalEntry> all;
    all.reserve(held_.size());
    for (const auto& [key, record] : held_) all.push_back({key, record});
    return all;
  }

 private:
  std::map<std::uint64_t, Bytes> held_;
};

class MemoryStore final : public security::SequenceStore {
 public:
  Result<> persist(ByteView state) override {
    held = to_bytes(state);
    return {};
  }
  Bytes held;
};

security::GatewaySecret lab_secret() {
  std::array<std::uint8_t, 32> bytes{};
  bytes.fill(0x5a);
  return security::GatewaySecret(bytes);
}

}  // namespace

struct VirtualGateway::Side {
  MemoryJournal journal;
  MemoryStore store;

  link::ThinLink start(security::Role role, const VirtualOptions& options, RandomSource& random,
                       const SocketAddress& peer) {
    auto channel = store.held.empty() ? security::SecureChannel::make(lab_secret(), role, store, random, {})
                                      : security::SecureChannel::restore(store.held, store, random, {});
    ensure(channel.ok());
    link::LinkOptions thin = options.thin;
    thin.rate_bps = options.link.rate_bps;
    thin.overhead_bytes = options.link.overhead_bytes;
    return {core::link_options(std::move(thin), options.near.matrix, options.near.alias_events),
            std::move(*channel), options.make_coders(), journal, peer};
  }
};

VirtualGateway::VirtualGateway(VirtualOptions options)
    : options_(std::move(options)),
      random_(options_.seed),
      up_(options_.link, options_.seed * 2, now_),
      down_(options_.link, options_.seed * 2 + 1, now_),
      near_address_(*SocketAddress::parse("192.0.2.1:4000")),
      far_address_(*SocketAddress::parse("192.0.2.9:5683")),
      near_side_(std::make_unique<Side>()),
      far_side_(std::make_unique<Side>()) {
  options_.far.matrix = options_.near.matrix;
  options_.far.alias_events = options_.near.alias_events;
  restart_near();
  restart_far();
}

VirtualGateway::~VirtualGateway() = default;

void VirtualGateway::restart_near() {
  near_.emplace(options_.near, near_side_->start(security::Role::near, options_, random_, far_address_));
}

void VirtualGateway::restart_far() {
  far_.emplace(options_.far, far_side_->start(security::Role::far, options_, random_, near_address_));
}

void VirtualGateway::move_far(const SocketAddress& address) {
  far_address_ = address;
  near_->link().set_peer(address);
}

void VirtualGateway::flush() {
  for (bool again = true; again;) {
    again = false;
    const auto offer = [&](EmulatedLink& link, bool up, const SocketAddress& there, auto&& out) {
      again = true;
      if (on_datagram) on_datagram(up, out.bytes);
      // What goes to an address that nobody has any more is on the air all the same.
      const std::uint64_t tag = out.to == there ? 1 : 0;
      link.send(now_, {tag, std::move(out.bytes)});
    };
    while (auto out = near_->poll_transmit(now_)) offer(up_, true, far_address_, std::move(*out));
    while (auto out = far_->poll_transmit(now_)) offer(down_, false, near_address_, std::move(*out));
  }
}

void VirtualGateway::deliver() {
  while (auto parcel = up_.receive(now_)) {
    if (parcel->tag == 1) far_->handle_datagram(now_, near_address_, parcel->bytes);
    flush();
  }
  while (auto parcel = down_.receive(now_)) {
    if (parcel->tag == 1) near_->handle_datagram(now_, far_address_, parcel->bytes);
    flush();
  }
}

bool VirtualGateway::step(Instant limit) {
  flush();
  const Instant next = std::min({up_.next_deadline().at, down_.next_deadline().at, near_->next_deadline().at,
                                 far_->next_deadline().at});
  if (next > limit) {
    if (!limit.is_never()) now_ = std::max(now_, limit);
    return false;
  }
  now_ = std::max(now_, next);
  deliver();
  near_->handle_timeout(now_);
  far_->handle_timeout(now_);
  flush();
  return true;
}

}  // namespace ravine::lab
