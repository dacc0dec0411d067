#include "gateway/coap/http_mapping.h"

#include <fmt/format.h>

#include <array>

#include "base/ensure.h"

namespace ravine::gateway::coap {
namespace {

struct StatusRow {
  Code code;
  unsigned status;
};

// Error codes: RFC 8075 table 2, RFC 8132 §2.3.1, RFC 8516, RFC 8768 §4. The first row of a code or of a
// status is the mapping in that direction.
constexpr std::array<StatusRow, 36> kErrors{{
    {Code::bad_request, 400},
    {Code::unauthorized, 401},
    {Code::bad_option, 400},
    {Code::forbidden, 403},
    {Code::not_found, 404},
    {Code::method_not_allowed, 405},
    {Code::not_acceptable, 406},
    {Code::request_entity_incomplete, 400},
    {Code::conflict, 409},
    {Code::precondition_failed, 412},
    {Code::request_entity_too_large, 413},
    {Code::unsupported_content_format, 415},
    {Code::unprocessable_entity, 422},
    {Code::too_many_requests, 429},
    {Code::internal_server_error, 500},
    {Code::not_implemented, 501},
    {Code::bad_gateway, 502},
    {Code::service_unavailable, 503},
    {Code::gateway_timeout, 504},
    {Code::proxying_not_supported, 502},
    {Code::hop_limit_reached, 508},
    {Code::unauthorized, 407},
    {Code::not_found, 410},
    {Code::bad_request, 402},
    {Code::bad_request, 408},
    {Code::bad_request, 411},
    {Code::bad_request, 414},
    {Code::bad_request, 416},
    {Code::precondition_failed, 417},
    {Code::precondition_failed, 428},
    {Code::bad_request, 431},
    {Code::forbidden, 451},
    {Code::bad_gateway, 505},
    {Code::internal_server_error, 506},
    {Code::internal_server_error, 507},
    {Code::unauthorized, 511},
}};

struct FormatRow {
  std::uint16_t format;
  std::string_view media_type;
};

// IANA CoAP Content-Formats. The first row of a media type is the one that is sent.
constexpr std::array<FormatRow, 29> kFormats{{
    {0, "text/plain;charset=utf-8"},
    {0, "text/plain"},
    {21, "image/gif"},
    {22, "image/jpeg"},
    {23, "image/png"},
    {40, "application/link-format"},
    {41, "application/xml"},
    {42, "application/octet-stream"},
    {47, "application/exi"},
    {50, "application/json"},
    {51, "application/json-patch+json"},
    {52, "application/merge-patch+json"},
    {60, "application/cbor"},
    {61, "application/cwt"},
    {62, "application/multipart-core"},
    {63, "application/cbor-seq"},
    {64, "application/link-format+cbor"},
    {101, "application/cose-key"},
    {102, "application/cose-key-set"},
    {110, "application/senml+json"},
    {111, "application/sensml+json"},
    {112, "application/senml+cbor"},
    {113, "application/sensml+cbor"},
    {114, "application/senml-exi"},
    {115, "application/sensml-exi"},
    {257, "application/concise-problem-details+cbor"},
    {10002, "application/javascript"},
    {20000, "text/css"},
    {30000, "image/svg+xml"},
}};

// Lower case, without white space or quotes, so that one media type has one spelling here.
std::string normal_form(std::string_view media_type) {
  std::string out;
  for (char c : media_type) {
    if (c == ' ' || c == '\t' || c == '"') continue;
    out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
  }
  return out;
}

constexpr std::uint8_t kFirstHopLimit = 16;  // RFC 8768 §3

}  // namespace

unsigned http_status_of(Code response, std::string_view method, bool has_body) {
  switch (response) {
    case Code::created:
      return 201;
    case Code::valid:
      return 304;
    case Code::content:
      return 200;
    case Code::deleted:
    case Code::changed:
      return has_body || method == "GET" || method == "HEAD" ? 200 : 204;
    default:
      break;
  }
  for (const StatusRow& row : kErrors) {
    if (row.code == response) return row.status;
  }
  // RFC 7252 §5.9: an unknown code is taken for the generic one of its class.
  return code_class(response) == 2 ? 200 : code_class(response) == 4 ? 400 : 502;
}

Code code_of_http_status(unsigned status, Code method) {
  if (status == 201) return Code::created;
  if (status == 304) return Code::valid;
  if (status >= 200 && status < 300) {
    if (method == Code::del && (status == 200 || status == 204)) return Code::deleted;
    return is_safe(method) ? Code::content : Code::changed;
  }
  for (const StatusRow& row : kErrors) {
    if (row.status == status) return row.code;
  }
  if (status >= 400 && status < 500) return Code::bad_request;
  return status >= 500 && status < 600 ? Code::internal_server_error : Code::bad_gateway;
}

Bytes encode_http_status(unsigned status) {
  ensure(status >= 100 && status <= 999);
  const unsigned hundreds = status / 100;
  const unsigned rest = status % 100;
  if (hundreds >= 2 && hundreds <= 5 && rest < 64) {
    return {static_cast<std::uint8_t>((hundreds - 2) * 64 + rest)};
  }
  return {static_cast<std::uint8_t>(status >> 8), static_cast<std::uint8_t>(status)};
}

std::optional<unsigned> decode_http_status(ByteView value) {
  if (value.size() == 1) return (value[0] / 64u + 2) * 100 + value[0] % 64u;
  if (value.size() != 2) return std::nullopt;
  const unsigned status = load_big_endian<std::uint16_t>(value.data());
  return status >= 100 && status <= 999 ? std::optional(status) : std::nullopt;
}

void set_http_status(Message& response, unsigned status, Code method) {
  response.code = code_of_http_status(status, method);
  response.remove(kHttpStatus);
  const bool told =
      http_status_of(response.code, method_of_code(method), !response.payload.empty()) == status;
  if (!told) response.add(kHttpStatus, encode_http_status(status));
}

unsigned exact_http_status(const Message& response, std::string_view method) {
  if (const Option* option = response.find(kHttpStatus)) {
    if (const std::optional<unsigned> status = decode_http_status(option->value)) return *status;
  }
  return http_status_of(response.code, method, !response.payload.empty());
}

std::optional<Code> code_of_method(std::string_view http_method) {
  if (http_method == "GET" || http_method == "HEAD") return Code::get;
  if (http_method == "POST") return Code::post;
  if (http_method == "PUT") return Code::put;
  if (http_method == "DELETE") return Code::del;
  if (http_method == "PATCH") return Code::patch;
  return std::nullopt;
}

std::string_view method_of_code(Code request) {
  switch (request) {
    case Code::get:
      return "GET";
    case Code::post:
      return "POST";
    case Code::put:
      return "PUT";
    case Code::del:
      return "DELETE";
    case Code::patch:
    case Code::ipatch:
      return "PATCH";
    default:
      return "";
  }
}

std::optional<std::uint16_t> content_format_of(std::string_view media_type) {
  std::string wanted = normal_form(media_type);
  if (const std::size_t charset = wanted.find(";charset=utf-8"); charset != std::string::npos) {
    wanted.erase(charset, std::string_view(";charset=utf-8").size());
  }
  if (const std::string_view prefix = "application/coap-payload;cf="; wanted.starts_with(prefix)) {
    unsigned format = 0;
    for (const char digit : std::string_view(wanted).substr(prefix.size())) {
      if (digit < '0' || digit > '9') return std::nullopt;
      format = format * 10 + static_cast<unsigned>(digit - '0');
      if (format > 65535) return std::nullopt;
    }
    return static_cast<std::uint16_t>(format);
  }
  for (const FormatRow& row : kFormats) {
    if (row.media_type == wanted) return row.format;
  }
  return std::nullopt;
}

std::string media_type_of(std::uint16_t content_format) {
  for (const FormatRow& row : kFormats) {
    if (row.format == content_format) return std::string(row.media_type);
  }
  return fmt::format("application/coap-payload;cf={}", content_format);
}

HopOutcome take_hop(Message& request) {
  const Option* option = request.find(kHopLimit);
  if (option == nullptr) {
    request.set_uint(kHopLimit, kFirstHopLimit);
    return HopOutcome::forward;
  }
  const std::uint64_t limit = decode_uint(option->value).value_or(0);
  if (limit == 0 || limit > 255) return HopOutcome::invalid;
  if (limit == 1) return HopOutcome::loop;
  request.set_uint(kHopLimit, limit - 1);
  return HopOutcome::forward;
}

}  // namespace ravine::gateway::coap
