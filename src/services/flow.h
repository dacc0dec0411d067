// UDP flows: datagrams between a near-side socket and an exposed UDP port, as QUIC datagrams `varint flow ‖
// payload` beside a stream that lives as long as the flow. The flow's number is its stream's ID, so that both
// sides number without asking.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "services/peers.h"
#include "services/streams.h"

namespace ravine::services {

inline constexpr Duration kFlowIdle = 120s;      // RFC 4787 §4.3 asks for 2 minutes or more
inline constexpr std::size_t kFlowBacklog = 16;  // datagrams held until the flow is open
inline constexpr std::size_t kMaxFlowsPerSession = 512;

struct FlowCounters {
  std::uint64_t opened = 0, active = 0, sent = 0, received = 0, too_large = 0, queue_full = 0, unknown = 0;
};

// Sends datagrams of flows and hands received ones to the flow they belong to.
class FlowTable final : public runtime::SessionObserver {
 public:
  explicit FlowTable(runtime::Driver& driver);
  ~FlowTable() override;
  FlowTable(const FlowTable&) = delete;
  FlowTable& operator=(const FlowTable&) = delete;

  using Receive = std::function<void(ByteView payload)>;
  // False when the session has kMaxFlowsPerSession.
  bool add(session::SessionId session, std::uint64_t flow, Receive receive);
  void remove(session::SessionId session, std::uint64_t flow);
  void send(session::Session& session, std::uint64_t flow, ByteView payload);
  FlowCounters& counters() { return counters_; }

  void on_datagrams(session::Session& session) override;
  void on_closed(session::SessionId id, const session::SessionInfo&, const session::CloseReason&) override;

 private:
  runtime::Driver& driver_;
  std::map<session::SessionId, std::unordered_map<std::uint64_t, std::shared_ptr<Receive>>> flows_;
  FlowCounters counters_;
};

// The opener's end of a flow, open. Destroying it ends the flow.
class OutgoingFlow {
 public:
  virtual ~OutgoingFlow() = default;
  virtual void send(ByteView payload) = 0;
};
struct FlowCallbacks {
  std::function<void(ByteView payload)> on_receive;
  std::function<void(const Error& why)> on_end;  // once: refused, idle, or the session is lost
};
// Starts at once: connects to the peer, opens the stream, then carries datagrams. Up to kFlowBacklog
// datagrams sent before it is open wait. `host` as check_overlay_host returns it.
std::unique_ptr<OutgoingFlow> open_flow(StreamRouter& router, PeerConnector& connector, FlowTable& table,
                                        std::string_view host, std::uint16_t port, FlowCallbacks callbacks);

}  // namespace ravine::services
