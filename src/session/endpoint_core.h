// What an endpoint's sessions share: the label table, counters, the event queue and the list of sessions that
// have something to do. Internal to this folder.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "forward/forwarder.h"
#include "forward/label_table.h"
#include "session/endpoint.h"

namespace ravine::session {

// A packet that leaves as it is: answers without a session, closes, forwarded ones, punches.
struct RawPacket {
  Route route;
  std::uint8_t ecn = 0;
  Bytes bytes;
};

struct EndpointCore {
  EndpointCore(EndpointOptions made, RandomSource& random_source, const WallClock& wall_clock)
      : options(std::move(made)),
        random(random_source),
        clock(wall_clock),
        table(options.seed),
        forwarder(table),
        blocks(std::make_shared<BlockPool>()) {}

  // Marks a session as having packets to write or timers to arm again.
  void touch(Session::Impl& session);
  void push(const Event& event) {
    // An end is always told: the session's slot waits for it, or the stream's.
    const bool end = event.kind == EventKind::session_closed || event.kind == EventKind::stream_closed;
    if (end || events.size() < options.limits.events) events.push_back(event);
  }
  Label random_label();

  EndpointOptions options;
  RandomSource& random;
  const WallClock& clock;
  forward::LabelTable table;
  forward::Forwarder forwarder;
  std::shared_ptr<BlockPool> blocks;
  Endpoint::Counters counters;
  std::deque<Event> events;
  std::vector<std::uint32_t> dirty;  // session slots
  // Labels that stateless resets may answer: our transmit label of direct paths whose wire bytes are
  // canonical.
  std::unordered_map<std::uint64_t, SessionId> by_transmit;
};

}  // namespace ravine::session
