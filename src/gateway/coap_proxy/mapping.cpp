#include "gateway/coap_proxy/mapping.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "gateway/coap/block.h"
#include "gateway/coap/http_mapping.h"
#include "gateway/core/matrix.h"
#include "gateway/core/text.h"

namespace ravine::gateway::coap_proxy {
namespace {

using coap::Code;
using coap::Message;

constexpr std::uint16_t kTextFormat = 0, kXmlFormat = 41, kOctetsFormat = 42, kJsonFormat = 50,
                        kCborFormat = 60;
constexpr std::string_view kJsonType = "application/json";

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

std::unexpected<Refused> refuse(Code code, std::string reason) {
  return std::unexpected(Refused{code, std::move(reason)});
}

std::optional<std::uint16_t> format_option(const Message& message, std::uint16_t number) {
  const auto value = message.uint_option(number);
  return value ? std::optional(static_cast<std::uint16_t>(*value)) : std::nullopt;
}

// Method and target, and to which server.
std::expected<void, Refused> map_target(const Message& request, const MappingOptions& options,
                                        MappedRequest& mapped, bool& short_path) {
  // RFC 8132 has no counterpart of FETCH; QUERY is the safe method with a body.
  mapped.http.method = request.code == Code::fetch ? "QUERY" : coap::method_of_code(request.code);
  if (mapped.http.method.empty())
    return refuse(Code::method_not_allowed,
                  fmt::format("method {} has no counterpart", to_text(request.code)));
  const auto proxy = coap::proxy_target_of(request);
  if (!proxy) return refuse(Code::bad_option, proxy.error().message);
  if (proxy->wanted) {
    const bool http = proxy->uri.scheme == "http" || proxy->uri.scheme == "https";
    if (!http || !options.forward.allows(proxy->uri))
      return refuse(Code::proxying_not_supported, "this target is not among the allowed ones");
    mapped.origin = origin_of(proxy->uri);
    mapped.http.target = proxy->uri.target;
    return {};
  }
  if (!options.reverse)
    return refuse(Code::proxying_not_supported, "only requests with Proxy-Uri are served");
  const std::string_view body = as_text(request.payload);
  if (request.code == Code::fetch && !request.has(coap::kUriPath) && body.starts_with('/') &&
      format_option(request, coap::kContentFormat).value_or(kTextFormat) == kTextFormat) {
    // A target that Uri-Path and Uri-Query cannot hold.
    mapped.http.method = "GET";
    mapped.http.target = body;
    return {};
  }
  if (options.matrix) {
    if (auto expanded = options.paths.expand(request, mapped.http.method)) {
      short_path = true;
      mapped.http.target = std::move(expanded->target);
      return {};
    }
  }
  auto target = coap::target_of(request);
  if (!target) return refuse(Code::bad_option, target.error().message);
  mapped.http.target = std::move(*target);
  return {};
}

std::expected<void, Refused> map_body(const Message& request, const MappingOptions& options,
                                      MappedRequest& mapped) {
  const auto format = format_option(request, coap::kContentFormat);
  const bool target_in_body = request.code == Code::fetch && mapped.http.method == "GET";
  if (target_in_body || (request.payload.empty() && !format)) return {};
  if (options.matrix && mapped.matrix && format == kCborFormat) {
    auto json = cbor::json_of_cbor(request.payload, cbor::Keys::matrix, {.bytes = options.max_body});
    if (!json) {
      const bool large = json.error().kind == ErrorKind::limit_reached;
      return refuse(large ? Code::request_entity_too_large : Code::bad_request, json.error().message);
    }
    mapped.http.body = std::move(*json);
    mapped.http.headers.emplace_back("content-type", kJsonType);
    return {};
  }
  mapped.http.body = request.payload;
  if (format) mapped.http.headers.emplace_back("content-type", coap::media_type_of(*format));
  return {};
}

std::expected<void, Refused> map_conditions(const Message& request, const EtagTable& etags,
                                            MappedRequest& mapped) {
  std::string match, none_match;
  const auto append = [](std::string& list, std::string_view tag) {
    if (!list.empty()) list += ", ";
    list += tag;
  };
  bool unknown = false;
  for (const coap::Option& option : request.options) {
    if (option.number == coap::kIfMatch) {
      const auto tag =
          option.value.empty() ? std::optional<std::string>("*") : etags.http_of(mapped.origin, option.value);
      unknown = unknown || !tag;
      if (tag) append(match, *tag);
    }
    if (option.number == coap::kEtag) {
      mapped.etags.push_back(option.value);
      if (const auto tag = etags.http_of(mapped.origin, option.value)) append(none_match, *tag);
    }
  }
  if (unknown && match.empty()) return refuse(Code::precondition_failed, "no entity tag of this server");
  if (request.has(coap::kIfNoneMatch)) none_match = "*";
  if (!match.empty()) mapped.http.headers.emplace_back("if-match", match);
  if (!none_match.empty()) mapped.http.headers.emplace_back("if-none-match", none_match);
  return {};
}

void add_location(Message& response, const MappedRequest& request, std::string_view location) {
  std::string target(location);
  if (!location.starts_with('/')) {
    const auto uri = coap::parse_uri(location);
    if (!uri || origin_of(*uri) != request.origin) return;
    target = uri->target;
  }
  Message carrier;
  if (!coap::add_target(carrier, target)) return;  // what does not fit is left out, never cut
  for (coap::Option& option : carrier.options) {
    const bool path = option.number == coap::kUriPath;
    response.add(path ? coap::kLocationPath : coap::kLocationQuery, option.value);
  }
}

// The body and its format.
void put_body(Message& message, const MappedRequest& request, core::HttpResponse& response,
              const MappingOptions& options) {
  const std::string_view type = core::header_value(response.headers, "content-type");
  message.payload = std::move(response.body);
  if (message.payload.empty()) return;
  std::uint16_t format = type.empty() ? kOctetsFormat : loose_format_of(type);
  if (request.cbor && format == kJsonFormat) {
    // What CBOR cannot hold exactly goes as it is.
    if (auto item = cbor::cbor_of_json(message.payload, cbor::Keys::matrix, {.bytes = options.max_body})) {
      message.payload = std::move(*item);
      format = kCborFormat;
    }
  }
  message.add_uint(coap::kContentFormat, format);
}

// RFC 7252 §5.6.2: the asker's own copy is still good.
void shorten_known(Message& message, const MappedRequest& request) {
  if (message.code != Code::content || request.etags.empty()) return;
  const coap::Option* given = message.find(coap::kEtag);
  const Bytes tag = given != nullptr ? given->value : coap::entity_tag_of(message.payload);
  if (std::find(request.etags.begin(), request.etags.end(), tag) == request.etags.end()) return;
  message.code = Code::valid;
  message.payload.clear();
  message.remove(coap::kContentFormat);
  message.set(coap::kEtag, tag);
}

std::optional<std::uint32_t> number_after(std::string_view text, std::string_view name) {
  for (std::size_t at = 0; (at = text.find(name, at)) != std::string_view::npos; at += name.size()) {
    if (at > 0 && (text[at - 1] == '-' || (text[at - 1] >= 'a' && text[at - 1] <= 'z'))) continue;
    std::string_view digits = text.substr(at + name.size());
    if (digits.starts_with('"')) digits.remove_prefix(1);
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error == std::errc{}) return number;
    if (error == std::errc::result_out_of_range) return UINT32_MAX;
  }
  return std::nullopt;
}

}  // namespace

std::uint16_t loose_format_of(std::string_view media_type) {
  if (const auto exact = coap::content_format_of(media_type)) return *exact;
  const std::string whole = lower(media_type);
  std::string_view type = std::string_view(whole).substr(0, whole.find(';'));
  while (type.ends_with(' ')) type.remove_suffix(1);
  if (const auto bare = coap::content_format_of(type)) return *bare;
  if (type.ends_with("+json")) return kJsonFormat;
  if (type.ends_with("+cbor")) return kCborFormat;
  if (type.ends_with("+xml") || type == "text/xml") return kXmlFormat;
  return type.starts_with("text/") ? kTextFormat : kOctetsFormat;
}

std::optional<std::uint32_t> freshness_of(const core::Headers& headers) {
  std::string control;
  for (const auto& [name, value] : headers)
    if (lower(name) == "cache-control") control += lower(value) + ",";
  if (control.find("no-store") != std::string::npos || control.find("no-cache") != std::string::npos ||
      control.find("private") != std::string::npos)
    return 0;
  auto seconds = number_after(control, "s-maxage=");
  if (!seconds) seconds = number_after(control, "max-age=");
  if (!seconds) return std::nullopt;
  const std::uint32_t age =
      number_after("age=" + std::string(core::header_value(headers, "age")), "age=").value_or(0);
  return *seconds > age ? *seconds - age : 0;
}

Message make_error(Code code, std::string_view reason) {
  Message message;
  message.code = code;
  message.payload = to_bytes(as_bytes(reason));
  return message;
}

std::expected<MappedRequest, Refused> map_request(const Message& request, const MappingOptions& options,
                                                  const EtagTable& etags) {
  MappedRequest mapped;
  mapped.method = request.code;
  Message counted = request;
  const coap::HopOutcome hops = coap::take_hop(counted);
  if (hops == coap::HopOutcome::loop) return refuse(Code::hop_limit_reached, "ravine");
  if (hops == coap::HopOutcome::invalid) return refuse(Code::bad_request, "a Hop-Limit of 0");
  bool short_path = false;
  if (auto done = map_target(request, options, mapped, short_path); !done)
    return std::unexpected(done.error());
  const bool own = mapped.origin.empty();
  mapped.matrix = options.matrix && own && core::classify(mapped.http.method, mapped.http.target).matrix;
  if (auto done = map_body(request, options, mapped); !done) return std::unexpected(done.error());
  if (auto done = map_conditions(request, etags, mapped); !done) return std::unexpected(done.error());
  const coap::Option* token = request.find(coap::kAuthorization);
  if (token != nullptr && options.matrix && own) {
    mapped.authorization = as_text(token->value);
    const bool clean = std::all_of(token->value.begin(), token->value.end(),
                                   [](std::uint8_t byte) { return byte >= 0x20 && byte < 0x7f; });
    if (!clean) return refuse(Code::bad_request, "a token with characters that no token has");
    if (mapped.authorization.find(' ') == std::string::npos) mapped.authorization.insert(0, "Bearer ");
  }
  const auto accept = format_option(request, coap::kAccept);
  const bool spoke_cbor =
      short_path || token != nullptr || format_option(request, coap::kContentFormat) == kCborFormat;
  mapped.cbor = mapped.matrix && (accept ? *accept == kCborFormat : spoke_cbor);
  if (accept) {
    mapped.http.headers.emplace_back("accept",
                                     mapped.cbor ? std::string(kJsonType) : coap::media_type_of(*accept));
  }
  if (request.has(coap::kHopLimit)) {
    // So that a way in circles through HTTP ends as well.
    mapped.http.headers.emplace_back("hop-limit", fmt::format("{}", *counted.uint_option(coap::kHopLimit)));
  }
  if (const auto refusal = core::check_request(mapped.http, {.max_body = options.max_body})) {
    return refuse(coap::code_of_http_status(refusal->status, request.code), refusal->reason);
  }
  return mapped;
}

Message map_response(const MappedRequest& request, core::HttpResponse response, const MappingOptions& options,
                     EtagTable& etags) {
  if (response.status < 200 || response.status > 999)
    return make_error(Code::bad_gateway, "the server's response has no final status");
  const std::string coding = lower(core::header_value(response.headers, "content-encoding"));
  if (!coding.empty() && coding != "identity")
    return make_error(Code::bad_gateway, "the server's body has a content coding that was not asked for");
  if (response.body.size() > options.max_body)
    return make_error(Code::bad_gateway, "the server's response is too large");
  Message message;
  put_body(message, request, response, options);
  coap::set_http_status(message, response.status, request.method);
  if (const auto tag = etags.coap_of(request.origin, core::header_value(response.headers, "etag"))) {
    message.set(coap::kEtag, *tag);
  } else if (message.code == Code::valid && request.etags.size() == 1) {
    message.set(coap::kEtag, request.etags.front());
  }
  const bool cacheable = message.code == Code::content || message.code == Code::valid;
  if (cacheable && coap::is_safe(request.method)) {
    // Without a word from the server nothing is fresh; CoAP would take 60 s for granted.
    message.set_uint(coap::kMaxAge, freshness_of(response.headers).value_or(0));
  }
  if (response.status == 503 || response.status == 429) {
    const auto pause =
        number_after("t=" + std::string(core::header_value(response.headers, "retry-after")), "t=");
    if (pause) message.set_uint(coap::kMaxAge, *pause);  // RFC 7252 §5.9.3.4, RFC 8516
  }
  if (message.code == Code::created)
    add_location(message, request, core::header_value(response.headers, "location"));
  shorten_known(message, request);
  return message;
}

}  // namespace ravine::gateway::coap_proxy
