// A trace: exchanges of an HTTP client with its server, in their order, as a JSON array of
// {kind, method, path, token, req, status, resp}; what answers from it; and what asks as the client did.
// Pure values and machines; docs/gateway.md describes the format.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/machine.h"
#include "base/result.h"
#include "gateway/core/http.h"
#include "gateway/core/matrix.h"

namespace ravine::lab {

namespace core = gateway::core;

struct Exchange {
  std::string kind;           // free text: what figures are summed by
  std::string method, path;   // origin form
  std::string authorization;  // whole header value; empty: none
  std::optional<std::string> request;
  std::uint16_t status = 200;
  std::string response;
};
using Trace = std::vector<Exchange>;

// Takes an array of exchanges, or an array of such arrays (sessions, one after the other). Errors:
// invalid_argument, naming the exchange and the field.
Result<Trace> parse_trace(std::string_view json);

// Headers as an ordinary client and an ordinary Matrix server send them, with those that a gateway drops.
core::HttpRequest request_of(const Exchange& exchange, std::string_view host);
core::HttpResponse response_of(const Exchange& exchange);

using AskId = std::uint64_t;

// Answers requests from the trace. Transactions keep working under the names that a gateway gives them; a
// sync waits until the sends before it were made, or its client has come that far.
class TraceServer {
 public:
  explicit TraceServer(const Trace& trace);  // outlives the server

  void handle_request(Instant now, AskId id, const core::HttpRequest& request);
  void withdraw(AskId id);
  // The client is about to ask for exchange `index`.
  void handle_progress(std::size_t index);
  void handle_timeout(Instant now);  // long polls end empty
  Deadline next_deadline() const;
  struct Answer {
    AskId id = 0;
    core::HttpResponse response;
    std::optional<std::size_t> exchange;  // absent: nothing of the trace
  };
  std::optional<Answer> poll_answer();

  // How often each exchange was made, repetitions of a transaction under its own name left out.
  const std::vector<unsigned>& made() const { return made_; }
  std::uint64_t unknown() const { return unknown_; }  // requests that the trace does not have

 private:
  struct Key {
    std::string target;
    std::string transaction;  // as asked
  };
  static Key key_of(std::string_view method, std::string_view target, std::string_view body);
  bool is_released(std::size_t index) const;
  void answer(AskId id, std::size_t index);
  void release();

  const Trace& trace_;
  std::multimap<std::string, std::size_t> by_target_;
  std::map<std::string, std::size_t> transactions_;           // asked under this name
  std::vector<std::pair<std::string, std::string>> renamed_;  // client's name → asked name
  std::vector<std::string> names_;                            // client's, by exchange
  std::vector<std::vector<std::size_t>> sends_before_;        // by exchange: since the sync before
  std::vector<unsigned> made_;
  struct Held {
    AskId id = 0;
    std::size_t index = 0;
    Instant until;
    std::string since;
  };
  std::deque<Held> held_;
  std::deque<Answer> answers_;
  std::size_t progress_ = 0;
  std::uint64_t unknown_ = 0;
};

// Typing, receipts, presence: the response stays at the far side.
bool is_quiet(const Exchange& exchange);
// A long poll that ended without the news that the trace has: a client asks again.
bool ended_early(const Exchange& exchange, const core::HttpResponse& response);
// Why a response is not what the trace has; empty: it is. With aliases the event ID of a send is another.
std::string difference(const Exchange& exchange, const core::HttpResponse& response, bool alias_events);

}  // namespace ravine::lab
