// What a uframe's plaintext says: the records of the thin link, byte by byte in
// docs/protocol-gateway-link.md. Numbers of states come in two forms: a few low bits in one byte, for the
// ordinary case, and whole. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "gateway/coder/coder.h"

namespace ravine::gateway::link {

enum class RecordType : std::uint8_t {
  coded = 0,     // requests, a response or a push
  fragment = 1,  // part of a record that one frame cannot hold
  status = 2,    // which parts of a transfer are there
  ack = 3,       // upward: units through `state` are there
  resync = 4,    // downward: cannot be decoded here
  wait = 5,      // downward answer: the response comes later as a message; message: say what has arrived
  batch = 6,     // several requests, or their responses
  one_way = 7,   // upward: a request that nothing answers
  joint = 7,     // as an answer: a push behind the responses
};

// How the coded bytes of a record are to be placed; which fields are on the air depends on direction.
enum class Lane : std::uint8_t { request, answer, push };

struct CodedItem {
  Bytes coded;
  bool one_way = false;
};

// The first bytes of a coder's ID; states' checks cover the rest.
using CoderMark = std::array<std::uint8_t, 4>;
CoderMark mark_of(const coder::CoderId& id);
inline constexpr std::size_t kMaxCoders = 8;

inline constexpr std::size_t kMaxBatch = 16;
inline constexpr std::size_t kCheckedSize = 16;  // coded bytes from which a short form's check has 12 bits

struct CodedRecord {
  Lane lane = Lane::request;
  bool one_way = false;
  bool committed = true;  // answer, push: becomes a unit
  bool joint = false;     // answer: the last item is a push; nothing but `expected` and coded items beside it
  bool expected = false;  // joint: the responses are those that both sides expect; only the push is here
  // Upward while the epoch is not known to have arrived.
  struct Reset {
    std::uint64_t epoch = 0;
    std::uint64_t floor = 0;  // the oldest identity still wanted
    std::uint64_t first = 0;  // epoch of the near side's process: another one has another memory
    CoderMark coder{};        // that the epoch is coded with
  };
  std::optional<Reset> reset;
  // Upward: the request's first identity; downward in a message: the identity that it answers.
  std::optional<std::uint64_t> named;

  std::uint64_t state = 0;  // coded against
  std::uint64_t unit = 0;   // downward, committed: becomes this state
  std::uint16_t check = 0;  // StateLadder::check(state)
  unsigned check_bits = 4;  // after decoding: how many of its high bits are meant
  bool whole = false;       // after decoding: `state` and `unit` are whole, else low bits (below)
  unsigned state_bits = 0, unit_bits = 0;

  std::vector<CodedItem> items;
  Bytes tail;
};

// Answers of one byte say state and unit relative to the state that the request named.
struct AnswerBase {
  std::uint64_t request_state = 0;
};

// Whether an answer of one byte can say `record`'s state and unit; a joint one must be able to.
bool fits_short_answer(const CodedRecord& record, AnswerBase base);
// The shortest form that says it. Requests: at most 7 states are below the newest, see near_window.
Bytes encode_coded(const CodedRecord& record, bool allow_short, AnswerBase base);
// nullopt when malformed. For Lane::answer in short form, state and unit come out whole.
std::optional<CodedRecord> decode_coded(ByteView plaintext, Lane lane, AnswerBase base);
// nullopt for an empty plaintext; the short forms are `coded`.
std::optional<RecordType> record_type(ByteView plaintext);

struct FragmentRecord {
  std::uint64_t transfer = 0;
  std::uint32_t index = 0;
  bool last = false;
  ByteView part;
};
Bytes encode_fragment_record(const FragmentRecord& record);
std::optional<FragmentRecord> decode_fragment_record(ByteView plaintext);

struct StatusRecord {
  std::uint64_t transfer = 0;
  std::uint32_t first_missing = 0;
  Bytes bitmap;  // of the parts from first_missing + 1 on, lowest bit first
  bool has(std::uint32_t index) const;
};
Bytes encode_status(const StatusRecord& record);
std::optional<StatusRecord> decode_status(ByteView plaintext);

// ack: state, and after lost memory the new epoch and the number at which to go on.
// resync: `recode` when only this request has to be coded anew; `coders` when the epoch's coder is not here,
// but these are; else the state is gone.
struct ControlRecord {
  RecordType type = RecordType::ack;
  std::uint64_t state = 0;
  std::uint16_t check = 0;  // StateLadder::check(state)
  bool recode = false;
  std::optional<CodedRecord::Reset> reset;
  struct Skip {
    std::uint32_t generation = 0;
    std::uint64_t number = 0;
  };
  std::optional<Skip> skip;
  std::vector<CoderMark> coders;
};
Bytes encode_control(const ControlRecord& record);
std::optional<ControlRecord> decode_control(ByteView plaintext);

}  // namespace ravine::gateway::link
