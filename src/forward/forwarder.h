// Forwarder: what a node does with packets that are not its own. An entry says where a label's packets must
// come from and where they go; the packets stay as they are. Entries belong to the link that claimed them and
// live under its lease. No packet is decrypted, none is answered, and a wrong source is refused always. It
// sends nothing itself: the caller transmits on the route that check() names.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/datagram.h"
#include "base/result.h"
#include "base/time.h"
#include "forward/label_table.h"

namespace ravine::forward {

using OwnerId = std::uint64_t;  // the link whose session claimed the entry

struct EntryOptions {
  Route ingress;  // packets of this label come from here, else they are refused; only `remote` counts
  Route egress;   // and leave to here
  OwnerId owner = 0;
  Instant lease_until = Instant::never();
  std::uint64_t bytes_per_second = 0;  // 0: not policed
  std::uint64_t burst_bytes = 65536;
};

struct EntryCounters {
  std::uint64_t packets = 0, bytes = 0;
  std::uint64_t wrong_source = 0, over_rate = 0;
};

struct ForwarderLimits {
  std::size_t entries = 100'000;
  std::size_t entries_per_owner = 4096;
};

enum class Verdict : std::uint8_t {
  forward,       // send it on the route
  wrong_source,  // not from the entry's ingress
  over_rate,     // the entry's token bucket is empty
  expired,       // lease over; expire() removes the entry
};

class Forwarder {
 public:
  // `table` is shared with the endpoint's own sessions and outlives this.
  explicit Forwarder(LabelTable& table, ForwarderLimits limits = {}) : table_(table), limits_(limits) {}

  // already_exists: the label is occupied ("taken"). limit_reached: too many entries, of all or of this
  // owner. refused: a route back to where the packets come from would loop.
  Result<> claim(Label label, const EntryOptions& options);
  // Only the owner renews, moves and releases an entry: false for anybody else and for unknown labels.
  bool renew(Label label, OwnerId owner, Instant lease_until);
  bool move_ingress(Label label, OwnerId owner, const Route& ingress);
  bool move_egress(Label label, OwnerId owner, const Route& egress);
  bool release(Label label, OwnerId owner);
  void release_owner(OwnerId owner);  // the link died: its entries go with it
  void expire(Instant now);           // removes entries whose lease is over
  Instant next_expiry() const;        // O(entries); never() without leases

  // Judges one packet of `size` bytes whose label led to entry `index`. `egress` is valid until the next
  // change.
  struct Outcome {
    Verdict verdict = Verdict::wrong_source;
    const Route* egress = nullptr;
  };
  Outcome check(Instant now, std::uint32_t index, const SocketAddress& source, std::size_t size);

  std::optional<EntryCounters> counters(Label label) const;
  std::size_t size() const { return used_; }

 private:
  struct Entry {
    bool used = false;
    Label label;
    EntryOptions options;
    EntryCounters counters;
    std::uint64_t tokens = 0;  // bytes
    Instant filled_at;
  };
  Entry* find_owned(Label label, OwnerId owner);
  void erase(std::uint32_t index);
  static bool take_tokens(Entry& entry, Instant now, std::size_t size);

  LabelTable& table_;
  ForwarderLimits limits_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<OwnerId, std::size_t> per_owner_;
  std::size_t used_ = 0;
};

}  // namespace ravine::forward
