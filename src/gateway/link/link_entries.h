// What the thin link keeps of each thing under way: requests, frames, answers, pushes, transfers. Internal.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "gateway/coap/send_queue.h"
#include "gateway/link/thin_link.h"

namespace ravine::gateway::link {

using security::FrameNumber;

struct LinkEntries {
  // What an item of the queue becomes when it leaves.
  enum class Use : std::uint8_t { request, copy, answer, late_answer, push, parts, status, ack, plain };
  struct Item {
    Use use = Use::plain;
    std::uint64_t ref = 0;  // request, frame, group, identity, push, transfer
    FrameNumber number;     // status: of the part to answer
    Bytes bytes;            // plain: a whole frame
    coap::QueueItemId queued = 0;
    std::uint8_t priority = 0;
  };

  // Near side.
  struct Request {
    RequestId id = 0;
    Message message;
    RequestOptions options;
    bool once = false;
    bool hidden = false;         // its owner has had its end
    std::uint64_t identity = 0;  // 0: has not left
    std::uint64_t journal_key = 0;
    std::uint64_t item = 0;  // waiting
    std::size_t bytes = 0;   // counted as buffered
    std::size_t bytes_out = 0, bytes_in = 0;
    unsigned copies = 0;
    Instant not_before, expires;
  };
  // Frame under way: everything that is repeated until the other side reacts.
  struct Frame {
    std::uint64_t id = 0;
    FrameNumber number;
    Bytes bytes;
    Instant first_sent, deadline;
    unsigned copies = 0;
    std::uint64_t item = 0;  // a copy waits
    std::size_t expected = 0;
    std::vector<RequestId> requests;  // near
    std::uint64_t state = 0;          // that the requests named
    Bytes plaintext;                  // far: for a new number
    bool short_form = false;
    bool waiting = false;        // the other side has it
    std::uint64_t push = 0;      // far
    std::uint64_t identity = 0;  // far: late answer
    std::uint64_t unit = 0;      // far: acknowledged with it
    std::uint64_t transfer = 0;  // leaves in parts
  };
  struct PendingAck {
    FrameNumber number;
    std::uint64_t unit = 0;
  };

  // Far side: one request frame that arrived.
  struct Group {
    std::uint64_t id = 0;
    FrameNumber number;
    std::uint64_t state = 0;  // that it named
    std::vector<std::uint64_t> identities;
    Instant wait_at, not_before;  // its answer may wait so long for a push
    bool joined = false;          // its answer carries a push
    bool waited = false;          // its only answer said so
    bool queued = false;
    Bytes answer;  // frame, for duplicates
    std::uint64_t item = 0;
    std::uint64_t unit = 0;
  };
  struct Executed {
    std::uint64_t identity = 0;
    RequestId id = 0;
    Bytes request;
    std::optional<Message> response;
    bool once = false, unwanted = false, maybe_ran = false;
    bool awaits_push = false;
    std::uint64_t answered = 0;  // an ID of its time, to tell which pushes came later
    bool late = false;           // its response travels as a message
    std::uint64_t unit = 0;      // that carried the response
  };
  struct Push {
    PushId id = 0;
    Message message;
    PushOptions options;
    std::uint64_t item = 0, frame = 0;
    std::uint64_t unit = 0;  // when it left with an answer
    bool unwanted = false;   // not to leave again in another epoch
  };

  // Both.
  struct Part {
    FrameNumber number;
    Bytes bytes;
    Instant sent;
    bool left = false, acknowledged = false, again = false;
  };
  struct Outgoing {
    std::uint64_t id = 0;
    Bytes payload;
    std::size_t part_size = 0;
    std::vector<Part> parts;
    std::uint32_t next = 0;
    unsigned silent = 0;  // timeouts in a row
    Instant deadline = Instant::never();
    std::uint64_t item = 0;
    std::uint64_t frame = 0;  // owner
    std::uint64_t group = 0;  // owner, when part 0 is the answer to it
    std::uint8_t priority = 5;
    std::uint32_t newest = 0;
  };
  struct Incoming {
    std::uint64_t id = 0;
    std::map<std::uint32_t, Bytes> parts;
    std::uint32_t count = 0;  // 0: the last one is not there yet
    std::uint32_t since_status = 0;
    std::size_t bytes = 0;
    std::optional<FrameNumber> first;  // of part 0
    bool first_is_answer = false;
    bool complete = false;
    FrameNumber newest;
  };
  struct NumberRef {
    std::uint64_t frame = 0, transfer = 0;
    std::uint32_t index = 0;
  };
};

}  // namespace ravine::gateway::link
