// Application streams from their head on: the opener's request, the acceptor's reply, and the hand-over to
// whoever carries the bytes. StreamRouter accepts; open_service opens. Heads are proto/stream.proto.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "services/context.h"
#include "stream.pb.h"

namespace ravine::services {

using stream::StreamReply;
using stream::StreamRequest;

inline constexpr std::size_t kMaxStreamHead = 4096;   // bytes of protobuf of a request or reply
inline constexpr Duration kStreamHeadTimeout = 10s;   // from opening to a whole request
inline constexpr std::size_t kMaxReplyMessage = 512;  // bytes
inline constexpr std::uint32_t kMaxStreamsPerPeer =
    1024;  // application streams that one session may hold open

// varint length ‖ protobuf.
Bytes encode_head(const StreamRequest& message);
Bytes encode_head(const StreamReply& message);

// Takes exactly one head from the front of a stream, in pieces, and leaves what follows unread.
enum class HeadOutcome : std::uint8_t { ready, need_more, malformed };
class HeadReader {
 public:
  HeadOutcome read(session::Session& session, session::StreamId stream);
  // How many more bytes it wants (never beyond the head), and those bytes. For read() and tests.
  std::size_t wanted() const;
  HeadOutcome feed(ByteView bytes);                                   // requires bytes.size() ≤ wanted()
  ByteView body() const { return ByteView(bytes_).subspan(start_); }  // when ready

 private:
  Bytes bytes_;
  std::size_t start_ = 0, total_ = 0;  // total_ 0: the length is not complete
};

// One accepted stream whose request was read. The service answers it once: accept(), refuse(), or drops it
// (then it is reset with AppError::internal). It may be kept while the service connects to its target; a
// stream that ends meanwhile makes is_open() false and calls on_gone.
class IncomingStream {
 public:
  virtual ~IncomingStream() = default;
  virtual const StreamRequest& request() const = 0;
  virtual session::SessionId session_id() const = 0;
  virtual session::StreamId stream_id() const = 0;
  virtual session::Session* session() = 0;  // null when gone
  virtual bool is_open() const = 0;
  virtual void on_gone(std::function<void()> call) = 0;
  // Sends status 0; null when the stream is gone. The caller then hands the stream over to its own handler
  // before it returns; bytes after the request are still unread.
  virtual session::Session* accept() = 0;
  virtual void refuse(session::AppError code, std::string_view message) = 0;
};

class StreamRouter final : public runtime::SessionObserver {
 public:
  using Service = std::function<void(std::shared_ptr<IncomingStream>)>;

  explicit StreamRouter(ServiceContext context);
  ~StreamRouter() override;

  void add_service(StreamRequest::Service service, Service handler);

  struct Counters {
    std::uint64_t opened = 0, accepted = 0, refused = 0, malformed = 0, timed_out = 0;
  };
  const Counters& counters() const { return counters_; }
  ServiceContext& context() { return context_; }
  // Calls `retry` once when the session may open streams again. It holds nothing back: `retry` may find the
  // limit used up again. Dropped when the session ends.
  void wait_for_streams(session::SessionId session, std::function<void()> retry);

  bool on_stream_opened(session::Session& session, session::StreamId stream) override;
  void on_streams_available(session::Session& session) override;
  void on_closed(session::SessionId id, const session::SessionInfo&, const session::CloseReason&) override;

 private:
  class Incoming;
  ServiceContext context_;
  std::array<Service, 16> services_;
  std::map<session::SessionId, std::vector<std::function<void()>>> waiting_;
  Counters counters_;
};

struct OpenedStream {
  session::SessionId session;
  session::StreamId stream = -1;
};
using OpenDone = std::function<void(Result<OpenedStream>)>;
// Destroying the handle cancels what it stands for; nothing is called back afterwards.
using Pending = std::shared_ptr<void>;

// The opener's side of a head. Calls `done` once, never inline: with the stream whose reply said "open"
// (bytes after the reply are unread; the callback hands it over or resets it), or with the error that the
// reply carried (to_kind). UDP requests get their flow number here. Waits when the peer's stream limit is
// used up; `timeout` covers everything. A session that is silent to the request (see silence_doubt and
// silence_limit) is doubted once by `on_doubt`, and then fails it with unreachable.
Pending open_service(StreamRouter& router, session::SessionId session, StreamRequest request,
                     Duration timeout, OpenDone done, std::function<void()> on_doubt = {});

// How long a session may leave a request unacknowledged, without any other packet either, by its smoothed
// round trip time (0: unknown): until it is worth dialling anew, and until its peer counts as gone. A SOCKS
// client of an ordinary link learns within 3 s that a peer is offline; a slow link gets its time.
Duration silence_doubt(Duration smoothed_rtt);
Duration silence_limit(Duration smoothed_rtt);
// When the last packet of `session` came, over any path.
Instant last_heard(const session::Session& session);

// Makes `handler` the stream's handler and lets it see bytes that are already there.
void hand_over(session::Session& session, session::StreamId stream, runtime::StreamHandler* handler);

}  // namespace ravine::services
