#include "gateway/coap/message.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/ensure.h"

namespace ravine::gateway::coap {
namespace {

constexpr std::uint8_t kPayloadMarker = 0xff;
constexpr std::uint32_t kOneByteBase = 13;   // RFC 7252 §3.1: nibble 13 adds one byte
constexpr std::uint32_t kTwoByteBase = 269;  // nibble 14 adds two

std::uint8_t nibble_of(std::uint32_t value) {
  if (value < kOneByteBase) return static_cast<std::uint8_t>(value);
  return value < kTwoByteBase ? 13 : 14;
}

std::size_t extension_size(std::uint32_t value) {
  return value < kOneByteBase ? 0 : value < kTwoByteBase ? 1 : 2;
}

void write_extension(ByteWriter& out, std::uint32_t value) {
  if (value >= kTwoByteBase) {
    out.write_u16(static_cast<std::uint16_t>(value - kTwoByteBase));
  } else if (value >= kOneByteBase) {
    out.write_u8(static_cast<std::uint8_t>(value - kOneByteBase));
  }
}

// False for the reserved nibble 15; a short read shows in the reader.
bool read_extension(ByteReader& in, unsigned nibble, std::uint32_t& value) {
  if (nibble == 15) return false;
  value = nibble;
  if (nibble == 13) value = kOneByteBase + in.read_u8();
  if (nibble == 14) value = kTwoByteBase + in.read_u16();
  return true;
}

// The options by number; equal ones in the order given. Few and mostly sorted, so insertion does.
std::vector<const Option*> in_order(const std::vector<Option>& options) {
  std::vector<const Option*> sorted;
  sorted.reserve(options.size());
  for (const Option& option : options) {
    auto place = sorted.end();
    while (place != sorted.begin() && (*std::prev(place))->number > option.number) --place;
    sorted.insert(place, &option);
  }
  return sorted;
}

MessageFault read_option(ByteReader& in, std::uint32_t& number, std::vector<Option>& options) {
  const std::uint8_t head = in.read_u8();
  std::uint32_t delta = 0;
  std::uint32_t length = 0;
  if (!read_extension(in, head >> 4, delta) || !read_extension(in, head & 15, length)) {
    return MessageFault::option_header;
  }
  if (!in.ok()) return MessageFault::truncated;
  number += delta;
  if (number > 0xffff) return MessageFault::option_header;
  if (length > kMaxOptionValue || options.size() >= kMaxOptions) return MessageFault::too_many_options;
  const ByteView value = in.read_view(length);
  if (!in.ok()) return MessageFault::truncated;
  options.push_back({static_cast<std::uint16_t>(number), to_bytes(value)});
  return MessageFault::none;
}

MessageFault read_options(ByteView bytes, std::vector<Option>& options, Bytes& payload) {
  ByteReader in(bytes);
  std::uint32_t number = 0;
  while (in.remaining() > 0) {
    if (in.rest()[0] == kPayloadMarker) {
      in.read_u8();
      if (in.remaining() == 0) return MessageFault::empty_payload;
      payload = to_bytes(in.rest());
      return MessageFault::none;
    }
    if (const MessageFault fault = read_option(in, number, options); fault != MessageFault::none)
      return fault;
  }
  return MessageFault::none;
}

}  // namespace

std::string to_text(Code code) {
  return fmt::format("{}.{:02}", code_class(code), code_detail(code));
}

std::string_view to_text(MessageFault fault) {
  switch (fault) {
    case MessageFault::none:
      return "none";
    case MessageFault::truncated:
      return "truncated";
    case MessageFault::version:
      return "unknown version";
    case MessageFault::token_length:
      return "reserved token length";
    case MessageFault::option_header:
      return "reserved option header";
    case MessageFault::empty_payload:
      return "payload marker without payload";
    case MessageFault::not_empty:
      return "empty message with content";
    case MessageFault::code_class:
      return "reserved code class";
    case MessageFault::too_many_options:
      return "too many or too long options";
  }
  return "unknown";
}

const Option* Message::find(std::uint16_t number) const {
  for (const Option& option : options) {
    if (option.number == number) return &option;
  }
  return nullptr;
}

std::optional<std::uint64_t> Message::uint_option(std::uint16_t number) const {
  const Option* option = find(number);
  return option == nullptr ? std::nullopt : decode_uint(option->value);
}

void Message::set(std::uint16_t number, ByteView value) {
  remove(number);
  add(number, value);
}

void Message::remove(std::uint16_t number) {
  std::erase_if(options, [number](const Option& option) { return option.number == number; });
}

void encode_options(ByteWriter& out, const std::vector<Option>& options) {
  std::uint32_t previous = 0;
  for (const Option* option : in_order(options)) {
    ensure(option->value.size() <= kMaxOptionValue);
    const std::uint32_t delta = option->number - previous;
    const auto length = static_cast<std::uint32_t>(option->value.size());
    out.write_u8(static_cast<std::uint8_t>((nibble_of(delta) << 4) | nibble_of(length)));
    write_extension(out, delta);
    write_extension(out, length);
    out.write(option->value);
    previous = option->number;
  }
}

bool decode_options(ByteView bytes, std::vector<Option>& options, Bytes& payload) {
  return read_options(bytes, options, payload) == MessageFault::none;
}

Bytes encode_message(const Message& message) {
  ensure(message.token.size() <= kMaxToken);
  ensure(message.code != Code::empty ||
         (message.token.empty() && message.options.empty() && message.payload.empty()));
  ByteWriter out;
  const unsigned first =
      0x40u | (static_cast<unsigned>(message.type) << 4) | static_cast<unsigned>(message.token.size());
  out.write_u8(static_cast<std::uint8_t>(first));
  out.write_u8(static_cast<std::uint8_t>(message.code));
  out.write_u16(message.id);
  out.write(message.token);
  encode_options(out, message.options);
  if (!message.payload.empty()) {
    out.write_u8(kPayloadMarker);
    out.write(message.payload);
  }
  return out.take();
}

std::size_t encoded_size(const Message& message) {
  std::size_t size = kHeaderSize + message.token.size();
  std::uint32_t previous = 0;
  for (const Option* option : in_order(message.options)) {
    const auto length = static_cast<std::uint32_t>(option->value.size());
    size += 1 + extension_size(option->number - previous) + extension_size(length) + length;
    previous = option->number;
  }
  return size + (message.payload.empty() ? 0 : 1 + message.payload.size());
}

Decoded decode_message(ByteView bytes) {
  Decoded out;
  ByteReader in(bytes);
  const std::uint8_t first = in.read_u8();
  const std::uint8_t code = in.read_u8();
  out.message.id = in.read_u16();
  if (!in.ok()) {
    out.fault = MessageFault::truncated;
    return out;
  }
  if ((first >> 6) != 1) {
    out.fault = MessageFault::version;
    return out;
  }
  out.header_valid = true;
  out.message.type = static_cast<MessageType>((first >> 4) & 3);
  out.message.code = static_cast<Code>(code);
  const std::size_t token_length = first & 15u;
  if (token_length > kMaxToken) {
    out.fault = MessageFault::token_length;
    return out;
  }
  const unsigned klass = code >> 5;
  if (klass == 1 || klass >= 6) {
    out.fault = MessageFault::code_class;
    return out;
  }
  if (out.message.code == Code::empty && (token_length != 0 || in.remaining() != 0)) {
    out.fault = MessageFault::not_empty;
    return out;
  }
  out.message.token = to_bytes(in.read_view(token_length));
  if (!in.ok()) {
    out.fault = MessageFault::truncated;
    return out;
  }
  out.fault = read_options(in.rest(), out.message.options, out.message.payload);
  return out;
}

OptionVerdict classify_options(Message& message) {
  OptionVerdict verdict;
  std::vector<Option> kept;
  kept.reserve(message.options.size());
  for (Option& option : message.options) {
    const std::optional<OptionInfo> info = option_info(option.number);
    const bool repeated = std::any_of(kept.begin(), kept.end(),
                                      [&](const Option& other) { return other.number == option.number; });
    // RFC 7252 §5.4.3 and §5.4.5: a length outside the range, or a repetition that is not allowed, is as
    // unknown.
    const bool understood = info && option.value.size() >= info->min_length &&
                            option.value.size() <= info->max_length && (info->repeatable || !repeated);
    if (understood) {
      kept.push_back(std::move(option));
    } else if (is_critical(option.number)) {
      verdict.refused.push_back(option.number);
    }
  }
  message.options = std::move(kept);
  return verdict;
}

}  // namespace ravine::gateway::coap
