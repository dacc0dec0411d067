// Control methods for the gateways on this machine: flows over sessions, and keys from certificates.
#include <algorithm>

#include "gateway/security/keys.h"
#include "node/ca_methods.h"
#include "node/node_impl.h"
#include "services/gateway/session_flow.h"

namespace ravine::node {

namespace json = boost::json;

static_assert(session::kGatewayExporter == gateway::security::kExporterLabel);

void Node::Impl::add_gateway_methods() {
  services::add_flow_method(*control, *tunnels, [](std::string_view host) { return fuse_host(host); });
  // Both nodes of a session get the same secret, and nobody else does.
  control->add_method("gateway.secret", [this](const json::object& params, services::RpcReply reply) {
    auto peer = text_param(params, "peer");
    if (!peer) return reply.error(peer.error());
    driver->enter();
    connector->connect(*peer, [this, reply](Result<session::SessionId> session) {
      if (!session) return reply.error(session.error());
      session::Session* live = driver->endpoint().find(*session);
      if (live == nullptr) return reply.error(Error{ErrorKind::closed, "the session ended; try again"});
      const session::SessionInfo& info = live->info();
      const auto own = std::find_if(networks.begin(), networks.end(),
                                    [&](const auto& network) { return network->id == info.network; });
      if (!info.has_certificate || own == networks.end())
        return reply.error(Error{ErrorKind::unauthenticated, "the peer has shown no certificate"});
      const auto exported = live->export_keying_material(session::kGatewayExporter);
      reply.result(json::object{{"exported", encode_hex(exported)},
                                {"own_id", encode_hex((*own)->member.id().view())},
                                {"peer_id", encode_hex(info.peer.id.view())},
                                {"peer_name", info.peer.name}});
    });
    driver->touch();
  });
}

}  // namespace ravine::node
