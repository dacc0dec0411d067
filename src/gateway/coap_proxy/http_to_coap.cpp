#include "gateway/coap_proxy/http_to_coap.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "gateway/cbor/json_cbor.h"
#include "gateway/coap/http_mapping.h"

namespace ravine::gateway::coap_proxy {
namespace {

using coap::Code;
using coap::Message;

constexpr std::uint16_t kCoapPort = 5683;
constexpr std::uint64_t kUsualMaxAge = 60;  // seconds, RFC 7252 §5.10.5
constexpr std::uint64_t kUsualHops = 16;    // RFC 8768 §3
constexpr std::string_view kDiscovery = "/.well-known/core";
constexpr std::uint16_t kOctets = 42, kJson = 50, kCbor = 60;  // Content-Formats
constexpr std::string_view kBearer = "Bearer ";

// RFC 8075 §5.3 leaves the URI as it is; some clients escape what comes before its path.
std::string unescaped_uri(std::string_view text) {
  std::string out(text);
  const auto replace = [&](std::string_view from, std::string_view to) {
    const std::size_t at = out.find(from);
    if (at < 8) out.replace(at, from.size(), to);
  };
  for (const std::string_view colon : {"%3A", "%3a"}) replace(colon, ":");
  for (const std::string_view slashes : {"%2F%2F", "%2f%2f"}) replace(slashes, "//");
  return out;
}

// The values of a list of entity tags, as bytes: ours are in hexadecimal. `foreign`: one was not.
std::vector<Bytes> tags_of(std::string_view list, bool& foreign) {
  std::vector<Bytes> tags;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    std::string_view tag = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (tag.starts_with(' ')) tag.remove_prefix(1);
    while (tag.ends_with(' ')) tag.remove_suffix(1);
    const bool quoted = tag.size() > 2 && tag.front() == '"' && tag.back() == '"';
    const auto bytes = quoted ? decode_hex(tag.substr(1, tag.size() - 2)) : std::nullopt;
    if (bytes && bytes->size() <= 8 && tags.size() < 8) {
      tags.push_back(*bytes);
    } else {
      foreign = true;
    }
  }
  return tags;
}

// The first format of an Accept field that CoAP has a number for.
std::optional<std::uint16_t> accepted_format(std::string_view accept, bool& anything) {
  anything = accept.empty();
  while (!accept.empty()) {
    const std::size_t end = std::min(accept.find(','), accept.size());
    std::string_view range = accept.substr(0, end);
    accept.remove_prefix(std::min(end + 1, accept.size()));
    if (const std::size_t weight = range.find(";q="); weight != std::string_view::npos)
      range = range.substr(0, weight);
    if (range.find('*') != std::string_view::npos) anything = true;
    if (const auto format = coap::content_format_of(range); format && !anything) return format;
  }
  return std::nullopt;
}

}  // namespace

HttpToCoap::HttpToCoap(HttpToCoapOptions options, RandomSource& random, coap::Protection* protection)
    : options_(std::move(options)),
      exchanger_(
          [&] {
            coap::ExchangerOptions made = options_.exchanger;
            made.max_body = options_.limits.max_body;
            made.calls = options_.waiting;
            // Without a layer that binds answers, servers that know a transfer by its token are met half-way.
            made.one_token_per_body = protection == nullptr;
            return made;
          }(),
          random, protection) {}

bool HttpToCoap::is_ours(std::string_view target) const {
  return options_.everything_to || target.starts_with(options_.prefix) || target == kDiscovery;
}

void HttpToCoap::set_address(std::size_t server, const SocketAddress& address) {
  if (server < options_.servers.size()) options_.servers[server].address = address;
}

void HttpToCoap::refuse(HttpId id, std::uint16_t status, std::string_view reason) {
  core::HttpResponse response;
  response.status = status;
  response.headers.emplace_back("content-type", "text/plain;charset=utf-8");
  response.body = to_bytes(as_bytes(reason));
  answers_.push_back({id, std::move(response)});
}

std::optional<HttpToCoap::Target> HttpToCoap::find_target(HttpId id, std::string_view target) {
  Target found;
  if (!target.starts_with(options_.prefix)) {
    if (!options_.everything_to) {
      refuse(id, 404, fmt::format("{}coap://HOST/PATH is expected", options_.prefix));
      return std::nullopt;
    }
    found.server = *options_.everything_to;
    found.path = target;
    found.matrix = options_.matrix && target.starts_with("/_matrix/");
    return found;
  }
  const auto uri = coap::parse_uri(unescaped_uri(target.substr(options_.prefix.size())));
  if (!uri || (uri->scheme != "coap" && uri->scheme != "coaps")) {
    refuse(id, 400, uri ? "a coap URI is expected" : uri.error().message);
    return std::nullopt;
  }
  if (uri->scheme == "coaps") {
    refuse(id, 501, "coaps is not spoken here");
    return std::nullopt;
  }
  const std::uint16_t port = uri->port != 0 ? uri->port : kCoapPort;
  const auto at =
      std::find_if(options_.servers.begin(), options_.servers.end(),
                   [&](const CoapServer& server) { return server.host == uri->host && server.port == port; });
  if (at == options_.servers.end()) {
    refuse(id, 403, "this CoAP server is not among the allowed ones");
    return std::nullopt;
  }
  found.server = static_cast<std::size_t>(at - options_.servers.begin());
  found.path = uri->target;
  const bool v6 = uri->host.find(':') != std::string::npos;
  found.base =
      fmt::format("{}coap://{}{}{}:{}", options_.prefix, v6 ? "[" : "", uri->host, v6 ? "]" : "", port);
  return found;
}

bool HttpToCoap::add_conditions(HttpId id, const core::HttpRequest& request, Message& message) {
  bool foreign = false;
  if (const std::string_view none = core::header_value(request.headers, "if-none-match"); none == "*") {
    message.add(coap::kIfNoneMatch, {});
  } else if (message.code == Code::get) {
    for (const Bytes& tag : tags_of(none, foreign)) message.add(coap::kEtag, tag);
  }
  foreign = false;
  const std::string_view match = core::header_value(request.headers, "if-match");
  if (match == "*") {
    message.add(coap::kIfMatch, {});
  } else if (!match.empty()) {
    const std::vector<Bytes> tags = tags_of(match, foreign);
    for (const Bytes& tag : tags) message.add(coap::kIfMatch, tag);
    if (tags.empty()) {
      refuse(id, 412, "no entity tag of a CoAP server");
      return false;
    }
  }
  return true;
}

std::optional<Message> HttpToCoap::make_request(HttpId id, const core::HttpRequest& request,
                                                const Target& target) {
  const auto fail = [&](std::uint16_t status, std::string_view reason) {
    refuse(id, status, reason);
    return std::nullopt;
  };
  const auto code = request.method == "QUERY" ? Code::fetch : coap::code_of_method(request.method);
  if (!code) return fail(501, fmt::format("CoAP has no {}", request.method));
  const bool bodiless = *code == Code::get || *code == Code::del;
  if (bodiless && !request.body.empty()) return fail(400, "a body that CoAP has no place for");
  Message message;
  message.code = *code;
  const CoapServer& server = options_.servers[target.server];
  if (!IpAddress::parse(server.host)) message.add(coap::kUriHost, as_bytes(server.host));
  if (const auto added = coap::add_target(message, target.path); !added)
    return fail(added.error().kind == ErrorKind::limit_reached ? 414 : 400, added.error().message);
  if (!request.body.empty()) {
    const std::string_view type = core::header_value(request.headers, "content-type");
    const auto format = coap::content_format_of(type);
    if (!type.empty() && !format && !target.matrix)
      return fail(415, "this media type has no CoAP Content-Format");
    if (format) message.add_uint(coap::kContentFormat, *format);
    if (!core::header_value(request.headers, "content-encoding").empty())
      return fail(415, "CoAP has no content coding");
  }
  bool anything = false;
  const std::string_view accept = core::header_value(request.headers, "accept");
  if (const auto format = accepted_format(accept, anything)) {
    message.add_uint(coap::kAccept, *format);
  } else if (!anything) {
    return fail(406, "no accepted media type has a CoAP Content-Format");
  }
  std::uint64_t hops = kUsualHops;
  const std::string_view left = core::header_value(request.headers, "hop-limit");
  std::from_chars(left.data(), left.data() + left.size(), hops);
  if (hops <= 1 || hops > 255) return fail(508, "the request goes in circles");
  message.add_uint(coap::kHopLimit, hops - 1);
  if (!add_conditions(id, request, message)) return std::nullopt;
  message.payload = request.body;
  if (target.matrix) add_matrix(request, message);
  return message;
}

void HttpToCoap::add_matrix(const core::HttpRequest& request, Message& message) const {
  std::string_view token = core::header_value(request.headers, "authorization");
  if (token.starts_with(kBearer)) token.remove_prefix(kBearer.size());
  if (!token.empty()) message.set(coap::kAuthorization, to_bytes(as_bytes(token)));
  message.set_uint(coap::kAccept, kCbor);
  const auto format = message.uint_option(coap::kContentFormat);
  if (message.payload.empty() || (format && *format != kJson)) return;
  // A client need not say that it sends JSON, and what CBOR cannot hold exactly goes as it is.
  auto item = cbor::cbor_of_json(message.payload, cbor::Keys::matrix, {.bytes = options_.limits.max_body});
  message.set_uint(coap::kContentFormat, item ? kCbor : format ? kJson : kOctets);
  if (item) message.payload = std::move(*item);
}

// Browsers' questions need not cross the link.
std::optional<core::HttpResponse> HttpToCoap::preflight(const core::HttpRequest& request) const {
  if (!options_.matrix || request.method != "OPTIONS" ||
      !core::has_header(request.headers, "access-control-request-method"))
    return std::nullopt;
  return core::HttpResponse{204,
                            {{"access-control-allow-origin", "*"},
                             {"access-control-allow-methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS"},
                             {"access-control-allow-headers", "Authorization, Content-Type"},
                             {"access-control-max-age", "86400"}},
                            {}};
}

void HttpToCoap::handle_request(Instant now, HttpId id, core::HttpRequest request) {
  if (const auto refusal = core::check_request(request, options_.limits))
    return refuse(id, refusal->status, refusal->reason);
  if (request.target == kDiscovery && !options_.everything_to && request.method == "GET") {
    core::HttpResponse response{200, {{"content-type", "application/link-format"}}, {}};
    response.body = to_bytes(as_bytes(fmt::format("<{}>;rt=\"core.hc\"", options_.prefix)));  // RFC 8075 §5.5
    answers_.push_back({id, std::move(response)});
    return;
  }
  if (auto answer = preflight(request)) {
    answers_.push_back({id, std::move(*answer)});
    return;
  }
  const auto target = find_target(id, request.target);
  if (!target) return;
  auto message = make_request(id, request, *target);
  if (!message) return;
  const CoapServer& server = options_.servers[target->server];
  if (server.address.port == 0)
    return refuse(id, 502, fmt::format("the address of {} is not known", server.host));
  const auto call = exchanger_.call(now, server.address, std::move(*message));
  if (!call) {
    const bool full = call.error().kind == ErrorKind::limit_reached;
    return refuse(id, full ? 503 : 502, call.error().message);
  }
  calls_.emplace(*call,
                 Call{id, request.method, target->base, target->matrix, now + options_.gateway_timeout});
  drain(now);
}

void HttpToCoap::withdraw(HttpId id) {
  const auto at =
      std::find_if(calls_.begin(), calls_.end(), [&](const auto& call) { return call.second.id == id; });
  if (at == calls_.end()) return;
  exchanger_.cancel(at->first);
  calls_.erase(at);
}

core::HttpResponse HttpToCoap::response_of(const Call& call, Message response) const {
  core::HttpResponse out;
  out.status = static_cast<std::uint16_t>(coap::exact_http_status(response, call.method));
  if (call.matrix) {
    out.headers.emplace_back("access-control-allow-origin", "*");
    if (response.uint_option(coap::kContentFormat) == kCbor) {
      auto json =
          cbor::json_of_cbor(response.payload, cbor::Keys::matrix, {.bytes = options_.limits.max_body});
      if (!json)
        return {
            502, {{"content-type", "text/plain"}}, to_bytes(as_bytes("the CoAP server's CBOR is malformed"))};
      response.payload = std::move(*json);
      response.set_uint(coap::kContentFormat, kJson);
    }
  }
  if (!response.payload.empty()) {
    const auto format = response.uint_option(coap::kContentFormat);
    // RFC 7252 §5.5.2: an error without a format carries a text for people.
    std::string type =
        coap::is_success(response.code) ? "application/octet-stream" : "text/plain;charset=utf-8";
    if (format) type = coap::media_type_of(static_cast<std::uint16_t>(*format));
    out.headers.emplace_back("content-type", std::move(type));
  }
  if (const coap::Option* tag = response.find(coap::kEtag))
    out.headers.emplace_back("etag", "\"" + encode_hex(tag->value) + "\"");
  const auto age = response.uint_option(coap::kMaxAge);
  const bool kept = response.code == Code::content || response.code == Code::valid;
  if (kept && (call.method == "GET" || call.method == "HEAD"))
    out.headers.emplace_back("cache-control", fmt::format("max-age={}", age.value_or(kUsualMaxAge)));
  if (out.status == 503 || out.status == 429)
    out.headers.emplace_back("retry-after", fmt::format("{}", age.value_or(kUsualMaxAge)));
  if (const auto location = coap::location_of(response); location && !location->empty())
    out.headers.emplace_back("location", call.base + *location);
  if (call.method != "HEAD") out.body = std::move(response.payload);
  return out;
}

void HttpToCoap::drain(Instant now) {
  while (auto event = exchanger_.poll_event()) {
    if (auto* serve = std::get_if<coap::Serve>(&*event)) {
      Message none;
      none.code = Code::not_found;  // no server is here
      (void)exchanger_.respond(now, serve->id, std::move(none)).ok();
      continue;
    }
    auto* answered = std::get_if<coap::CallAnswered>(&*event);
    auto* failed = std::get_if<coap::CallFailed>(&*event);
    const auto at = calls_.find(answered != nullptr ? answered->call : failed->call);
    if (at == calls_.end()) continue;
    const Call call = std::move(at->second);
    calls_.erase(at);
    if (answered != nullptr) {
      answers_.push_back({call.id, response_of(call, std::move(answered->response))});
    } else if (failed->fault == coap::CallFault::timed_out) {
      refuse(call.id, 504, "the CoAP server did not answer in time");
    } else {
      refuse(call.id, 502, fmt::format("the CoAP server: {}", failed->detail));
    }
  }
}

void HttpToCoap::handle_datagram(Instant now, const SocketAddress& from, ByteView datagram) {
  exchanger_.handle_datagram(now, from, datagram);
  drain(now);
}

void HttpToCoap::handle_timeout(Instant now) {
  exchanger_.handle_timeout(now);
  drain(now);
  std::vector<coap::CallId> late;
  for (const auto& [id, call] : calls_)
    if (call.deadline <= now) late.push_back(id);
  for (const coap::CallId id : late) {
    const HttpId waiting = calls_.at(id).id;
    exchanger_.cancel(id);
    calls_.erase(id);
    refuse(waiting, 504, "the CoAP server did not answer in time");
  }
}

std::optional<HttpAnswer> HttpToCoap::poll_answer() {
  if (answers_.empty()) return std::nullopt;
  HttpAnswer answer = std::move(answers_.front());
  answers_.pop_front();
  return answer;
}

Deadline HttpToCoap::next_deadline() const {
  Deadline deadline = exchanger_.next_deadline();
  for (const auto& [id, call] : calls_) deadline.earlier(call.deadline, "http to coap timeout");
  return deadline;
}

}  // namespace ravine::gateway::coap_proxy
