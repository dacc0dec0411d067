// What clients, servers and a paired gateway may put into a message of the gateway: texts of requests and
// responses, Matrix's JSON, secrets and marks. What was taken out of a text comes back as it was.
#include <algorithm>

#include "fuzz/fuzz_input.h"
#include "gateway/core/matrix.h"
#include "gateway/core/text.h"

using namespace ravine;
using fuzz::expect;
using namespace gateway::core;
using gateway::link::Message;

namespace {

void check_messages(const Message& message) {
  if (const auto request = parse_request_text(message)) {
    const auto again = parse_request_text(request_text(*request, {}));
    expect(again.ok() && again->method == request->method && again->target == request->target);
    expect(again->body == request->body);
    const RouteInfo route = classify(request->method, request->target);
    if (route.kind == RouteKind::transaction) {
      std::string transaction;
      const std::string without = without_transaction(request->target, transaction);
      expect(with_transaction(without, transaction) == request->target);
    }
    (void)query_value(request->target, "since");
    (void)without_query(request->target, "since");
  }
  if (const auto response = parse_response_text(message)) {
    const auto again = parse_response_text(response_text(*response, {}));
    expect(again.ok() && again->status == response->status && again->body == response->body);
  }
}

void check_secrets(const Message& message) {
  Message hidden = message;
  const auto mark = static_cast<std::uint8_t>(kSecretMark);
  if (std::find(hidden.text.begin(), hidden.text.end(), mark) != hidden.text.end()) {
    const std::size_t bytes = hidden.text.size() + hidden.tail.size();
    (void)reveal_secrets(hidden);
    expect(hidden.text.size() + hidden.tail.size() <= bytes);
    return;
  }
  hide_secrets(hidden);
  expect(reveal_secrets(hidden));
  expect(hidden == message);
}

void check_marks(const Message& message) {
  const std::string prefix = "rvaa.";
  const auto name = [&](std::uint64_t number) { return prefix + std::to_string(number); };
  const auto mark = static_cast<std::uint8_t>(kNumberMark);
  Bytes text = message.text;
  if (std::find(text.begin(), text.end(), mark) == text.end()) {
    mark_transactions(text, prefix);
    expect(text.size() <= message.text.size());
    expect(unmark_transactions(text, name));
    expect(text == message.text);
  } else if (unmark_transactions(text, name)) {
    expect(text.size() <= message.text.size() + kMaxMarks * 32);
  }
}

void check_json(std::string_view body) {
  const std::string_view next = json_text(body, "next_batch");
  expect(next.size() <= body.size());
  (void)json_member(body, "rooms");
  (void)is_empty_sync(body);
  expect(key_counts(body).size() <= 2 * body.size() + 8);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input in(ByteView(data, size));
  Message message;
  message.tail = to_bytes(in.bytes(in.u8()));
  message.text = to_bytes(in.rest());
  check_messages(message);
  check_secrets(message);
  check_marks(message);
  check_json(as_text(message.text));
  return 0;
}
