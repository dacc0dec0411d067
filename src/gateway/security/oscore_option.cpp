// The OSCORE option, the classes of options, and the inner message's framing.
#include <algorithm>

#include "gateway/security/oscore_plaintext.h"

namespace ravine::gateway::security {
namespace {

constexpr std::uint8_t kFlagKid = 0x08;
constexpr std::uint8_t kFlagKidContext = 0x10;
constexpr std::uint8_t kReservedFlags = 0xe0;
constexpr std::size_t kMaxPartialIv = 5;
constexpr std::size_t kMaxInnerOptions = 128;

// RFC 7252 §3.1: a nibble, and what follows for values above 12.
std::uint8_t nibble(std::size_t value) {
  return static_cast<std::uint8_t>(value < 13 ? value : value < 269 ? 13 : 14);
}

void write_extension(ByteWriter& out, std::size_t value) {
  if (value >= 269) {
    out.write_u16(static_cast<std::uint16_t>(value - 269));
  } else if (value >= 13) {
    out.write_u8(static_cast<std::uint8_t>(value - 13));
  }
}

std::optional<std::size_t> read_extension(ByteReader& in, unsigned value) {
  if (value == 15) return std::nullopt;
  if (value == 13) return std::size_t{in.read_u8()} + 13;
  if (value == 14) return std::size_t{in.read_u16()} + 269;
  return value;
}

}  // namespace

bool is_outer_option(std::uint16_t number) {
  switch (number) {
    case 3:  // Uri-Host
    case 7:  // Uri-Port
    case kOptionOscore:
    case 16:  // Hop-Limit
    case 21:  // EDHOC
    case kOptionProxyUri:
    case 39:  // Proxy-Scheme
      return true;
    default:
      return false;
  }
}

Bytes OscoreOption::encode() const {
  ensure(!partial_iv || (!partial_iv->empty() && partial_iv->size() <= kMaxPartialIv));
  ensure(!kid_context || kid_context->size() <= 255);
  std::uint8_t flags = partial_iv ? static_cast<std::uint8_t>(partial_iv->size()) : std::uint8_t{0};
  if (kid) flags |= kFlagKid;
  if (kid_context) flags |= kFlagKidContext;
  if (flags == 0) return {};
  ByteWriter out;
  out.write_u8(flags);
  if (partial_iv) out.write(*partial_iv);
  if (kid_context) {
    out.write_u8(static_cast<std::uint8_t>(kid_context->size()));
    out.write(*kid_context);
  }
  if (kid) out.write(*kid);
  return out.take();
}

std::optional<OscoreOption> OscoreOption::decode(ByteView value) {
  OscoreOption option;
  if (value.empty()) return option;
  ByteReader in(value);
  const std::uint8_t flags = in.read_u8();
  const std::size_t size = flags & 7;
  if (flags == 0 || (flags & kReservedFlags) != 0 || size > kMaxPartialIv) return std::nullopt;
  if (size != 0) option.partial_iv = to_bytes(in.read_view(size));
  if ((flags & kFlagKidContext) != 0) {
    const std::size_t context_size = in.read_u8();
    option.kid_context = to_bytes(in.read_view(context_size));
  }
  if (!in.ok()) return std::nullopt;
  if ((flags & kFlagKid) != 0) {
    option.kid = to_bytes(in.rest());
  } else if (in.remaining() != 0) {
    return std::nullopt;
  }
  return option;
}

Bytes encode_inner(std::uint8_t code, const std::vector<CoapOption>& options, ByteView payload) {
  ByteWriter out;
  out.write_u8(code);
  std::uint16_t last = 0;
  for (const CoapOption& option : options) {
    const auto delta = static_cast<std::size_t>(option.number - last);
    out.write_u8(static_cast<std::uint8_t>((nibble(delta) << 4) | nibble(option.value.size())));
    write_extension(out, delta);
    write_extension(out, option.value.size());
    out.write(option.value);
    last = option.number;
  }
  if (!payload.empty()) {
    out.write_u8(0xff);
    out.write(payload);
  }
  return out.take();
}

std::optional<CoapContent> decode_inner(ByteView plaintext) {
  CoapContent content;
  ByteReader in(plaintext);
  content.code = in.read_u8();
  std::size_t number = 0;
  while (in.ok() && in.remaining() != 0) {
    const std::uint8_t head = in.read_u8();
    if (head == 0xff) {
      if (in.remaining() == 0) return std::nullopt;  // RFC 7252 §3: a marker without payload
      content.payload = to_bytes(in.rest());
      return content;
    }
    const auto delta = read_extension(in, head >> 4);
    const auto size = read_extension(in, head & 15);
    if (!delta || !size) return std::nullopt;
    number += *delta;
    if (number > 65535 || content.options.size() == kMaxInnerOptions) return std::nullopt;
    content.options.push_back({static_cast<std::uint16_t>(number), to_bytes(in.read_view(*size))});
  }
  if (!in.ok()) return std::nullopt;
  return content;
}

std::uint8_t error_code(OscoreDrop drop) {
  switch (drop) {
    case OscoreDrop::bad_option:
      return 0x82;  // 4.02 Bad Option
    case OscoreDrop::no_option:
    case OscoreDrop::unknown_context:
    case OscoreDrop::replayed:
      return 0x81;  // 4.01 Unauthorized
    case OscoreDrop::decryption_failed:
    case OscoreDrop::bad_plaintext:
      return 0x80;  // 4.00 Bad Request
    case OscoreDrop::limit_reached:
      return 0xa3;  // 5.03 Service Unavailable
    case OscoreDrop::stale_notification:
      return 0;
  }
  return 0;
}

std::string_view to_text(OscoreDrop drop) {
  switch (drop) {
    case OscoreDrop::no_option:
      return "OSCORE required";
    case OscoreDrop::bad_option:
      return "Failed to decode COSE";
    case OscoreDrop::unknown_context:
      return "Security context not found";
    case OscoreDrop::replayed:
      return "Replay detected";
    case OscoreDrop::decryption_failed:
      return "Decryption failed";
    case OscoreDrop::bad_plaintext:
      return "Malformed inner message";
    case OscoreDrop::stale_notification:
      return "Older than a notification already seen";
    case OscoreDrop::limit_reached:
      return "The security context needs new keys";
  }
  return "Unknown";
}

}  // namespace ravine::gateway::security
