#include "services/tunnel.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "services/peer_service.h"
#include "services/target.h"

namespace ravine::services {
namespace {

struct Opening {
  OpenDone done;
  Pending stream;

  void finish(Result<OpenedStream> result) {
    if (const auto call = std::exchange(done, nullptr)) call(std::move(result));
  }
};

}  // namespace

Tunnels::Tunnels(StreamRouter& router, PeerConnector& connector, FlowTable& flows)
    : router_(router), connector_(connector), flows_(flows) {}

Pending Tunnels::open(std::string_view host, std::uint16_t port, OpenDone done) {
  auto opening = std::make_shared<Opening>();
  opening->done = std::move(done);
  boost::asio::post(context().loop, [this, weak = std::weak_ptr(opening), host = std::string(host), port] {
    const auto self = weak.lock();
    if (!self) return;
    context().driver.enter();
    const auto checked = check_overlay_host(host);
    if (!checked) return self->finish(checked.error());
    if (port == 0) return self->finish(Error{ErrorKind::invalid_argument, "port 0 leads nowhere"});
    StreamRequest request;
    request.set_service(StreamRequest::TCP);
    request.set_port(port);
    self->stream = open_peer_service(router_, connector_, *checked, std::move(request), kOpenTimeout,
                                     [weak](Result<OpenedStream> stream) {
                                       const auto last = weak.lock();
                                       if (last) last->finish(std::move(stream));
                                     });
  });
  return opening;
}

}  // namespace ravine::services
