// One generation of a channel's keys, with its numbers and windows: seals and opens bodies, keeps no frame
// format. Internal to the channel.
#pragma once

#include <cstdint>
#include <optional>
#include <set>

#include "gateway/security/keys.h"
#include "gateway/security/sequence.h"
#include "gateway/security/uframe.h"

namespace ravine::gateway::security {

struct Generation {
  // Never used before.
  Generation(std::uint32_t id, const GatewaySecret& secret, Role role, std::uint64_t max_sends);

  std::uint32_t id = 0;
  GatewaySecret secret;
  FrameKeys send_message, send_answer, open_message, open_answer;

  NumberBlock numbers;             // of our messages
  std::uint64_t first_number = 0;  // of our messages since the start of this process
  std::uint64_t confirmed_end =
      0;  // the other side has seen a number of ours just below this one, or a higher one

  ReplayWindow received;            // the other side's messages
  std::uint64_t receive_limit = 0;  // durable: every number accepted so far lies below
  std::uint64_t fresh_floor = 0;    // below: accepted or not, the last process knew and we do not
  std::set<std::uint64_t> answerable;
  ReplayWindow answered;  // our messages whose answers came

  std::uint64_t failed_opens = 0;
  std::uint64_t failed_limit = 0;  // durable bound of failed_opens

  // Where numbers of the other side's next messages are looked for.
  std::uint64_t expected() const;
  void encode(ByteWriter& out) const;
  static std::optional<Generation> decode(ByteReader& in, Role role, std::uint64_t max_sends);
};

Result<Bytes> seal_body(const FrameKeys& keys, std::uint64_t number, ByteView aad, ByteView plaintext,
                        const UframeProtection& protection);
// nullopt when this number and these keys do not open it.
std::optional<Bytes> open_body(const FrameKeys& keys, std::uint64_t number, ByteView aad, ByteView body,
                               const UframeProtection& protection);

}  // namespace ravine::gateway::security
