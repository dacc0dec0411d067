// HTTP requests and responses as values, between the HTTP ends and the gateway cores. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace ravine::gateway::core {

using Headers = std::vector<std::pair<std::string, std::string>>;  // names in any case; order kept

struct HttpRequest {
  std::string method;
  std::string target;  // origin form, as it was spelled
  Headers headers;     // as received, Host and framing headers too
  Bytes body;          // de-chunked; content coding as it came
};

struct HttpResponse {
  std::uint16_t status = 0;
  Headers headers;
  Bytes body;
};

// Bytes of it in HTTP/1.1, nearly.
std::size_t http_size(const HttpRequest& request);
std::size_t http_size(const HttpResponse& response);

// First value of a header, "" when there is none. Names are compared without case.
std::string_view header_value(const Headers& headers, std::string_view name);
bool has_header(const Headers& headers, std::string_view name);

}  // namespace ravine::gateway::core
