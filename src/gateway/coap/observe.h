// RFC 7641: which notification is newer, and who observes what. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"

namespace ravine::gateway::coap {

// The client's side of one observation: lets a notification through once, and never an older one after a
// newer one.
class ObserveFreshness {
 public:
  // RFC 7641 §3.4: 24-bit sequence numbers that wrap, and 128 s after which any number is newer.
  bool accept(Instant now, std::uint32_t sequence);
  // With OSCORE the partial IV orders notifications (RFC 8613 §4.1.3.5.2): strictly rising.
  bool accept_partial_iv(std::uint64_t partial_iv);

 private:
  std::optional<std::uint32_t> sequence_;
  std::optional<std::uint64_t> partial_iv_;
  Instant at_;
};

struct ObserverOptions {
  std::size_t observers = 1024;
  std::size_t per_peer = 64;
  unsigned confirm_every = 8;    // every n-th notification is confirmable: does anybody still listen?
  Duration confirm_after = 24h;  // and one after this long at the latest (RFC 7641 §4.5)
  Duration lease = 48h;          // an observer that confirms nothing for this long is dropped
};

using ObserverId = std::uint64_t;  // never 0

struct Observer {
  ObserverId id = 0;
  SocketAddress peer;
  Bytes token;
  std::string resource;
  std::string transfer_key;      // of the registering request, for the rest of a long notification
  std::uint64_t binding = 0;     // of a security layer
  std::uint32_t sequence = 0;    // of the last notification
  unsigned since_confirmed = 0;  // notifications
  Instant confirmed_at;
  std::uint64_t in_flight = 0;  // a confirmable notification that is not acknowledged
};

class ObserverTable {
 public:
  explicit ObserverTable(const ObserverOptions& options = {}) : options_(options) {}

  // Registers, or renews the observation of the same peer and token. limit_reached when there is no room:
  // answer the request without the Observe option.
  Result<ObserverId> add(Instant now, Observer observer);
  std::optional<ObserverId> find(const SocketAddress& peer, const Bytes& token) const;
  void remove(ObserverId id);
  Observer* find(ObserverId id);
  const Observer* find(ObserverId id) const;
  std::vector<ObserverId> observers_of(const std::string& resource) const;
  // Numbers the next notification; true when it is to be confirmable.
  bool number_next(Instant now, Observer& observer);
  void handle_confirmed(Instant now, Observer& observer);
  void expire(Instant now);
  Instant next_expiry() const;
  std::size_t size() const { return observers_.size(); }

 private:
  ObserverOptions options_;
  std::map<ObserverId, Observer> observers_;
  ObserverId next_id_ = 1;
};

}  // namespace ravine::gateway::coap
