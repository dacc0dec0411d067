#include "gateway/cbor/key_table.h"

#include <array>
#include <map>

namespace ravine::gateway::cbor {
namespace {

constexpr std::array<std::string_view, kMatrixKeys> kKeys{"event_id",
                                                          "type",
                                                          "content",
                                                          "state_key",
                                                          "room_id",
                                                          "sender",
                                                          "user_id",
                                                          "origin_server_ts",
                                                          "unsigned",
                                                          "prev_content",
                                                          "state",
                                                          "timeline",
                                                          "events",
                                                          "limited",
                                                          "prev_batch",
                                                          "transaction_id",
                                                          "age",
                                                          "redacted_because",
                                                          "next_batch",
                                                          "presence",
                                                          "avatar_url",
                                                          "account_data",
                                                          "rooms",
                                                          "join",
                                                          "membership",
                                                          "displayname",
                                                          "body",
                                                          "msgtype",
                                                          "format",
                                                          "formatted_body",
                                                          "ephemeral",
                                                          "invite_state",
                                                          "leave",
                                                          "third_party_invite",
                                                          "is_direct",
                                                          "hashes",
                                                          "signatures",
                                                          "depth",
                                                          "prev_events",
                                                          "prev_state",
                                                          "auth_events",
                                                          "origin",
                                                          "creator",
                                                          "join_rule",
                                                          "history_visibility",
                                                          "ban",
                                                          "events_default",
                                                          "kick",
                                                          "redact",
                                                          "state_default",
                                                          "users",
                                                          "users_default",
                                                          "reason",
                                                          "visibility",
                                                          "room_alias_name",
                                                          "name",
                                                          "topic",
                                                          "invite",
                                                          "invite_3pid",
                                                          "room_version",
                                                          "creation_content",
                                                          "initial_state",
                                                          "preset",
                                                          "servers",
                                                          "identifier",
                                                          "user",
                                                          "medium",
                                                          "address",
                                                          "password",
                                                          "token",
                                                          "device_id",
                                                          "initial_device_display_name",
                                                          "access_token",
                                                          "home_server",
                                                          "well_known",
                                                          "base_url",
                                                          "device_lists",
                                                          "to_device",
                                                          "peek",
                                                          "last_seen_ip",
                                                          "display_name",
                                                          "typing",
                                                          "last_seen_ts",
                                                          "algorithm",
                                                          "sender_key",
                                                          "session_id",
                                                          "ciphertext",
                                                          "one_time_keys",
                                                          "timeout",
                                                          "recent_rooms",
                                                          "chunk",
                                                          "m.fully_read",
                                                          "device_keys",
                                                          "failures",
                                                          "device_display_name",
                                                          "prev_sender",
                                                          "replaces_state",
                                                          "changed",
                                                          "unstable_features",
                                                          "versions",
                                                          "devices",
                                                          "errcode",
                                                          "error",
                                                          "room_alias"};

}  // namespace

std::optional<unsigned> matrix_key_number(std::string_view key) {
  static const std::map<std::string_view, unsigned> numbers = [] {
    std::map<std::string_view, unsigned> made;
    for (unsigned number = 1; number <= kMatrixKeys; ++number) made.emplace(kKeys[number - 1], number);
    return made;
  }();
  const auto at = numbers.find(key);
  return at == numbers.end() ? std::nullopt : std::optional(at->second);
}

std::string_view matrix_key(std::uint64_t number) {
  return number >= 1 && number <= kMatrixKeys ? kKeys[number - 1] : std::string_view();
}

}  // namespace ravine::gateway::cbor
