#include "services/gateway/session_flow.h"

#include <boost/asio/steady_timer.hpp>
#include <boost/json/object.hpp>
#include <set>
#include <utility>

#include "services/gateway/line_transport.h"
#include "services/target.h"

namespace ravine::services {
namespace {

namespace json = boost::json;

// A flow that nobody uses ends after kFlowIdle, and with it the far gateway's way back.
constexpr Duration kKeepAlive = kFlowIdle / 3;
constexpr std::size_t kMaxFrame = 1200;
constexpr std::size_t kMaxLines = 64;

class FlowLine;
using FlowLines = std::set<std::shared_ptr<FlowLine>>;

// Leaves `lines` when the line or the flow has ended.
class FlowLine : public std::enable_shared_from_this<FlowLine> {
 public:
  FlowLine(Tunnels& tunnels, std::weak_ptr<FlowLines> lines)
      : tunnels_(tunnels), lines_(std::move(lines)), timer_(tunnels.context().loop) {}

  void start(Socket socket, Bytes first, const std::string& host, std::uint16_t port) {
    LineOptions line;
    auto shared = std::make_shared<Socket>(std::move(socket));
    line.open = [shared, first = std::move(first)](const LineOpened& done) mutable {
      done(Line{shared, shared, std::move(first)});
      return std::shared_ptr<void>();
    };
    line.reopen = false;
    line.max_frame = kMaxFrame;
    line.name = "flow";
    line.on_end = [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->end();
    };
    transport_ = make_line_transport(tunnels_.context().loop, tunnels_.context().log, std::move(line));
    tunnels_.context().driver.enter();
    flow_ = open_flow(tunnels_.router(), tunnels_.connector(), tunnels_.flows(), host, port,
                      {.on_receive =
                           [weak = weak_from_this()](ByteView payload) {
                             const auto self = weak.lock();
                             if (self && self->transport_) self->transport_->send(only_peer(), payload);
                           },
                       .on_end =
                           [weak = weak_from_this()](const Error&) {
                             if (const auto self = weak.lock()) self->end();
                           }});
    tunnels_.context().driver.touch();
    keep_alive();
    const auto started = transport_->start([this](const SocketAddress&, ByteView datagram) {
      if (flow_) flow_->send(datagram);
    });
    if (!started) end();
  }

 private:
  void keep_alive() {
    timer_.expires_after(kKeepAlive);
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      const auto self = weak.lock();
      if (error || !self || !self->flow_) return;
      self->flow_->send({});
      self->keep_alive();
    });
  }
  // May be called from inside either end.
  void end() {
    const auto keep = shared_from_this();
    if (const auto lines = lines_.lock()) lines->erase(keep);
    timer_.cancel();
    transport_->stop();
    std::exchange(flow_, nullptr).reset();
  }

  Tunnels& tunnels_;
  std::weak_ptr<FlowLines> lines_;
  boost::asio::steady_timer timer_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<OutgoingFlow> flow_;
};

}  // namespace

void add_flow_method(ControlServer& control, Tunnels& tunnels,
                     std::function<std::string(std::string_view)> full_name) {
  control.add_method("flow", [&tunnels, lines = std::make_shared<FlowLines>(),
                              full_name = std::move(full_name)](const json::object& params,
                                                                const RpcReply& reply) {
    const json::value* host = params.if_contains("host");
    const json::value* port = params.if_contains("port");
    const std::int64_t number = port != nullptr && port->is_int64() ? port->get_int64() : 0;
    if (host == nullptr || !host->is_string() || number < 1 || number > 65535)
      return reply.error(Error{ErrorKind::invalid_argument, "flow needs a host and a port of 1 to 65535"});
    auto checked = check_overlay_host(full_name(std::string_view(host->get_string())));
    if (!checked) return reply.error(checked.error());
    if (lines->size() >= kMaxLines)
      return reply.error(Error{ErrorKind::limit_reached, "too many flows at once; end some gateways"});
    // The peer is reached first, so that who asks hears why it cannot be.
    tunnels.context().driver.enter();
    tunnels.connector().connect(*checked, [&tunnels, reply, host = *checked, number,
                                           weak = std::weak_ptr(lines)](
                                              const Result<session::SessionId>& session) {
      if (!session) return reply.error(session.error());
      reply.upgrade(json::object{{"open", true}}, [&tunnels, host, number, weak](Socket socket, Bytes first) {
        const auto open = weak.lock();
        if (!open) return;
        const auto line = *open->insert(std::make_shared<FlowLine>(tunnels, weak)).first;
        line->start(std::move(socket), std::move(first), host, static_cast<std::uint16_t>(number));
      });
    });
    tunnels.context().driver.touch();
  });
}

}  // namespace ravine::services
