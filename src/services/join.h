// Joining and renewal over sessions. A joiner without certificate dials the issuer under kJoinAlpn and sends
// one request; a member asks for a fresh certificate on an ordinary stream. What is in the messages and who
// may have what is decided by identity; this file carries bytes, bounds them and limits rates.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "services/streams.h"

namespace ravine::services {

inline constexpr Duration kJoinTimeout = 15s;       // whole exchange, either side
inline constexpr std::size_t kJoinsPerMinute = 60;  // from all joiners; more are closed with AppError::limit

// What a node that issues certificates (or pairs) puts behind the services. The bytes are identity/join.h's;
// `exporter` is the session's keying material under identity::kJoinExporter. An error closes the exchange
// without an answer.
class Issuer {
 public:
  virtual ~Issuer() = default;
  virtual Result<Bytes> answer_join(session::NetworkId network, ByteView request, ByteView exporter,
                                    const SocketAddress& from) = 0;
  // `leaf` (DER) was verified by the session; the answer is for that peer alone.
  virtual Result<Bytes> answer_renewal(session::NetworkId network, ByteView leaf, ByteView request,
                                       ByteView exporter) = 0;
};

// Acceptor's side: sessions of kJoinAlpn, and StreamRequest.RENEW of members.
class JoinService final : public runtime::SessionObserver {
 public:
  JoinService(StreamRouter& router, Issuer& issuer);
  ~JoinService() override;

  struct Counters {
    std::uint64_t joins = 0, joins_refused = 0, renewals = 0, renewals_refused = 0, limited = 0;
  };
  const Counters& counters() const;

  void on_established(session::Session& session) override;
  bool on_stream_opened(session::Session& session, session::StreamId stream) override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// What came back, and what ties it to the session.
struct Exchanged {
  Bytes request, response;
  Bytes exporter;
};
using ExchangeDone = std::function<void(Result<Exchanged>)>;
using MakeRequest = std::function<Result<Bytes>(ByteView exporter)>;

struct JoinDial {
  session::NetworkId network;       // a network entry to dial under; `policy` replaces its own
  std::vector<HostPort> addresses;  // of the issuer, from the code
  std::string server_name;          // Invite::server_name
  std::shared_ptr<const identity::VerifyPolicy> policy;  // accepts the issuer's key alone
  MakeRequest make_request;                              // identity::make_join_request or make_pair_request
};

// Joiner's side: dials all addresses, the first that answers gets the request. Calls back once: unreachable,
// unauthenticated (another key answered), refused, timed_out.
void join_network(const ServiceContext& context, JoinDial dial, ExchangeDone done);

// Member's side of a renewal, over a live session with the issuer.
void renew_certificate(StreamRouter& router, session::SessionId issuer, MakeRequest make_request,
                       ExchangeDone done);

}  // namespace ravine::services
