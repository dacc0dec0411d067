// Canonical message texts: HTTP requests and responses as the text and tail that the link carries, and back.
// Request: `METHOD SP target LF`, `name: value LF` …, `LF body`; response: `status LF` …, `LF body`. Names
// are in lower case, Content-Type is left out when it is application/json. A body that no text coder shortens
// goes in the tail. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/core/http.h"
#include "gateway/link/thin_link.h"

namespace ravine::gateway::core {

struct TextLimits {
  std::size_t max_target = 8192;
  std::size_t max_headers = std::size_t{16} << 10;
  std::size_t max_body = std::size_t{4} << 20;
};

// Headers that pass, by lower-case name, beside what the user added.
bool passes(std::string_view lower_name, const std::vector<std::string>& more);

// Why a request is not passed on: 400 (shapes that two parsers could read in two ways, controls), 405, 413,
// 414, 431. nullopt: it is good.
struct Refusal {
  std::uint16_t status = 400;
  std::string reason;
};
std::optional<Refusal> check_request(const HttpRequest& request, const TextLimits& limits);

link::Message request_text(const HttpRequest& request, const std::vector<std::string>& more);
link::Message response_text(const HttpResponse& response, const std::vector<std::string>& more);
// Errors: invalid_argument for texts that no gateway makes.
Result<HttpRequest> parse_request_text(const link::Message& message);
Result<HttpResponse> parse_response_text(const link::Message& message);

}  // namespace ravine::gateway::core
