#include "gateway/coap/oscore_protection.h"

#include <fmt/format.h>

#include <algorithm>

namespace ravine::gateway::coap {
namespace {

using security::CoapContent;

// Tag, inner code, payload marker, option header; key ID, its context and partial IV.
constexpr std::size_t kFixedOverhead = 8 + 1 + 1 + 3 + 1 + 5;

CoapContent content_of(const Message& message) {
  CoapContent content;
  content.code = static_cast<std::uint8_t>(message.code);
  for (const Option& option : message.options) {
    const auto place =
        std::upper_bound(content.options.begin(), content.options.end(), option.number,
                         [](std::uint16_t number, const auto& other) { return number < other.number; });
    content.options.insert(place, {option.number, option.value});
  }
  content.payload = message.payload;
  return content;
}

Message message_of(const CoapContent& content) {
  Message message;
  message.code = static_cast<Code>(content.code);
  for (const security::CoapOption& option : content.options) message.add(option.number, option.value);
  message.payload = content.payload;
  return message;
}

// RFC 8613 §8.2: answers to what cannot be opened go unprotected and must not be cached.
Protection::Opened refusal(std::uint8_t code, std::string_view reason) {
  Protection::Opened opened;
  opened.refused = true;
  opened.message.code = static_cast<Code>(code);
  if (code != 0) {
    opened.message.add_uint(kMaxAge, 0);
    opened.message.payload = to_bytes(as_bytes(reason));
  }
  return opened;
}

}  // namespace

std::size_t OscoreProtection::overhead_bytes() const {
  return kFixedOverhead + security::kMaxOscoreId + 1 + security::kMaxIdContext;
}

std::uint64_t OscoreProtection::bind(security::OscoreContext& context, security::OscoreExchange exchange) {
  const std::uint64_t binding = next_binding_++;
  bindings_.emplace(binding, Binding{&context, std::move(exchange)});
  return binding;
}

Result<Message> OscoreProtection::seal_request(const SocketAddress& to, const Message& request,
                                               std::uint64_t& binding) {
  const auto context = peers_.find(to);
  if (context == peers_.end()) {
    if (options_.allow_clear) return request;
    return Error{ErrorKind::unauthenticated,
                 "no OSCORE context for this peer: pair with it, or allow clear text"};
  }
  if (bindings_.size() >= options_.bindings)
    return Error{ErrorKind::limit_reached, "too many exchanges at a time"};
  auto sealed = context->second->protect_request(content_of(request));
  if (!sealed) return sealed.error();
  binding = bind(*context->second, std::move(sealed->exchange));
  return message_of(sealed->message);
}

std::optional<Message> OscoreProtection::open_response(std::uint64_t binding, const Message& response,
                                                       std::optional<std::uint64_t>& order) {
  if (binding == 0) return response;
  const auto at = bindings_.find(binding);
  if (at == bindings_.end() || !response.has(kOscore)) return std::nullopt;
  auto opened = at->second.context->unprotect_response(content_of(response), at->second.exchange);
  if (!opened) return std::nullopt;
  order = opened->notification;
  return message_of(opened->message);
}

Protection::Opened OscoreProtection::open_request(Instant, const SocketAddress&, const Message& request) {
  const Option* option = request.find(kOscore);
  if (option == nullptr) {
    if (!options_.allow_clear)
      return refusal(static_cast<std::uint8_t>(Code::unauthorized), "OSCORE is required");
    Opened opened;
    opened.message = request;
    return opened;
  }
  const std::optional<security::OscoreOption> named = security::OscoreOption::decode(option->value);
  if (!named) return refusal(static_cast<std::uint8_t>(Code::bad_option), "Failed to decode COSE");
  if (bindings_.size() >= options_.bindings) {
    return refusal(static_cast<std::uint8_t>(Code::service_unavailable), "too many exchanges");
  }
  const auto context =
      std::find_if(contexts_.begin(), contexts_.end(),
                   [&](const security::OscoreContext* each) { return each->matches(*named); });
  if (context == contexts_.end()) {
    return refusal(static_cast<std::uint8_t>(Code::unauthorized), "Security context not found");
  }
  auto opened = (*context)->unprotect_request(content_of(request));
  if (!opened) return refusal(security::error_code(opened.error()), security::to_text(opened.error()));
  if (!opened->fresh) return challenge(**context, std::move(opened->exchange));
  Opened taken;
  taken.message = message_of(opened->message);
  taken.message.remove(kEcho);  // has done its work
  taken.security = static_cast<std::uint64_t>(context - contexts_.begin()) + 1;
  taken.binding = bind(**context, std::move(opened->exchange));
  return taken;
}

// This side lost its replay window: RFC 8613 appendix B.1.2.
Protection::Opened OscoreProtection::challenge(security::OscoreContext& context,
                                               security::OscoreExchange exchange) {
  const Result<CoapContent> sealed =
      context.protect_response(context.echo_challenge(random_), exchange, true);
  if (!sealed) return refusal(static_cast<std::uint8_t>(Code::service_unavailable), "key exhausted");
  Opened opened;
  opened.refused = true;
  opened.message = message_of(*sealed);
  return opened;
}

Result<Message> OscoreProtection::seal_response(std::uint64_t binding, const Message& response) {
  const auto at = bindings_.find(binding);
  if (at == bindings_.end()) return Error{ErrorKind::not_found, "the request is over"};
  const Result<CoapContent> sealed =
      at->second.context->protect_response(content_of(response), at->second.exchange);
  if (!sealed) return sealed.error();
  return message_of(*sealed);
}

}  // namespace ravine::gateway::coap
