// PathSet: the paths of one session. It knows for each path its labels and route, whether it lives, how long
// its round trip is and how much it loses, and it handles a peer's changed address below QUIC. It orders
// echoes; the session encodes and sends them. It does not move the session: Session asks it which path is
// fit, and tells QUIC. Driven by Session alone.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "base/machine.h"
#include "session/path_echo.h"
#include "session/types.h"

namespace ravine::session {

inline constexpr std::size_t kMaxPaths = 8;

struct Path {
  PathId id = 0;
  PathKind kind = PathKind::direct;
  PathState state = PathState::offered;
  bool agreed = false;     // both ends route the labels
  bool has_route = false;  // an acceptor of an offer learns it from the first echo
  bool pinned = false;     // the application named the local address or interface
  Route route;
  Label transmit, receive;
  std::uint16_t epoch = 0;  // of the synthetic address that QUIC knows it by
  Instant last_received;    // any packet on its label from its address
  Instant last_answer;      // newest answered echo; origin: never answered
  Duration smoothed_rtt{0};
  Duration quic_rtt{0};  // of QUIC's packets on the current path: the session tells it; 0: unknown
  double loss = 0;
  std::uint32_t mtu = 1200;
  std::uint64_t packets_received = 0, packets_sent = 0, bytes_received = 0, bytes_sent = 0;
  const char* reason = "offered";

  // Echo schedule.
  Instant next_echo = Instant::never();
  unsigned unanswered = 0;  // in a row
  bool asked = false;       // the application pinged: the next answer is told by path_state
  unsigned backoff = 0;

  struct Outstanding {
    std::uint64_t nonce = 0;
    Instant sent_at;
    std::uint32_t size = 0;
    enum class Use : std::uint8_t { liveness, size_test, candidate, old_address } use = Use::liveness;
    bool late = false;  // counted as lost; an answer after all says that the round trip became longer
    SocketAddress to;
  };
  std::vector<Outstanding> outstanding;  // oldest first, ≤ kMaxOutstanding

  // Rebinding (RFC 9000 §9.3 does this inside QUIC; here the packet's label says which path it is).
  struct Candidate {
    Route route;
    Instant started, heard;  // first and newest packet from there
    Instant next_ask;
    Duration interval{0};
    std::size_t allowance = 0;  // bytes that may go there before it answered
    bool answered = false;
  };
  std::vector<Candidate> candidates;  // ≤ kMaxCandidates
  bool old_answered = false;
  Instant next_candidate;  // earliest time for another one

  PathInfo info() const;
  bool awaits_answer() const;  // an echo is out that may still be answered in time
};

class PathSet {
 public:
  static constexpr std::size_t kMaxOutstanding = 16;
  static constexpr std::size_t kMaxCandidates = 4;

  explicit PathSet(Duration keepalive) : keepalive_(keepalive) {}

  Path& add(const Path& path);  // requires room and an unused ID
  void remove(PathId id);
  Path* find(PathId id);
  const Path* find(PathId id) const;
  bool full() const { return paths_.size() >= kMaxPaths; }
  std::vector<Path>& all() { return paths_; }
  const std::vector<Path>& all() const { return paths_; }

  // Echoes start: the key exists (handshake confirmed).
  void start(Instant now);

  // Where a packet on `path` came from.
  enum class Source : std::uint8_t {
    known,
    candidate,  // direct path, other address: the packet may be used, the address is being tested
    refused,    // forwarded path, wrong hop
    unknown,    // the path has no address yet
  };
  static Source source_of(const Path& path, const Route& from);
  // An authenticated packet arrived; a candidate's address is tested from now on.
  Source note_packet(Instant now, Path& path, const Route& from, std::size_t size);

  enum class EchoEffect : std::uint8_t { none, answered, validated, rebound };
  // An authenticated echo arrived on `path`. Orders the answer.
  EchoEffect handle_echo(Instant now, Path& path, const Echo& echo, const Route& from, std::size_t size);

  void handle_timeout(Instant now);
  Deadline next_deadline() const;

  // Orders a liveness echo on a path at once; `size` above the minimum tests the size.
  void ping(Instant now, Path& path, std::uint32_t size = kMinEchoSize);
  void ping_all(Instant now);
  void order_move(Instant now, Path& over, PathId to, MoveReason reason);
  // The application or QUIC found the path dead or alive.
  void mark_silent(Path& path, const char* reason);
  void set_current(PathId id);

  // Answered within `within`, and not the path in question; the lowest round trip among the best kind wins.
  Path* best_alive(Instant now, PathId except, Duration within);

  struct Order {
    PathId path = 0;
    Route route;
    Echo echo;
    std::uint32_t size = kMinEchoSize;
  };
  std::optional<Order> poll_order();
  bool has_orders() const { return !orders_.empty(); }
  // A path whose state changed since the last call.
  std::optional<PathId> poll_state_change();

  // Results of size tests on a path since they were last reset: for black holes.
  unsigned size_tests_lost = 0;
  std::uint64_t rebindings = 0;
  std::uint64_t answers_refused = 0;  // requests above the answer rate

 private:
  void order_request(Instant now, Path& path, const Route& route, std::uint32_t size,
                     Path::Outstanding::Use use);
  void set_state(Path& path, PathState state, const char* reason);
  void note_answer(Instant now, Path& path, const Path::Outstanding& request);
  void note_candidate(Instant now, Path& path, const Route& from, std::size_t size);
  void ask_candidate(Instant now, Path& path, Path::Candidate& candidate);
  bool settle_candidates(Instant now, Path& path);
  void expire_outstanding(Instant now, Path& path);
  void schedule_next(Instant now, Path& path);
  static Duration answer_wait(const Path& path);
  static Duration candidate_wait(const Path& path);

  Duration keepalive_;
  bool started_ = false;
  PathId current_ = 0;
  std::uint64_t next_nonce_ = 1;
  std::vector<Path> paths_;
  std::vector<Order> orders_;    // ≤ kMaxOrders
  std::vector<PathId> changes_;  // ≤ kMaxPaths distinct
  double answer_tokens_ = 64;    // answers to requests: a bucket of 64, 200 a second
  Instant answers_filled_;
};

}  // namespace ravine::session
