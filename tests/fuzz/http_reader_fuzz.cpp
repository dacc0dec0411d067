// What HTTP clients and servers may send: the readers of requests and responses. The same bytes give the same
// messages however they are cut, and what is read as a request can be written as one again.
#include <algorithm>
#include <string>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "services/http/http_text.h"
#include "services/http/message_reader.h"

using namespace ravine;
using fuzz::expect;
using gateway::core::HttpRequest;
using gateway::core::HttpResponse;
using services::http::ReadLimits;
using services::http::RequestReader;
using services::http::ResponseReader;

namespace {

constexpr ReadLimits kLimits{.max_target = 1000, .max_head = 4000, .max_body = 2000};

std::string text_of(const HttpRequest& request) {
  std::string text = request.method + " " + request.target + "\n";
  for (const auto& [name, value] : request.headers) text += name + ": " + value + "\n";
  return text + "\n" + std::string(as_text(request.body));
}

std::string text_of(const HttpResponse& response) {
  std::string text = std::to_string(response.status) + "\n";
  for (const auto& [name, value] : response.headers) text += name + ": " + value + "\n";
  return text + "\n" + std::string(as_text(response.body));
}

void check(const HttpRequest& request) {
  expect(is_token(request.method) && request.method != "CONNECT");
  expect(services::http::is_origin_form(request.target) ||
         (request.target == "*" && request.method == "OPTIONS"));
  expect(request.target.size() <= kLimits.max_target && request.body.size() <= kLimits.max_body);
  std::size_t hosts = 0, framings = 0;
  for (const auto& [name, value] : request.headers) {
    expect(is_token(name) && services::http::is_field_value(value));
    if (equals_ignoring_case(name, "host")) ++hosts;
    if (equals_ignoring_case(name, "content-length") || equals_ignoring_case(name, "transfer-encoding"))
      ++framings;
  }
  expect(hosts <= 1 && framings <= 1);
}

// Written by the client's own hand, a request reads as the same one.
void check_round_trip(const HttpRequest& request) {
  const auto out = services::http::write_request(request, request.target, "h");
  expect(out.has_value());
  const std::string wire = out->head + std::string(as_text(out->body));
  RequestReader reader({.max_target = 1000, .max_head = 8000, .max_body = 2000});
  std::size_t used = 0;
  for (std::size_t step = 1; step > 0 && reader.state() != RequestReader::State::done; used += step)
    step = reader.feed(as_bytes(wire).subspan(used));
  expect(reader.state() == RequestReader::State::done && used == wire.size());
  const HttpRequest again = reader.take();
  expect(again.method == request.method && again.target == request.target && again.body == request.body);
}

// Feeds `piece` more bytes at a time, what is unused again, as a connection does.
template <class Feed>
void feed_in_pieces(ByteView bytes, std::size_t piece, const Feed& feed) {
  std::size_t used = 0, seen = 0;
  while (seen < bytes.size()) {
    seen = std::min(seen + piece, bytes.size());
    while (used < seen) {
      const std::size_t taken = feed(bytes.subspan(used, seen - used));
      expect(taken <= seen - used);
      used += taken;
      if (taken == 0) break;
    }
  }
}

// Without the refusal at the end: whether the last bytes are refused at once or when more come may depend on
// the cut.
std::vector<std::string> read_requests(ByteView bytes, std::size_t piece) {
  std::vector<std::string> seen;
  RequestReader reader(kLimits);
  feed_in_pieces(bytes, piece, [&](ByteView rest) -> std::size_t {
    if (reader.state() == RequestReader::State::failed) return 0;
    const std::size_t used = reader.feed(rest);
    if (reader.state() == RequestReader::State::done) {
      const HttpRequest request = reader.take();
      check(request);
      check_round_trip(request);
      seen.push_back(text_of(request));
    }
    return used;
  });
  return seen;
}

std::vector<std::string> read_responses(ByteView bytes, std::size_t piece, bool head) {
  std::vector<std::string> seen;
  ResponseReader reader(kLimits);
  reader.expect(head);
  feed_in_pieces(bytes, piece, [&](ByteView rest) -> std::size_t {
    if (reader.state() != ResponseReader::State::reading) return 0;
    const std::size_t used = reader.feed(rest);
    if (reader.state() == ResponseReader::State::done) {
      const HttpResponse response = reader.take();
      expect(response.status >= 200 && response.status <= 599 && response.body.size() <= kLimits.max_body);
      (void)services::http::write_response(response, {});
      seen.push_back(text_of(response));
      reader.expect(head);
    }
    return used;
  });
  if (reader.state() == ResponseReader::State::reading) reader.feed_end();
  seen.push_back(reader.state() == ResponseReader::State::done ? text_of(reader.take()) : "refused");
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Within the limit of a chunk's line, which is told by what is unused at a time.
  const ByteView bytes(data, std::min<std::size_t>(size, kLimits.max_head));
  expect(read_requests(bytes, size + 1) == read_requests(bytes, 1));
  for (const bool head : {false, true})
    expect(read_responses(bytes, size + 1, head) == read_responses(bytes, 1, head));
  if (const auto url = services::http::parse_url(as_text(bytes)))
    expect(services::http::is_authority(url->authority) && services::http::is_origin_form(url->target));
  (void)services::http::climbs(as_text(bytes));
  return 0;
}
