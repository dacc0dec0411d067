// A world in virtual time for tests of the link and of the gateway cores: two ends that keep their durable
// state in memory, and a wire between them that is slow and loses, repeats, delays and reorders datagrams.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "base/ensure.h"
#include "gateway/link/thin_link.h"

namespace ravine::gateway::link {

struct WireOptions {
  double rate_bps = 0;
  Duration delay = 10ms;
  double loss = 0;   // of single datagrams
  double burst = 0;  // chance that a loss is followed by another
  double duplication = 0;
  Duration jitter{0};  // reorders
  std::uint32_t overhead_bytes = 28;
};

class Wire {
 public:
  Wire(WireOptions options, std::uint64_t seed) : options_(options), random_(seed) {}

  void send(Instant now, Bytes bytes) {
    ++datagrams;
    ip_bytes += bytes.size() + options_.overhead_bytes;
    busy_until_ = std::max(busy_until_, now) +
                  coap::serialisation_time(bytes.size() + options_.overhead_bytes, options_.rate_bps);
    const bool lost = random_.unit() < (losing_ ? std::max(options_.burst, options_.loss) : options_.loss);
    losing_ = lost;
    if (lost || down) return;
    const unsigned copies = random_.unit() < options_.duplication ? 2 : 1;
    for (unsigned i = 0; i < copies; ++i) {
      const auto jitter =
          Duration{static_cast<std::int64_t>(random_.unit() * static_cast<double>(options_.jitter.count()))};
      arriving_.emplace(busy_until_ + options_.delay + jitter, bytes);
    }
  }
  Instant next() const { return arriving_.empty() ? Instant::never() : arriving_.begin()->first; }
  std::optional<Bytes> receive(Instant now) {
    if (arriving_.empty() || arriving_.begin()->first > now) return std::nullopt;
    Bytes bytes = std::move(arriving_.begin()->second);
    arriving_.erase(arriving_.begin());
    return bytes;
  }
  std::uint64_t datagrams = 0, ip_bytes = 0;
  bool down = false;

 private:
  WireOptions options_;
  SeededRandom random_;
  Instant busy_until_;
  bool losing_ = false;
  std::multimap<Instant, Bytes> arriving_;
};

class MemoryJournal final : public Journal {
 public:
  Result<> put(std::uint64_t key, ByteView record) override {
    if (fail) return Error{ErrorKind::io, "disk full"};
    held[key] = to_bytes(record);
    return {};
  }
  void erase(std::uint64_t key) override { held.erase(key); }
  std::vector<JournalEntry> entries() const override {
    std::vector<JournalEntry> all;
    all.reserve(held.size());
    for (const auto& [key, record] : held) all.push_back({key, record});
    return all;
  }
  std::map<std::uint64_t, Bytes> held;
  bool fail = false;
};

class MemoryStore final : public security::SequenceStore {
 public:
  Result<> persist(ByteView state) override {
    held = to_bytes(state);
    return {};
  }
  Bytes held;
};

// What one end keeps over a restart.
struct Durable {
  MemoryJournal journal;
  MemoryStore store;
};

inline security::GatewaySecret test_secret() {
  std::array<std::uint8_t, 32> bytes{};
  bytes.fill(7);
  return security::GatewaySecret(bytes);
}

inline ThinLink make_link(Durable& durable, security::Role role, RandomSource& random, LinkOptions options,
                          Coders coders, std::string_view peer = "192.0.2.9:5683") {
  auto channel = durable.store.held.empty()
                     ? security::SecureChannel::make(test_secret(), role, durable.store, random, {})
                     : security::SecureChannel::restore(durable.store.held, durable.store, random, {});
  ensure(channel.ok());
  return ThinLink(std::move(options), std::move(*channel), std::move(coders), durable.journal,
                  *SocketAddress::parse(peer));
}

inline ThinLink make_link(Durable& durable, security::Role role, RandomSource& random, LinkOptions options,
                          std::unique_ptr<coder::Coder> coder, std::string_view peer = "192.0.2.9:5683") {
  Coders coders;
  coders.push_back(std::move(coder));
  return make_link(durable, role, random, std::move(options), std::move(coders), peer);
}

}  // namespace ravine::gateway::link
