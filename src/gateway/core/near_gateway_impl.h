// The near core's state, and the steps that its files share: near_gateway.cpp (requests and their ends),
// near_sync.cpp (streams of one client's sync). Internal.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "gateway/core/matrix.h"
#include "gateway/core/near_gateway.h"

namespace ravine::gateway::core {

// The far side's word, never a server's status: it does not know this token (any more), and nothing ran.
inline constexpr std::uint16_t kTokenForgotten = 999;
inline constexpr std::size_t kMaxUnread = 64;    // news of one client
inline constexpr std::size_t kMaxClients = 256;  // tokens
inline constexpr std::string_view kStop = "/~sync";

// How the far side names transactions to the server, and the near side events to a client that has aliases.
inline std::string transaction_prefix(std::string_view connection) {
  return "rv" + std::string(connection) + ".";
}
inline std::string alias_prefix(std::string_view connection) {
  return "$rv" + std::string(connection) + ".";
}

HttpResponse json_response(std::string_view body);

struct NearGateway::Impl {
  struct Http {
    RouteInfo route;
    Instant since;
    Instant until;  // then nobody believes in its answer any more
    bool cors = false;
    bool held = false;  // a long poll, which has its own end
  };
  // One token. Its number on this link is never given to another one.
  struct Client {
    std::string authorization;
    bool known = false;  // to the far side
    Instant used;
  };
  struct Call {
    HttpId id = 0;  // 0: nobody waits
    RouteInfo route;
    std::string authorization;
    HttpRequest request;
    unsigned repeated = 0;  // because the far side had forgotten its token
  };
  struct SyncStart {
    std::string key, base, since;
    bool gap = false;  // news came before its answer: whether they follow it nobody knows
  };
  struct Pending {
    std::vector<HttpId> waiting;
    RouteKind kind = RouteKind::other;
    std::uint64_t send = 0;  // key of a transaction
    std::optional<std::uint64_t> client, login;
    std::optional<SyncStart> sync;
    std::shared_ptr<Call> call;  // absent: of a process before
    link::RequestOptions options;
  };
  // A transaction, for clients that ask again.
  struct Send {
    link::RequestId request = 0;
    std::string transaction;     // the client's, as it stands in JSON
    std::uint64_t identity = 0;  // that the server knows it by, as soon as it may have run
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
    std::string counts;  // of keys, in every answer
    Bytes last;
    std::deque<Bytes> news;
    std::deque<std::size_t>
        taken;  // hashes of the next_batch of the latest: a new epoch may bring some again
    std::size_t news_bytes = 0;
    std::deque<Poll> polls;
    Instant last_poll;
  };

  Impl(NearOptions given, link::ThinLink thin);

  // near_gateway.cpp
  void answer(Instant now, HttpId id, HttpResponse response);
  void refuse(Instant now, HttpId id, std::uint16_t status, std::string_view reason);
  std::optional<std::uint64_t> client_of(Instant now, std::string_view authorization);
  bool answer_locally(Instant now, HttpId id, const HttpRequest& request);
  void handle_request(Instant now, HttpId id, HttpRequest request);
  void withdraw(Instant now, HttpId id);
  void handle_late(Instant now);
  void handle_progress(Instant now, const link::TransferProgress& progress);
  Duration linger_of(RouteKind kind) const;
  void handle_quiet(Instant now, Call call);
  void handle_send(Instant now, Call call);
  void forget_old_sends();
  link::RequestId forward(Instant now, Call call, link::RequestOptions how, Pending entry);
  bool name_client(Instant now, const Call& call, link::Message& message, Pending& entry,
                   link::RequestOptions& how);
  void note_identity(const link::RequestEnded& ended);
  void handle_ended(Instant now, link::RequestEnded ended);
  void deliver(Instant now, Pending entry, link::RequestEnded ended);
  void repeat_with_token(Instant now, Pending entry);
  void note_tokens(Instant now, const Pending& entry, const HttpResponse& response);
  std::string transaction_of(std::uint64_t identity) const;
  Result<HttpResponse> read_response(link::Message message, std::uint64_t& identity);
  void drain(Instant now);

  // near_sync.cpp
  void handle_sync(Instant now, Call call);
  void begin_stream(Instant now, const SyncStart& start, const HttpResponse& response);
  void serve_stream(Instant now, Stream& stream);
  void end_stream(Instant now, const std::string& key, const HttpResponse& response);
  bool overtakes_sync(std::uint64_t number);
  void handle_push(Instant now, link::Message push);
  void stop_pushes(Instant now, std::uint64_t number);
  void handle_forgot(Instant now);

  NearOptions options;
  link::ThinLink link;
  std::string connection;
  std::map<HttpId, Http> http;
  std::map<std::uint64_t, Client> clients;
  std::uint64_t next_client = 0;
  std::map<link::RequestId, Pending> pending;
  std::map<std::uint64_t, Send> sends;
  std::deque<std::uint64_t> send_order;
  std::map<std::string, Stream> streams;  // by authorization
  std::deque<HttpAnswer> answers;
  GatewayStats stats;
  std::uint64_t frames_heard = 0;
  Instant heard;
};

}  // namespace ravine::gateway::core
