// What a node answers when it has the authority of a network, or pairs: joins, renewals, revocation lists.
// Everything that an answer relies on is on disk before the answer leaves.
#include <fmt/format.h>

#include <algorithm>

#include "node/node_impl.h"

namespace ravine::node {

using identity::CodeKind;

std::vector<HostPort> Node::Impl::own_addresses() const {
  std::vector<HostPort> out;
  for (const SocketAddress& address : driver->local_addresses()) {
    if (out.size() >= identity::kMaxInviteAddresses) break;
    if (address.ip.is_link_local()) continue;
    out.push_back({address.ip.to_text(), address.port});
  }
  return out;
}

std::vector<identity::KnownPeer> Node::Impl::peers_to_tell(const Network& network) const {
  std::vector<identity::KnownPeer> out;
  out.push_back({network.member.id(), network.member.leaf().name, own_addresses()});
  for (const services::PeerHandle& record : directory.peers()) {
    if (out.size() >= identity::kMaxKnownPeers) break;
    if (record->network != network.id || !record->id || *record->id == network.member.id()) continue;
    identity::KnownPeer peer{*record->id, record->name, record->addresses};
    for (const SocketAddress& address : record->learned) {
      if (peer.addresses.size() >= identity::kMaxInviteAddresses) break;
      peer.addresses.push_back({address.ip.to_text(), address.port});
    }
    if (!peer.addresses.empty()) out.push_back(std::move(peer));
  }
  return out;
}

Result<Bytes> Node::Impl::answer_join(session::NetworkId id, ByteView request, ByteView exporter,
                                      const SocketAddress& from) {
  Network* network = find_network(id);
  if (network == nullptr) return Error{ErrorKind::not_found, "a join for a network that is gone"};
  if (network->member.is_pinned()) return answer_pairing(request, exporter, from);
  if (!ca || ca->network_name() != network->member.name) {
    return Error{ErrorKind::refused, "a join for a network whose authority is elsewhere"};
  }
  identity::IssuerContext issuer{.authority = &ca->authority(),
                                 .invites = &invites,
                                 .secrets = &network->member.secrets,
                                 .peers = peers_to_tell(*network),
                                 .node = network->member.id()};
  identity::Answer answer =
      identity::answer_join(issuer, request, exporter, from.ip, clock->unix_time(), random);
  if (answer.changed) {
    if (auto saved = ca->save_register(); !saved) return saved.error();
    if (auto saved = save_invites(state, invites); !saved) return saved.error();
  }
  if (answer.refused) {
    log.warning("a join was refused: {}", answer.refused->message);
    log.debug("that join came from {}", from.to_text());
  }
  if (answer.issued) log.info("a new member joined network {}", network->member.name);
  return std::move(answer.response);
}

Result<Bytes> Node::Impl::answer_pairing(ByteView request, ByteView exporter, const SocketAddress& from) {
  Network* network = pairing_network();
  if (network == nullptr) return Error{ErrorKind::refused, "a pairing, but this node has no network for it"};
  Member& member = network->member;
  identity::PairContext acceptor{.invites = &invites,
                                 .own = {.key = &*member.key,
                                         .chain = member.chain,
                                         .name = member.leaf().name,
                                         .addresses = own_addresses()},
                                 .network = member.network,
                                 .secrets = &member.secrets};
  identity::PairAnswer answer =
      identity::answer_pair(acceptor, request, exporter, from.ip, clock->unix_time());
  if (answer.refused) log.warning("a pairing was refused: {}", answer.refused->message);
  if (!answer.paired) return std::move(answer.response);
  if (auto saved = save_paired(member.directory, *answer.paired); !saved) return saved.error();
  if (auto saved = save_invites(state, invites); !saved) return saved.error();
  ReloadReport report;
  if (auto reloaded = reload_networks(report); !reloaded) return reloaded.error();
  if (auto applied = apply_peers(config); !applied) return applied.error();
  log.info("paired with a peer in network {}", network->member.name);
  return std::move(answer.response);
}

Result<Bytes> Node::Impl::answer_renewal(session::NetworkId id, ByteView leaf, ByteView request,
                                         ByteView exporter) {
  Network* network = find_network(id);
  if (network == nullptr || !ca || ca->network_name() != network->member.name) {
    return Error{ErrorKind::refused, "a renewal, but the authority of that network is elsewhere"};
  }
  identity::IssuerContext issuer{.authority = &ca->authority(),
                                 .invites = &invites,
                                 .secrets = &network->member.secrets,
                                 .peers = peers_to_tell(*network),
                                 .node = network->member.id()};
  identity::Answer answer =
      identity::answer_renew(issuer, leaf, request, exporter, clock->unix_time(), random);
  if (answer.changed) {
    if (auto saved = ca->save_register(); !saved) return saved.error();
  }
  if (answer.refused) log.warning("a renewal was refused: {}", answer.refused->message);
  if (answer.issued) log.info("a member of network {} renewed its certificate", network->member.name);
  return std::move(answer.response);
}

std::uint64_t Node::Impl::number(session::NetworkId id) const {
  const Network* network = find_network(id);
  return network != nullptr && network->member.trust ? network->member.trust->revocations().number() : 0;
}

std::vector<Bytes> Node::Impl::parts(session::NetworkId id) const {
  const Network* network = find_network(id);
  if (network == nullptr || !network->member.trust) return {};
  return identity::split_revocation(network->member.trust->revocations());
}

Result<std::uint64_t> Node::Impl::offer(session::NetworkId id, ByteView signed_list) {
  Network* network = find_network(id);
  if (network == nullptr || !network->member.trust) {
    return Error{ErrorKind::refused, "a revocation list for a network without authority"};
  }
  auto taken = network->member.trust->accept_revocation(signed_list, clock->unix_time());
  if (!taken) return taken.error();
  const auto& list = network->member.trust->revocations();
  if (!*taken) return Error{ErrorKind::refused, "a revocation list that is not newer than ours"};
  if (auto saved = save_revocations(network->member.directory, list); !saved) {
    log.warning("the revocation list of network {} was not saved: {}", network->member.name,
                saved.error().message);
  }
  log.info("revocation list {} of network {} is in force", list.number(), network->member.name);
  renew_for_secret(*network);
  return list.number();
}

Result<identity::Invite> Node::Impl::make_invite(CodeKind kind, const std::string& name,
                                                 std::vector<std::string> groups,
                                                 std::chrono::seconds lifetime) {
  Network* network = kind == CodeKind::invite ? issuing_network() : pairing_network();
  if (network == nullptr) {
    return Error{
        ErrorKind::refused,
        kind == CodeKind::invite
            ? "this node has no authority to invite with; run \"ravine invite\" on the machine where "
              "\"ravine ca "
              "init\" was run"
            : "this node has no network for pairing yet; stop it, run \"ravine pair\" and start it again"};
  }
  const auto addresses = own_addresses();
  if (addresses.empty()) {
    return Error{ErrorKind::unreachable,
                 "this machine has no address that another could reach; connect it to a network"};
  }
  const UnixTime now = clock->unix_time();
  const identity::PeerId pinned =
      kind == CodeKind::invite ? ca->authority().issuer().id : network->member.id();
  auto invite = identity::Invite::make(kind, pinned, addresses, random);
  invites.forget_expired(now);
  if (kind == CodeKind::invite && ca->authority().find_live(name, now) != nullptr) {
    return Error{
        ErrorKind::already_exists,
        fmt::format("\"{}\" has a certificate already; choose another name, or revoke that one first with "
                    "\"ravine ca revoke {}\"",
                    name, name)};
  }
  if (auto added = invites.add(invite, name, std::move(groups), now + lifetime, now); !added)
    return added.error();
  if (auto saved = save_invites(state, invites); !saved) {
    invites.withdraw(name);
    return saved.error();
  }
  sync_join_names();
  return invite;
}

Result<> Node::Impl::after_revocation() {
  ReloadReport report;
  if (auto reloaded = reload_networks(report); !reloaded) return reloaded;
  if (const Network* network = issuing_network()) revocations->announce(network->id);
  driver->touch();
  return {};
}

}  // namespace ravine::node
