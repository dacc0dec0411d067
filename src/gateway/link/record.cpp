#include "gateway/link/record.h"

#include <algorithm>

namespace ravine::gateway::link {
namespace {

constexpr std::uint8_t kExtended = 0x80;
// Flags of coded, batch and one_way records; a batch has its count there and the flags in the next byte.
constexpr std::uint8_t kReset = 1;
constexpr std::uint8_t kNamed = 2;
constexpr std::uint8_t kTail = 4;
constexpr std::uint8_t kLoose = 8;  // downward: not committed
constexpr std::uint8_t kRecode = 1;
constexpr std::uint8_t kSkip = 2;
constexpr std::uint8_t kControlReset = 4;
constexpr std::uint8_t kCoders = 8;  // resync
constexpr std::uint8_t kLast = 1;
constexpr std::size_t kMaxBitmap = 32;

std::uint8_t head(RecordType type, std::size_t flags) {
  return static_cast<std::uint8_t>(kExtended | (static_cast<unsigned>(type) << 4) | (flags & 0x0f));
}

void write_reset(ByteWriter& out, const CodedRecord::Reset& reset) {
  out.write_varint(reset.epoch);
  out.write_varint(reset.floor);
  out.write_varint(reset.epoch - reset.first);
  out.write(reset.coder);
}

std::optional<CodedRecord::Reset> read_reset(ByteReader& in) {
  CodedRecord::Reset reset{.epoch = in.read_varint(), .floor = in.read_varint()};
  const std::uint64_t since = in.read_varint();
  if (since > reset.epoch) return std::nullopt;
  reset.first = reset.epoch - since;
  for (std::uint8_t& byte : reset.coder) byte = in.read_u8();
  return reset;
}

bool plain(const CodedRecord& record) {
  return !record.reset && !record.named && record.tail.empty() && record.items.size() == 1 &&
         !record.one_way && record.committed;
}

void write_item(ByteWriter& out, const CodedRecord& record) {
  if (record.items[0].coded.size() >= kCheckedSize)
    out.write_u8(static_cast<std::uint8_t>(record.check >> 4 & 0xff));
  out.write(record.items[0].coded);
}

unsigned short_answer(const CodedRecord& record, AnswerBase base) {
  const std::uint64_t ahead = record.unit - base.request_state - 1;
  return static_cast<unsigned>(ahead << 1 | (record.state + 1 == record.unit ? 1u : 0u));
}

std::optional<Bytes> encode_short(const CodedRecord& record, AnswerBase base) {
  ByteWriter out;
  const unsigned check = record.check >> 12;
  switch (record.lane) {
    case Lane::request:
      out.write_u8(static_cast<std::uint8_t>((record.state & 7) << 4 | check));
      break;
    case Lane::answer: {
      if (!fits_short_answer(record, base)) return std::nullopt;
      out.write_u8(static_cast<std::uint8_t>(short_answer(record, base) << 4 | check));
      break;
    }
    case Lane::push: {
      const std::uint64_t behind = record.unit - 1 - record.state;
      if (behind > 15) return std::nullopt;
      out.write_u8(static_cast<std::uint8_t>(record.unit & 0x7f));
      out.write_u8(static_cast<std::uint8_t>(behind << 4 | check));
      break;
    }
  }
  write_item(out, record);
  return out.take();
}

bool read_item(ByteReader& in, CodedRecord& record) {
  // 17 bytes of rest can only be a second check byte and 16 coded ones.
  if (in.remaining() > kCheckedSize) {
    record.check = static_cast<std::uint16_t>(record.check | in.read_u8() << 4);
    record.check_bits = 12;
  } else if (in.remaining() == kCheckedSize) {
    return false;
  }
  record.items.push_back({to_bytes(in.rest()), false});
  return true;
}

Bytes encode_joint(const CodedRecord& record, AnswerBase base) {
  ByteWriter out;
  out.write_u8(head(RecordType::joint, short_answer(record, base) << 1 | (record.expected ? 1u : 0u)));
  out.write_u8(static_cast<std::uint8_t>(record.check >> 8));
  if (!record.expected) out.write_varint(record.items[0].coded.size());
  for (const CodedItem& item : record.items) out.write(item.coded);
  return out.take();
}

void place_short_answer(CodedRecord& record, unsigned bits, AnswerBase base) {
  record.unit = base.request_state + 1 + (bits >> 1);
  record.state = (bits & 1) != 0 ? record.unit - 1 : base.request_state;
  record.whole = true;
}

std::optional<CodedRecord> decode_joint(ByteView plaintext, AnswerBase base) {
  ByteReader in(plaintext);
  const std::uint8_t first = in.read_u8();
  CodedRecord record{.lane = Lane::answer, .joint = true, .expected = (first & 1) != 0};
  place_short_answer(record, first >> 1 & 7, base);
  record.check = static_cast<std::uint16_t>(in.read_u8() << 8);
  record.check_bits = 8;
  if (!record.expected) record.items.push_back({to_bytes(in.read_view(in.read_varint())), false});
  record.items.push_back({to_bytes(in.rest()), false});
  if (!in.ok()) return std::nullopt;
  return record;
}

std::optional<CodedRecord> decode_short(ByteView plaintext, Lane lane, AnswerBase base) {
  ByteReader in(plaintext);
  CodedRecord record;
  record.lane = lane;
  const std::uint8_t first = in.read_u8();
  std::uint8_t check = first;
  switch (lane) {
    case Lane::request:
      record.state = first >> 4;
      record.state_bits = 3;
      break;
    case Lane::answer:
      place_short_answer(record, first >> 4 & 7u, base);
      break;
    case Lane::push:
      check = in.read_u8();
      record.unit = first & 0x7f;
      record.unit_bits = 7;
      record.state = check >> 4;  // so many below the unit before
      record.state_bits = 4;
      break;
  }
  record.check = static_cast<std::uint16_t>((check & 0x0f) << 12);
  if (!in.ok() || !read_item(in, record)) return std::nullopt;
  return record;
}

}  // namespace

CoderMark mark_of(const coder::CoderId& id) {
  CoderMark mark{};
  std::copy_n(id.begin(), mark.size(), mark.begin());
  return mark;
}

std::optional<RecordType> record_type(ByteView plaintext) {
  if (plaintext.empty()) return std::nullopt;
  if ((plaintext[0] & kExtended) == 0) return RecordType::coded;
  return static_cast<RecordType>((plaintext[0] >> 4) & 7);
}

bool fits_short_answer(const CodedRecord& record, AnswerBase base) {
  if (record.unit <= base.request_state || record.unit - base.request_state > 4) return false;
  return record.state + 1 == record.unit || record.state == base.request_state;
}

Bytes encode_coded(const CodedRecord& record, bool allow_short, AnswerBase base) {
  if (record.joint) return encode_joint(record, base);
  if (allow_short && plain(record)) {
    if (auto bytes = encode_short(record, base)) return *bytes;
  }
  const std::uint8_t flags =
      static_cast<std::uint8_t>((record.reset ? kReset : 0) | (record.named ? kNamed : 0) |
                                (record.tail.empty() ? 0 : kTail) | (record.committed ? 0 : kLoose));
  const bool batch = record.items.size() > 1;
  ByteWriter out;
  if (batch) {
    out.write_u8(head(RecordType::batch, record.items.size() - 1));
    out.write_u8(flags);
  } else {
    out.write_u8(head(record.one_way ? RecordType::one_way : RecordType::coded, flags));
  }
  if (record.reset) write_reset(out, *record.reset);
  if (record.named) out.write_varint(*record.named);
  out.write_varint(record.state);
  if (record.lane != Lane::request && record.committed) out.write_varint(record.unit - record.state - 1);
  out.write_u16(record.check);
  if (batch) {
    for (const CodedItem& item : record.items) {
      out.write_varint(item.coded.size() * 2 + (item.one_way ? 1 : 0));
      out.write(item.coded);
    }
    out.write(record.tail);
    return out.take();
  }
  if (!record.tail.empty()) out.write_varint(record.items[0].coded.size());
  out.write(record.items[0].coded);
  out.write(record.tail);
  return out.take();
}

std::optional<CodedRecord> decode_coded(ByteView plaintext, Lane lane, AnswerBase base) {
  const auto type = record_type(plaintext);
  if (!type) return std::nullopt;
  if ((plaintext[0] & kExtended) == 0) return decode_short(plaintext, lane, base);
  if (lane == Lane::answer && *type == RecordType::joint) return decode_joint(plaintext, base);
  ByteReader in(plaintext);
  const std::uint8_t first = in.read_u8();
  const bool batch = *type == RecordType::batch;
  const std::uint8_t flags = batch ? in.read_u8() : static_cast<std::uint8_t>(first & 0x0f);
  CodedRecord record;
  record.lane = lane;
  record.one_way = *type == RecordType::one_way;
  record.committed = lane == Lane::request || (flags & kLoose) == 0;
  record.whole = true;
  record.check_bits = 16;
  if ((flags & kReset) != 0) {
    record.reset = read_reset(in);
    if (!record.reset) return std::nullopt;
  }
  if ((flags & kNamed) != 0) record.named = in.read_varint();
  record.state = in.read_varint();
  if (lane != Lane::request && record.committed) record.unit = record.state + 1 + in.read_varint();
  record.check = in.read_u16();
  if (batch) {
    const std::size_t count = (first & 0x0fu) + 1;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t size = in.read_varint();
      record.items.push_back({to_bytes(in.read_view(size / 2)), (size & 1) != 0});
    }
    record.tail = to_bytes(in.rest());
  } else if ((flags & kTail) != 0) {
    const std::uint64_t size = in.read_varint();
    record.items.push_back({to_bytes(in.read_view(size)), false});
    record.tail = to_bytes(in.rest());
  } else {
    record.items.push_back({to_bytes(in.rest()), false});
  }
  if (!in.ok() || flags > 0x0f) return std::nullopt;
  return record;
}

Bytes encode_fragment_record(const FragmentRecord& record) {
  ByteWriter out;
  out.write_u8(head(RecordType::fragment, record.last ? kLast : 0));
  out.write_varint(record.transfer);
  out.write_varint(record.index);
  out.write(record.part);
  return out.take();
}

std::optional<FragmentRecord> decode_fragment_record(ByteView plaintext) {
  ByteReader in(plaintext);
  FragmentRecord record;
  record.last = (in.read_u8() & kLast) != 0;
  record.transfer = in.read_varint();
  const std::uint64_t index = in.read_varint();
  if (!in.ok() || index > 0xffff || in.remaining() == 0) return std::nullopt;
  record.index = static_cast<std::uint32_t>(index);
  record.part = in.rest();
  return record;
}

bool StatusRecord::has(std::uint32_t index) const {
  if (index < first_missing) return true;
  if (index == first_missing) return false;
  const std::uint32_t bit = index - first_missing - 1;
  return bit / 8 < bitmap.size() && (bitmap[bit / 8] >> (bit % 8) & 1) != 0;
}

Bytes encode_status(const StatusRecord& record) {
  ByteWriter out;
  out.write_u8(head(RecordType::status, 0));
  out.write_varint(record.transfer);
  out.write_varint(record.first_missing);
  out.write(ByteView(record.bitmap).first(std::min(record.bitmap.size(), kMaxBitmap)));
  return out.take();
}

std::optional<StatusRecord> decode_status(ByteView plaintext) {
  ByteReader in(plaintext);
  in.read_u8();
  StatusRecord record;
  record.transfer = in.read_varint();
  const std::uint64_t first = in.read_varint();
  if (!in.ok() || first > 0x10000 || in.remaining() > kMaxBitmap) return std::nullopt;
  record.first_missing = static_cast<std::uint32_t>(first);
  record.bitmap = to_bytes(in.rest());
  return record;
}

Bytes encode_control(const ControlRecord& record) {
  ByteWriter out;
  out.write_u8(head(record.type, (record.recode ? kRecode : 0u) | (record.skip ? kSkip : 0u) |
                                     (record.reset ? kControlReset : 0u) |
                                     (record.coders.empty() ? 0u : kCoders)));
  if (record.type == RecordType::ack) {
    out.write_varint(record.state);
    out.write_u16(record.check);
  }
  if (record.reset) write_reset(out, *record.reset);
  if (record.skip) {
    out.write_varint(record.skip->generation);
    out.write_varint(record.skip->number);
  }
  if (record.type == RecordType::resync)
    for (const CoderMark& coder : record.coders) out.write(coder);
  return out.take();
}

std::optional<ControlRecord> decode_control(ByteView plaintext) {
  ByteReader in(plaintext);
  const std::uint8_t first = in.read_u8();
  ControlRecord record;
  record.type = static_cast<RecordType>((first >> 4) & 7);
  record.recode = (first & kRecode) != 0;
  if (record.type == RecordType::ack) {
    record.state = in.read_varint();
    record.check = in.read_u16();
  }
  if ((first & kControlReset) != 0) {
    record.reset = read_reset(in);
    if (!record.reset) return std::nullopt;
  }
  if ((first & kSkip) != 0) {
    const std::uint64_t generation = in.read_varint();
    const std::uint64_t number = in.read_varint();
    if (generation > UINT32_MAX) return std::nullopt;
    record.skip = {static_cast<std::uint32_t>(generation), number};
  }
  if (record.type == RecordType::resync && (first & kCoders) != 0) {
    while (in.remaining() > 0 && in.ok() && record.coders.size() < kMaxCoders) {
      CoderMark coder{};
      for (std::uint8_t& byte : coder) byte = in.read_u8();
      record.coders.push_back(coder);
    }
  }
  if (!in.ok() || in.remaining() != 0) return std::nullopt;
  return record;
}

}  // namespace ravine::gateway::link
