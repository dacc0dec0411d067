// Certificates over time: when to renew, whom to ask, what to do when nobody answers.
#include <fmt/format.h>

#include <algorithm>

#include "node/node_impl.h"

namespace ravine::node {

namespace {

// The issuer as a peer to dial: by its key when that was seen, otherwise by the name that came with the
// certificate, whose addresses the configuration may have.
services::PeerHandle find_issuer(const services::PeerDirectory& directory, const Network& network) {
  const identity::PeerId& id = *network.member.issuer;
  if (auto found = directory.find_id(network.id, id)) return found;
  const auto known = std::ranges::find(network.member.known, id, &identity::KnownPeer::id);
  if (known == network.member.known.end() || known->name.empty()) return nullptr;
  auto found = directory.find(fmt::format("{}.{}.fuse", known->name, network.member.name));
  return found ? *found : nullptr;
}

}  // namespace

Duration Node::Impl::until_renewal(const Network& network) const {
  if (network.renewing) return kTick;
  const UnixTime now = clock->unix_time();
  const Instant here = driver->now();
  const UnixTime at = identity::renew_at(network.member.leaf());
  Duration wait = now < at ? Duration(at - now) : Duration{0};
  if (network.renew_early) wait = std::min(wait, std::max(Duration{0}, *network.renew_early - here));
  if (here < network.next_renewal) wait = std::max(wait, network.next_renewal - here);
  return wait;
}

void Node::Impl::renew_for_secret(Network& network) {
  const identity::Certificate& leaf = network.member.leaf();
  if (network.member.is_pinned() || !network.active()) return;
  if (network.member.trust->revocations().revokes(leaf)) {
    return log.warning(
        "network {}: the authority revoked this machine's certificate, and peers refuse it from now on; if "
        "that is "
        "a mistake, have it invited again and run \"ravine join CODE\"",
        network.member.name);
  }
  if (ca && ca->network_name() == network.member.name) return;
  // Members spread over a 720th of the lifetime, an hour of 30 days, so that the issuer is not overrun.
  const Duration spread = Duration(leaf.not_after - leaf.not_before) / 720;
  const double share = static_cast<double>(random.next_u64() >> 11) * 0x1p-53;
  network.renew_early =
      driver->now() +
      Duration(static_cast<std::int64_t>(share * static_cast<double>(std::max(spread, Duration{0}).count())));
  schedule_tick();
}

void Node::Impl::renew_due(Network& network) {
  if (network.member.is_pinned() || !network.active() || network.renewing) return;
  if (until_renewal(network) > Duration{0}) return;
  if (ca && ca->network_name() == network.member.name) {
    auto renewed = ca->renew_own(clock->unix_time(), random);
    ReloadReport report;
    if (renewed) renewed = reload_networks(report);
    if (!renewed) return renewal_failed(network, renewed.error().message);
    log.info("certificate for network {} renewed here", network.member.name);
    return renewal_succeeded(network);
  }
  renew_from_issuer(network);
}

void Node::Impl::renewal_failed(Network& network, std::string_view why) {
  network.renewing = false;
  network.renewal_error = why;
  const identity::Certificate& leaf = network.member.leaf();
  const Duration lifetime = leaf.not_after - leaf.not_before;
  const Duration first = std::clamp<Duration>(lifetime / 300, kRenewRetryLeast, kRenewRetryFirst);
  const Duration last = std::clamp<Duration>(lifetime / 10, kRenewRetryLeast, kRenewRetryLast);
  network.renewal_delay = std::clamp(network.renewal_delay * 2, first, last);
  network.next_renewal = driver->now() + network.renewal_delay;
  log.warning("certificate for network {} was not renewed, next try in {} s: {}", network.member.name,
              std::chrono::duration_cast<std::chrono::seconds>(network.renewal_delay).count(), why);
  schedule_tick();
  for (const auto& waiter : std::exchange(network.renewal_waiters, {})) {
    waiter(Error{ErrorKind::refused, fmt::format("the certificate was not renewed: {}", why)});
  }
}

void Node::Impl::renewal_succeeded(Network& network) {
  network.renewing = false;
  network.renew_early.reset();
  network.renewal_error.clear();
  network.renewal_delay = Duration{0};
  network.next_renewal = {};
  for (const auto& waiter : std::exchange(network.renewal_waiters, {})) waiter({});
}

void Node::Impl::renew_now(std::string_view name, std::function<void(Result<>)> done) {
  std::vector<Network*> possible;
  for (const auto& network : networks) {
    if (name.empty() ? !network->member.is_pinned() : network->member.name == name)
      possible.push_back(network.get());
  }
  if (possible.empty()) {
    return done(Error{ErrorKind::not_found, name.empty() ? "this node is in no network that has an authority"
                                                         : fmt::format("no network \"{}\" here", name)});
  }
  if (possible.size() > 1)
    return done(
        Error{ErrorKind::invalid_argument, "this node is in several networks; say which: --network NAME"});
  Network& network = *possible.front();
  if (network.member.is_pinned()) {
    return done(Error{ErrorKind::invalid_argument,
                      fmt::format("network {} has pinned peers and no certificates to renew", name)});
  }
  if (!network.active()) {
    return done(Error{ErrorKind::refused, fmt::format("{}; join again", network.member.unusable)});
  }
  if (network.renewal_waiters.size() >= kMaxRenewalWaiters)
    return done(Error{ErrorKind::limit_reached, "too many wait for this renewal already"});
  network.renewal_waiters.push_back(std::move(done));
  network.renew_early = driver->now();
  network.next_renewal = {};
  driver->enter();
  renew_due(network);
  driver->touch();
}

void Node::Impl::renew_from_issuer(Network& network) {
  if (!network.member.issuer) {
    return renewal_failed(
        network, "the issuer is not known here; renew on it with \"ravine ca renew\", or join again");
  }
  const services::PeerHandle issuer = find_issuer(directory, network);
  if (!issuer) return renewal_failed(network, "no address of the issuer is known; add it as [[peer]]");
  network.renewing = true;
  const session::NetworkId id = network.id;
  connector->connect(issuer, [this, id](Result<session::SessionId> session) {
    Network* at = find_network(id);
    if (at == nullptr) return;
    if (!session) return renewal_failed(*at, session.error().message);
    Bytes request = identity::make_renew_request(*at->member.key, at->member.leaf().name);
    services::renew_certificate(
        *router, *session, [request = std::move(request)](ByteView) -> Result<Bytes> { return request; },
        [this, id](Result<services::Exchanged> exchanged) { finish_renewal(id, std::move(exchanged)); });
  });
}

void Node::Impl::finish_renewal(session::NetworkId id, Result<services::Exchanged> exchanged) {
  Network* network = find_network(id);
  if (network == nullptr || stopping) return;
  driver->enter();
  if (!exchanged) return renewal_failed(*network, exchanged.error().message);
  Member& member = network->member;
  auto membership =
      identity::accept_renew_response(member.trust, *member.key, exchanged->request, exchanged->response,
                                      exchanged->exporter, clock->unix_time());
  if (!membership) return renewal_failed(*network, membership.error().message);
  if (auto saved = save_member(member.directory, *member.key, *membership); !saved) {
    return renewal_failed(*network, saved.error().message);
  }
  ReloadReport report;
  if (auto reloaded = reload_networks(report); !reloaded)
    return renewal_failed(*network, reloaded.error().message);
  log.info("certificate for network {} renewed", member.name);
  renewal_succeeded(*network);
  if (auto applied = apply_peers(config); !applied) log.warning("{}", applied.error().message);
  schedule_tick();
  driver->touch();
}

}  // namespace ravine::node
