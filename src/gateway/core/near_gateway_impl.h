// The near core's state. Internal.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "gateway/core/matrix.h"
#include "gateway/core/near_gateway.h"

namespace ravine::gateway::core {

// The far side's word, never a server's status: it does not know this token (any more).
inline constexpr std::uint16_t kTokenForgotten = 999;
inline constexpr std::size_t kMaxUnread = 64;  // news of one client

// How the far side names transactions to the server, and the near side events to a client that has aliases.
inline std::string transaction_prefix(std::string_view connection) {
  return "rv" + std::string(connection) + ".";
}
inline std::string alias_prefix(std::string_view connection) {
  return "$rv" + std::string(connection) + ".";
}

struct NearGateway::Impl {
  struct Http {
    RouteInfo route;
    bool cors = false;
  };
  struct Client {
    std::string authorization;  // empty: free
    bool known = false;         // to the far side
  };
  struct Call {
    HttpId id = 0;  // 0: nobody waits
    std::string authorization;
    HttpRequest request;
  };
  struct SyncStart {
    std::string key, base, since;
  };
  struct Pending {
    std::vector<HttpId> waiting;
    std::uint64_t send = 0;  // key of a transaction
    std::optional<std::size_t> client, login;
    std::optional<SyncStart> sync;
    std::vector<Call> syncs;
    std::shared_ptr<Call> again;
    link::RequestOptions options;
    bool one_way = false;
  };
  // A transaction, for clients that ask again.
  struct Send {
    link::RequestId request = 0;
    std::string transaction;  // the client's
    std::uint64_t identity = 0;
    std::optional<HttpResponse> done;
  };
  struct Poll {
    HttpId id = 0;
    Instant until;
  };
  // One client's sync.
  struct Stream {
    std::string base;    // target without since and timeout
    std::string since;   // next_batch of what was delivered last
    std::string before;  // since of the poll that `last` answered
    Bytes last;
    std::deque<Bytes> news;
    std::deque<Poll> polls;
    Instant last_poll, last_news;
  };

  Impl(NearOptions given, link::ThinLink thin);
  void answer(HttpId id, HttpResponse response);
  void refuse(HttpId id, std::uint16_t status, std::string_view reason);
  std::optional<std::size_t> client_of(std::string_view authorization);
  bool answer_locally(HttpId id, const HttpRequest& request);
  void handle_request(Instant now, HttpId id, HttpRequest request);
  void handle_quiet(Instant now, Call call);
  void handle_send(Instant now, Call call);
  void handle_sync(Instant now, Call call);
  link::RequestId forward(Instant now, Call call, link::RequestOptions how, std::uint64_t send = 0);
  void handle_ended(Instant now, link::RequestEnded ended);
  void deliver(Instant now, Pending entry, link::RequestEnded ended);
  std::string transaction_of(std::uint64_t identity) const;
  void restore_text(link::Message& message, std::uint64_t identity);
  void begin_stream(Instant now, const SyncStart& start, const HttpResponse& response);
  void serve_stream(Instant now, Stream& stream);
  void handle_push(Instant now, link::Message push);
  void handle_forgot(Instant now);
  void drain(Instant now);

  NearOptions options;
  link::ThinLink link;
  std::string connection;
  std::map<HttpId, Http> http;
  std::vector<Client> clients;
  std::map<link::RequestId, Pending> pending;
  std::map<std::uint64_t, Send> sends;
  std::deque<std::uint64_t> send_order;
  std::map<std::string, Stream> streams;  // by authorization
  std::deque<HttpAnswer> answers;
};

}  // namespace ravine::gateway::core
