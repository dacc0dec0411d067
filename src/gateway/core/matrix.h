// What the gateways know of the Matrix protocol (client-server r0, v1, v3; federation v1, v2): which requests
// are transactions, which may be dropped when superseded, where secrets stand, and what a sync says. Works on
// texts, never rewrites JSON. Pure functions.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/core/http.h"
#include "gateway/link/thin_link.h"

namespace ravine::gateway::core {

// Characters that no text has: they stand for what the other side puts in.
inline constexpr char kSecretMark = '\x01';     // a value that is in the tail
inline constexpr char kNumberMark = '\x02';     // "\x02<number>": a transaction's ID
inline constexpr std::size_t kMaxMarks = 1024;  // of numbers or aliases in one text
inline constexpr char kAliasMark = '\x03';      // the event ID that a send's answer would have had

enum class RouteKind : std::uint8_t {
  other,  // not Matrix, or nothing special
  plain,  // Matrix, nothing special
  login,  // its response brings a token
  logout,
  transaction,  // PUT …/{txnId}: repeatable by its ID
  typing,
  receipt,
  marker,  // as a receipt, but never lost
  presence,
  sync,
  media,
  avatar,
  federation,
};
inline constexpr std::size_t kRouteKinds = 13;
std::string_view to_text(RouteKind kind);

struct RouteInfo {
  RouteKind kind = RouteKind::other;
  bool matrix = false;
  std::string room;     // as spelled
  std::string subject;  // what a later one of the same subject supersedes
};
RouteInfo classify(std::string_view method, std::string_view target);

// `target` with its last segment as "~", and that segment.
std::string without_transaction(std::string_view target, std::string& transaction);
std::string with_transaction(std::string_view target, std::string_view transaction);

// Whether an event that this request makes may be known by an alias at first: not in encrypted rooms, whose
// clients refer to it before its echo comes.
bool may_alias(const RouteInfo& route, std::string_view target);

// "m%2f1" as it stands in a JSON string: `m/1`.
std::string json_text_of(std::string_view segment);

// The whole text as a decimal number.
std::optional<std::uint64_t> parse_number(std::string_view text);

// Value of a query parameter, as spelled; "" when absent.
std::string_view query_value(std::string_view target, std::string_view name);
std::string without_query(std::string_view target, std::string_view name);

// Value of a member of a JSON text that is an object, as it is spelled; "" when absent.
std::string_view json_member(std::string_view json, std::string_view key);
// The same of a string without escapes; "" else.
std::string_view json_text(std::string_view json, std::string_view key);
// A sync response that only moves next_batch (and says how many keys are left, see key_counts).
bool is_empty_sync(std::string_view body);
// Its members that say how many one-time keys are left, as `,"name":value` each: a client must not miss them.
std::string key_counts(std::string_view body);

// Moves values of secret keys (access_token, refresh_token, password) out of the text to the front of the
// tail, and back. reveal: false when text and tail do not fit.
void hide_secrets(link::Message& message);
bool reveal_secrets(link::Message& message);
// A text line for a secret that stands in the tail: the caller's own use of the mark.
void add_secret(link::Message& message, std::size_t text_position, std::string_view secret);

// `"transaction_id":"<prefix><number>"` to `"transaction_id":"\x02<number>"`, the first kMaxMarks of them.
void mark_transactions(Bytes& text, std::string_view prefix);
// Back, with the ID that `name` gives for a number. False: marks that mark_transactions() does not make.
bool unmark_transactions(Bytes& text, const std::function<std::string(std::uint64_t)>& name);

// Link options that both cores share: what runs once, and which answers need no bytes.
link::LinkOptions link_options(link::LinkOptions base, bool matrix, bool alias_events);

// {"errcode": …} when the target is Matrix's, else plain text.
HttpResponse error_response(bool matrix, std::uint16_t status, std::string_view reason);

}  // namespace ravine::gateway::core
